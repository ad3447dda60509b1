use super::*;
use crate::topic::Matcher;

fn at(offset: u64) -> Offset {
    Offset::from_u64(offset)
}

/// Offsets 11, 13 and 16 of `[10, 20)`, of 4, 6 and 5 bytes.
fn stretch(gauge: &Gauge) -> Stretch {
    let marks = vec![(at(11), 4), (at(13), 10), (at(16), 15)];
    Stretch::new(
        Bytes::from_static(b"aaaabbbbbbccccc"),
        marks,
        (at(10), at(20)),
        gauge,
    )
}

/// What goes out for somebody who takes at most `taken_max` bytes at a time, in pieces of at most
/// `bytes_max`, and how many events it counts as.
fn sent(stretch: &Stretch, from: Offset, bytes_max: usize, taken_max: usize) -> (Vec<u8>, usize) {
    let (mut cursor, mut partial) = (from, 0);
    let (mut out, mut events) = (Vec::new(), 0);
    while stretch.covers(cursor) {
        let piece = stretch
            .piece(cursor, partial, bytes_max)
            .expect("it goes on");
        let frame = stretch.frame(&piece);
        let bytes = frame.framed(Framing::Raw);
        assert_eq!(bytes.len(), piece.len());
        let taken = taken_max.min(piece.len());
        out.extend_from_slice(&bytes[..taken]);
        let reached = stretch.reached(&piece, taken);
        (cursor, partial) = (reached.cursor, reached.partial);
        events += reached.whole;
    }
    assert_eq!((cursor, partial), (at(20), 0));
    (out, events)
}

#[test]
fn every_byte_goes_out_once_however_little_is_taken_at_a_time() {
    let gauge = Gauge::default();
    let stretch = stretch(&gauge);
    for bytes_max in 1..20 {
        for taken_max in 1..20 {
            let all = sent(&stretch, at(10), bytes_max, taken_max);
            assert_eq!(all, (b"aaaabbbbbbccccc".to_vec(), 3));
            let some = sent(&stretch, at(12), bytes_max, taken_max);
            assert_eq!(some, (b"bbbbbbccccc".to_vec(), 2));
            let none = sent(&stretch, at(17), bytes_max, taken_max);
            assert_eq!(none, (Vec::new(), 0));
        }
    }
}

#[test]
fn a_piece_ends_with_an_event_and_has_at_least_one() {
    let gauge = Gauge::default();
    let stretch = stretch(&gauge);
    let length = |cursor, partial, bytes_max| {
        let piece = stretch.piece(at(cursor), partial, bytes_max);
        piece.map(|piece| piece.len())
    };
    assert_eq!(length(10, 0, 3), Some(4));
    assert_eq!(length(10, 0, 9), Some(4));
    assert_eq!(length(10, 0, 10), Some(10));
    assert_eq!(length(13, 5, 2), Some(1));
    assert_eq!(length(13, 5, 6), Some(6));
    assert_eq!(length(17, 0, 9), Some(0));
    // Half an event that is not here, or is shorter here, cannot be finished.
    assert_eq!(length(12, 1, 9), None);
    assert_eq!(length(17, 1, 9), None);
    assert_eq!(length(13, 6, 9), None);
}

#[test]
fn what_is_held_is_counted() {
    let gauge = Gauge::default();
    let first = stretch(&gauge);
    let one = gauge.bytes();
    assert_eq!(one, 15 + 3 * size_of::<Mark>());
    let second = stretch(&gauge);
    assert_eq!(gauge.bytes(), 2 * one);
    drop((first, second));
    assert_eq!(gauge.bytes(), 0);
}

fn selection(topic: &str) -> Arc<Selection> {
    Arc::new(Selection {
        matchers: [Matcher::parse(topic).expect("a good matcher")].into(),
        ..Selection::default()
    })
}

