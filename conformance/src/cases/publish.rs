//! 1.5 publishing.

use super::{ensure, nothing_before, same};
use crate::target::HUB;
use crate::{Case, Target, case};
use gush_testkit::{Deadline, Outcome, PATIENCE, Request, encode_component, encode_form};
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = answers();
    cases.extend(topics());
    cases.extend(privacy());
    cases.extend(own_fields());
    cases.extend(bodies());
    cases.extend(framing());
    cases.extend(no_forms());
    cases.extend(FIELDS.iter().map(field_case));
    cases
}

/// One field with a value, and the status codes that will do.
struct Field {
    name: &'static str,
    key: &'static str,
    value: &'static str,
    allowed: &'static [u16],
}

#[rustfmt::skip]
const FIELDS: &[Field] = &[
    Field { name: "id-with-lf", key: "id", value: "a\nb", allowed: &[400] },
    Field { name: "id-with-cr", key: "id", value: "a\rb", allowed: &[400] },
    Field { name: "id-with-nul", key: "id", value: "a\0b", allowed: &[400] },
    // The draft forbids it, hubs up to 0.24 let it pass.
    Field { name: "id-with-hash", key: "id", value: "#a", allowed: &[400, 200] },
    Field { name: "type-with-lf", key: "type", value: "a\nb", allowed: &[400] },
    Field { name: "type-with-cr", key: "type", value: "a\rb", allowed: &[400] },
    Field { name: "type-with-nul", key: "type", value: "a\0b", allowed: &[400] },
    Field { name: "retry-word", key: "retry", value: "soon", allowed: &[400] },
    Field { name: "retry-negative", key: "retry", value: "-1", allowed: &[400] },
    Field { name: "retry-plus", key: "retry", value: "+1", allowed: &[400] },
    Field { name: "retry-fraction", key: "retry", value: "1.5", allowed: &[400] },
    Field { name: "retry-exponent", key: "retry", value: "1e3", allowed: &[400] },
    Field { name: "retry-space", key: "retry", value: " 1", allowed: &[400] },
    Field { name: "retry-hex", key: "retry", value: "0x10", allowed: &[400] },
    Field { name: "retry-over-64-bit", key: "retry", value: "18446744073709551616", allowed: &[400] },
    Field { name: "retry-max", key: "retry", value: "18446744073709551615", allowed: &[200] },
    Field { name: "retry-zero", key: "retry", value: "0", allowed: &[200] },
    Field { name: "reserved-topic", key: "topic", value: "/.well-known/mercure", allowed: &[403] },
    Field { name: "reserved-topic-below", key: "topic", value: "/.well-known/mercure/subscriptions/a/b", allowed: &[403] },
    Field { name: "reserved-topic-inside", key: "topic", value: "https://x.example/.well-known/mercure?x", allowed: &[403] },
    Field { name: "unknown-field", key: "colour", value: "blue", allowed: &[200] },
    Field { name: "unknown-field-empty", key: "", value: "", allowed: &[200] },
];

fn field_case(row: &'static Field) -> Case {
    case(
        &format!("1.5/{}", row.name),
        &[],
        "id and type without CR, LF, NUL; retry an unsigned 64-bit decimal; topics without the \
         hub's own path; unknown fields ignored; what is refused is not delivered (an id that \
         starts with # may be refused or kept)",
        |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            let fields = [
                ("topic", topic.as_str()),
                ("data", "probe"),
                (row.key, row.value),
            ];
            let response = t.try_publish(&fields)?;
            response.expect_status(row.allowed)?;
            if response.status() == 200 {
                stream.expect_data("probe")?;
            }
            nothing_before(t, &mut stream, &topic)
        },
    )
}

