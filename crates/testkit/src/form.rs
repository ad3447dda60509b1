//! Percent-encoding as forms and queries use it.

use std::fmt::Write as _;

/// `text` with every byte outside `A-Za-z0-9-._~` as `%XX`; fits a query value, a form value and
/// one path segment alike.
pub fn encode_component(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3 / 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    out
}

/// The fields as an `application/x-www-form-urlencoded` body or query string, in this order.
pub fn encode_form(fields: &[(&str, &str)]) -> String {
    fields
        .iter()
        .map(|(name, value)| format!("{}={}", encode_component(name), encode_component(value)))
        .collect::<Vec<_>>()
        .join("&")
}
