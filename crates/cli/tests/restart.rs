//! The log over restarts: cursors of earlier runs, histories past the reference's limit, retention.

use gush_testkit::{Failure, HubBuilder, HubProcess, Outcome, PATIENCE, exchange};
use serde_json::{Value, json};

const TOPIC: &str = "https://restart.example/1";

fn builder() -> Outcome<HubBuilder> {
    Ok(HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .option("--drain-window", "100ms"))
}

fn stop(mut hub: HubProcess) -> Outcome<()> {
    hub.sigterm()?;
    let status = hub.wait_exit(PATIENCE)?;
    if status.success() {
        Ok(())
    } else {
        Failure::mismatch("exit", "0", status)
    }
}

/// Publishes `count` numbered events, many in flight on one connection; their ids.
fn publish_many(hub: &HubProcess, from: usize, count: usize) -> Outcome<Vec<String>> {
    let mut connection = hub.connect()?;
    let mut ids = Vec::new();
    for start in (from..from + count).step_by(100) {
        let end = (start + 100).min(from + count);
        let mut bytes = Vec::new();
        for n in start..end {
            let request = hub.publish_request(&[("topic", TOPIC), ("data", &n.to_string())])?;
            bytes.extend(request.to_bytes("hub.example"));
        }
        connection.send(&bytes)?;
        for _ in start..end {
            let response = connection.read_response()?;
            response.expect_status(&[200])?;
            ids.push(response.text());
        }
    }
    Ok(ids)
}

#[test]
fn an_empty_log_answers_earliest() -> Outcome<()> {
    for builder in [builder()?, HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?] {
        let hub = builder.start()?;
        for cursor in ["earliest", "anything"] {
            let mut stream = hub.resume(&[("topic", TOPIC)], cursor)?;
            stream.head().expect_header("Last-Event-ID", "earliest")?;
            let marker = format!("after {cursor}");
            if cursor == "anything" {
                hub.publish(&[("topic", TOPIC), ("data", &marker)])?;
                stream.expect_data(&marker)?;
            }
        }
    }
    Ok(())
}

#[test]
fn cursors_of_earlier_runs_resume() -> Outcome<()> {
    let builder = builder()?;
    let mut ids = Vec::new();
    for run in 0..4 {
        let hub = builder.start()?;
        ids.extend(publish_many(&hub, run * 50, 50)?);
        for at in [0, ids.len() / 2, ids.len() - 2] {
            let mut stream = hub.resume(&[("topic", TOPIC)], &ids[at])?;
            stream.head().expect_header("Last-Event-ID", &ids[at])?;
            for (n, id) in ids.iter().enumerate().skip(at + 1) {
                let event = stream.expect_data(&n.to_string())?;
                if event.id.as_ref() != Some(id) {
                    return Failure::mismatch(format!("id of event {n}"), id, format!("{event:?}"));
                }
            }
        }
        stop(hub)?;
    }
    Ok(())
}

#[test]
fn replay_works_past_ten_thousand_events() -> Outcome<()> {
    let builder = builder()?.option("--sync", "off");
    let hub = builder.start()?;
    let own = "an id of the publisher's own";
    hub.publish(&[("topic", TOPIC), ("data", "first"), ("id", own)])?;
    let ids = publish_many(&hub, 0, 12_000)?;
    for hub in [Some(hub), None] {
        let hub = match hub {
            Some(hub) => hub,
            None => builder.start()?,
        };
        let near_the_end = &ids[11_900];
        let mut stream = hub.resume(&[("topic", TOPIC)], near_the_end)?;
        stream.head().expect_header("Last-Event-ID", near_the_end)?;
        stream.expect_data("11901")?;
        let mut stream = hub.resume(&[("topic", TOPIC)], own)?;
        stream.head().expect_header("Last-Event-ID", own)?;
        for n in 0..12_000 {
            stream.expect_data(&n.to_string())?;
        }
        stop(hub)?;
    }
    Ok(())
}

#[test]
fn a_trimmed_id_is_told_in_band_when_asked_for() -> Outcome<()> {
    let hub = builder()?
        .option("--segment-bytes", "64KiB")
        .option("--retention-bytes", "64MiB")
        .option("--retention-events", "50")
        .start()?;
    let data = "x".repeat(4000);
    let first = hub.publish(&[("topic", TOPIC), ("data", &data)])?;
    hub.wait_metric("gush_log_first_offset", |_| true)?;
    let before = hub.metric("gush_log_first_offset")?.unwrap_or(0);
    let mut connection = hub.connect()?;
    let mut last = first.clone();
    for _ in 0..200 {
        let request = hub.publish_request(&[("topic", TOPIC), ("data", &data)])?;
        let response = connection.exchange(&request)?;
        response.expect_status(&[200])?;
        last = response.text();
    }
    hub.wait_metric("gush_log_first_offset", |offset| offset > before)?;
    let query = [("topic", TOPIC), ("gush_gap", "1"), ("lastEventID", &first)];
    let mut stream = hub.subscribe(&query)?;
    let event = stream.next_event()?;
    let got: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let expected = json!({"requested": first, "reason": "trimmed"});
    if event.event != "gush-gap" || got != expected {
        return Failure::mismatch("gap event", expected, format!("{event:?}"));
    }
    // Without asking, the answer header is the signal.
    let plain = hub.resume(&[("topic", TOPIC)], &first)?;
    if plain.head().header("Last-Event-ID") == Some(&first) {
        return Err(Failure::new(
            "a trimmed id was echoed as if it had been found",
        ));
    }
    hub.resume(&[("topic", TOPIC)], &last)?
        .head()
        .expect_header("Last-Event-ID", &last)
}

