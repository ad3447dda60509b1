//! Upgrades of a hub under load, as its peers see them: open streams that are never opened again,
//! publishes on a schedule, and new streams at a steady rate. Prints what was lost, and how long
//! deliveries and answers took over time. `bench/runs/2026-11-30-upgrade-2` says how it is used.
//!
//! `upgrades URL ADMIN PUBLISHER_KEY STREAMS TOPICS EVENTS_PER_SECOND UPGRADES SERIES_FILE`

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gush_bench::engine::load::{Driven, Load};
use gush_bench::engine::{Fleet, Plan, Role};
use gush_bench::report::{Histogram, latency_histogram};
use gush_bench::{BenchOptions, Progress, Target};

/// Streams opened per second before anything is measured.
const OPEN_RATE: f64 = 4000.0;
/// Threads that open new streams, and what each opens per second.
const VISITORS: u32 = 4;
const VISITS_PER_SECOND: u32 = 50;
/// Before the first upgrade, between two, and after the last.
const QUIET: Duration = Duration::from_secs(5);
/// What comes so long after the new process serves still counts as during the upgrade.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Time between two points of the series.
const SAMPLE: Duration = Duration::from_millis(50);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [
        url,
        admin,
        key,
        streams,
        topics,
        rate,
        upgrades,
        series_file,
    ] = &arguments[..]
    else {
        return Err("the arguments are in the first lines of this file".into());
    };
    let options = BenchOptions {
        url: url.clone(),
        publisher_key: Some(key.clone()),
        subscribers: streams.parse()?,
        topics: topics.parse()?,
        rate: Some(rate.parse()?),
        publishers: 4,
        ..BenchOptions::default()
    };
    let run = Run {
        target: Target::from_options(&options)?,
        admin: admin.parse()?,
        upgrades: upgrades.parse()?,
        begun: Instant::now(),
        is_over: AtomicBool::new(false),
        visits: Mutex::default(),
    };
    run.play(&options, series_file)
}

/// What the threads share.
struct Run {
    target: Target,
    admin: SocketAddr,
    upgrades: usize,
    begun: Instant,
    is_over: AtomicBool,
    visits: Mutex<Visits>,
}

/// New streams.
#[derive(Default)]
struct Visits {
    /// When each began, and how long it took to its first byte; both since the begin of the run.
    answered: Vec<(Duration, Duration)>,
    /// What the others met: each is a Firefox that does not come back.
    lost: Vec<String>,
}

/// One upgrade.
struct Upgrade {
    ordered_at: Duration,
    served_at: Duration,
    /// When the last stream was there.
    taken_at: Duration,
    /// Of the process whose place was taken, just before.
    resident_kib: u64,
    pid: u32,
}

/// Deliveries of one sample.
struct Sample {
    at: Duration,
    delivery: Histogram<u64>,
}

fn topic_name(topic: u32) -> String {
    format!("https://upgrades.example/{topic}")
}

