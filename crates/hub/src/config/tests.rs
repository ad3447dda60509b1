use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// Sources from literals; the file is written to a directory that lives as long as the value.
struct Given {
    sources: Sources,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

fn given(flags: &[(&'static str, &[&str])], env: &[(&str, &str)], file: Option<&str>) -> Given {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gush.toml");
    if let Some(text) = file {
        std::fs::File::create(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }
    let flags = flags.iter().map(|(key, values)| {
        (
            *key,
            values.iter().map(|value| (*value).to_owned()).collect(),
        )
    });
    let env: HashMap<String, String> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let sources = Sources {
        flags: flags.collect(),
        env: Box::new(move |name| env.get(name).cloned()),
        file: file.map(|_| path.clone()),
    };
    Given {
        sources,
        path,
        _dir: dir,
    }
}

fn errors(given: &Given) -> String {
    let text = Settings::load(&given.sources).unwrap_err().to_string();
    text.replace(given.path.to_str().unwrap(), "gush.toml")
}

#[test]
fn nothing_given_gives_the_defaults() {
    let loaded = Settings::load(&Sources::none()).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(loaded.settings.listen, ["127.0.0.1:3000".parse().unwrap()]);
    assert_eq!(loaded.settings.log, LogSpec::Disk("./data".into()));
    assert_eq!(loaded.settings.retention_bytes, Some(4 << 30));
    assert_eq!(loaded.settings.heartbeat, Duration::from_secs(25));
    assert!(
        loaded
            .effective()
            .iter()
            .all(|option| option.source == "default")
    );
}

#[test]
fn a_flag_beats_gush_beats_mercure_beats_the_file() {
    let file = Some("publisher_key = \"from-file-from-file-from-file-from\"\nheartbeat = \"9s\"\n");
    let gush = ("GUSH_PUBLISHER_KEY", "from-gush");
    let mercure = ("MERCURE_PUBLISHER_JWT_KEY", "from-mercure");
    let flag: (&str, &[&str]) = ("publisher_key", &["from-flag"]);
    for (given, key, source) in [
        (
            given(&[flag], &[gush, mercure], file),
            "from-flag",
            "--publisher-key",
        ),
        (
            given(&[], &[gush, mercure], file),
            "from-gush",
            "GUSH_PUBLISHER_KEY",
        ),
        (
            given(&[], &[mercure], file),
            "from-mercure",
            "MERCURE_PUBLISHER_JWT_KEY",
        ),
        (
            given(&[], &[("GUSH_PUBLISHER_KEY", "")], file),
            "from-file-from-file-from-file-from",
            ":1",
        ),
    ] {
        let loaded = Settings::load(&given.sources).unwrap();
        assert_eq!(
            loaded.settings.publisher_key.as_ref().unwrap().expose(),
            key
        );
        let rows = loaded.effective();
        let row = rows.iter().find(|row| row.key == "publisher_key").unwrap();
        assert_eq!(row.value, "(set, hidden)");
        assert!(row.source.ends_with(source), "{} {source}", row.source);
        assert_eq!(loaded.settings.heartbeat, Duration::from_secs(9));
    }
}

#[test]
fn lists_come_from_each_source() {
    let file = Some("cors_origins = [\"https://a.example\", \"https://b.example\"]\n");
    let loaded = Settings::load(&given(&[], &[], file).sources).unwrap();
    assert_eq!(
        loaded.settings.cors_origins,
        ["https://a.example", "https://b.example"]
    );
    let env = [("GUSH_CORS_ORIGIN", "https://c.example, https://d.example")];
    let loaded = Settings::load(&given(&[], &env, file).sources).unwrap();
    assert_eq!(
        loaded.settings.cors_origins,
        ["https://c.example", "https://d.example"]
    );
    let listen: (&str, &[&str]) = ("listen", &["127.0.0.1:1", "[::1]:2"]);
    let loaded = Settings::load(&given(&[listen], &[], None).sources).unwrap();
    assert_eq!(loaded.settings.listen.len(), 2);
}

#[test]
fn a_broken_file_is_refused_with_line_key_value_reason_and_cure() {
    let file = "# comment\nlog = \"memory\"\n\nheartbeat = \"25\"\nretry = 2\nhartbeat = \"1s\"\n\
                listen = { a = 1 }\n\
                anonymous = \"maybe\"\nconfig = \"x\"\n[hub]\nlog = \"memory\"\n";
    assert_eq!(
        errors(&given(&[], &[], Some(file))),
        "gush.toml:4: heartbeat = \"25\": a duration needs a unit; write \"25s\"\n\
         gush.toml:5: retry = 2: a duration needs a unit; write \"2s\"\n\
         gush.toml:6: hartbeat: unknown key; did you mean \"heartbeat\"?\n\
         gush.toml:7: listen = { a = 1 }: has the wrong type; write a list of texts, \
         listen = [\"…\", \"…\"]\n\
         gush.toml:8: anonymous = \"maybe\": is a switch; write true or false\n\
         gush.toml:9: config: a file cannot name another one; use --config or GUSH_CONFIG\n\
         gush.toml:10: hub: unknown section; the file has none, write the keys without [sections]"
    );
}

#[test]
fn a_syntax_error_has_its_line_and_shows_no_secret() {
    let text = errors(&given(
        &[],
        &[],
        Some("log = \"memory\"\npublisher_key = hunter2hunter2\n"),
    ));
    assert!(text.starts_with("gush.toml:2: not TOML: "), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let text = errors(&given(
        &[],
        &[],
        Some("publisher_key = \"hunter2\nlog = \"memory\"\n"),
    ));
    assert!(
        text.starts_with("gush.toml:1: not TOML: ") && !text.contains("hunter2"),
        "{text}"
    );
    let text = errors(&given(&[], &[], Some("publisher_key = [\"hunter2\"]\n")));
    assert!(
        text.contains("publisher_key = (hidden): has the wrong type"),
        "{text}"
    );
}

#[test]
fn errors_of_flags_and_environment_name_them() {
    let flag: (&str, &[&str]) = ("heartbeat", &["25"]);
    let env = [("GUSH_RETRY", "2"), ("GUSH_PUBLISHER_ALG", "none")];
    let text = errors(&given(&[flag], &env, None));
    assert!(
        text.contains("--heartbeat 25: a duration needs a unit; write \"25s\""),
        "{text}"
    );
    assert!(
        text.contains("GUSH_RETRY=2: a duration needs a unit; write \"2s\""),
        "{text}"
    );
    assert!(
        text.contains("GUSH_PUBLISHER_ALG=none: is not known; write one of HS256"),
        "{text}"
    );
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    for (file, reason) in [
        (
            "tls_cert = \"a.pem\"",
            "gush.toml:1: tls_cert = \"a.pem\": needs its private key; set tls_key (--tls-key) too",
        ),
        (
            "tls_key = \"a.pem\"",
            "gush.toml:1: tls_key = \"a.pem\": needs a certificate",
        ),
        (
            "retention_bytes = \"1MiB\"",
            "gush.toml:1: retention_bytes = \"1MiB\": is smaller than one segment",
        ),
        (
            "segment_bytes = \"2GiB\"\nretention_bytes = \"1GiB\"",
            "gush.toml:2: retention_bytes",
        ),
        (
            "publisher_alg = \"RS256\"",
            "publisher_alg = \"RS256\": has no key to go with; set publisher_key too",
        ),
        (
            "publisher_key = \"text\"\npublisher_alg = \"RS256\"",
            "needs a public key, and publisher_key is a secret",
        ),
        (
            "subscriber_key = \"-----BEGIN PUBLIC KEY-----\"\nsubscriber_alg = \"HS256\"",
            "wants a secret",
        ),
        (
            "admin_listen = \"127.0.0.1:3000\"",
            "is also a public listener",
        ),
        (
            "listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
            "names 127.0.0.1:1 twice",
        ),
    ] {
        let text = errors(&given(&[], &[], Some(file)));
        assert!(text.contains(reason), "{file}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let env = [("GUSH_CONFIG", "/nowhere/gush.toml")];
    let text = errors(&given(&[], &env, None));
    assert!(
        text.starts_with("--config /nowhere/gush.toml: cannot be read"),
        "{text}"
    );
}

#[test]
fn dev_turns_on_what_trying_out_needs_unless_told_otherwise() {
    let dev: (&str, &[&str]) = ("dev", &["true"]);
    let loaded = Settings::load(&given(&[dev], &[], None).sources).unwrap();
    assert!(loaded.settings.anonymous && loaded.settings.subscriptions);
    assert_eq!(loaded.origin("anonymous"), Origin::Dev);
    let env = [("GUSH_ANONYMOUS", "false")];
    let loaded = Settings::load(&given(&[dev], &env, None).sources).unwrap();
    assert!(!loaded.settings.anonymous && loaded.settings.subscriptions);
}

#[test]
fn a_reload_tells_what_it_takes_from_what_needs_a_restart() {
    let old = Settings::default();
    let file = "heartbeat = \"5s\"\npublisher_key = \"a\"\nlisten = \"127.0.0.1:1\"\n";
    let new = Settings::load(&given(&[], &[], Some(file)).sources)
        .unwrap()
        .settings;
    assert_eq!(
        reload_changes(&old, &new),
        (vec!["publisher_key", "heartbeat"], vec!["listen"])
    );
    assert_eq!(reload_changes(&new, &new), (vec![], vec![]));
}

#[test]
fn secrets_are_in_no_debug_print() {
    let file = "publisher_key = \"hunter2\"\nsubscriber_key = \"hunter2\"\n";
    let loaded = Settings::load(&given(&[], &[], Some(file)).sources).unwrap();
    assert!(!format!("{loaded:?} {:?}", loaded.effective()).contains("hunter2"));
}

#[test]
fn warnings_name_the_option() {
    let warnings = Settings::default().warnings().join("\n");
    assert!(
        warnings.contains("--publisher-key") && warnings.contains("--anonymous"),
        "{warnings}"
    );
    let file = "publisher_key = \"short\"\nanonymous = true\nadmin_listen = \"0.0.0.0:3001\"\n";
    let loaded = Settings::load(&given(&[], &[], Some(file)).sources).unwrap();
    let warnings = loaded.settings.warnings().join("\n");
    assert!(
        warnings.contains("publisher_key is a secret of less than 32 bytes"),
        "{warnings}"
    );
    assert!(
        warnings.contains("0.0.0.0:3001") && warnings.lines().count() == 2,
        "{warnings}"
    );
    for (limit, is_said) in [("", true), ("max_connections_per_address = 1000\n", false)] {
        let file = format!("listen = [\"127.0.0.1:0\", \"[::]:3000\"]\n{limit}");
        let loaded = Settings::load(&given(&[], &[], Some(&file)).sources).unwrap();
        let warnings = loaded.settings.warnings().join("\n");
        let found = warnings.contains("max_connections_per_address");
        assert_eq!(found, is_said, "{warnings}");
    }
}
