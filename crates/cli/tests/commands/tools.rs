//! `gush pub`, `token`, `check` and `serve` as a person uses them, against a real hub.

use crate::support::{Finished, finish, gush, holds, root};
use gush_testkit::{Failure, HubBuilder, HubProcess, Outcome, write_certificate};

fn hub() -> Outcome<HubProcess> {
    HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .anonymous()
        .start()
}

fn at(hub: &HubProcess) -> String {
    format!("http://{}", hub.address())
}

fn run(arguments: &[&str]) -> Outcome<Finished> {
    finish(gush(arguments), "")
}

fn expect(finished: &Finished, code: i32) -> Outcome<()> {
    if finished.code == Some(code) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "expected exit code {code}: {finished:?}"
    )))
}

#[test]
fn pub_prints_the_id_and_a_minted_token_works() -> Outcome<()> {
    let hub = hub()?;
    let url = at(&hub);
    let key = "testkit publisher key, long enough for every HMAC size: 0123456789abcdef";
    let minted = run(&["token", "--publish", "*", "--key", key])?;
    expect(&minted, 0)?;
    let mut stream = hub.subscribe(&[("topic", "*")])?;
    for (arguments, input, data) in [
        (
            vec![
                "pub",
                "a",
                "b",
                "--token",
                minted.stdout.trim(),
                "--data",
                "x\ny",
            ],
            "",
            "x\ny",
        ),
        (vec!["pub", "a", "--key", key], "from stdin\n", "from stdin"),
        (
            vec!["pub", "a", "--key", key, "--data-file", "-", "--type", "t"],
            "\n",
            "",
        ),
    ] {
        let hub_flag = ["--hub", url.as_str()];
        let arguments: Vec<&str> = arguments.into_iter().chain(hub_flag).collect();
        let published = finish(gush(&arguments), input)?;
        expect(&published, 0)?;
        let event = stream.next_event()?;
        assert_eq!(event.data, data);
        assert_eq!(
            published.stdout,
            format!("{}\n", event.id.unwrap_or_default())
        );
    }
    let published = run(&[
        "pub", "a", "--data", "x", "--id", "my-id", "--json", "--hub", &url, "--key", key,
    ])?;
    assert_eq!(published.stdout, "{\"id\":\"my-id\"}\n");
    Ok(())
}

#[test]
fn a_refusal_says_why_and_names_the_option() -> Outcome<()> {
    let hub = hub()?;
    let url = at(&hub);
    let refused = run(&[
        "pub",
        "a",
        "--data",
        "x",
        "--hub",
        &url,
        "--key",
        "some other key entirely, but long",
    ])?;
    expect(&refused, 1)?;
    holds(&refused.stderr, &["401", "signature", "--token"])?;
    assert_eq!(refused.stdout, "");
    let nowhere = run(&["pub", "a", "--data", "x", "--hub", "http://127.0.0.1:1"])?;
    expect(&nowhere, 1)?;
    holds(&nowhere.stderr, &["refused", "--hub"])?;
    let wrong = run(&["pub", "a", "--data", "x", "--hub", "127.0.0.1:3000"])?;
    expect(&wrong, 2)?;
    holds(
        &wrong.stderr,
        &[
            "--hub 127.0.0.1:3000",
            "http://127.0.0.1:3000/.well-known/mercure",
        ],
    )
}

#[test]
fn pub_and_sub_speak_tls_to_a_hub_whose_certificate_they_are_given() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.anonymous();
    let files = write_certificate(builder.directory(), "localhost")?;
    let (cert, key) = (
        files.certificate.display().to_string(),
        files.key.display().to_string(),
    );
    let hub = builder
        .option("--tls-cert", &cert)
        .option("--tls-key", &key)
        .start()?;
    let url = format!("https://localhost:{}", hub.address().port());
    let signing = "testkit publisher key, long enough for every HMAC size: 0123456789abcdef";
    let shared = ["--hub", &url, "--ca", &cert];
    let published = run(&[&["pub", "a", "--data", "x", "--key", signing][..], &shared].concat())?;
    expect(&published, 0)?;
    let earliest = [
        "sub",
        "a",
        "--last-event-id",
        "earliest",
        "--count",
        "1",
        "--json",
    ];
    let seen = run(&[&earliest[..], &shared].concat())?;
    expect(&seen, 0)?;
    holds(&seen.stdout, &[published.stdout.trim()])?;
    let checked = run(&["check", "--tls-cert", &cert, "--tls-key", &key])?;
    expect(&checked, 0)?;
    let swapped = run(&["check", "--tls-cert", &key, "--tls-key", &cert])?;
    expect(&swapped, 1)?;
    holds(&swapped.stderr, &["tls_"])
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() -> Outcome<()> {
    for arguments in [
        &["pub"][..],
        &["sub"],
        &["serve", "--hartbeat", "1s"],
        &["nonsense"],
        &["token"],
    ] {
        let finished = run(arguments)?;
        expect(&finished, 2).map_err(|failure| failure.within(format!("{arguments:?}")))?;
        assert_eq!(finished.stdout, "");
    }
    for command in ["serve", "pub", "sub", "token", "check"] {
        let help = run(&[command, "--help"])?;
        expect(&help, 0)?;
        holds(&help.stdout, &["Examples:", &format!("gush {command}")])?;
    }
    holds(
        &run(&["serve", "--hartbeat", "1s"])?.stderr,
        &["--heartbeat"],
    )
}