impl Run {
    fn play(&self, options: &BenchOptions, series_file: &str) -> Result<(), Failed> {
        let progress = Progress::silent();
        let (target, topics) = (self.target.clone(), options.topics);
        let plan = Plan {
            streams: options.subscribers,
            beside: 0,
            address: target.subscribe_address(),
            topics,
            lanes: options.publishers,
            assign: Box::new(move |number| Role {
                topic: u32::try_from(number % u64::from(topics)).unwrap_or(0),
                is_slow: false,
            }),
            request: Box::new(move |role| target.subscribe_request(&topic_name(role.topic))),
        };
        let mut fleet = Fleet::start(plan, options)?;
        let opened = fleet.open(options.subscribers, Some(OPEN_RATE), &progress);
        println!(
            "streams opened: {} of {}",
            opened.opened, options.subscribers
        );
        let pid = self.pid()?;
        println!(
            "resident before: {} KiB in process {pid}",
            resident_kib(pid)?
        );
        let load = Load {
            duration: QUIET * u32::try_from(self.upgrades + 1)? + AFTERWARDS,
            ..Load::from_options(options, &self.target, &topic_name)
        };
        fleet.take_latencies();
        let (driven, upgrades, samples) = std::thread::scope(|scope| {
            let driving = scope.spawn(|| fleet.drive(&load, &progress));
            let sampling = scope.spawn(|| self.sample(&fleet));
            for visitor in 0..VISITORS {
                scope.spawn(move || self.visit(visitor));
            }
            let upgrades = self.upgrade_all(options.subscribers);
            let driven = driving.join();
            self.is_over.store(true, Ordering::Release);
            (driven, upgrades, sampling.join())
        });
        let (driven, samples) = (driven.map_err(|_| "panic")??, samples.map_err(|_| "panic")?);
        let upgrades = upgrades?;
        let last = upgrades.last().map_or(pid, |upgrade| upgrade.pid);
        println!(
            "resident after: {} KiB in process {last}",
            resident_kib(last)?
        );
        let counts = fleet.finish();
        println!(
            "streams ended: {}\nevents published: {}, refused {}, error {:?}\n\
             deliveries: {} of {}, lost {}, doubled {}, reordered {}, strayed {}",
            counts.dropped + counts.cut,
            driven.published,
            driven.refused,
            driven.error,
            counts.delivered,
            driven.expected,
            counts.lost,
            counts.doubled,
            counts.reordered,
            counts.strayed,
        );
        self.report(&driven, &upgrades, &samples);
        write_series(series_file, &upgrades, &samples)?;
        Ok(())
    }

    fn report(&self, driven: &Driven, upgrades: &[Upgrade], samples: &[Sample]) {
        let is_during = |at: Duration| {
            upgrades
                .iter()
                .any(|upgrade| upgrade.ordered_at <= at && at <= upgrade.taken_at + AFTERWARDS)
        };
        let answer = &driven.answer;
        println!(
            "publish answers: p50 {:.1} p99 {:.1} longest {:.1} ms",
            ms(answer.value_at_quantile(0.5)),
            ms(answer.value_at_quantile(0.99)),
            ms(answer.max()),
        );
        for (index, upgrade) in upgrades.iter().enumerate() {
            let mut during = latency_histogram();
            let until = upgrade.taken_at + AFTERWARDS;
            for sample in samples {
                if upgrade.ordered_at <= sample.at && sample.at <= until {
                    during.add(&sample.delivery).expect("the same bounds");
                }
            }
            println!(
                "upgrade {}: serves after {:.0} ms, all streams there after {:.0} ms; deliveries \
                 meanwhile p50 {:.1} p99 {:.1} longest {:.1} ms; resident before {} KiB",
                index + 1,
                (upgrade.served_at - upgrade.ordered_at).as_secs_f64() * 1e3,
                (upgrade.taken_at - upgrade.ordered_at).as_secs_f64() * 1e3,
                ms(during.value_at_quantile(0.5)),
                ms(during.value_at_quantile(0.99)),
                ms(during.max()),
                upgrade.resident_kib,
            );
        }
        let mut quiet = latency_histogram();
        for sample in samples.iter().filter(|sample| !is_during(sample.at)) {
            quiet.add(&sample.delivery).expect("the same bounds");
        }
        println!("deliveries while quiet: {}", shown(&quiet));
        let visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, wanted) in [("during upgrades", true), ("while quiet", false)] {
            let mut took = latency_histogram();
            for (at, time) in &visits.answered {
                if is_during(*at) == wanted {
                    took.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
                }
            }
            println!("new streams {name}, to the first byte: {}", shown(&took));
        }
        println!(
            "new streams refused or failed: {} {:?}",
            visits.lost.len(),
            visits.lost
        );
    }

    /// Deliveries over time.
    fn sample(&self, fleet: &Fleet) -> Vec<Sample> {
        let mut samples = Vec::new();
        while !self.is_over.load(Ordering::Acquire) {
            std::thread::sleep(SAMPLE);
            samples.push(Sample {
                at: self.begun.elapsed(),
                delivery: fleet.take_latencies().delivery,
            });
        }
        samples
    }

    /// Opens streams on a schedule; each is closed when its first byte has come.
    fn visit(&self, visitor: u32) {
        let request = self
            .target
            .subscribe_request("https://upgrades.example/visit");
        let step = Duration::from_secs(1) / VISITS_PER_SECOND;
        let first = self.begun.elapsed() + step * visitor / VISITORS;
        for number in 0.. {
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            let due = first + step * number;
            std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
            let met = self.visit_once(&request);
            let took = self.begun.elapsed() - due;
            let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
            match met {
                Ok(()) => visits.answered.push((due, took)),
                Err(error) => visits
                    .lost
                    .push(format!("{:.3} s: {error}", due.as_secs_f64())),
            }
        }
    }

    fn visit_once(&self, request: &[u8]) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.target.subscribe_address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        let mut begin = [0; 15];
        stream.read_exact(&mut begin)?;
        if begin.starts_with(b"HTTP/1.1 200 OK") {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&begin)))
    }

    fn upgrade_all(&self, streams: u64) -> Result<Vec<Upgrade>, Failed> {
        let mut upgrades: Vec<Upgrade> = Vec::new();
        let mut old = self.pid()?;
        for _ in 0..self.upgrades {
            std::thread::sleep(QUIET);
            let resident_kib = resident_kib(old)?;
            let ordered_at = self.begun.elapsed();
            let answer = self.ask("POST /upgrade HTTP/1.1\r\nContent-Length: 0")?;
            let served_at = self.begun.elapsed();
            let digits = answer.rsplit_once("\"pid\":").map(|(_, rest)| rest);
            let digits: String = digits
                .unwrap_or_default()
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            let pid = digits.parse().map_err(|_| answer)?;
            while self.metric("gush_streams_taken_over_total")? < streams {
                std::thread::sleep(Duration::from_millis(10));
                if self.begun.elapsed() > served_at + PATIENCE {
                    return Err("the streams did not come over".into());
                }
            }
            upgrades.push(Upgrade {
                ordered_at,
                served_at,
                taken_at: self.begun.elapsed(),
                resident_kib,
                pid,
            });
            old = pid;
        }
        Ok(upgrades)
    }

    /// One request to the admin listener; the whole answer.
    fn ask(&self, request: &str) -> Result<String, Failed> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{request}\r\nHost: hub\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn metric(&self, name: &str) -> Result<u64, Failed> {
        let answer = self.ask("GET /metrics HTTP/1.1")?;
        let value = answer
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.ok_or_else(|| format!("no {name}").into())
    }

    /// The process that listens, as `/proc` has it.
    fn pid(&self) -> Result<u32, Failed> {
        let port = self.target.subscribe_address().port();
        let found = gush_bench::procfs::Processes::listening_on(port);
        found.ids().next().ok_or_else(|| "no such process".into())
    }
}