fn answers() -> Vec<Case> {
    vec![
        case(
            "1.5/answer",
            &[],
            "200, Content-Type text/plain; charset=utf-8, the body is the id without a newline",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let response = t.try_publish(&[("topic", &topic), ("data", "x")])?;
                response.expect_status(&[200])?;
                let kind = response
                    .header("Content-Type")
                    .unwrap_or_default()
                    .to_lowercase();
                same(
                    "Content-Type",
                    &kind.replace(' ', "").as_str(),
                    &"text/plain;charset=utf-8",
                )?;
                same("id", &stream.next_event()?.id, &Some(response.text()))
            },
        ),
        case(
            "1.5/generated-id",
            &[],
            "generated ids are urn:uuid: and a UUID, all new",
            |t| {
                let topic = t.topic();
                let (first, second) = (t.say(&topic, "1")?, t.say(&topic, "2")?);
                for id in [&first, &second] {
                    let uuid = id.strip_prefix("urn:uuid:").unwrap_or_default();
                    let shape = uuid.len() == 36
                        && uuid.chars().enumerate().all(|(at, c)| match at {
                            8 | 13 | 18 | 23 => c == '-',
                            _ => c.is_ascii_hexdigit(),
                        });
                    ensure(shape, || format!("not urn:uuid: and a UUID: {id:?}"))?;
                }
                ensure(first != second, || format!("the same id twice: {first}"))
            },
        ),
    ]
}

fn own_fields() -> Vec<Case> {
    vec![
        case("1.5/own-id", &[], "a supplied id is kept as it is", |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            for id in [
                "plain",
                "https://x.example/1?a=b#c",
                "with space: \u{e9}\u{1f600}",
                "0",
            ] {
                let id = format!("{id} {}", t.unique());
                let answered = t.publish(&[("topic", &topic), ("data", "x"), ("id", &id)])?;
                same("id answered", &answered, &id)?;
                same("id of the event", &stream.next_event()?.id, &Some(id))?;
            }
            Ok(())
        }),
        case("1.5/type", &[], "the type is the event's type", |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            for kind in ["message", "a b", "a:b", " x", "\u{e9}"] {
                t.publish(&[("topic", &topic), ("data", "x"), ("type", kind)])?;
                same(
                    "type of the event",
                    &stream.next_event()?.event.as_str(),
                    &kind,
                )?;
            }
            Ok(())
        }),
        case("1.5/retry", &[], "the retry is the event's retry", |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            // The first block of a stream may hold the hub's own retry.
            nothing_before(t, &mut stream, &topic)?;
            t.publish(&[("topic", &topic), ("data", "x"), ("retry", "4321")])?;
            same(
                "retry of the event",
                &stream.next_event()?.retry,
                &Some(4321),
            )
        }),
        case(
            "1.5/order-of-one-publisher",
            &[],
            "one publisher's posts, one after the other, keep their order",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let mut connection = t.connect()?;
                let token = t.publisher_token()?;
                for n in 0..50 {
                    let fields = [("topic", topic.as_str()), ("data", &n.to_string())];
                    let request = Request::form(HUB, &fields).bearer(&token);
                    connection.exchange(&request)?.expect_status(&[200])?;
                }
                for n in 0..50 {
                    stream.expect_data(&n.to_string())?;
                }
                Ok(())
            },
        ),
        case("1.5/refused-without-token", &[], "no token: 401", |t| {
            t.send(&Request::form(HUB, &[("topic", &t.topic())]))?
                .expect_status(&[401])
        }),
    ]
}

