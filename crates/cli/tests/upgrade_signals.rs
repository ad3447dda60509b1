//! Signals that come while a new process takes a hub's place.

use gush_testkit::{Failure, HubBuilder, Outcome, PATIENCE};
use std::os::unix::fs::{PermissionsExt, symlink};

const TOPIC: &str = "https://upgrade.example/signals";

/// Told to stop in the middle of an upgrade, the old process ends, as it would have anyway; the
/// streams go over all the same.
#[test]
fn a_stop_in_the_middle_of_an_upgrade_costs_no_stream() -> Outcome<()> {
    let real = env!("CARGO_BIN_EXE_gush");
    let directory = tempfile::tempdir()?;
    let link = directory.path().join("gush");
    symlink(real, &link)?;
    let mut hub = HubBuilder::new(&link)?.start()?;
    let mut streams: Vec<_> = (0..50)
        .map(|_| hub.subscribe(&[("topic", TOPIC)]))
        .collect::<Outcome<_>>()?;
    // The new process waits until it is let.
    let (slow, gate) = (link.with_extension("slow"), directory.path().join("gate"));
    let script = format!(
        "#!/bin/sh\nmkfifo {0} && read word <{0}\nexec {real} \"$@\"\n",
        gate.display()
    );
    std::fs::write(&slow, script)?;
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&slow, &link)?;
    hub.signal("USR2")?;
    gush_testkit::eventually("the new process", PATIENCE, || {
        Ok(gate.exists().then_some(()))
    })?;
    hub.signal("TERM")?;
    std::fs::write(&gate, "go\n")?;
    let said = hub.wait_stderr(&["the new process serves", "pid="])?;
    let pid = said
        .rsplit_once("pid=")
        .and_then(|(_, pid)| pid.trim().parse().ok());
    hub.follow(pid.ok_or_else(|| Failure::new(said))?);
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    hub.publish(&[("topic", TOPIC), ("data", "after")])?;
    for stream in &mut streams {
        stream.expect_data("after")?;
    }
    Ok(())
}
