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
        .option("--retention-bytes", "64MiB")
        .option("--drain-window", "100ms"))
}

/// How the hub ended before its files were damaged.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// By SIGTERM: the log knows that it was closed.
    Clean,
    /// By SIGKILL: the log is checked at the next start.
    Killed,
}

/// Publishes `count` events of about a kilobyte, and ends the hub.
fn fill_and_end(builder: &HubBuilder, count: usize, end: End) -> Outcome<Vec<String>> {
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
    if end == End::Killed {
        hub.sigkill()?;
        return Ok(ids);
    }
    hub.sigterm()?;
    let status = hub.wait_exit(PATIENCE)?;
    if status.success() {
        return Ok(ids);
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

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Outcome<()> {
    let mut bytes = std::fs::read(path)?;
    change(&mut bytes);
    Ok(std::fs::write(path, bytes)?)
}

/// Starts the hub on a damaged log. It serves; a browser that follows from `earliest` and comes
/// back by its last id whenever its stream ends gets every intact event once and in order; at the
/// latest then the damaged file is named on stderr.
fn served_after_damage(builder: &HubBuilder, file: &Path) -> Outcome<Vec<usize>> {
    let hub = builder.start()?;
    hub.publish(&[("topic", TOPIC), ("data", "end")])?;
    let numbers = follow_to_the_end(&hub)?;
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    hub.wait_stderr(&[&name])?;
    Ok(numbers)
}

fn follow_to_the_end(hub: &HubProcess) -> Outcome<Vec<usize>> {
    let mut numbers: Vec<usize> = Vec::new();
    let mut cursor = "earliest".to_owned();
    for _ in 0..20 {
        let mut stream = hub.resume(&[("topic", TOPIC)], &cursor)?;
        while let Ok(event) = stream.next_event() {
            if event.data == "end" {
                return Ok(numbers);
            }
            match number(&event.data) {
                Some(n) if event.data == numbered(n) && numbers.last().is_none_or(|l| *l < n) => {
                    numbers.push(n);
                }
                _ => {
                    let text = format!("not as published, or not in order: {event:?}");
                    return Err(Failure::new(text));
                }
            }
            cursor = event.id.unwrap_or(cursor);
        }
    }
    let last = numbers.last();
    let text = format!("twenty reconnects did not come past the damage; last event {last:?}");
    Err(Failure::new(format!("{text}\n{}", hub.output())))
}

/// Fails unless all of `wanted` were served.
fn expect_served(numbers: &[usize], wanted: impl Iterator<Item = usize>) -> Outcome<()> {
    let missing: Vec<usize> = wanted
        .filter(|n| numbers.binary_search(n).is_err())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "intact events are missing: {missing:?}"
    )))
}

#[test]
fn a_torn_tail_is_cut_and_the_rest_served() -> Outcome<()> {
    for (end, torn) in [
        (End::Killed, 1),
        (End::Killed, 7),
        (End::Killed, 500),
        (End::Clean, 1),
    ] {
        let place = |f: Failure| f.within(format!("{torn} bytes torn off, {end:?}"));
        let builder = builder()?;
        fill_and_end(&builder, 100, end)?;
        let last = segments(&builder)?.pop().unwrap_or_default();
        rewrite(&last, |bytes| bytes.truncate(bytes.len() - torn))?;
        let numbers = served_after_damage(&builder, &last).map_err(place)?;
        expect_served(&numbers, 0..99).map_err(place)?;
        if numbers.contains(&99) {
            return Err(place(Failure::new("the torn event was served")));
        }
    }
    Ok(())
}

#[test]
fn rubbish_behind_the_tail_is_cut_and_nothing_else() -> Outcome<()> {
    for end in [End::Killed, End::Clean] {
        let builder = builder()?;
        fill_and_end(&builder, 100, end)?;
        let last = segments(&builder)?.pop().unwrap_or_default();
        rewrite(&last, |bytes| {
            bytes.extend((0..3000_u32).map(|n| u8::try_from(n * 7 % 251).unwrap_or_default()));
        })?;
        expect_served(&served_after_damage(&builder, &last)?, 0..100)?;
    }
    Ok(())
}

#[test]
fn a_flipped_bit_in_the_newest_segment_costs_no_event_before_it() -> Outcome<()> {
    for end in [End::Killed, End::Clean] {
        let builder = builder()?;
        fill_and_end(&builder, 100, end)?;
        let last = segments(&builder)?.pop().unwrap_or_default();
        let first_of_it = first_event(&last)?;
        flip_in_the_middle(&last)?;
        let place = |f: Failure| f.within(format!("{end:?}"));
        let numbers = served_after_damage(&builder, &last).map_err(place)?;
        expect_served(&numbers, 0..first_of_it).map_err(place)?;
    }
    Ok(())
}

#[test]
fn a_flipped_bit_in_an_old_segment_costs_one_event() -> Outcome<()> {
    for end in [End::Killed, End::Clean] {
        let builder = builder()?;
        fill_and_end(&builder, 300, end)?;
        let files = segments(&builder)?;
        if files.len() < 3 {
            return Failure::mismatch("segments", "three or more", format!("{files:?}"));
        }
        flip_in_the_middle(&files[1])?;
        let place = |f: Failure| f.within(format!("{end:?}"));
        let numbers = served_after_damage(&builder, &files[1]).map_err(place)?;
        if numbers.len() != 299 {
            return Failure::mismatch(format!("events, {end:?}"), 299, numbers.len());
        }
    }
    Ok(())
}

fn flip_in_the_middle(path: &Path) -> Outcome<()> {
    rewrite(path, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    })
}

/// The number of the first event in a segment: its name is that event's offset, counted from 1.
fn first_event(segment: &Path) -> Outcome<usize> {
    let stem = segment.file_stem().unwrap_or_default().to_string_lossy();
    let offset: usize = stem
        .parse()
        .map_err(|_| Failure::new(format!("not a segment name: {stem}")))?;
    Ok(offset.saturating_sub(1))
}

#[test]
fn a_lost_index_file_is_made_again() -> Outcome<()> {
    let builder = builder()?;
    let ids = fill_and_end(&builder, 200, End::Clean)?;
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
        .option("--segment-bytes", "256KiB")
        .option("--retention-bytes", "64MiB");
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
