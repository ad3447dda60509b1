//! The hash that indexes publisher-given ids. It is stored on disk, so it never changes.

/// 64 well-mixed bits of `id`. Not keyed: equal hashes cost a read each, never a wrong answer,
/// since every hit is compared with the stored id.
pub(crate) fn hash_id(id: &str) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let (chunks, rest) = id.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = id.len() as u64;
    for chunk in chunks.iter().chain([&last]) {
        hash = (hash ^ u64::from_le_bytes(*chunk)).wrapping_mul(MULTIPLIER);
        hash ^= hash >> 32;
    }
    // The finalizer of MurmurHash3: every input bit reaches every output bit.
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_hash_stays_the_same() {
        assert_eq!(hash_id(""), 0);
        assert_eq!(hash_id("urn:example:7"), 0xa443_d84c_8013_d60e);
    }

    #[test]
    fn similar_ids_spread_over_the_whole_range() {
        let mut buckets = [0_u32; 64];
        let mut seen = std::collections::HashSet::new();
        for number in 0..64_000 {
            let hash = hash_id(&format!("https://example.com/orders/{number}"));
            buckets[(hash >> 58) as usize] += 1;
            assert!(seen.insert(hash), "two of 64,000 ids share a hash");
        }
        assert!(
            buckets.iter().all(|count| (800..1200).contains(count)),
            "{buckets:?}"
        );
    }
}
