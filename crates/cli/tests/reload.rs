//! SIGHUP: a good file applies without dropping streams, a broken one changes nothing and says why.

use gush_testkit::{
    Claims, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, Response, TokenKey,
    eventually, exchange,
};

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://reload.example/1";
const OLD: &str = "the old publisher key, thirty-two bytes and more";
const NEW: &str = "the new publisher key, thirty-two bytes and more";

fn publish_with(hub: &HubProcess, key: &str, data: &str) -> Outcome<Response> {
    let token = TokenKey::hmac("HS256", key).sign(&Claims::new().publish(&["*"]))?;
    exchange(
        hub.address(),
        &Request::form(HUB, &[("topic", TOPIC), ("data", data)]).bearer(&token),
    )
}

fn start(text: &str) -> Outcome<(HubProcess, std::path::PathBuf)> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.publisher_key(None);
    let file = builder.directory().join("gush.toml");
    std::fs::write(&file, text)?;
    let path = file.display().to_string();
    Ok((builder.option("--config", &path).start()?, file))
}

#[test]
fn a_new_publisher_key_applies_and_streams_stay() -> Outcome<()> {
    let (hub, file) = start(&format!("publisher_key = \"{OLD}\"\n"))?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    publish_with(&hub, OLD, "old")?.expect_status(&[200])?;
    publish_with(&hub, NEW, "no")?.expect_status(&[401])?;
    std::fs::write(&file, format!("publisher_key = \"{NEW}\"\n"))?;
    hub.signal("HUP")?;
    eventually("the new key", PATIENCE, || {
        Ok((publish_with(&hub, NEW, "new")?.status() == 200).then_some(()))
    })
    .map_err(|f| f.within(hub.output()))?;
    publish_with(&hub, OLD, "no")?.expect_status(&[401])?;
    stream.expect_all(&["old", "new"])
}

#[test]
fn a_broken_file_keeps_the_old_settings_and_says_line_and_reason() -> Outcome<()> {
    let (hub, file) = start(&format!("publisher_key = \"{OLD}\"\n"))?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    for (text, words) in [
        (
            format!("publisher_key = \"{NEW}\"\nheartbeat = = 3\n"),
            ["gush.toml", "2"],
        ),
        (
            format!("publisher_key = \"{NEW}\"\n\nhaertbeat = \"3s\"\n"),
            ["haertbeat", "3"],
        ),
        (
            format!("publisher_key = \"{NEW}\"\nheartbeat = \"soon\"\n"),
            ["heartbeat", "2"],
        ),
    ] {
        std::fs::write(&file, &text)?;
        hub.signal("HUP")?;
        hub.wait_stderr(&words)?;
        publish_with(&hub, NEW, "no")?.expect_status(&[401])?;
        publish_with(&hub, OLD, "still")?.expect_status(&[200])?;
        stream.expect_data("still")?;
    }
    if hub.stderr().contains(NEW) || hub.stderr().contains(OLD) {
        return Err(Failure::new(format!(
            "a key is in the log\n{}",
            hub.output()
        )));
    }
    // A good file afterwards applies.
    std::fs::write(&file, format!("publisher_key = \"{NEW}\"\n"))?;
    hub.signal("HUP")?;
    eventually("the new key", PATIENCE, || {
        Ok((publish_with(&hub, NEW, "new")?.status() == 200).then_some(()))
    })?;
    stream.expect_data("new").map(drop)
}

#[test]
fn a_missing_file_keeps_the_old_settings() -> Outcome<()> {
    let (hub, file) = start(&format!("publisher_key = \"{OLD}\"\n"))?;
    std::fs::remove_file(&file)?;
    hub.signal("HUP")?;
    hub.wait_stderr(&["gush.toml"])?;
    publish_with(&hub, OLD, "x")?.expect_status(&[200])
}
