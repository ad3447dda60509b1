//! Damaged, full and shared log directories: the hub starts or refuses, and says why.

use gush_testkit::{
    Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, eventually, exchange,
};
use std::path::{Path, PathBuf};
use std::process::Command;

const TOPIC: &str = "https://damage.example/1";

fn builder() -> Outcome<HubBuilder> {
    Ok(HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .option("--segment-bytes", "64KiB")
        .option("--drain-window", "100ms"))
}

/// Publishes `count` events of about a kilobyte, and stops the hub regularly.
fn fill_and_stop(builder: &HubBuilder, count: usize) -> Outcome<Vec<String>> {
    let mut hub = builder.start()?;
    let mut connection = hub.connect()?;
    let mut ids = Vec::new();
    for n in 0..count {
        let data = numbered(n);
        let request = hub.publish_request(&[("topic", TOPIC), ("data", &data)])?;
        let response = connection.exchange(&request)?;
        response.expect_status(&[200])?;
        ids.push(response.text());
    }
    drop(connection);
    stop(&mut hub)?;
    Ok(ids)
}

fn stop(hub: &mut HubProcess) -> Outcome<()> {
    hub.sigterm()?;
    let status = hub.wait_exit(PATIENCE)?;
    if status.success() {
        return Ok(());
    }
    Failure::mismatch("exit", "0", format!("{status}\n{}", hub.output()))
}

fn numbered(n: usize) -> String {
    format!("{n} {}", "x".repeat(1000))
}

fn number(data: &str) -> Option<usize> {
    data.split(' ').next()?.parse().ok()
}

/// Segment files by name, so by age.
fn segments(builder: &HubBuilder) -> Outcome<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(builder.log_directory())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    found.sort();
    if found.is_empty() {
        return Err(Failure::new("no segment files found"));
    }
    Ok(found)
}

/// The numbers of all events that are replayed, which must be in order and as published.
fn replayed(hub: &HubProcess) -> Outcome<Vec<usize>> {
    let mut stream = hub.subscribe(&[("topic", TOPIC), ("lastEventID", "earliest")])?;
    hub.publish(&[("topic", TOPIC), ("data", "end")])?;
    let mut numbers: Vec<usize> = Vec::new();
    loop {
        let event = stream.next_event()?;
        if event.data == "end" {
            return Ok(numbers);
        }
        match number(&event.data) {
            Some(n) if event.data == numbered(n) && numbers.last().is_none_or(|l| *l < n) => {
                numbers.push(n);
            }
            _ => {
                return Err(Failure::new(format!(
                    "not as published, or out of order: {event:?}"
                )));
            }
        }
    }
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Outcome<()> {
    let mut bytes = std::fs::read(path)?;
    change(&mut bytes);
    Ok(std::fs::write(path, bytes)?)
}

/// Starts the hub on a damaged log: it serves, warns with the file's name, and all events from
/// `from` to `to` at least are there.
fn starts_with(builder: &HubBuilder, file: &Path, intact: &[usize]) -> Outcome<Vec<usize>> {
    let hub = builder.start()?;
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    hub.wait_stderr(&[&name])?;
    let numbers = replayed(&hub)?;
    if let Some(missing) = intact.iter().find(|n| !numbers.contains(n)) {
        let text = format!(
            "event {missing} was not damaged and is missing\n{}",
            hub.output()
        );
        return Err(Failure::new(text));
    }
    Ok(numbers)
}

#[test]
fn a_torn_tail_is_cut_and_the_rest_served() -> Outcome<()> {
    for torn in [1, 7, 500] {
        let builder = builder()?;
        fill_and_stop(&builder, 100)?;
        let last = segments(&builder)?.pop().unwrap_or_default();
        rewrite(&last, |bytes| bytes.truncate(bytes.len() - torn))?;
        let numbers = starts_with(&builder, &last, &(0..99).collect::<Vec<_>>())
            .map_err(|f| f.within(format!("{torn} bytes torn off")))?;
        if numbers.contains(&99) {
            return Err(Failure::new("the torn event was served"));
        }
    }
    Ok(())
}

#[test]
fn rubbish_behind_the_tail_is_cut_and_nothing_else() -> Outcome<()> {
    let builder = builder()?;
    fill_and_stop(&builder, 100)?;
    let last = segments(&builder)?.pop().unwrap_or_default();
    rewrite(&last, |bytes| {
        bytes.extend((0..3000_u32).map(|n| (n * 7 % 251) as u8))
    })?;
    starts_with(&builder, &last, &(0..100).collect::<Vec<_>>()).map(drop)
}

#[test]
fn a_flipped_bit_in_the_newest_segment_costs_no_event_before_it() -> Outcome<()> {
    let builder = builder()?;
    fill_and_stop(&builder, 100)?;
    let files = segments(&builder)?;
    let last = files.last().cloned().unwrap_or_default();
    let before = events_before(&last)?;
    rewrite(&last, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    })?;
    starts_with(&builder, &last, &(0..before).collect::<Vec<_>>()).map(drop)
}