fn topics() -> Vec<Case> {
    vec![
        case("1.5/no-topic", &[], "no topic: 400", |t| {
            t.try_publish(&[("data", "x")])?.expect_status(&[400])?;
            t.try_publish(&[])?.expect_status(&[400])
        }),
        case(
            "1.5/topic-in-query",
            &[],
            "only the body counts: a topic in the query does not",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let target = format!("{HUB}?topic={}", encode_component(&topic));
                let request =
                    Request::form(&target, &[("data", "x")]).bearer(&t.publisher_token()?);
                t.send(&request)?.expect_status(&[400])?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
        case(
            "1.5/thousand-topics",
            &[],
            "a thousand topics are allowed",
            |t| {
                let (topics, last) = many_topics(t, 1000);
                let mut stream = t.subscribe(&[("topic", &last)])?;
                let mut fields: Vec<_> = topics
                    .iter()
                    .map(|topic| ("topic", topic.as_str()))
                    .collect();
                fields.push(("data", "x"));
                t.publish(&fields)?;
                stream.expect_data("x").map(drop)
            },
        ),
        case(
            "1.5/too-many-topics",
            &[],
            "over a thousand topics: 400 (413 will do)",
            |t| {
                let (topics, last) = many_topics(t, 1001);
                let mut stream = t.subscribe(&[("topic", &last)])?;
                let fields: Vec<_> = topics
                    .iter()
                    .map(|topic| ("topic", topic.as_str()))
                    .collect();
                t.try_publish(&fields)?.expect_status(&[400, 413])?;
                nothing_before(t, &mut stream, &last)
            },
        ),
        case(
            "1.5/alternates-are-equal",
            &[],
            "every topic of an update is dispatched to",
            |t| {
                let topics = [t.topic(), t.topic(), t.topic()];
                let mut streams = Vec::new();
                for topic in &topics {
                    streams.push(t.subscribe(&[("topic", topic)])?);
                }
                let [a, b, c] = &topics;
                t.publish(&[("topic", a), ("topic", b), ("topic", c), ("data", "x")])?;
                for (stream, topic) in streams.iter_mut().zip(&topics) {
                    stream.expect_data("x")?;
                    nothing_before(t, stream, topic)?;
                }
                Ok(())
            },
        ),
    ]
}

fn many_topics(t: &Target, count: usize) -> (Vec<String>, String) {
    let base = t.unique();
    let topics: Vec<String> = (0..count).map(|n| format!("{base}/{n}")).collect();
    let last = topics.last().cloned().unwrap_or_default();
    (topics, last)
}

fn privacy() -> Vec<Case> {
    ["", "on", "true", "0", "false", "off"]
        .into_iter()
        .map(|value| {
            let name = if value.is_empty() { "empty" } else { value };
            case(
                &format!("1.5/private-{name}"),
                &[],
                "`private` present with any value makes the update private",
                move |t| {
                    let topic = t.topic();
                    let mut entitled = t.subscribe(&[("topic", &topic)])?;
                    let mut other = t.subscribe_as(&t.plain_token()?, &[("topic", &topic)])?;
                    t.publish(&[("topic", &topic), ("data", "secret"), ("private", value)])?;
                    entitled.expect_data("secret")?;
                    nothing_before(t, &mut other, &topic)
                },
            )
        })
        .collect()
}

fn bodies() -> Vec<Case> {
    vec![
        case(
            "1.5/charset-parameter",
            &[],
            "a charset parameter in Content-Type is fine",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                for kind in [
                    "application/x-www-form-urlencoded; charset=utf-8",
                    "application/x-www-form-urlencoded;charset=UTF-8",
                    "Application/X-WWW-Form-Urlencoded",
                ] {
                    let body = encode_form(&[("topic", &topic), ("data", kind)]);
                    post(t, Some(kind), &body)?.expect_status(&[200])?;
                    stream.expect_data(kind)?;
                }
                Ok(())
            },
        ),
        case(
            "1.5/plus-is-space",
            &[],
            "`+` in the body is a space",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let body = format!("topic={}&data=a+b%2Bc", encode_component(&topic));
                post(t, Some(FORM), &body)?.expect_status(&[200])?;
                stream.expect_data("a b+c").map(drop)
            },
        ),
    ]
}