#[test]
fn check_prints_what_is_in_effect_and_hides_secrets() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("gush.toml");
    std::fs::write(
        &file,
        "heartbeat = \"9s\"\npublisher_key = \"hunter2hunter2hunter2hunter2hunter2\"\n",
    )?;
    let path = file.display().to_string();
    let mut command = gush(&["check", "--config", &path, "--anonymous"]);
    command.env("GUSH_RETRY", "3s").env("GUSH_HARTBEAT", "1s");
    let checked = finish(command, "")?;
    expect(&checked, 0)?;
    let line = |key: &str| -> Vec<&str> {
        let line = checked
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("{key} ")));
        line.unwrap_or_default().split_whitespace().collect()
    };
    assert_eq!(line("heartbeat"), ["heartbeat", "9s", &format!("{path}:1")]);
    assert_eq!(line("retry"), ["retry", "3s", "GUSH_RETRY"]);
    assert_eq!(line("anonymous"), ["anonymous", "true", "--anonymous"]);
    assert_eq!(
        line("publisher_key"),
        ["publisher_key", "(set,", "hidden)", &format!("{path}:2")]
    );
    assert!(!format!("{checked:?}").contains("hunter2"));
    holds(
        &checked.stderr,
        &["GUSH_HARTBEAT is not read", "GUSH_HEARTBEAT"],
    )?;
    let json = run(&["check", "--json", "--config", &path])?;
    let value: serde_json::Value =
        serde_json::from_str(&json.stdout).map_err(|e| Failure::new(e.to_string()))?;
    assert_eq!(value["options"][0]["key"], "listen");
    Ok(())
}

#[test]
fn check_and_serve_refuse_a_broken_configuration_alike() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("gush.toml");
    let path = file.display().to_string();
    for (text, reason) in [
        (
            "log = \"memory\"\nheartbeat = \"25\"\n",
            "gush.toml:2: heartbeat = \"25\": a duration needs a unit; write \"25s\"",
        ),
        ("publisher_key = \"file:/nowhere/key\"\n", "publisher_key"),
        (
            "tls_cert = \"/nowhere/cert.pem\"\ntls_key = \"/nowhere/key.pem\"\n",
            "/nowhere/cert.pem",
        ),
    ] {
        std::fs::write(&file, text)?;
        for command in ["check", "serve"] {
            let mut command = gush(&[command, "--config", &path]);
            // The default log is a folder here.
            command.current_dir(folder.path());
            command.args(["--listen", "127.0.0.1:0", "--admin-listen", "off"]);
            let refused = finish(command, "")?;
            expect(&refused, 1)?;
            holds(&refused.stderr, &[reason])?;
        }
    }
    Ok(())
}

#[test]
fn serve_names_the_option_when_an_address_or_a_log_is_taken() -> Outcome<()> {
    let first = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .anonymous()
        .start()?;
    let listen = first.address().to_string();
    let taken = run(&[
        "serve",
        "--listen",
        &listen,
        "--admin-listen",
        "off",
        "--log",
        "memory",
    ])?;
    expect(&taken, 1)?;
    holds(&taken.stderr, &["--listen", &listen])?;
    let log = format!("disk:{}", first.builder().log_directory().display());
    let taken = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "off",
        "--log",
        &log,
    ])?;
    expect(&taken, 1)?;
    holds(&taken.stderr, &["--log"])
}

#[test]
fn a_reload_takes_a_good_file_and_refuses_a_broken_one() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.anonymous();
    let file = builder.directory().join("gush.toml");
    std::fs::write(&file, "retry = \"3s\"\n")?;
    let hub = builder
        .option("--config", &file.display().to_string())
        .start()?;
    std::fs::write(&file, "retry = \"3\"\n")?;
    hub.signal("HUP")?;
    hub.wait_stderr(&["not reloaded", "gush.toml:1", "write \"3s\""])?;
    std::fs::write(&file, "retry = \"4s\"\nshards = 1\n")?;
    hub.signal("HUP")?;
    hub.wait_stderr(&["need a restart", "shards"])?;
    hub.wait_stderr(&["configuration reloaded", "retry"])?;
    Ok(())
}

#[test]
fn dev_prints_commands_that_work() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .publisher_key(None)
        .subscriber_key(None)
        .flag("--dev")
        .start()?;
    let stdout = hub.stdout();
    holds(
        &stdout,
        &["open the page:", "/#token=", "publish:", "subscribe:"],
    )?;
    let line = stdout
        .lines()
        .find(|line| line.contains("data=hello"))
        .unwrap_or_default();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", line]).stdin(std::process::Stdio::piped());
    shell
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let published = finish(shell, "")?;
    holds(&published.stdout, &["urn:uuid:"])?;
    let key = format!(
        "file:{}",
        hub.builder().log_directory().join("dev.key").display()
    );
    let again = run(&["pub", "a", "--data", "x", "--hub", &at(&hub), "--key", &key])?;
    expect(&again, 0)
}

#[test]
fn every_toml_block_of_the_documents_is_a_valid_configuration() -> Outcome<()> {
    let mut folders = vec![root().join("docs")];
    let mut pages = vec![root().join("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("gush.toml");
    let mut checked = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page)?;
        for block in text.split("```toml\n").skip(1) {
            let toml = block.split("```").next().unwrap_or_default();
            // Paths of keys and certificates are the reader's; only `check` would miss them.
            let lines = toml
                .lines()
                .filter(|line| !line.contains("file:") && !line.starts_with("tls_"));
            std::fs::write(&file, lines.collect::<Vec<_>>().join("\n"))?;
            let found = run(&["check", "--config", &file.display().to_string()])?;
            expect(&found, 0).map_err(|failure| failure.within(page.display()))?;
            checked += 1;
        }
    }
    assert!(checked > 0);
    Ok(())
}
