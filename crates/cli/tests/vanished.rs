//! A peer whose network is gone, without a FIN: closed within heartbeat and TCP user timeout.

use gush_testkit::{Failure, HubBuilder, Outcome, PATIENCE};
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TOPIC: &str = "https://vanished.example/1";

/// A network of two ends, one of them in a namespace of its own; taken down when dropped.
struct Network {
    namespace: String,
    link: String,
    address: String,
}

impl Network {
    /// `None` when this user may not make one.
    fn new() -> Option<Self> {
        let number = std::process::id();
        let network = Self {
            namespace: format!("gush-test-{number}"),
            link: format!("gt{number}"),
            address: format!("10.213.{}.1", number % 256),
        };
        let (namespace, link) = (&network.namespace, &network.link);
        let there = format!("{link}b");
        let ours = format!("{}/30", network.address);
        let theirs = format!("10.213.{}.2/30", number % 256);
        let steps: [&[&str]; 6] = [
            &["netns", "add", namespace],
            &[
                "link", "add", link, "type", "veth", "peer", "name", &there, "netns", namespace,
            ],
            &["addr", "add", &ours, "dev", link],
            &["link", "set", link, "up"],
            &["-n", namespace, "addr", "add", &theirs, "dev", &there],
            &["-n", namespace, "link", "set", &there, "up"],
        ];
        steps.iter().all(|step| ip(step)).then_some(network)
    }

    /// From now on nothing passes in either direction, and nobody is told.
    fn cut(&self) -> bool {
        let there = format!("{}b", self.link);
        ip(&["-n", &self.namespace, "link", "set", &there, "down"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Deleting one end deletes the other; both may be gone already.
        ip(&["link", "del", &self.link]);
        ip(&["netns", "del", &self.namespace]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip")
        .args(arguments)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_peer_without_a_network_is_closed_and_named() -> Outcome<()> {
    let Some(network) = Network::new() else {
        println!("skipped: this user may not make a network to unplug");
        return Ok(());
    };
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .without_listeners()
        .option("--listen", &format!("{}:0", network.address))
        .option("--admin-listen", "127.0.0.1:0")
        .option("--heartbeat", "500ms")
        .option("--tcp-user-timeout", "1s")
        .start()?;
    let url = format!("http://{}/.well-known/mercure?topic={TOPIC}", hub.address());
    let token = format!("Authorization: Bearer {}", hub.subscriber_token()?);
    let mut curl = Command::new("ip")
        .args([
            "netns",
            "exec",
            &network.namespace,
            "curl",
            "--silent",
            "--no-buffer",
        ])
        .args(["--header", &token, &url])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = curl.stdout.take().ok_or("curl was started with a pipe")?;
    let curl = Killed(curl);
    // The first byte of the body: subscribed.
    output.read_exact(&mut [0])?;
    let mut near = hub.subscribe(&[("topic", TOPIC)])?;
    if !network.cut() {
        return Err(Failure::new("cannot take the link down"));
    }
    let since = Instant::now();
    let series = "gush_streams_closed_total{reason=\"peer_vanished\"}";
    hub.wait_metric(series, |count| count == 1)?;
    println!("closed {} ms after the cut", since.elapsed().as_millis());
    // Half a second to the next heartbeat, a second unacknowledged, and time for a busy machine.
    if since.elapsed() > Duration::from_millis(1500) + PATIENCE / 2 {
        return Failure::mismatch(
            "closed",
            "after about 1.5 s",
            format!("{:?}", since.elapsed()),
        );
    }
    hub.publish(&[("topic", TOPIC), ("data", "x")])?;
    near.expect_data("x")?;
    drop(curl);
    Ok(())
}
