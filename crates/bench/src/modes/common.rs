//! What the modes share: the server's and the generator's use of the machine, and the figures and
//! checks of a delivery run.

use std::time::Duration;

use crate::engine::load::{Driven, Load};
use crate::engine::{Counts, Fleet, Latencies, NO_TOPIC, Plan, Role};
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::procfs::{Processes, SocketMemory, Usage};
use crate::progress::Progress;
use crate::report::{Report, Unit};
use crate::target::Target;

/// Name of topic number `topic`. A path, so that a template can stand for its last part.
pub(crate) fn topic_name(topic: u32) -> String {
    format!("https://bench.example/{topic}/event")
}

/// A URI template that matches topic number `topic` and no other.
pub(crate) fn topic_template(topic: u32) -> String {
    format!("https://bench.example/{topic}/{{name}}")
}

/// Topic of streams that no event is for.
pub(crate) const IDLE_TOPIC: &str = "https://bench.example/idle";

/// The subscribe of a role.
pub(crate) fn request(target: &Target, role: Role, is_templated: bool) -> Vec<u8> {
    match role.topic {
        NO_TOPIC => target.subscribe_request(IDLE_TOPIC),
        topic if is_templated => target.subscribe_request(&topic_template(topic)),
        topic => target.subscribe_request(&topic_name(topic)),
    }
}

/// A fleet of the options' subscribers to topic 0, each with the role that `assign` gives its
/// number. Modes change what is different with them.
pub(crate) fn plan(
    options: &BenchOptions,
    target: &Target,
    assign: impl Fn(u64) -> Role + Send + Sync + 'static,
) -> Plan {
    let (of, is_templated) = (target.clone(), options.is_templated);
    Plan {
        streams: options.subscribers,
        beside: 0,
        address: target.subscribe_address(),
        topics: 1,
        lanes: options.publishers,
        assign: Box::new(assign),
        request: Box::new(move |role| request(&of, role, is_templated)),
    }
}

/// The role of stream `place` where the options' topics take turns; [`NO_TOPIC`] without a place.
pub(crate) fn role_of(place: Option<u64>, topics: u32) -> Role {
    let topic = place.and_then(|place| u32::try_from(place % u64::from(topics)).ok());
    Role {
        topic: topic.unwrap_or(NO_TOPIC),
        is_slow: false,
    }
}

/// # Errors
/// [`BenchError::Usage`] when some topic would have no subscriber.
pub(crate) fn check_topics(options: &BenchOptions) -> Result<(), BenchError> {
    if options.topics == 0 || u64::from(options.topics) > options.subscribers {
        return Err(BenchError::Usage(format!(
            "{} topics for {} subscribers: each topic needs one",
            options.topics, options.subscribers
        )));
    }
    Ok(())
}

/// The processes of the server that the options or the socket tell of. There may be none, or none
/// that can be looked at: then it is said which figures are left out.
pub(crate) fn server_of(options: &BenchOptions, target: &Target, progress: &Progress) -> Processes {
    let server = if options.pids.is_empty() {
        Processes::listening_on(target.subscribe_address().port())
    } else {
        Processes::with_children(options.pids.iter().copied())
    };
    if server.usage().is_none() {
        let address = target.subscribe_address();
        progress.note(&format!(
            "the server at {address} has no process here that can be looked at: no figures of its \
             CPU and memory (--pid names one)"
        ));
    }
    server
}

/// The machine at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) server: Option<Usage>,
    pub(crate) own: Option<Usage>,
    pub(crate) kernel: SocketMemory,
}

impl Moment {
    pub(crate) fn now(server: &Processes) -> Self {
        Self {
            server: server.usage(),
            own: Processes::own().usage(),
            kernel: SocketMemory::read(),
        }
    }

    /// CPU of the server since `before`.
    pub(crate) fn server_cpu_since(&self, before: &Self) -> Option<Duration> {
        Some(self.server?.cpu.saturating_sub(before.server?.cpu))
    }

    /// CPU of the generator since `before`.
    pub(crate) fn own_cpu_since(&self, before: &Self) -> Option<Duration> {
        Some(self.own?.cpu.saturating_sub(before.own?.cpu))
    }

    /// Resident memory of the server, in bytes.
    pub(crate) fn server_rss(&self) -> Option<u64> {
        self.server.map(|usage| usage.rss_bytes)
    }
}

/// What a load came to, and the machine before and after it.
pub(crate) struct Measured {
    /// What was published.
    pub(crate) driven: Driven,
    /// Times of the deliveries.
    pub(crate) latencies: Latencies,
    /// Before the first publish.
    pub(crate) before: Moment,
    /// After the last delivery.
    pub(crate) after: Moment,
}