fn framing() -> Vec<Case> {
    vec![
        case(
            "1.5/chunked-body",
            &[],
            "a body in chunks reads like any other",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let request = Request::new("POST", HUB)
                    .header("Content-Type", FORM)
                    .header("Transfer-Encoding", "chunked")
                    .header("Connection", "close")
                    .bearer(&t.publisher_token()?);
                let mut connection = t.connect()?;
                connection.send_request(&request)?;
                for piece in encode_form(&[("topic", &topic), ("data", "in chunks")])
                    .as_bytes()
                    .chunks(7)
                {
                    connection.send(format!("{:x}\r\n", piece.len()).as_bytes())?;
                    connection.send(piece)?;
                    connection.send(b"\r\n")?;
                }
                connection.send(b"0\r\n\r\n")?;
                connection.read_response()?.expect_status(&[200])?;
                stream.expect_data("in chunks").map(drop)
            },
        ),
        case(
            "1.5/too-large",
            &[],
            "a body over 10 MiB: 400 (413 will do, and closing while it is still being sent)",
            too_large,
        ),
    ]
}

fn no_forms() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, kind) in [
        ("json", Some("application/json")),
        ("multipart", Some("multipart/form-data; boundary=x")),
        ("plain", Some("text/plain")),
        ("no-type", None),
    ] {
        cases.push(case(
            &format!("1.5/body-{name}"),
            &[],
            "a body that is no form reads as \"no topic\": 400 (415 will do)",
            move |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let body = match name {
                    "json" => format!("{{\"topic\": \"{topic}\", \"data\": \"x\"}}"),
                    "multipart" => format!(
                        "--x\r\nContent-Disposition: form-data; name=\"topic\"\r\n\r\n{topic}\r\n--x--\r\n"
                    ),
                    _ => encode_form(&[("topic", &topic), ("data", "x")]),
                };
                post(t, kind, &body)?.expect_status(&[400, 415])?;
                nothing_before(t, &mut stream, &topic)
            },
        ));
    }
    for (name, tail) in [
        ("data", "data=%zz"),
        ("cut", "data=%4"),
        ("name", "%=x"),
        ("end", "data=a%"),
    ] {
        cases.push(case(
            &format!("1.5/bad-encoding-{name}"),
            &[],
            "bad percent-encoding: 400",
            move |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let body = format!("topic={}&{tail}", encode_component(&topic));
                post(t, Some(FORM), &body)?.expect_status(&[400])?;
                nothing_before(t, &mut stream, &topic)
            },
        ));
    }
    cases
}

const FORM: &str = "application/x-www-form-urlencoded";

fn post(t: &Target, kind: Option<&str>, body: &str) -> Outcome<gush_testkit::Response> {
    let mut request = Request::new("POST", HUB)
        .bearer(&t.publisher_token()?)
        .body(body);
    if let Some(kind) = kind {
        request = request.header("Content-Type", kind);
    }
    t.send(&request)
}

fn too_large(t: &Target) -> Outcome<()> {
    let topic = t.topic();
    let mut stream = t.subscribe(&[("topic", &topic)])?;
    let start = format!("topic={}&data=", encode_component(&topic));
    let size = (11 << 20) + start.len();
    let request = Request::new("POST", HUB)
        .header("Content-Type", FORM)
        .header("Content-Length", &size.to_string())
        .header("Connection", "close")
        .bearer(&t.publisher_token()?);
    let mut connection = t.connect()?;
    connection.send_request(&request)?;
    connection.send(start.as_bytes())?;
    let piece = vec![b'x'; 64 * 1024];
    let mut closed = false;
    for _ in 0..(11 << 20) / piece.len() {
        // The hub may answer and close before it has read all.
        if connection.send(&piece).is_err() {
            closed = true;
            break;
        }
    }
    match connection.read_head(Deadline::after(PATIENCE + Duration::from_secs(10))) {
        Ok(head) => head.expect_status(&[400, 413])?,
        Err(failure) if !closed => return Err(failure),
        Err(_) => {}
    }
    nothing_before(t, &mut stream, &topic)
}
