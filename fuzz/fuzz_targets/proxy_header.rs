//! The PROXY protocol header: any bytes, as they come behind a listed proxy.
#![no_main]

use gush_middleware::ProxyPrefix;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((prefix, rest)) = bytes.split_first_chunk::<{ ProxyPrefix::BYTES }>() else {
        return;
    };
    let Ok(prefix) = ProxyPrefix::parse(prefix) else {
        return;
    };
    assert!(prefix.rest_bytes() <= ProxyPrefix::REST_BYTES_MAX);
    let source = prefix.source(rest);
    if rest.len() >= prefix.rest_bytes() {
        // A whole header is never judged anew, and what stands behind it changes nothing.
        assert_eq!(prefix.source(&rest[..prefix.rest_bytes()]), source);
        let address = source.expect("a whole header has its addresses");
        assert!(address.is_none_or(|address| address == address.to_canonical()));
    }
});
