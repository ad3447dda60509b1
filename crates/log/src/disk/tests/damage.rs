//! Files that are not as they were written.

use super::rig::{CONFIG, Rig, data_at, small_log};
use super::*;
use crate::sim::SimHost;

/// What became of a damaged log.
struct Damaged {
    missing: usize,
    /// The operator or the readers were told that events are lost.
    is_loss_told: bool,
    /// Something was noticed.
    is_told: bool,
}

/// Opens a damaged copy and compares: what is read is right, what is missing is told.
fn check_damaged(host: &SimHost, events: &[(String, String)], what: &str) -> Damaged {
    let mut rig = Rig::open(
        host,
        DiskConfig {
            segment_events: 3,
            ..CONFIG
        },
    );
    let (held, lost) = rig.contents();
    let mut rest = events.iter();
    for event in &held {
        assert!(
            rest.any(|expected| expected == event),
            "{what}: {event:?} was never published"
        );
    }
    for (id, data) in &held {
        let Some(after) = resolve(&rig.log, id) else {
            // Only the epoch of a header that is lost in all copies takes ids with it.
            panic!("{what}: {id} no longer resolves\n{}", rig.recovery);
        };
        let offset = Offset::from_u64(after.as_u64() - 1);
        assert_eq!(data_at(&rig.log, offset).as_ref(), Some(data), "{what}");
    }
    let Recovery {
        cut,
        damaged_count,
        indexes_rebuilt,
        was_clean,
        ..
    } = rig.recovery.clone();
    let is_loss_told = lost > 0 || cut.is_some() || damaged_count > 0;
    let is_told = is_loss_told || indexes_rebuilt > 0 || !was_clean;
    rig.append(draft("on")).expect("the log goes on");
    Damaged {
        missing: events.len() - held.len(),
        is_loss_told,
        is_told,
    }
}

#[test]
fn every_flipped_bit_costs_at_most_its_record_and_is_told() {
    for is_clean in [true, false] {
        let (host, events) = small_log(is_clean);
        for name in host.names().expect("names") {
            let good = host.bytes(&name);
            for bit in 0..good.len() * 8 {
                // Of the padding of an index's blocks a few bits stand for all.
                if name.contains(".idx") && bit > 1000 * 8 && bit % 97 != 0 {
                    continue;
                }
                let damaged = host.fork();
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                damaged.set_bytes(&name, bytes);
                let what = format!("{name}, bit {bit}, clean {is_clean}");
                let Damaged {
                    missing,
                    is_loss_told,
                    is_told,
                } = check_damaged(&damaged, &events, &what);
                assert!(missing <= 1, "{what}: {missing} events lost");
                assert!(missing == 0 || is_loss_told, "{what}: silent loss");
                // The blocks of an index are looked at when they are used, and then not trusted.
                assert!(is_told || name.contains(".idx"), "{what}: not detected");
            }
        }
    }
}

#[test]
fn a_file_cut_at_any_length_loses_no_more_than_was_cut() {
    let newest = "00000000000000000007.seg";
    for is_clean in [true, false] {
        let (host, events) = small_log(is_clean);
        for name in host.names().expect("names") {
            let good = host.bytes(&name);
            for length in 0..good.len() {
                let damaged = host.fork();
                damaged.set_bytes(&name, good[..length].to_vec());
                let what = format!("{name} cut to {length}, clean {is_clean}");
                let Damaged {
                    missing,
                    is_loss_told,
                    is_told,
                } = check_damaged(&damaged, &events, &what);
                let most = if name.contains(".seg") { 3 } else { 0 };
                assert!(missing <= most, "{what}: {missing} events lost");
                // Cut between two records, an open segment looks as if there never was more.
                let is_between = name == newest && !is_clean;
                assert!(
                    missing == 0 || is_loss_told || is_between,
                    "{what}: silent loss"
                );
                assert!(is_told || !is_clean, "{what}: not detected");
            }
        }
    }
}

#[test]
fn a_torn_tail_is_cut_and_told_but_damage_before_whole_records_is_kept_as_a_hole() {
    let (host, events) = small_log(false);
    let name = "00000000000000000007.seg";
    let good = host.bytes(name);
    let torn = host.fork();
    torn.set_bytes(name, good[..good.len() - 5].to_vec());
    let rig = Rig::open(&torn, CONFIG);
    let cut = rig.recovery.cut.clone().expect("a cut");
    assert_eq!(
        (cut.from, cut.reason),
        (Offset::from_u64(8), "an unfinished record")
    );
    assert_eq!(rig.recovery.damaged_count, 0);
    assert_eq!(rig.contents(), (events[..7].to_vec(), 0));
    assert_eq!(
        rig.log.bounds().next,
        Offset::from_u64(8),
        "its offset is given out again"
    );

    let holed = host.fork();
    let mut bytes = good;
    bytes[1024 + 30] ^= 1;
    holed.set_bytes(name, bytes);
    let rig = Rig::open(&holed, CONFIG);
    assert_eq!(rig.recovery.cut, None);
    assert_eq!(rig.recovery.damaged_count, 1, "{}", rig.recovery);
    assert_eq!(
        (rig.recovery.damaged[0].from, rig.recovery.damaged[0].events),
        (Offset::from_u64(7), 1)
    );
    assert_eq!(rig.contents().1, 1, "told to every reader");
}

#[test]
fn a_record_hidden_in_data_is_never_taken_for_one() {
    let host = SimHost::new(3);
    let mut rig = Rig::open(&host, CONFIG);
    // The data of the first event holds copies of a whole record of the same log, made with the
    // real marker: only the salt stays unknown to a publisher.
    rig.append(draft("stolen")).expect("stored");
    let name = "00000000000000000001.seg";
    let bytes = host.bytes(name);
    let mut forged = bytes[1024..].to_vec();
    forged[12..20].copy_from_slice(&2_u64.to_le_bytes());
    let forged: String = forged.iter().map(|byte| char::from(byte & 0x7f)).collect();
    rig.append(draft(&forged)).expect("stored");
    rig.append(draft("after")).expect("stored");
    drop(rig);
    let mut bytes = host.bytes(name);
    let second = bytes.len() - 200;
    bytes[second] ^= 1;
    host.set_bytes(name, bytes);
    let rig = Rig::open(&host, CONFIG);
    let (held, _) = rig.contents();
    assert!(
        held.iter()
            .all(|(_, data)| data == "stolen" || data == "after" || *data == forged)
    );
}
