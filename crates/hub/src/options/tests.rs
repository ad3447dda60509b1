use super::*;
use crate::config::parse_duration;

#[test]
fn every_default_is_valid_and_shown_as_written() {
    let settings = Settings::default();
    for option in OPTIONS {
        assert_eq!(option.show(&settings), option.default, "{}", option.key);
    }
}

#[test]
fn every_option_sets_what_it_shows() {
    for option in OPTIONS {
        let values: &[&str] = match option.form {
            Form::Switch => &["true"],
            Form::Duration { min, .. } if min >= std::time::Duration::from_secs(2) => &["7m"],
            Form::Duration { .. } => &["7s"],
            Form::Bytes { .. } => &["3MiB"],
            Form::Count { .. } => &["77"],
            Form::Choice(words) => &[words[words.len() - 1]],
            Form::Addresses => &["127.0.0.1:7", "[::1]:8"],
            Form::AddressOrOff => &["127.0.0.1:9"],
            Form::Path | Form::Key | Form::StreamLog => &["/some/path"],
            Form::Log => &["disk:/elsewhere"],
            Form::Algorithm => &["ES384"],
            Form::CookieName => &["biscuit"],
            Form::Matchers => &["https://a.example/{b}", "c"],
            Form::FlushTopics => &["a/{b}=50ms/100", "c=1s"],
            Form::Networks => &["10.0.0.0/8", "2001:db8::/32"],
            Form::Origins => &["https://a.example", "https://*.b.example"],
        };
        let mut settings = Settings::default();
        option.apply(&mut settings, values).unwrap();
        assert_eq!(option.show(&settings), values.join(","), "{}", option.key);
        for other in OPTIONS.iter().filter(|other| other.key != option.key) {
            assert_eq!(
                other.show(&settings),
                other.default,
                "{} changed by {}",
                other.key,
                option.key
            );
        }
    }
}

#[test]
fn both_ends_of_a_range_and_its_zero_are_allowed() {
    for option in OPTIONS {
        let (texts, zero) = match option.form {
            Form::Duration { min, max, zero } => {
                ([min, max].map(crate::config::show_duration), zero)
            }
            Form::Bytes { min, max, zero } => ([min, max].map(crate::config::show_bytes), zero),
            Form::Count { min, max, zero } => ([min, max].map(|end| end.to_string()), zero),
            _ => continue,
        };
        let mut settings = Settings::default();
        for text in &texts {
            option.apply(&mut settings, &[text]).unwrap();
            assert_eq!(option.show(&settings), *text, "{}", option.key);
        }
        let is_allowed = option.apply(&mut settings, &["0"]).is_ok();
        assert_eq!(is_allowed, zero.is_some(), "{}", option.key);
        if let Some(zero) = zero {
            option.apply(&mut settings, &[zero.word]).unwrap();
            assert_eq!(option.show(&settings), zero.word, "{}", option.key);
        }
    }
}

#[test]
fn records_are_complete_and_short_enough_for_help() {
    for (index, option) in OPTIONS.iter().enumerate() {
        assert!(
            OPTIONS[..index].iter().all(|other| other.key != option.key),
            "{} twice",
            option.key
        );
        assert!(
            !option.help.is_empty() && option.help.len() <= 90,
            "{}",
            option.key
        );
        assert!(!option.help.ends_with('.'), "{}", option.key);
        assert!(option.why.ends_with('.'), "{}", option.key);
        assert!(Group::ALL.contains(&option.group));
    }
}

#[test]
fn errors_say_what_to_write() {
    let mut settings = Settings::default();
    for (key, value, reason) in [
        ("heartbeat", "25", "a duration needs a unit; write \"25s\""),
        (
            "heartbeat",
            "11m",
            "is out of range; write 100ms to 10m, or off = no heartbeats",
        ),
        (
            "listen",
            "3000",
            "an address needs an IP; write \"127.0.0.1:3000\" for this machine only, \
          \"0.0.0.0:3000\" for everybody",
        ),
        (
            "log",
            "nats://x",
            "NATS and Redis logs come in a later release; write memory or disk:DIR",
        ),
        (
            "log",
            "disk",
            "a disk log needs a directory; write \"disk:./data\"",
        ),
        ("anonymous", "on", "is a switch; write true or false"),
        (
            "publisher_alg",
            "none",
            "is not known; write one of HS256, HS384, HS512, RS256, RS384, RS512, \
          PS256, PS384, PS512, ES256, ES384, ES512, EdDSA",
        ),
        (
            "cors_origin",
            "example.com",
            "an origin needs a scheme; write one such as https://example.com",
        ),
    ] {
        let option = find(key).unwrap();
        assert_eq!(
            option.apply(&mut settings, &[value]).unwrap_err(),
            reason,
            "{key} {value}"
        );
    }
}

#[test]
fn a_slip_of_the_finger_is_recognised() {
    assert_eq!(nearest("hartbeat"), Some("heartbeat"));
    assert_eq!(nearest("drain-window"), Some("drain_window"));
    assert_eq!(nearest("cors_origns"), Some("cors_origins"));
    assert_eq!(nearest("frobnicate"), None);
    assert_eq!(
        find("cors_origins").map(|option| option.key),
        Some("cors_origin")
    );
    assert!(parse_duration("7s").is_ok());
}