#[expect(clippy::cast_precision_loss, reason = "times far below 2^52 ns")]
fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

fn shown(times: &Histogram<u64>) -> String {
    format!(
        "{} of them, p50 {:.1} p99 {:.1} longest {:.1} ms",
        times.len(),
        ms(times.value_at_quantile(0.5)),
        ms(times.value_at_quantile(0.99)),
        ms(times.max()),
    )
}

fn resident_kib(pid: u32) -> Result<u64, Failed> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let digits = line.and_then(|line| line.split_whitespace().next());
    Ok(digits.unwrap_or_default().parse()?)
}

/// A line for each sample with deliveries: seconds, deliveries, and their p50, p99 and longest in
/// milliseconds; upgrades in lines of their own.
fn write_series(file: &str, upgrades: &[Upgrade], samples: &[Sample]) -> io::Result<()> {
    let mut text = String::new();
    for upgrade in upgrades {
        let _ = writeln!(
            text,
            "upgrade,{:.3},{:.3},{:.3}",
            upgrade.ordered_at.as_secs_f64(),
            upgrade.served_at.as_secs_f64(),
            upgrade.taken_at.as_secs_f64()
        );
    }
    for Sample { at, delivery } in samples.iter().filter(|sample| !sample.delivery.is_empty()) {
        let _ = writeln!(
            text,
            "{:.3},{},{:.2},{:.2},{:.2}",
            at.as_secs_f64(),
            delivery.len(),
            ms(delivery.value_at_quantile(0.5)),
            ms(delivery.value_at_quantile(0.99)),
            ms(delivery.max()),
        );
    }
    std::fs::write(file, text)
}
