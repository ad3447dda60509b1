//! PEM blocks (RFC 7468): a label and the bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One block.
pub(super) struct Block<'t> {
    pub(super) label: &'t str,
    pub(super) bytes: Vec<u8>,
}

/// The first block that holds more than curve parameters, which `openssl ecparam` writes before
/// the key. `None`: no such block, or one that is cut off or not base64.
pub(super) fn first_block(text: &str) -> Option<Block<'_>> {
    let mut rest = text;
    loop {
        let (_, after) = rest.split_once("-----BEGIN ")?;
        let (label, after) = after.split_once("-----")?;
        let (body, after) = after.split_once("-----END ")?;
        rest = after.strip_prefix(label)?.strip_prefix("-----")?;
        if label != "EC PARAMETERS" {
            let body: String = body.split_ascii_whitespace().collect();
            let bytes = STANDARD.decode(body).ok()?;
            return Some(Block { label, bytes });
        }
    }
}
