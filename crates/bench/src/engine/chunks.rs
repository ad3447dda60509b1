//! Takes a body out of its chunked framing, piece by piece.

use super::head::Head;

/// Largest chunk that is read on.
const CHUNK_BYTES_MAX: usize = 1 << 28;

/// Where in the framing the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// Not chunked.
    #[default]
    Raw,
    /// In the line with a chunk's size; the digits so far.
    Size(usize),
    /// So many bytes of a chunk are left.
    Data(usize),
    /// In the line end after a chunk.
    Tail,
    /// The body is over.
    End,
}

impl Chunks {
    /// At the begin of the body after `head`.
    pub(crate) fn of(head: &Head) -> Self {
        if head.is_chunked {
            Self::Size(0)
        } else {
            Self::Raw
        }
    }

    /// Hands the data in `bytes` to `take`. Whether the body is over.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], take: &mut impl FnMut(&[u8])) -> bool {
        while !bytes.is_empty() {
            match *self {
                Self::Raw => {
                    take(bytes);
                    return false;
                }
                Self::End => return true,
                Self::Data(left) => {
                    let (data, rest) = bytes.split_at(left.min(bytes.len()));
                    take(data);
                    bytes = rest;
                    *self = match left - data.len() {
                        0 => Self::Tail,
                        left => Self::Data(left),
                    };
                }
                Self::Size(size) => {
                    let byte = bytes[0];
                    bytes = &bytes[1..];
                    *self = match (char::from(byte).to_digit(16), byte) {
                        (Some(digit), _) if size < CHUNK_BYTES_MAX => {
                            Self::Size(size << 4 | digit as usize)
                        }
                        (_, b'\r') => Self::Size(size),
                        (_, b'\n') if size > 0 => Self::Data(size),
                        _ => Self::End,
                    };
                }
                Self::Tail => {
                    if bytes[0] == b'\n' {
                        *self = Self::Size(0);
                    }
                    bytes = &bytes[1..];
                }
            }
        }
        *self == Self::End
    }
}
