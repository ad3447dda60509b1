//! What random tests begin with.

/// `GUSH_TEST_SEED`, else another number each time, below 2^32; printed, so that a failure can be
/// had again.
pub fn seed() -> u64 {
    let given = std::env::var("GUSH_TEST_SEED").ok();
    let seed = given
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("GUSH_TEST_SEED={seed}");
    seed
}