#[test]
fn a_stretch_is_found_for_equal_selections_and_framings_only() {
    let gauge = Gauge::default();
    let mut recent = Recent::new(4, 1000);
    recent.keep(&selection("a"), Framing::Raw, &Arc::new(stretch(&gauge)));
    let mut found = |offset, topic, framing| {
        recent
            .find(at(offset), &selection(topic), framing)
            .is_some()
    };
    assert!(found(10, "a", Framing::Raw));
    assert!(found(19, "a", Framing::Raw));
    assert!(!found(9, "a", Framing::Raw));
    assert!(!found(20, "a", Framing::Raw));
    assert!(!found(10, "b", Framing::Raw));
    assert!(!found(10, "a", Framing::Chunked));
    let mut granted = Selection::clone(&selection("a"));
    granted.grants = granted.matchers.iter().cloned().collect();
    assert!(
        recent
            .find(at(10), &Arc::new(granted), Framing::Raw)
            .is_none()
    );
}

/// Texts are compared where the hashes are equal only, and then they decide.
#[test]
fn hashes_are_compared_before_selections() {
    let gauge = Gauge::default();
    let mut recent = Recent::new(4, 1000);
    let kept = selection("a");
    recent.keep(&kept, Framing::Raw, &Arc::new(stretch(&gauge)));
    recent.kept[0].hash = !recent.kept[0].hash;
    let is_found = |recent: &mut Recent, selection: &Arc<Selection>| {
        recent.find(at(10), selection, Framing::Raw).is_some()
    };
    assert!(!is_found(&mut recent, &selection("a")));
    assert!(is_found(&mut recent, &kept), "it is the same one");
    let other = selection("b");
    recent.kept[0].hash = recent.hasher.hash_one(&other);
    assert!(!is_found(&mut recent, &other));
}

#[test]
fn the_stretches_needed_last_are_kept_within_both_bounds() {
    let gauge = Gauge::default();
    let mut recent = Recent::new(3, 40);
    let topics = ["a", "b", "c", "d"].map(selection);
    for topic in &topics[..2] {
        recent.keep(topic, Framing::Raw, &Arc::new(stretch(&gauge)));
    }
    assert!(recent.find(at(10), &topics[0], Framing::Raw).is_some());
    // Three take 45 bytes: the one that was not asked for goes.
    recent.keep(&topics[2], Framing::Raw, &Arc::new(stretch(&gauge)));
    let kept = |recent: &mut Recent| {
        let found = topics
            .iter()
            .map(|topic| recent.find(at(10), topic, Framing::Raw).is_some());
        found.collect::<Vec<_>>()
    };
    assert_eq!(kept(&mut recent), [true, false, true, false]);
    recent.clear();
    assert!(recent.is_empty());
    assert_eq!(gauge.bytes(), 0);
    let mut few = Recent::new(1, 40);
    few.keep(&topics[0], Framing::Raw, &Arc::new(stretch(&gauge)));
    few.keep(&topics[3], Framing::Raw, &Arc::new(stretch(&gauge)));
    assert_eq!(kept(&mut few), [false, false, false, true]);
}

#[test]
fn one_asks_for_what_follows() {
    let gauge = Gauge::default();
    let stretch = stretch(&gauge);
    assert_eq!(stretch.lead(), Some(at(20)));
    assert_eq!(stretch.lead(), None);
}

#[test]
fn framing_goes_on_at_the_end_of_what_is_framed_while_few_are_left() {
    let gauge = Gauge::default();
    let range = |from: u64| (at(from), at(from + 10));
    let framed = |from: u64| {
        let stretch = Stretch::new(Bytes::from_static(b"x"), vec![], range(from), &gauge);
        Arc::new(stretch)
    };
    let selection = Arc::new(Selection::default());
    let place = (&selection, Framing::Raw);
    let mut recent = Recent::new(8, 1 << 20);
    let stretches = [0, 10, 20, 30].map(framed);
    for stretch in &stretches[1..] {
        recent.keep(&selection, Framing::Raw, stretch);
    }
    assert_eq!(recent.lead(&stretches[0], place, 2), Some(at(10)));
    // The first three led to the next one; behind the fourth nothing was asked for.
    assert_eq!(stretches[1].lead(), Some(at(20)));
    assert_eq!(stretches[2].lead(), Some(at(30)));
    assert_eq!(recent.lead(&stretches[0], place, 2), None, "enough is left");
    assert_eq!(recent.lead(&stretches[1], place, 2), Some(at(40)));
    assert_eq!(recent.lead(&stretches[2], place, 2), None, "being framed");
    assert!(stretches[0].begin() && !stretches[0].begin());
}
