//! Durations and sizes as people write them: a number and a unit, never a bare number.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

const BYTE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Parses `500ms`, `25s`, `2m`, `1h`, `7d`, also with a fraction (`1.5s`) or joined (`1h30m`).
///
/// The error says what to write; it never repeats the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if let Ok(number) = rest.parse::<u64>() {
        return Err(format!("a duration needs a unit; write \"{number}s\""));
    }
    let wrong = || String::from("is not a duration; write one such as 500ms, 25s, 2m, 1h or 7d");
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest).ok_or_else(wrong)?;
        let factor = DURATION_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?
            .1;
        let millis = scale(number, factor).ok_or_else(wrong)?;
        total = total.checked_add(millis).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// Parses `64KiB`, `1GiB`, `10MB`, also with a fraction (`1.5GiB`). `KB` is 1,000 bytes, `KiB`
/// 1,024.
///
/// The error says what to write; it never repeats the text.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if let Ok(number) = text.parse::<u64>() {
        return Err(format!(
            "a size needs a unit; write {}",
            nearest_size(number)
        ));
    }
    let wrong = || String::from("is not a size; write one such as 64KiB, 10MB or 1GiB");
    let (number, unit, after) = number_and_unit(text).ok_or_else(wrong)?;
    let factor = BYTE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?
        .1;
    if !after.is_empty() {
        return Err(wrong());
    }
    scale(number, factor).ok_or_else(wrong)
}

/// The shortest exact way to write `value`: `25s`, `2m`, `1500ms`.
pub fn show_duration(value: Duration) -> String {
    let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, factor): &&(&str, u64)| millis != 0 && millis.is_multiple_of(*factor);
    let (unit, factor) = DURATION_UNITS
        .iter()
        .rev()
        .find(fits)
        .unwrap_or(&("s", 1_000));
    format!("{}{unit}", millis / factor)
}

/// The shortest exact way to write `value`: `64KiB`, `10MB`, `17B`.
pub fn show_bytes(value: u64) -> String {
    let exact = |(_, factor): &&(&str, u64)| value != 0 && value.is_multiple_of(*factor);
    let best = BYTE_UNITS
        .iter()
        .filter(exact)
        .max_by_key(|(_, factor)| *factor);
    let (unit, factor) = best.unwrap_or(&("B", 1));
    format!("{}{unit}", value / factor)
}

fn nearest_size(number: u64) -> String {
    let as_bytes = format!("\"{number}B\"");
    if number == 0 || number >= 1 << 20 {
        return as_bytes;
    }
    format!("{as_bytes}, \"{number}KiB\" or \"{number}MiB\"")
}

fn number_and_unit(text: &str) -> Option<(&str, &str, &str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(unit_at);
    let rest = rest.trim_start();
    let unit_end = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    let (unit, after) = rest.split_at(unit_end);
    Some((number, unit, after.trim_start()))
}

/// `number` (digits with at most one point) times `factor`, rounded down.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return (!number.ends_with('.')).then_some(whole);
    }
    // Nine digits cover a nanosecond of a second and a byte of a terabyte's thousandth.
    let digits = fraction.get(..fraction.len().min(9))?;
    let part = u128::from(digits.parse::<u64>().ok()?) * u128::from(factor);
    let part = part / 10_u128.pow(u32::try_from(digits.len()).ok()?);
    whole.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, millis) in [
            ("500ms", 500),
            ("25s", 25_000),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("7d", 604_800_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
            let shown = show_duration(Duration::from_millis(millis));
            assert_eq!(
                parse_duration(&shown),
                Ok(Duration::from_millis(millis)),
                "{shown}"
            );
        }
        assert_eq!(show_duration(Duration::from_secs(25)), "25s");
        assert_eq!(show_duration(Duration::ZERO), "0s");
    }

    #[test]
    fn a_bare_number_gets_its_unit_suggested() {
        assert_eq!(
            parse_duration("25").unwrap_err(),
            "a duration needs a unit; write \"25s\""
        );
        assert_eq!(
            parse_bytes("64").unwrap_err(),
            "a size needs a unit; write \"64B\", \"64KiB\" or \"64MiB\""
        );
        assert_eq!(
            parse_bytes("67108864").unwrap_err(),
            "a size needs a unit; write \"67108864B\""
        );
    }

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("10MB", 10_000_000),
            ("1GiB", 1 << 30),
            ("1.5GiB", 3 << 29),
            ("17B", 17),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
            assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes), "{text}");
        }
        assert_eq!(show_bytes(64 << 20), "64MiB");
        assert_eq!(show_bytes(10 << 20), "10MiB");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "s",
            "25 parsecs",
            "1.",
            ".s",
            "-1s",
            "99999999999999999999h",
            "1s2",
            "1..5s",
            "25ß",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["", "B", "1kb", "1MiBx", "1MiB 2KiB", "99999999TiB", "-1B"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
