//! `application/x-www-form-urlencoded`, for bodies and query strings, and percent-encoding of
//! path segments. Strict: what is not well formed is refused, never repaired.

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memchr_iter, memchr2};

#[cfg(test)]
#[path = "form/tests.rs"]
mod tests;

/// Why a text cannot be decoded. `Display` is meant for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormError {
    /// A `%` without two hex digits behind it.
    PercentEncoding,
    /// A decoded name or value that is not UTF-8.
    Utf8,
    /// More pairs than the caller allows.
    TooManyPairs {
        /// The most the caller allows.
        pairs_max: usize,
    },
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PercentEncoding => f.write_str("bad percent-encoding in the form or query"),
            Self::Utf8 => f.write_str("the form or query is not UTF-8"),
            Self::TooManyPairs { pairs_max } => {
                write!(f, "more than {pairs_max} fields in the form or query")
            }
        }
    }
}

impl std::error::Error for FormError {}

/// A decoded name and value, borrowed where nothing had to be decoded.
pub type Pair<'i> = (Cow<'i, str>, Cow<'i, str>);

/// Reads the pairs of a form body or a query string, in order, repeated names kept. `+` is a
/// space; a name without `=` has an empty value; empty places between two `&` are skipped; `;` is
/// an ordinary character. At most `pairs_max` pairs, else [`FormError::TooManyPairs`]. Time and
/// memory are linear in the input.
pub fn parse_pairs(input: &[u8], pairs_max: usize) -> Result<Vec<Pair<'_>>, FormError> {
    let mut pairs = Vec::new();
    let mut begin = 0;
    let ends = memchr_iter(b'&', input).chain(std::iter::once(input.len()));
    for end in ends {
        let field = &input[begin..end];
        begin = end + 1;
        if field.is_empty() {
            continue;
        }
        if pairs.len() == pairs_max {
            return Err(FormError::TooManyPairs { pairs_max });
        }
        let (name, value) = match memchr(b'=', field) {
            Some(at) => (&field[..at], &field[at + 1..]),
            None => (field, &field[field.len()..]),
        };
        pairs.push((decode(name, Plus::Space)?, decode(value, Plus::Space)?));
    }
    Ok(pairs)
}

/// What a `+` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plus {
    /// A space, as in forms and in the paths some libraries write.
    Space,
    /// Itself, as in paths after RFC 3986.
    Literal,
}

/// Decodes one path segment.
pub fn percent_decode_segment(segment: &str, plus: Plus) -> Result<String, FormError> {
    decode(segment.as_bytes(), plus).map(Cow::into_owned)
}

/// Appends the text as one path segment: `A-Za-z0-9-._~` stay, every other byte becomes `%XX`,
/// so a space is `%20` and never `+`.
pub fn percent_encode_path_segment(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.reserve(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

fn decode(encoded: &[u8], plus: Plus) -> Result<Cow<'_, str>, FormError> {
    let first = match plus {
        Plus::Space => memchr2(b'%', b'+', encoded),
        Plus::Literal => memchr(b'%', encoded),
    };
    let Some(first) = first else {
        return std::str::from_utf8(encoded)
            .map(Cow::Borrowed)
            .map_err(|_| FormError::Utf8);
    };
    let mut decoded = Vec::with_capacity(encoded.len());
    decoded.extend_from_slice(&encoded[..first]);
    // Byte by byte: where one is coded, the next one is near.
    let mut rest = &encoded[first..];
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'%' => {
                let Some(([high, low], tail)) = rest.split_first_chunk() else {
                    return Err(FormError::PercentEncoding);
                };
                decoded.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
                rest = tail;
            }
            b'+' if plus == Plus::Space => decoded.push(b' '),
            _ => decoded.push(byte),
        }
    }
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .map_err(|_| FormError::Utf8)
}

fn hex_digit(byte: u8) -> Result<u8, FormError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(FormError::PercentEncoding),
    }
}
