//! Figures and names as people read them.

use super::Unit;

/// Words of a result's name that only say its unit.
const UNIT_WORDS: [&str; 6] = ["count", "us", "s", "bytes", "ratio", "percent"];

/// A result's name without its unit: `latency_p50_us` is "latency p50".
pub(super) fn label(name: &str) -> String {
    let name = name.strip_suffix("_per_second").unwrap_or(name);
    let words = name.split('_').filter(|word| !UNIT_WORDS.contains(word));
    let words: Vec<&str> = words.collect();
    words.join(" ").replace("p999", "p99.9")
}

/// A figure with its unit.
pub(crate) fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => grouped(value),
        Unit::PerSecond => format!("{}/s", grouped(value.round())),
        Unit::Micros => micros(value),
        Unit::Seconds => micros(value * 1e6),
        Unit::Bytes => bytes(value),
        Unit::BytesPerSecond => format!("{}/s", bytes(value)),
        Unit::Ratio => format!("{value:.2} x"),
        Unit::Percent => format!("{value:.1} %"),
    }
}

/// Three significant digits: 0.0123, 1.23, 12.3, 123, 1234.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn micros(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{} s", digits(value / 1e6)),
        size if size >= 1e3 => format!("{} ms", digits(value / 1e3)),
        _ => format!("{} µs", digits(value)),
    }
}

fn bytes(value: f64) -> String {
    const KIB: f64 = 1024.0;
    let size = value.abs();
    if size >= KIB * KIB * KIB {
        format!("{} GiB", digits(value / (KIB * KIB * KIB)))
    } else if size >= KIB * KIB {
        format!("{} MiB", digits(value / (KIB * KIB)))
    } else if size >= 10.0 * KIB {
        format!("{} KiB", digits(value / KIB))
    } else {
        format!("{} B", digits(value))
    }
}

/// 1234567 as "1,234,567"; a fraction keeps three digits.
fn grouped(value: f64) -> String {
    if value.fract() != 0.0 && value.abs() < 1000.0 {
        return digits(value);
    }
    let text = format!("{value:.0}");
    let (sign, number) = text
        .strip_prefix('-')
        .map_or(("", text.as_str()), |rest| ("-", rest));
    let mut out = String::from(sign);
    for (place, digit) in number.chars().enumerate() {
        if place > 0 && (number.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A value on an axis: as short as it can be. `unit` is a series' `x_unit` or `y_unit`.
pub(super) fn tick(value: f64, unit: &str) -> String {
    let short = match unit {
        "us" => micros(value),
        "bytes" => bytes(value),
        "bytes/s" => format!("{}/s", bytes(value)),
        _ => return short(value),
    };
    // "10.0 ms" and "2.00 µs" are ticks at whole places.
    let (number, unit) = short.split_once(' ').unwrap_or((&short, ""));
    let number = without_zeros(number);
    format!("{number} {unit}").trim_end().to_owned()
}

/// 20000 as "20k".
fn short(value: f64) -> String {
    let (scaled, end) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{}{end}", without_zeros(&format!("{scaled:.3}")))
}

fn without_zeros(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_loses_its_unit_and_nothing_else() {
        let cases = [
            ("delivered_count", "delivered"),
            ("deliveries_per_second", "deliveries"),
            ("latency_p999_us", "latency p99.9"),
            ("server_cpu_us_per_delivery", "server cpu per delivery"),
            ("server_rss_bytes_per_stream", "server rss per stream"),
            ("reads_per_delivery", "reads per delivery"),
            ("replay_bytes_per_second", "replay"),
        ];
        for (name, expected) in cases {
            assert_eq!(label(name), expected);
        }
    }

    #[test]
    fn a_figure_is_short_and_has_a_unit() {
        let cases = [
            (1_234_567.0, Unit::Count, "1,234,567"),
            (12.0, Unit::Count, "12"),
            (98_765.4, Unit::PerSecond, "98,765/s"),
            (0.84, Unit::Micros, "0.840 µs"),
            (1_530.0, Unit::Micros, "1.53 ms"),
            (2.5, Unit::Seconds, "2.50 s"),
            (512.0, Unit::Bytes, "512 B"),
            (4_252.0, Unit::Bytes, "4252 B"),
            (2.0 * 1024.0 * 1024.0 * 1024.0, Unit::Bytes, "2.00 GiB"),
            (1.126, Unit::Ratio, "1.13 x"),
        ];
        for (value, unit, expected) in cases {
            assert_eq!(shown(value, unit), expected);
        }
    }

    #[test]
    fn a_tick_has_no_needless_zeros() {
        let cases = [
            (20_000.0, "", "20k"),
            (0.5, "s", "0.5"),
            (10_000.0, "us", "10 ms"),
            (2.0, "us", "2 µs"),
            (100.0, "", "100"),
            (1_500_000.0, "events/s", "1.5M"),
        ];
        for (value, unit, expected) in cases {
            assert_eq!(tick(value, unit), expected);
        }
    }
}