/// How many events lie in the segments before this one: its name is its first offset.
fn events_before(segment: &Path) -> Outcome<usize> {
    let stem = segment
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let base: usize = stem
        .parse()
        .map_err(|_| Failure::new(format!("not a segment name: {stem}")))?;
    // Offsets may start at 0 or 1; an event more or less does not matter here.
    Ok(base.saturating_sub(1))
}

#[test]
fn a_flipped_bit_in_an_old_segment_loses_no_other_segment() -> Outcome<()> {
    let builder = builder()?;
    fill_and_stop(&builder, 300)?;
    let files = segments(&builder)?;
    if files.len() < 3 {
        return Err(Failure::new(format!(
            "at least three segments expected, got {files:?}"
        )));
    }
    let before = events_before(&files[1])?;
    let after = events_before(&files[2])? + 2;
    rewrite(&files[1], |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    })?;
    let hub = builder.start()?;
    let numbers = replayed_over_damage(&hub, after)?;
    for n in (0..before).chain(after..300) {
        if !numbers.contains(&n) {
            return Err(Failure::new(format!(
                "event {n} is in an undamaged segment and missing"
            )));
        }
    }
    let name = files[1]
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    hub.wait_stderr(&[&name]).map(drop)
}

/// Replay may end at damaged events (the subscriber learns of the gap and comes back); follows it
/// as an EventSource would, by its last id, and at the end from what the answer header says.
fn replayed_over_damage(hub: &HubProcess, after: usize) -> Outcome<Vec<usize>> {
    hub.publish(&[("topic", TOPIC), ("data", "end")])?;
    let mut numbers = Vec::new();
    let mut cursor = "earliest".to_owned();
    for _ in 0..20 {
        let mut stream = hub.subscribe(&[("topic", TOPIC), ("lastEventID", &cursor)])?;
        while let Ok(event) = stream.next_event() {
            if event.data == "end" {
                return Ok(numbers);
            }
            numbers.extend(number(&event.data));
            cursor = event.id.unwrap_or(cursor);
        }
    }
    Err(Failure::new(format!(
        "replay never came past the damage (to {after}); got {numbers:?}"
    )))
}

#[test]
fn a_lost_index_file_is_made_again() -> Outcome<()> {
    let builder = builder()?;
    let ids = fill_and_stop(&builder, 200)?;
    for entry in std::fs::read_dir(builder.log_directory())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "idx") {
            std::fs::remove_file(path)?;
        }
    }
    let hub = builder.start()?;
    let mut stream = hub.resume(&[("topic", TOPIC)], &ids[20])?;
    stream.head().expect_header("Last-Event-ID", &ids[20])?;
    stream.expect_data(&numbered(21)).map(drop)
}