impl Measured {
    /// Publishes the load and waits for its deliveries. Times measured before are forgotten.
    pub(crate) fn run(
        fleet: &Fleet,
        load: &Load<'_>,
        server: &Processes,
        progress: &Progress,
    ) -> Result<Self, BenchError> {
        fleet.take_latencies();
        let before = Moment::now(server);
        let driven = fleet.drive(load, progress)?;
        let after = Moment::now(server);
        Ok(Self {
            driven,
            latencies: fleet.take_latencies(),
            before,
            after,
        })
    }

    /// CPU of the server meanwhile.
    pub(crate) fn server_cpu(&self) -> Option<Duration> {
        self.after.server_cpu_since(&self.before)
    }
}

/// Adds the check that all streams that were asked for opened; `error` says why one did not.
pub(crate) fn check_opened(report: &mut Report, opened: u64, wanted: u64, error: Option<&str>) {
    let is_all = opened == wanted;
    let detail = match error {
        Some(error) if !is_all => format!("{opened} of {wanted} ({error})"),
        _ => format!("{opened} of {wanted}"),
    };
    report.check("every stream opened", is_all, detail);
}

/// `part / whole` as figures; a division by nothing is no figure.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Microseconds of `time` for each of `count`.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub(crate) fn micros_per(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

/// `count` per second of `time`.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Everything that a delivery run found, for the report.
pub(crate) struct Delivered<'a> {
    /// Streams asked for that read.
    pub(crate) readers: u64,
    /// What was published, and what it took.
    pub(crate) measured: &'a Measured,
    /// Totals of the run; `lost` from after the end.
    pub(crate) counts: Counts,
    /// The first thing that went wrong with a stream.
    pub(crate) error: Option<String>,
}

impl Delivered<'_> {
    /// Adds the figures in the contract's names, and the checks.
    pub(crate) fn write(&self, report: &mut Report) {
        let (counts, driven) = (&self.counts, &self.measured.driven);
        report.count("published_count", driven.published);
        report.count("delivered_count", counts.delivered);
        report.count("expected_count", driven.expected);
        report.count("lost_count", counts.lost);
        report.count("doubled_count", counts.doubled);
        report.count("reordered_count", counts.reordered);
        report.count("strayed_count", counts.strayed);
        report.count("foreign_count", counts.foreign);
        report.count("refused_count", counts.refused + counts.failed);
        report.count("dropped_count", counts.dropped);
        report.count("publish_refused_count", driven.refused);
        report.count("publish_unanswered_count", driven.unanswered);
        let rate = per_second(counts.delivered, driven.elapsed);
        report.result("deliveries_per_second", rate, Unit::PerSecond);
        let events = per_second(driven.published, driven.elapsed);
        report.result("events_per_second", events, Unit::PerSecond);
        report.latencies("latency", &self.measured.latencies.delivery);
        report.latencies("to_all", &self.measured.latencies.to_all);
        report.latencies("publish_answer", &driven.answer);
        if !driven.late.is_empty() {
            let late = micros_per(Duration::from_nanos(driven.late.max()), 1);
            report.result("publish_late_max_us", late, Unit::Micros);
        }
        self.write_costs(report);
        self.write_checks(report);
    }

    fn write_costs(&self, report: &mut Report) {
        let (delivered, measured) = (self.counts.delivered, self.measured);
        if let Some(cpu) = measured.server_cpu() {
            let cost = micros_per(cpu, delivered);
            report.result("server_cpu_us_per_delivery", cost, Unit::Micros);
        }
        if let Some(cpu) = measured.after.own_cpu_since(&measured.before) {
            let cost = micros_per(cpu, delivered);
            report.result("generator_cpu_us_per_delivery", cost, Unit::Micros);
        }
        if let Some(rss) = measured.after.server_rss() {
            report.result("server_rss_bytes", ratio(rss, 1), Unit::Bytes);
            let each = ratio(rss, self.counts.opened);
            report.result("server_rss_bytes_per_stream", each, Unit::Bytes);
        }
        let kernel = measured.after.kernel.total_bytes();
        report.result("kernel_socket_bytes", ratio(kernel, 1), Unit::Bytes);
        let reads = ratio(self.counts.reads, delivered);
        report.result("reads_per_delivery", reads, Unit::Ratio);
    }

    fn write_checks(&self, report: &mut Report) {
        let (counts, driven) = (&self.counts, &self.measured.driven);
        check_opened(report, counts.opened, self.readers, self.error.as_deref());
        report.check_none("nothing lost", counts.lost);
        report.check_none("nothing doubled", counts.doubled);
        report.check_none("nothing reordered", counts.reordered);
        report.check_none("nothing strayed", counts.strayed);
        report.check_none("no stream dropped", counts.dropped);
        let sum = format!("{} of {}", counts.delivered, driven.expected);
        let is_exact = counts.delivered == driven.expected;
        report.check("deliveries add up", is_exact, sum);
        let text = driven.error.clone().unwrap_or_else(|| "all".to_owned());
        report.check("publishes accepted", driven.error.is_none(), text);
    }
}
