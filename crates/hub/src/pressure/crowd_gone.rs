//! Gives memory back to the system once a crowd has come or gone.
//!
//! While thousands of connections are opened or closed at once the HTTP threads need room for all
//! that are under way. Afterwards the allocator keeps it, in pages between the few objects that
//! stayed; it counts as the hub's memory though nothing is in it. See decision record 0030.

/// A crowd: so many connections more or fewer than at some time since memory was given back last.
/// Fewer leave too little behind to look for.
const CROWD: usize = 1000;

/// Looks in a row, each with almost as many connections as the one before, until a crowd is over.
const CALM_LOOKS: u32 = 4;

/// Connections that may come or go between two looks of a calm hub.
const CALM_CHANGE: usize = 100;

/// Tells from the number of open connections when a crowd is over.
#[derive(Debug, Default)]
pub(super) struct CrowdGone {
    last: usize,
    least: usize,
    most: usize,
    calm_looks: u32,
}

impl CrowdGone {
    /// True once for each crowd: it has come or gone, and the hub is calm again.
    pub(super) fn note(&mut self, connections: usize) -> bool {
        let is_calm = self.last.abs_diff(connections) <= CALM_CHANGE;
        self.calm_looks = if is_calm {
            CALM_LOOKS.min(self.calm_looks + 1)
        } else {
            0
        };
        self.last = connections;
        self.least = self.least.min(connections);
        self.most = self.most.max(connections);
        let is_over = self.calm_looks == CALM_LOOKS && self.most - self.least >= CROWD;
        if is_over {
            (self.least, self.most) = (connections, connections);
        }
        is_over
    }
}

/// Gives free pages back to the system. It looks through the whole heap, and holds one arena's lock
/// after the other; only who allocates from that arena waits, and no delivery allocates. Nothing is
/// done where the C library is another one than GNU's.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    c_library::malloc_trim(0);
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "decision 0030: the declaration of a C function")]
mod c_library {
    use std::ffi::c_int;

    // SAFETY: the signature is that of malloc_trim(3). It takes no pointer, may be called by any
    // thread at any time, and changes no memory that is in use.
    unsafe extern "C" {
        pub(super) safe fn malloc_trim(pad: usize) -> c_int;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pressure::measure::resident_bytes;

    fn play(gone: &mut CrowdGone, looks: &[usize]) -> usize {
        looks.iter().filter(|count| gone.note(**count)).count()
    }

    #[test]
    fn a_crowd_is_over_once_when_it_has_come_and_once_when_it_has_left() {
        let mut gone = CrowdGone::default();
        assert_eq!(play(&mut gone, &[0, 4000, 8000, 9000, 10_000]), 0);
        assert_eq!(play(&mut gone, &[10_000; 20]), 1);
        assert_eq!(play(&mut gone, &[6000, 2000, 0]), 0);
        assert_eq!(play(&mut gone, &[0; 20]), 1);
    }

    #[test]
    fn a_crowd_that_was_there_for_a_moment_counts() {
        let mut gone = CrowdGone::default();
        play(&mut gone, &[50; 8]);
        assert_eq!(play(&mut gone, &[50, 1500, 50]), 0);
        assert_eq!(play(&mut gone, &[50; 20]), 1);
    }

    #[test]
    fn few_that_come_and_go_are_no_crowd_and_a_storm_is_not_over() {
        let mut gone = CrowdGone::default();
        let few: Vec<usize> = (0..400).map(|look| (look % 10) * 100).collect();
        assert_eq!(play(&mut gone, &few), 0);
        let storm: Vec<usize> = (0..400).map(|look| (look % 2) * 5000).collect();
        assert_eq!(play(&mut gone, &storm), 0);
    }

    #[test]
    fn slow_growth_to_a_crowd_is_noticed_without_a_pause() {
        let mut gone = CrowdGone::default();
        let growth: Vec<usize> = (0..400).map(|look| look * 50).collect();
        let noticed = play(&mut gone, &growth);
        assert!((15..=20).contains(&noticed), "{noticed}");
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn pages_between_what_stays_go_back_to_the_system() {
        let mut blocks: Vec<Option<Box<[u8]>>> =
            (0..32 << 10).map(|_| Some(vec![1; 1024].into())).collect();
        for (number, block) in blocks.iter_mut().enumerate() {
            if number % 64 > 0 {
                *block = None;
            }
        }
        let before = resident_bytes();
        give_back();
        let after = resident_bytes();
        // 32 MiB, of which every 64th KiB stays; other tests allocate meanwhile.
        assert!(after + (16 << 20) < before, "{before} to {after}");
        assert_eq!(blocks.iter().flatten().count(), 512);
    }
}
