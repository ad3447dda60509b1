//! The bytes of a delivery, the same that a gush hub sends for the same data.

use std::fmt::Write as _;
use std::sync::Arc;

/// A frame, shared by all sockets and threads it goes to.
pub(super) type Frame = Arc<[u8]>;

/// Makes frames and numbers them.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Makes ids of several makers different.
    maker: u16,
    made: u64,
    text: String,
}

impl Frames {
    pub(super) fn new(maker: u16) -> Self {
        Self {
            maker,
            ..Self::default()
        }
    }

    /// One chunk with an id of a hub's length and the data, and the id alone.
    pub(super) fn next(&mut self, data: &str) -> (Frame, String) {
        let id = format!(
            "urn:uuid:01a2045f-b244-8d8a-{:04x}-{:012x}",
            self.maker, self.made
        );
        self.made += 1;
        let length = "id: \n".len() + id.len() + "data: \n\n".len() + data.len();
        self.text.clear();
        write!(self.text, "{length:x}\r\nid: {id}\ndata: {data}\n\n\r\n")
            .expect("writing to a String cannot fail");
        (Arc::from(self.text.as_bytes()), id)
    }
}

/// The value of `data` in a form.
pub(super) fn data_of_form(form: &[u8]) -> String {
    let pair = form
        .split(|&byte| byte == b'&')
        .find_map(|pair| pair.strip_prefix(b"data="));
    let mut rest = pair.unwrap_or(form);
    let mut out = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let hex = |at: usize| {
            let digit = after
                .get(at)
                .and_then(|&digit| char::from(digit).to_digit(16));
            digit.and_then(|digit| u8::try_from(digit).ok())
        };
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                rest = &after[2..];
            }
            (b'+', ..) => out.push(b' '),
            // A frame is one line of data here.
            (b'\n' | b'\r', ..) => {}
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_chunk_of_a_hubs_length() {
        let (frame, id) = Frames::default().next("hello");
        assert_eq!(id.len(), 45);
        let text = std::str::from_utf8(&frame).unwrap();
        assert_eq!(text, format!("3f\r\nid: {id}\ndata: hello\n\n\r\n"));
    }

    #[test]
    fn data_is_found_in_a_form_and_a_body_without_one_is_data() {
        assert_eq!(data_of_form(b"topic=a&data=x%20y%7e+z&id=1"), "x y~ z");
        assert_eq!(data_of_form(b"plain"), "plain");
        assert_eq!(data_of_form(b"data=%"), "%");
    }
}
