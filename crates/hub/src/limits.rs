//! What the machine gives: cores and descriptors.

use std::fs::{DirEntry, File};
use std::os::fd::RawFd;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{DescriptorTables, Settings};
use crate::hub::ADMIN_CONNECTIONS_MAX;
use crate::socket::table::SOCKETS_MAX;

/// Descriptors kept for everything that is no public connection: the log's open segments and their
/// indexes, the admin's connections, listeners, polls, key sets.
const DESCRIPTORS_RESERVED: usize = 192 + ADMIN_CONNECTIONS_MAX;

/// Of this many descriptors one is kept for a connection over the limit whose head is read, so that
/// a browser is refused as a browser; and how many there are at most.
const FAREWELLS_SHARE: usize = 32;
const FAREWELLS_MAX: usize = 512;

/// Of this many descriptors one may be in each of the places through which streams come to a new
/// process, for all shards together. Two messages of a shard lie in the kernel before that process
/// has them, or one is in its first table, and two more lie in the kernel on their way to their
/// shard: there a user may have as many as one table holds.
const HANDED_SHARE: usize = 4;

/// Cores this process may use, at least one.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Raises the soft descriptor limit to the hard one; returns what holds now.
pub fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the descriptor limit could not be raised");
            limit.current
        }
    };
    now.map_or(usize::MAX, |descriptors| {
        usize::try_from(descriptors).unwrap_or(usize::MAX)
    })
}

/// Descriptors below `limit` that this process has from whoever started it, beyond the standard
/// ones: they take places in every table. To be called before anything else is opened.
#[must_use]
pub fn inherited_descriptors(limit: usize) -> usize {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return 0;
    };
    let number = |entry: std::io::Result<DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let numbers = open.filter_map(number);
    let others = numbers.filter(|number: &usize| (3..limit).contains(number));
    // Without the one that this look has opened.
    others.count().saturating_sub(1)
}

/// Most places that the descriptor table is given at the start without being asked for more; 8
/// bytes of kernel memory each. Containers often come with a limit of 2^30 descriptors, and a table
/// of that many would take 8 GiB.
const TABLE_PLACES_MAX: usize = 1 << 18;

/// Makes the descriptor table as large as it may get, before threads share it. `wanted` is
/// `max_connections`, 0 where it is not set.
///
/// The kernel doubles a full table, and if threads share it the one that needed a descriptor waits
/// 10 to 30 ms for all cores to have seen the new one (`synchronize_rcu` in `expand_fdtable`): a
/// hub that fills up would answer nobody meanwhile, eight times over.
pub fn widen_table(plan: &Plan, wanted: usize) {
    let places = places_at_start(plan, wanted);
    let last = RawFd::try_from(places.saturating_sub(1)).unwrap_or(RawFd::MAX);
    let widened = File::open("/dev/null").and_then(|some| {
        // Gone again at once; the table stays as it is.
        fcntl_dupfd_cloexec(&some, last)?;
        Ok(())
    });
    if let Err(error) = widened {
        tracing::debug!(%error, places, "the descriptor table grows as it fills");
    }
}

fn places_at_start(plan: &Plan, wanted: usize) -> usize {
    let kept = DESCRIPTORS_RESERVED + plan.farewells_max;
    let places = plan.lobby_max.saturating_add(kept);
    places.min(TABLE_PLACES_MAX.max(wanted))
}

/// How connections are spread over shards and descriptor tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Threads that own streams.
    pub shards: usize,
    /// Whether each of them has a descriptor table of its own.
    pub own_tables: bool,
    /// Most connections in all.
    pub connections_max: usize,
    /// Most that this may be raised to while the process runs.
    pub possible: usize,
    /// Most connections that no shard has taken over.
    pub lobby_max: usize,
    /// Most streams of one shard.
    pub shard_streams_max: usize,
    /// Most connections over the limit that are read before they are refused.
    pub farewells_max: usize,
    /// Most streams that a shard hands to a new process in one message.
    pub handed_together: usize,
}

/// Descriptors that a shard's table holds beside its streams: a poll, a wake-up and two ends of a
/// socket of each shard, and the runtime's.
const fn inherited(shards: usize) -> usize {
    32 + 4 * shards
}

