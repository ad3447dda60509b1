//! What the hub and a proxy do together: whom a stream counts for, and deploys of the hub.

use gush_testkit::{Failure, HubProcess, Outcome, PATIENCE, Request, SseStream, eventually};

use crate::curl;
use crate::proxy::{Edit, Front, Kind, builder, hub};

const TOPIC: &str = "https://front.example/1";
/// From here both proxies connect to the hub.
const PROXY: &str = "127.0.0.1";

/// Each client has the limit of an address, though all come from the proxy's; what it says of
/// itself counts for nothing.
fn limits_each_client(hub: &HubProcess, kind: Kind, edits: &[Edit]) -> Outcome<()> {
    let front = Front::start(kind, hub, edits)?;
    // No `EventSource`, so a refusal has a status.
    let request = || hub.subscribe_request(&[("topic", TOPIC)]);
    let open = |source| SseStream::answered(front.sent_from(source, &request()?)?);
    let refused = |source, request: &Request| -> Outcome<()> {
        let answer = front.sent_from(source, request)?.read_response()?;
        answer.expect_status(&[429])
    };
    let first = open([127, 0, 0, 21])?;
    let _second = open([127, 0, 0, 22])?;
    refused([127, 0, 0, 21], &request()?)?;
    for (name, value) in [
        ("X-Forwarded-For", "203.0.113.7"),
        ("Forwarded", "for=203.0.113.7"),
        ("X-Real-IP", "203.0.113.7"),
    ] {
        refused([127, 0, 0, 22], &request()?.header(name, value))?;
    }
    drop(first);
    eventually("its place is free again", PATIENCE, || {
        Ok(open([127, 0, 0, 21]).ok().map(drop))
    })
}

/// One stream for each address.
const ONE_EACH: [(&str, &str); 2] = [
    ("--max-connections-per-address", "1"),
    ("--trusted-proxy", PROXY),
];

#[test]
fn behind_nginx_each_client_has_its_own_limit() -> Outcome<()> {
    limits_each_client(&hub(&ONE_EACH)?, Kind::Nginx, &[])
}

#[test]
fn behind_haproxy_each_client_has_its_own_limit() -> Outcome<()> {
    limits_each_client(&hub(&ONE_EACH)?, Kind::HaProxy, &[])
}

#[test]
fn haproxy_may_name_the_client_in_the_proxy_protocol() -> Outcome<()> {
    let hub = builder(&ONE_EACH)?.flag("--proxy-protocol").start()?;
    let edits = [(
        "    server hub",
        "    default-server send-proxy-v2\n    server hub",
    )];
    limits_each_client(&hub, Kind::HaProxy, &edits)
}

/// A new process takes the hub's place, and nobody in front of the proxy notices.
fn an_upgrade_is_not_noticed(kind: Kind) -> Outcome<()> {
    let mut hub = hub(&[])?;
    let front = Front::start(kind, &hub, &[])?;
    let mut stream = front.subscribe(&hub, TOPIC)?;
    let over_h2 = curl::subscribe(&front, &hub, TOPIC)?;
    for round in 0..3 {
        for step in ["before", "after"] {
            if step == "after" {
                hub.upgrade()?;
            }
            let data = format!("{step} {round}");
            let request = hub.publish_request(&[("topic", TOPIC), ("data", &data)])?;
            front.exchange(&request)?.expect_status(&[200])?;
            stream.expect_data(&data)?;
            over_h2.expect_data(&data)?;
        }
    }
    Ok(())
}

#[test]
fn behind_nginx_an_upgrade_of_the_hub_is_not_noticed() -> Outcome<()> {
    an_upgrade_is_not_noticed(Kind::Nginx)
}

#[test]
fn behind_haproxy_an_upgrade_of_the_hub_is_not_noticed() -> Outcome<()> {
    an_upgrade_is_not_noticed(Kind::HaProxy)
}

/// Two hubs, of which one ends with `drain_delay`: once HAProxy has seen that it is not ready,
/// clients go to the other, and nobody is refused or sent back to it.
#[test]
fn while_one_of_two_hubs_drains_haproxy_sends_everybody_to_the_other() -> Outcome<()> {
    let mut ending = hub(&[("--drain-delay", "3s"), ("--drain-window", "1s")])?;
    let staying = hub(&[])?;
    let both = format!(
        "    option httpchk GET /readyz\n    \
         default-server check inter 100ms fall 2 rise 1\n    \
         server other {}\n    server hub",
        staying.address()
    );
    let front = Front::start(Kind::HaProxy, &ending, &[("    server hub", both.leak())])?;
    let mut streams = Vec::new();
    let on = |hub: &HubProcess, streams: &mut Vec<SseStream>| -> Outcome<u64> {
        let before = hub.metric_sum("gush_streams_opened_total")?;
        for _ in 0..4 {
            streams.push(front.subscribe(&ending, TOPIC)?);
        }
        Ok(hub.metric_sum("gush_streams_opened_total")? - before)
    };
    eventually("both are taken for ready", PATIENCE, || {
        Ok((on(&staying, &mut streams)? == 2).then_some(()))
    })?;
    ending.sigterm()?;
    // New ones are served all the time, also by the hub that ends, until the proxy has seen it.
    eventually("the proxy sends nobody more", PATIENCE, || {
        Ok((on(&ending, &mut streams)? == 0).then_some(()))
    })?;
    ending.publish(&[("topic", TOPIC), ("data", "ending")])?;
    staying.publish(&[("topic", TOPIC), ("data", "staying")])?;
    let mut moved = 0;
    for stream in &mut streams {
        let event = stream.next_event()?;
        if event.data == "staying" {
            continue;
        }
        let (rest, retry) = (stream.read_to_end(PATIENCE)?, stream.retry());
        if !rest.is_empty() || retry.is_none() {
            return Failure::mismatch("end", "a retry", format!("{rest:?}, {retry:?}"));
        }
        // Sooner than it was told.
        *stream = front.subscribe(&ending, TOPIC)?;
        moved += 1;
    }
    let status = ending.wait_exit(PATIENCE)?;
    staying.publish(&[("topic", TOPIC), ("data", "all")])?;
    for stream in &mut streams {
        stream.expect_data("all")?;
    }
    if moved < 2 || !status.success() {
        return Failure::mismatch(
            "drain",
            "streams that moved, 0",
            format!("{moved}, {status}"),
        );
    }
    Ok(())
}
