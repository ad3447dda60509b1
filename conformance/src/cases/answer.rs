//! 1.4 the subscribe answer and the bytes of an event.

use super::{ensure, nothing_before, same};
use crate::{Case, Need, Target, case};
use gush_testkit::{Deadline, Failure, Outcome, PATIENCE, SseItem, unsigned_token};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = head_cases();
    cases.extend(opening());
    cases.extend(event_cases());
    cases.extend(small_and_large_events());
    cases.extend(DATA.iter().map(|row| {
        case(
            &format!("1.4/data-{}", row.0),
            &[],
            "LF, CR and CRLF in data each start a new data line; every other character passes; \
             empty data is one data line, so that browsers dispatch the event",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                t.say(&topic, row.1)?;
                stream.expect_data(row.2)?;
                nothing_before(t, &mut stream, &topic)
            },
        )
    }));
    cases
}

/// Name, what is published, what arrives.
const DATA: &[(&str, &str, &str)] = &[
    ("empty", "", ""),
    ("lf", "a\nb", "a\nb"),
    ("cr", "a\rb", "a\nb"),
    ("crlf", "a\r\nb", "a\nb"),
    ("mixed-line-ends", "a\n\rb\r\r\nc", "a\n\nb\n\nc"),
    ("only-line-ends", "\n\n", "\n\n"),
    ("trailing-line-end", "a\n", "a\n"),
    ("leading-space", "  a", "  a"),
    ("leading-colon", ": a", ": a"),
    (
        "looks-like-fields",
        "id: forged\nevent: forged\ndata: forged\n\nretry: 1",
        "id: forged\nevent: forged\ndata: forged\n\nretry: 1",
    ),
    (
        "unicode",
        "h\u{e9}llo \u{1f600} \u{2028}\u{85}",
        "h\u{e9}llo \u{1f600} \u{2028}\u{85}",
    ),
    ("byte-order-mark", "\u{feff}a", "\u{feff}a"),
    ("nul", "a\0b", "a\0b"),
    (
        "tab-and-controls",
        "\ta\u{b}\u{c}\u{1b}",
        "\ta\u{b}\u{c}\u{1b}",
    ),
    ("form-syntax", "a=b&c=d;e%20+f", "a=b&c=d;e%20+f"),
    ("json", "{\"a\": [1, \"\\n\"]}", "{\"a\": [1, \"\\n\"]}"),
];

fn head_cases() -> Vec<Case> {
    vec![
        case(
            "1.4/content-type",
            &[],
            "200, Content-Type exactly text/event-stream",
            |t| {
                let stream = t.subscribe(&[("topic", &t.topic())])?;
                stream
                    .head()
                    .expect_header("Content-Type", "text/event-stream")
            },
        ),
        case(
            "1.4/no-caching",
            &[],
            "Cache-Control: private, no-cache, no-store, must-revalidate, max-age=0 (more may \
             follow), Pragma: no-cache (the reference's misspelt `Expire` is not asked for)",
            |t| {
                let stream = t.subscribe(&[("topic", &t.topic())])?;
                let value = stream.head().joined("Cache-Control").unwrap_or_default();
                let got: Vec<&str> = value.split(',').map(str::trim).collect();
                for wanted in [
                    "private",
                    "no-cache",
                    "no-store",
                    "must-revalidate",
                    "max-age=0",
                ] {
                    ensure(got.contains(&wanted), || {
                        format!("{wanted} missing in Cache-Control: {value:?}")
                    })?;
                }
                stream.head().expect_header("Pragma", "no-cache")
            },
        ),
        case(
            "1.4/no-proxy-buffering",
            &[],
            "X-Accel-Buffering: no",
            |t| {
                t.subscribe(&[("topic", &t.topic())])?
                    .head()
                    .expect_header("X-Accel-Buffering", "no")
            },
        ),
        case(
            "1.4/stays-open",
            &[],
            "the connection is not announced to close",
            |t| {
                let stream = t.subscribe(&[("topic", &t.topic())])?;
                let value = stream
                    .head()
                    .header("Connection")
                    .unwrap_or("keep-alive")
                    .to_lowercase();
                ensure(value != "close", || {
                    format!("Connection: close in\n{}", stream.head().raw)
                })
            },
        ),
    ]
}

