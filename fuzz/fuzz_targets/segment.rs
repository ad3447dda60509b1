//! A segment file of the log with any bytes in it: read after a crash or a disk fault.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// What a segment starts with before its first record; `HEADER_BYTES` of the log.
const HEADER_BYTES: usize = 1024;

/// The marker with which the log's entry point for fuzzing reads a file without a header.
const MARKER: &[u8; 4] = b"GUSH";

fuzz_target!(|bytes: &[u8]| {
    gush_log::fuzz_recover(bytes);
    // Chance does not hit a checksum, so the same bytes again with those set right: now what the
    // checksums protect is reached too.
    gush_log::fuzz_recover(&mended(bytes));
});

/// The bytes behind an empty header, with a right checksum in every whole record.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0; HEADER_BYTES];
    file.extend_from_slice(bytes);
    let mut at = HEADER_BYTES;
    while let Some(record) = file.get_mut(at..) {
        let Some(head) = record
            .first_chunk::<28>()
            .filter(|head| head.starts_with(MARKER))
        else {
            if record.is_empty() {
                break;
            }
            at += 1;
            continue;
        };
        // marker, checksum, length, offset, time: see `record.rs` of the log.
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        if let Some(covered) = record.get(8..28_usize.saturating_add(length)) {
            let checksum = crc32fast::hash(covered).to_le_bytes();
            record[4..8].copy_from_slice(&checksum);
            at += 28 + length;
        } else {
            at += 1;
        }
    }
    file
}
