use proptest::prelude::*;

use super::*;
use crate::Epoch;
use crate::record::Stamp;
use crate::sim::SimHost;

fn meta(ids: &[(u64, u32)]) -> Meta {
    let base = Offset::from_u64(5);
    Meta {
        header: Header {
            base,
            epoch: Epoch::from_u64(9),
            epoch_before: None,
            time_ms: 1,
            stamp: Stamp {
                marker: *b"MARK",
                salt: 3,
            },
        },
        end_bytes: 1 << 20,
        next: base.plus(1_000_000),
        records: 1_000_000,
        first_ms: 1,
        newest_ms: 2,
        own_ids: count_u32(ids.len()),
        sparse: Sparse::from_entries(vec![(0, 1024), (7, 20_000)]),
        filter: Filter::of(ids.iter().map(|(hash, _)| *hash)),
    }
}

fn find(filed: &FiledIds, hash: u64) -> Vec<u32> {
    let mut found = Vec::new();
    let looked = filed.find(hash, |relative| {
        found.push(relative);
        Ok::<_, LookupError>(false)
    });
    assert!(looked.is_ok(), "the blocks are whole");
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Also hashes that are not spread at all: the guesses are then wrong, the result is not.
    #[test]
    fn every_hash_is_found_with_all_its_events(
        spread in prop::collection::vec(any::<u64>(), 0..1500),
        near in prop::collection::vec(0_u64..40, 0..1500),
        near_end in prop::collection::vec((u64::MAX - 5)..=u64::MAX, 0..400),
    ) {
        let hashes = spread.iter().chain(&near).chain(&near_end);
        let mut ids: Vec<(u64, u32)> = hashes.copied().zip(0..).collect();
        ids.sort_unstable();
        let host = SimHost::new(1);
        let meta = meta(&ids);
        write(&host, &meta, &ids).expect("written");
        let read = read_meta(&host, &meta.header.index_name()).expect("readable");
        let (read, file) = read.expect("whole");
        prop_assert_eq!(&read, &meta);
        let filed = FiledIds::new(&read, Source::Held(file));
        let asked = ids.iter().step_by(50).map(|(hash, _)| *hash);
        for hash in asked.chain([0, 1, 39, 40, u64::MAX / 2, u64::MAX]) {
            let expected: Vec<u32> =
                ids.iter().filter(|(id, _)| *id == hash).map(|(_, relative)| *relative).collect();
            prop_assert_eq!(find(&filed, hash), expected, "{}", hash);
        }
        prop_assert_eq!(filed.all().ok(), Some(ids));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Meta::decode(&bytes);
        let mut bytes = bytes;
        bytes.splice(0..0, *MAGIC);
        let _ = Meta::decode(&bytes);
    }
}

#[test]
fn spread_hashes_are_found_in_about_one_read() {
    let mut ids: Vec<(u64, u32)> = (0..100_000)
        .map(|number| (crate::hash::hash_id(&format!("id-{number}")), number))
        .collect();
    ids.sort_unstable();
    let host = SimHost::new(1);
    let meta = meta(&ids);
    let filed = FiledIds::new(
        &meta,
        Source::Held(write(&host, &meta, &ids).expect("written")),
    );
    let before = host.reads();
    for (hash, relative) in ids.iter().step_by(100) {
        assert_eq!(find(&filed, *hash), [*relative]);
    }
    // The walk over equal hashes may look into one block more.
    let reads = host.reads() - before;
    assert!(reads < 2 * 1_000, "{reads} reads for 1,000 ids");
}
