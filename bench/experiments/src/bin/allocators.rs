//! What do allocators cost and save in the hub: resident memory per idle stream, processor time of
//! opening, fan-out and publishing, and what is given back when all streams are gone?
//!
//! `allocators --gush PATH --streams N [--own-topics]`: `gush serve` runs unchanged; the allocator
//! is put before glibc's by `LD_PRELOAD`. Shapes alternate within each round.

use std::time::Duration;

use gush_experiments::hub::{Hub, Streams};
use gush_experiments::{Outcome, cpu, flag, option, rounds::Rounds};

const EVENTS: usize = 20;
const PUBLISHES: usize = 10_000;
const MIB: f64 = 1024.0 * 1024.0;

const SHAPES: [(&str, &[(&str, &str)]); 5] = [
    ("glibc", &[]),
    ("glibc, one arena", &[("MALLOC_ARENA_MAX", "1")]),
    (
        "glibc, one arena, trim at 128 KiB",
        &[
            ("MALLOC_ARENA_MAX", "1"),
            ("MALLOC_TRIM_THRESHOLD_", "131072"),
            ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ],
    ),
    (
        "mimalloc 2.0.9",
        &[("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2")],
    ),
    (
        "jemalloc 5.3.0",
        &[("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2")],
    ),
];

fn main() -> Outcome {
    let binary: String = option("--gush", "gush".to_owned())?;
    let streams: usize = option("--streams", 9_000)?;
    let rounds: usize = option("--rounds", 3)?;
    let mut figures = Rounds::default();
    for _ in 0..rounds {
        for (name, env) in SHAPES {
            run(&mut figures, name, &Hub::start(&binary, env, &[])?, streams)?;
        }
    }
    println!("{}", figures.table(&format!("{streams} streams")));
    println!("{}", figures.raw());
    Ok(())
}

fn topic_of(number: usize) -> String {
    if flag("--own-topics") {
        format!("https://example.com/users/{number}")
    } else {
        "https://example.com/news".to_owned()
    }
}

fn run(figures: &mut Rounds, name: &str, hub: &Hub, count: usize) -> Outcome {
    let pid = hub.pid();
    let memory = || cpu::memory_of(pid, "VmRSS") as f64;
    let settle = || std::thread::sleep(Duration::from_millis(300));
    let mut publisher = hub.publisher()?;
    publisher.publish("other", "x")?;
    settle();
    let at_start = memory();
    figures.add(name, "MiB at start", at_start / MIB);

    let time = cpu::time_of(pid);
    let mut streams = Streams::open(hub, count, topic_of)?;
    settle();
    figures.add(
        name,
        "open CPU µs",
        cpu::per(cpu::time_of(pid) - time, count),
    );
    let per_stream = (memory() - at_start) / count as f64;
    figures.add(name, "B per stream", per_stream);

    let data = "d".repeat(200);
    if !flag("--own-topics") {
        let time = cpu::time_of(pid);
        for _ in 0..EVENTS {
            publisher.publish(&topic_of(0), &data)?;
            streams.read_until(b"data: d", count, Duration::from_secs(20))?;
        }
        let spent = cpu::time_of(pid) - time;
        figures.add(name, "CPU µs per delivery", cpu::per(spent, EVENTS * count));
    }

    let time = cpu::time_of(pid);
    for _ in 0..PUBLISHES {
        publisher.publish("other", &data)?;
    }
    let spent = cpu::time_of(pid) - time;
    figures.add(name, "CPU µs per publish", cpu::per(spent, PUBLISHES));
    figures.add(name, "MiB after publishing", memory() / MIB);

    drop(streams);
    settle();
    figures.add(name, "MiB after all closed", memory() / MIB);
    let streams = Streams::open(hub, count, topic_of)?;
    settle();
    figures.add(name, "MiB after opening again", memory() / MIB);
    drop(streams);
    Ok(())
}
