//! The event stream parser: any bytes, in any pieces; and what our encoder makes of what was read.
#![no_main]

use gush_sse::{EventFields, Item, Parser, encode_event, encoded_len};
use libfuzzer_sys::fuzz_target;

const EVENT_BYTES_MAX: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece_bytes, stream)) = bytes.split_first() else {
        return;
    };
    let whole = items(stream, stream.len().max(1));
    // The pieces that a stream comes in do not change what is read.
    let pieces = items(stream, usize::from(piece_bytes).max(1));
    assert_eq!(whole, pieces);
    for item in &whole.0 {
        let Item::Event(event) = item else { continue };
        if event.kind.contains('\0') {
            continue; // readers take such a type, the encoder never writes one
        }
        let fields = EventFields {
            kind: Some(&event.kind),
            retry_ms: None,
            id: Some(&event.id),
            data: &event.data,
        };
        let mut encoded = Vec::new();
        encode_event(&fields, &mut encoded);
        assert_eq!(encoded.len(), encoded_len(&fields));
        let (read, is_ok) = items(&encoded, encoded.len());
        // Written out, an event can be longer than it was read: each line gets its own name.
        if is_ok {
            assert_eq!(read, std::slice::from_ref(item));
        }
    }
});

/// What is read, and whether all of it could be.
fn items(stream: &[u8], piece_bytes: usize) -> (Vec<Item>, bool) {
    let mut parser = Parser::new(EVENT_BYTES_MAX);
    let mut items = Vec::new();
    for piece in stream.chunks(piece_bytes) {
        if parser
            .push_items(piece, &mut |item| items.push(item))
            .is_err()
        {
            return (items, false);
        }
    }
    (items, true)
}