#[test]
fn a_second_hub_on_the_same_directory_is_refused() -> Outcome<()> {
    let builder = builder()?;
    let hub = builder.start()?;
    let (code, _, stderr) = builder.start_to_exit()?;
    let directory = builder.log_directory().display().to_string();
    for word in [directory.as_str(), "--log"] {
        if code != Some(1) || !stderr.contains(word) {
            return Failure::mismatch(
                "second hub",
                format!("exit code 1 and a text with {word:?}"),
                format!("{code:?}, {stderr}"),
            );
        }
    }
    // The first one is none the worse for it.
    hub.publish(&[("topic", TOPIC), ("data", "x")]).map(drop)
}

/// A file system in memory, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None` when this user may not mount.
    fn new(path: &Path, size: &str) -> Outcome<Option<Self>> {
        std::fs::create_dir_all(path)?;
        let options = format!("size={size}");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "gush-test"])
            .arg(path)
            .output();
        Ok(status
            .is_ok_and(|o| o.status.success())
            .then(|| Self(path.to_owned())))
    }

    fn resize(&self, size: &str) -> Outcome<()> {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,size={size}")])
            .arg(&self.0)
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::new(format!("remount: {status}")))
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, as the hub may still be ending.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_publishers_and_nobody_else() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .option("--segment-bytes", "256KiB");
    let Some(mount) = Mount::new(&builder.log_directory(), "4m")? else {
        println!("skipped: this user may not mount a small file system to fill");
        return Ok(());
    };
    let hub = builder.start()?;
    let mut live = hub.subscribe(&[("topic", TOPIC)])?;
    let (ids, refusal) = publish_until_refused(&hub)?;
    refusal.expect_status(&[503])?;
    for (what, holds) in [
        ("Retry-After", refusal.header("Retry-After").is_some()),
        ("a reason", refusal.text().len() > 10),
    ] {
        if !holds {
            let got = format!("{}{}", refusal.head.raw, refusal.text());
            return Failure::mismatch("503 of a full disk", what, got);
        }
    }
    hub.get("/healthz")?.expect_status(&[200])?;
    // The live subscriber has every acknowledged event and stays; replay works too.
    let mut replay = hub.resume(&[("topic", TOPIC)], &ids[0])?;
    for (n, id) in ids.iter().enumerate() {
        let event = live.next_event()?;
        if event.id.as_ref() != Some(id) {
            return Failure::mismatch(format!("live event {n}"), id, format!("{:?}", event.id));
        }
        if n > 0 && replay.next_event()?.id.as_ref() != Some(id) {
            return Err(Failure::new(format!("replayed event {n} is not {id}")));
        }
    }
    mount.resize("64m")?;
    let id = eventually("publishing after space came back", PATIENCE * 2, || {
        let request = hub.publish_request(&[("topic", TOPIC), ("data", "again")])?;
        let response = exchange(hub.address(), &request)?;
        Ok((response.status() == 200).then(|| response.text()))
    })
    .map_err(|f| f.within(hub.output()))?;
    for stream in [&mut live, &mut replay] {
        let event = stream.next_event()?;
        if event.id.as_ref() != Some(&id) || event.data != "again" {
            return Failure::mismatch("event after the full disk", &id, format!("{event:?}"));
        }
    }
    drop(hub);
    let hub = builder.start()?;
    let mut replay = hub.resume(&[("topic", TOPIC)], &ids[ids.len() - 1])?;
    replay.expect_data("again").map(drop)
}

/// Publishes 16 KiB events until one is refused; the acknowledged ids and the refusal.
fn publish_until_refused(hub: &HubProcess) -> Outcome<(Vec<String>, gush_testkit::Response)> {
    let data = "0123456789abcdef".repeat(1024);
    let request: Request = hub.publish_request(&[("topic", TOPIC), ("data", &data)])?;
    let mut ids = Vec::new();
    for _ in 0..1000 {
        let response = exchange(hub.address(), &request)?;
        if response.status() != 200 {
            return Ok((ids, response));
        }
        ids.push(response.text());
    }
    Err(Failure::new("16 MB went into a file system of 4 MB"))
}
