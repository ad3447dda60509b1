//! Shards with descriptor tables of their own: more streams than one table holds.

use gush_testkit::{HubBuilder, HubProcess, Outcome, SseStream};

const TOPIC: &str = "https://tables.example/1";

/// Descriptors of one table, far fewer than the streams below.
const TABLE: u32 = 300;
const STREAMS: usize = 700;

fn start(options: &[(&str, &str)]) -> Outcome<Option<HubProcess>> {
    let mut builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    for (name, value) in options {
        builder = builder.option(name, value);
    }
    // Without prlimit(1) there is no small table to test with.
    let Some(builder) = builder.with_descriptors(TABLE) else {
        return Ok(None);
    };
    builder.start().map(Some)
}

#[test]
fn a_hub_holds_more_streams_than_one_table() -> Outcome<()> {
    let Some(hub) = start(&[("--max-connections", "1000")])? else {
        return Ok(());
    };
    hub.wait_stderr(&["each shard has a descriptor table of its own"])?;
    let mut streams = (0..STREAMS)
        .map(|_| hub.subscribe(&[("topic", TOPIC)]))
        .collect::<Outcome<Vec<SseStream>>>()?;
    for data in ["0", "1"] {
        hub.publish(&[("topic", TOPIC), ("data", data)])?;
    }
    for stream in &mut streams {
        stream.expect_all(&["0", "1"])?;
    }
    assert_eq!(
        hub.metric("gush_subscribers_open{sink=\"tcp\"}")?,
        Some(STREAMS as u64)
    );
    drop(streams);
    hub.wait_metric("gush_subscribers_open{sink=\"tcp\"}", |open| open == 0)?;
    // The places are free again.
    let again = (0..STREAMS).map(|_| hub.subscribe(&[("topic", TOPIC)]));
    again.collect::<Outcome<Vec<SseStream>>>()?;
    Ok(())
}

#[test]
fn a_shared_table_is_the_limit_without() -> Outcome<()> {
    let options = [
        ("--max-connections", "1000"),
        ("--descriptor-tables", "shared"),
    ];
    let Some(hub) = start(&options)? else {
        return Ok(());
    };
    hub.wait_stderr(&["--max-connections is more than the descriptor limit allows"])?;
    Ok(())
}

#[test]
fn a_resumed_stream_and_a_drain_work_from_an_own_table() -> Outcome<()> {
    let options = [
        ("--descriptor-tables", "own"),
        ("--shards", "3"),
        ("--drain-window", "1s"),
    ];
    let Some(mut hub) = start(&options)? else {
        return Ok(());
    };
    hub.publish(&[("topic", TOPIC), ("data", "0")])?;
    let mut streams = (0..6)
        .map(|_| hub.resume(&[("topic", TOPIC)], "earliest"))
        .collect::<Outcome<Vec<SseStream>>>()?;
    hub.publish(&[("topic", TOPIC), ("data", "1")])?;
    for stream in &mut streams {
        stream.expect_all(&["0", "1"])?;
    }
    hub.sigterm()?;
    for stream in &mut streams {
        stream.read_to_end(gush_testkit::PATIENCE)?;
    }
    let status = hub.wait_exit(gush_testkit::PATIENCE)?;
    assert!(status.success(), "{}", hub.output());
    Ok(())
}