fn opening() -> Vec<Case> {
    vec![
        case(
            "1.4/comment-at-once",
            &[],
            "the first bytes of the body are a comment line and come at once (a `retry` of the \
             hub's own may follow; the reference sends none)",
            |t| {
                let mut stream = t.subscribe(&[("topic", &t.topic())])?;
                match stream.next_item(Deadline::after(PATIENCE))? {
                    Some(SseItem::Comment(_)) => Ok(()),
                    other => {
                        Failure::mismatch("first item", "a comment line", format!("{other:?}"))
                    }
                }
            },
        ),
        case(
            "1.4/registered-before-the-head",
            &[],
            "an update published after the head was seen is never lost",
            |t| {
                for _ in 0..25 {
                    let topic = t.topic();
                    let mut stream = t.subscribe(&[("topic", &topic)])?;
                    t.say(&topic, "at once")?;
                    stream.expect_data("at once")?;
                }
                Ok(())
            },
        ),
        case(
            "1.4/refused-without-token",
            &[Need::NotAnonymous],
            "no token: 401",
            |t| {
                t.send(&Target::subscribe_bare(&[("topic", &t.topic())]))?
                    .expect_status(&[401])
            },
        ),
        case("1.4/refused-with-bad-token", &[], "bad token: 401", |t| {
            let token = unsigned_token("none", &gush_testkit::Claims::new().subscribe(&["*"]));
            let request = Target::subscribe_bare(&[("topic", &t.topic())]).bearer(&token);
            t.send(&request)?.expect_status(&[401])
        }),
        case(
            "1.4/heartbeat",
            &[Need::ShortHeartbeat],
            "silence is broken by a comment line every heartbeat",
            heartbeat,
        ),
    ]
}

fn heartbeat(t: &Target) -> Outcome<()> {
    let interval = t.heartbeat.unwrap_or_default();
    let mut stream = t.subscribe(&[("topic", &t.topic())])?;
    let deadline = Deadline::after(interval * 4 + PATIENCE);
    let mut beats = 0;
    while beats < 4 {
        match stream
            .next_item(deadline)
            .map_err(|f| f.within(format!("after {beats} comments")))?
        {
            Some(SseItem::Comment(_)) => beats += 1,
            Some(SseItem::Retry(_)) => {}
            other => return Failure::mismatch("heartbeat", "comment lines", format!("{other:?}")),
        }
    }
    Ok(())
}

fn event_cases() -> Vec<Case> {
    vec![case(
        "1.4/order-of-fields",
        &[],
        "event, retry, id, data, in this order, one line each; the block ends with an empty \
             line",
        |t| {
            let topic = t.topic();
            let id = format!("own-{}", t.unique());
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            t.publish(&[
                ("topic", &topic),
                ("data", "one\ntwo"),
                ("type", "greeting"),
                ("id", &id),
                ("retry", "1234"),
            ])?;
            let expected = [
                "event: greeting".to_owned(),
                "retry: 1234".to_owned(),
                format!("id: {id}"),
                "data: one".to_owned(),
                "data: two".to_owned(),
            ];
            same(
                "lines of the event",
                &stream.next_event()?.lines,
                &expected.to_vec(),
            )
        },
    )]
}

fn small_and_large_events() -> Vec<Case> {
    vec![
        case(
            "1.4/minimal-event",
            &[],
            "without type and retry: id and data only",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let id = t.publish(&[("topic", &topic), ("data", "x"), ("type", "")])?;
                let expected = vec![format!("id: {id}"), "data: x".to_owned()];
                same("lines of the event", &stream.next_event()?.lines, &expected)
            },
        ),
        case("1.4/retry-zero", &[], "a retry of 0 is left out", |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            t.publish(&[("topic", &topic), ("data", "x"), ("retry", "0")])?;
            same("retry of the event", &stream.next_event()?.retry, &None)
        }),
        case(
            "1.4/data-absent",
            &[],
            "absent data is one empty data line",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let id = t.publish(&[("topic", &topic)])?;
                let event = stream.next_event()?;
                same("data", &event.data.as_str(), &"")?;
                same("id", &event.id, &Some(id))
            },
        ),
        case(
            "1.4/every-event-has-an-id",
            &[],
            "every event has an id, the one answered",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                for n in 0..10 {
                    let id = t.say(&topic, &n.to_string())?;
                    same("id of the event", &stream.next_event()?.id, &Some(id))?;
                }
                Ok(())
            },
        ),
        case(
            "1.4/large-data",
            &[],
            "a megabyte of data arrives whole",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let data = "0123456789abcdef".repeat(1 << 16);
                t.say(&topic, &data)?;
                let event = stream.next_event()?;
                ensure(event.data == data, || {
                    format!("{} bytes were sent, {} came", data.len(), event.data.len())
                })?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
    ]
}