impl Plan {
    /// What is configured, as far as `descriptors` (of one table) allow. More connections than one
    /// table holds get shards with tables of their own, as many as are needed.
    #[must_use]
    pub fn new(settings: &Settings, cores: usize, descriptors: usize) -> Self {
        // With few descriptors the log opens its segments anew more often; there is still a hub.
        let reserved = DESCRIPTORS_RESERVED.min(descriptors / 2);
        let farewells_max = (descriptors / FAREWELLS_SHARE).clamp(1, FAREWELLS_MAX);
        let lobby_max = descriptors.saturating_sub(reserved + farewells_max).max(1);
        let together = |shards: usize| (descriptors / HANDED_SHARE / shards).clamp(1, SOCKETS_MAX);
        let wanted = settings.max_connections;
        let own_tables = match settings.descriptor_tables {
            DescriptorTables::Auto => wanted > lobby_max,
            DescriptorTables::Shared => false,
            DescriptorTables::Own => true,
        };
        let given = if settings.shards == 0 {
            cores
        } else {
            settings.shards
        };
        if !own_tables {
            return Self {
                shards: given,
                own_tables,
                connections_max: at_most(wanted, lobby_max),
                possible: lobby_max,
                lobby_max,
                shard_streams_max: usize::MAX,
                farewells_max,
                handed_together: together(given),
            };
        }
        let place_count = |shards| descriptors.saturating_sub(inherited(shards)).max(1);
        let mut shards = given;
        if settings.shards == 0 {
            // Each shard more takes a few places of every table.
            while shards < SHARDS_MAX && place_count(shards).saturating_mul(shards) < wanted {
                shards += 1;
            }
        }
        let possible = place_count(shards).saturating_mul(shards);
        Self {
            shards,
            own_tables,
            connections_max: at_most(wanted, possible),
            possible,
            lobby_max,
            shard_streams_max: place_count(shards),
            farewells_max,
            handed_together: together(shards),
        }
    }
}

/// The most shards there may be.
pub const SHARDS_MAX: usize = 1024;

fn at_most(wanted: usize, possible: usize) -> usize {
    if wanted == 0 {
        return possible;
    }
    if wanted > possible {
        tracing::warn!(
            wanted,
            possible,
            "--max-connections is more than the descriptor limit allows"
        );
    }
    wanted.min(possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(wanted: usize, tables: DescriptorTables, descriptors: usize) -> Plan {
        let settings = Settings {
            max_connections: wanted,
            descriptor_tables: tables,
            ..Settings::default()
        };
        Plan::new(&settings, 2, descriptors)
    }

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        let max = |wanted, descriptors| {
            plan(wanted, DescriptorTables::Shared, descriptors).connections_max
        };
        assert_eq!(
            max(0, 20_000),
            20_000 - DESCRIPTORS_RESERVED - FAREWELLS_MAX
        );
        assert_eq!(max(100, 20_000), 100);
        assert_eq!(max(100_000, 1024), 1024 - DESCRIPTORS_RESERVED - 32);
        // About half at least, however few there are.
        assert_eq!(max(0, 256), 120);
        assert_eq!(max(0, 0), 1);
    }

    #[test]
    fn more_than_a_table_holds_makes_tables() {
        let plan_of = |wanted| plan(wanted, DescriptorTables::Auto, 20_000);
        assert_eq!(plan_of(0).shards, 2);
        assert!(!plan_of(19_000).own_tables);
        let million = plan_of(1_000_000);
        assert!(million.own_tables);
        assert_eq!(million.connections_max, 1_000_000);
        assert_eq!(million.shards, 51);
        assert!(million.shards * million.shard_streams_max >= 1_000_000);
        assert_eq!(plan(0, DescriptorTables::Own, 1000).shards, 2);
    }

    #[test]
    fn many_shards_hand_few_streams_over_together() {
        let together = |shards, descriptors| {
            let settings = Settings {
                shards,
                ..Settings::default()
            };
            Plan::new(&settings, 2, descriptors).handed_together
        };
        assert_eq!(together(2, 20_000), SOCKETS_MAX);
        assert_eq!(together(50, 20_000), 100);
        assert_eq!(together(4, 300), 18);
        assert_eq!(together(64, 16), 1);
    }

    #[test]
    fn a_limit_without_end_makes_no_table_without_end() {
        for descriptors in [1 << 30, usize::MAX] {
            for tables in [DescriptorTables::Shared, DescriptorTables::Own] {
                let endless = plan(0, tables, descriptors);
                assert_eq!(places_at_start(&endless, 0), TABLE_PLACES_MAX);
                assert_eq!(places_at_start(&endless, 1_000_000), 1_000_000);
            }
        }
        let small = plan(0, DescriptorTables::Shared, 20_000);
        assert_eq!(places_at_start(&small, 0), 20_000);
    }
}