#[test]
fn memory_forgets_over_a_restart_and_says_so() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.option("--drain-window", "100ms");
    let hub = builder.start()?;
    let old = publish_many(&hub, 0, 10)?;
    stop(hub)?;
    let hub = builder.start()?;
    // As many events again, so that a bare position would be mistaken for the old one.
    let new = publish_many(&hub, 100, 10)?;
    for (id, same_place) in old.iter().zip(&new) {
        let stream = hub.resume(&[("topic", TOPIC)], id)?;
        let header = stream.head().header("Last-Event-ID").unwrap_or_default();
        if header == id || id == same_place {
            return Err(Failure::new(format!(
                "an id of the earlier run was taken for a new one: {id}"
            )));
        }
    }
    Ok(())
}

#[test]
fn a_hub_without_a_publisher_key_refuses_publishes_and_names_the_option() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .publisher_key(None)
        .start()?;
    let request = hub.publish_request(&[("topic", TOPIC), ("data", "x")])?;
    let response = exchange(hub.address(), &request)?;
    response.expect_status(&[401, 403, 503])?;
    if !response.text().contains("publisher") {
        return Failure::mismatch("text", "the option named", response.text());
    }
    hub.wait_stderr(&["publisher"]).map(drop)
}

#[test]
fn a_memory_log_keeps_its_window_and_says_what_is_gone() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--window-events", "64")
        .start()?;
    let ids = publish_many(&hub, 0, 200)?;
    let gone = hub.resume(&[("topic", TOPIC)], &ids[0])?;
    if gone.head().header("Last-Event-ID") == Some(&ids[0]) {
        return Err(Failure::new(
            "a trimmed id was echoed as if it had been found",
        ));
    }
    let mut kept = hub.resume(&[("topic", TOPIC)], "earliest")?;
    let first: usize = kept.next_event()?.data.parse().unwrap_or_default();
    // Kept in whole blocks perhaps, so a few more or fewer than the bound.
    assert!(
        (100..=199).contains(&first),
        "the first event kept is {first}"
    );
    for n in first + 1..200 {
        kept.expect_data(&n.to_string())?;
    }
    hub.resume(&[("topic", TOPIC)], &ids[190])?
        .expect_data("191")
        .map(drop)
}

/// The generated id with its last twelve digits, where the offset is, changed by `change`.
fn forged(id: &str, change: impl Fn(u64) -> u64) -> Outcome<String> {
    let (start, digits) = id.split_at(id.len() - 12);
    let offset = u64::from_str_radix(digits, 16)
        .map_err(|_| Failure::new(format!("not a generated id: {id}")))?;
    Ok(format!("{start}{:012x}", change(offset) & 0xffff_ffff_ffff))
}

#[test]
fn ids_of_events_that_do_not_exist_yet_are_unknown() -> Outcome<()> {
    for builder in [builder()?, HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?] {
        let hub = builder.start()?;
        publish_many(&hub, 0, 20)?;
        for ahead in [1, 2, 1000, 0xffff_ffff] {
            let last = hub.publish(&[("topic", TOPIC), ("data", "last")])?;
            let forged = forged(&last, |offset| offset.wrapping_add(ahead))?;
            let mut stream = hub.resume(&[("topic", TOPIC)], &forged)?;
            stream.head().expect_header("Last-Event-ID", &last)?;
            // The event that gets exactly this id, or one before it, must not be passed over.
            hub.publish(&[("topic", TOPIC), ("data", "next")])?;
            stream
                .expect_data("next")
                .map_err(|f| f.within(format!("{ahead} ahead")))?;
        }
        let zero = forged(&hub.publish(&[("topic", TOPIC), ("data", "x")])?, |_| 0)?;
        let mut stream = hub.resume(&[("topic", TOPIC)], &zero)?;
        hub.publish(&[("topic", TOPIC), ("data", "after all")])?;
        while stream.next_event()?.data != "after all" {}
    }
    Ok(())
}

#[test]
fn a_publishers_id_that_looks_generated_is_its_own() -> Outcome<()> {
    for builder in [builder()?, HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?] {
        let hub = builder.start()?;
        let ids = publish_many(&hub, 0, 10)?;
        // The id of an event that will exist, taken by another one first.
        let taken = forged(&ids[9], |offset| offset + 3)?;
        let fields = [
            ("topic", TOPIC),
            ("data", "usurper"),
            ("id", taken.as_str()),
        ];
        let response = exchange(hub.address(), &hub.publish_request(&fields)?)?;
        // Refusing it is fine; taking it must lose nothing.
        response.expect_status(&[200, 400])?;
        publish_many(&hub, 10, 10)?;
        let mut stream = hub.resume(&[("topic", TOPIC)], &ids[9])?;
        if response.status() == 200 {
            stream.expect_data("usurper")?;
        }
        for n in 10..20 {
            stream.expect_data(&n.to_string())?;
        }
        let mut stream = hub.resume(&[("topic", TOPIC)], &taken)?;
        // Whichever of the two is meant, nothing behind the later of them is lost.
        while stream.next_event()?.data != "13" {}
    }
    Ok(())
}
