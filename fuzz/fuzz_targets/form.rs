//! Form bodies and query strings, and the publish request read from them.
#![no_main]

use gush_hub::dialect::publish_request;
use gush_hub::form::{Plus, parse_pairs, percent_decode_segment, percent_encode_path_segment};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(pairs) = parse_pairs(bytes, 1_000) else {
        return;
    };
    assert!(pairs.len() <= 1_000);
    // What was decoded survives being encoded and decoded again.
    let mut encoded = String::new();
    for (name, value) in &pairs {
        encoded.push('&');
        percent_encode_path_segment(name, &mut encoded);
        encoded.push('=');
        let start = encoded.len();
        percent_encode_path_segment(value, &mut encoded);
        for plus in [Plus::Space, Plus::Literal] {
            let decoded = percent_decode_segment(&encoded[start..], plus);
            assert_eq!(decoded.as_deref(), Ok(&**value));
        }
    }
    assert_eq!(parse_pairs(encoded.as_bytes(), 1_000).as_ref(), Ok(&pairs));
    if let Ok(draft) = publish_request(&pairs) {
        assert!(!draft.topics.is_empty());
    }
});
