//! What the generator's threads, the publishers and the mode share.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::arrivals::Arrivals;
use super::source::Sources;
use super::stats::Stats;
use super::{NO_TOPIC, Plan};

/// How streams are opened: numbers `first..until`, from `begin_ns` on at `rate` per second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    pub(crate) first: u64,
    pub(crate) until: u64,
    pub(crate) begin_ns: u64,
    pub(crate) rate: Option<f64>,
}

/// Shared by all threads of a fleet.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) sources: Sources,
    pub(crate) threads: u64,
    pub(crate) arrivals: Arrivals,
    pub(crate) is_closing: AtomicBool,
    /// Whether events are being published.
    pub(crate) is_driven: AtomicBool,
    pace: Mutex<Pace>,
    /// Rises whenever the pace changes.
    pace_version: AtomicU64,
    stats: Vec<Mutex<Stats>>,
    /// Open streams of each topic that read.
    members: Vec<AtomicU32>,
    /// Events published in each topic and lane.
    published: Vec<AtomicU32>,
    /// Topics and lanes that ended with an event whose publish got no answer.
    unanswered: Mutex<HashSet<(u32, u32)>>,
}

impl Shared {
    pub(crate) fn new(plan: Plan, threads: usize) -> Self {
        let topics = plan.topics as usize;
        let zeros = |count: usize| (0..count).map(|_| AtomicU32::new(0)).collect();
        Self {
            sources: Sources::new(plan.address, plan.streams),
            threads: threads as u64,
            arrivals: Arrivals::default(),
            is_closing: AtomicBool::new(false),
            is_driven: AtomicBool::new(false),
            pace: Mutex::default(),
            pace_version: AtomicU64::new(0),
            stats: (0..threads).map(|_| Mutex::default()).collect(),
            members: zeros(topics),
            published: zeros(topics * plan.lanes.max(1) as usize),
            unanswered: Mutex::default(),
            plan,
        }
    }

    pub(crate) fn set_pace(&self, pace: Pace) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = pace;
        self.pace_version.fetch_add(1, Ordering::Release);
    }

    /// The pace, when it is another than that of `version`.
    pub(crate) fn pace_after(&self, version: &mut u64) -> Option<Pace> {
        let now = self.pace_version.load(Ordering::Acquire);
        if now == *version {
            return None;
        }
        *version = now;
        Some(*self.pace.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn stats_of(&self, thread: usize) -> MutexGuard<'_, Stats> {
        let stats = &self.stats[thread];
        stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats(&self) -> impl Iterator<Item = MutexGuard<'_, Stats>> {
        (0..self.stats.len()).map(|thread| self.stats_of(thread))
    }

    pub(crate) fn members(&self, topic: u32) -> u32 {
        let members = self.members.get(topic as usize);
        members.map_or(0, |members| members.load(Ordering::Relaxed))
    }

    pub(crate) fn join(&self, topic: u32) {
        if let Some(members) = self.members.get(topic as usize) {
            members.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn leave(&self, topic: u32) {
        if let Some(members) = self.members.get(topic as usize) {
            members.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Number of a topic's lane, which is the group in a stamp.
    pub(crate) fn group(&self, topic: u32, lane: u32) -> u32 {
        topic * self.plan.lanes.max(1) + lane
    }

    /// Topic and lane of a group of a stamp.
    pub(crate) fn topic_and_lane(&self, group: u32) -> (u32, u32) {
        let lanes = self.plan.lanes.max(1);
        (group / lanes, group % lanes)
    }

    /// Number of an event among all of the run: lanes take turns, and within a lane the topics do.
    pub(crate) fn event(&self, topic: u32, lane: u32, sequence: u32) -> u64 {
        let (topics, lanes) = (
            u64::from(self.plan.topics),
            u64::from(self.plan.lanes.max(1)),
        );
        (u64::from(sequence) * topics + u64::from(topic)) * lanes + u64::from(lane)
    }

    pub(crate) fn published(&self, topic: u32, lane: u32) -> u32 {
        if topic == NO_TOPIC {
            return 0;
        }
        let published = self.published.get(self.group(topic, lane) as usize);
        published.map_or(0, |published| published.load(Ordering::Acquire))
    }

    pub(crate) fn set_published(&self, topic: u32, lane: u32, count: u32) {
        if let Some(published) = self.published.get(self.group(topic, lane) as usize) {
            published.store(count, Ordering::Release);
        }
    }

    /// Whether the last event of a topic and lane got no answer: it may have been taken or not.
    pub(crate) fn is_unanswered(&self, topic: u32, lane: u32) -> bool {
        let unanswered = self.unanswered.lock();
        let unanswered = unanswered.unwrap_or_else(PoisonError::into_inner);
        unanswered.contains(&(topic, lane))
    }

    pub(crate) fn set_unanswered(&self, topic: u32, lane: u32) {
        let unanswered = self.unanswered.lock();
        let mut unanswered = unanswered.unwrap_or_else(PoisonError::into_inner);
        unanswered.insert((topic, lane));
    }

    /// Whether anything was published.
    pub(crate) fn has_published(&self) -> bool {
        let mut published = self.published.iter();
        published.any(|count| count.load(Ordering::Acquire) > 0)
    }
}
