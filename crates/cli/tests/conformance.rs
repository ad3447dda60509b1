//! The conformance suite against the real binary, in two configurations that together switch
//! every feature on and off, on both log backends; and the catalogue of abuse.

use gush_conformance::{Target, run};
use gush_testkit::{Failure, HubBuilder, HubProcess, Outcome};
use std::time::Duration;

const ORIGIN: &str = "https://app.example";

fn check(hub: &HubProcess, adjust: impl FnOnce(&mut Target)) -> Outcome<()> {
    let mut target = Target::new(hub.address(), hub.publisher_key(), hub.subscriber_key());
    target.admin = Some(hub.admin()?);
    adjust(&mut target);
    let mut cases = gush_conformance::all();
    cases.extend(gush_conformance::gush());
    let report = run(&cases, &target, &mut std::io::stdout())?;
    if report.counts().1 == 0 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{}{}\n{}",
        report.failures(),
        report.summary(),
        hub.output()
    )))
}

#[test]
fn everything_on_with_a_disk_log() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .anonymous()
        .subscriptions()
        .option("--cors-origin", ORIGIN)
        .option("--publish-origin", ORIGIN)
        .option("--heartbeat", "300ms")
        .start()?;
    check(&hub, |target| {
        target.anonymous = true;
        target.subscriptions = true;
        target.cors_origin = Some(ORIGIN.to_owned());
        target.publish_origin = Some(ORIGIN.to_owned());
        target.heartbeat = Some(Duration::from_millis(300));
    })
}

#[test]
fn everything_off_with_a_memory_log() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    check(&hub, |_| {})
}

#[test]
fn the_catalogue_of_abuse() -> Outcome<()> {
    // One of its floods has more connections than the 1,024 descriptors that many start with.
    gush_hub::limits::raise_descriptors();
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .option("--head-timeout", "2s")
        .option("--body-timeout", "2s")
        .start()?;
    let mut target = Target::new(hub.address(), hub.publisher_key(), hub.subscriber_key());
    target.admin = Some(hub.admin()?);
    target.head_timeout = Duration::from_secs(2);
    target.body_timeout = Duration::from_secs(2);
    target.pid = Some(hub.pid());
    let report = run(&gush_conformance::abuse(), &target, &mut std::io::stdout())?;
    if report.counts().1 == 0 {
        return Ok(());
    }
    let told = format!(
        "{}{}\n{}",
        report.failures(),
        report.summary(),
        hub.output()
    );
    Err(Failure::new(told))
}
