//! A publish of many events in one request: `Content-Type: application/x-ndjson`.

use super::{ensure, nothing_before, same};
use crate::target::HUB;
use crate::{Case, Target, case};
use gush_testkit::{Claims, Outcome, Request, Response};
use serde_json::{Value, json};

const RULE: &str = "a line is a publish: stored or refused on its own, answered in order";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = answers();
    cases.extend(refusals());
    cases.extend(framings());
    cases
}

fn request(t: &Target, body: &str) -> Outcome<Request> {
    Ok(Request::new("POST", HUB)
        .bearer(&t.publisher_token()?)
        .header("Content-Type", "application/x-ndjson")
        .body(body))
}

/// The answer's lines, read as JSON.
fn lines(response: &Response) -> Outcome<Vec<Value>> {
    response.expect_status(&[200])?;
    response
        .head
        .expect_header("Content-Type", "application/x-ndjson")?;
    let text = response.text();
    ensure(text.is_empty() || text.ends_with('\n'), || {
        format!("every line ends, got {text:?}")
    })?;
    let read = |line: &str| serde_json::from_str(line).unwrap_or(Value::Null);
    Ok(text.lines().map(read).collect())
}

fn statuses(lines: &[Value]) -> Vec<Value> {
    lines.iter().map(|line| line["status"].clone()).collect()
}

fn answers() -> Vec<Case> {
    vec![
        case("gush/batch-order", &[], RULE, |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            let line = |n: u32| json!({ "topic": topic, "data": n.to_string() }).to_string();
            // Blank lines are none, a line may end in CRLF, the last one needs no end.
            let body: Vec<String> = (0..100).map(line).collect();
            let answer = lines(&t.send(&request(t, &body.join("\n\r\n \n"))?)?)?;
            same("answers", &answer.len(), &100)?;
            for (n, line) in answer.iter().enumerate() {
                let event = stream.expect_data(&n.to_string())?;
                same("id", &event.id.as_deref(), &line["id"].as_str())?;
            }
            Ok(())
        }),
        case("gush/batch-fields", &[], RULE, |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            let own = format!("own \"{}\"", t.unique());
            let line = json!({
                "topic": ["https://conformance.example/other", topic], "data": "1\n2",
                "id": own, "type": "kind", "retry": 7, "private": true, "unknown": [{}],
            });
            let answer = lines(&t.send(&request(t, &line.to_string())?)?)?;
            same("answer", &answer, &vec![json!({ "id": own })])?;
            let event = stream.expect_data("1\n2")?;
            same("id", &event.id.as_deref(), &Some(own.as_str()))
        }),
        case("gush/batch-empty", &[], RULE, |t| {
            let answer = lines(&t.send(&request(t, "")?)?)?;
            same("answers", &answer.len(), &0)
        }),
    ]
}

fn refusals() -> Vec<Case> {
    vec![
        case("gush/batch-refused-line", &[], RULE, |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            let good = |data: &str| json!({ "topic": topic, "data": data }).to_string();
            let body = [
                &good("1"),
                r#"{"data":"no topic"}"#,
                "no JSON",
                r#"{"topic":"/.well-known/mercure/x"}"#,
                &good("2"),
            ];
            let answer = lines(&t.send(&request(t, &body.join("\n"))?)?)?;
            let expected = [json!(null), 400.into(), 400.into(), 403.into(), json!(null)];
            same("statuses", &statuses(&answer), &expected.to_vec())?;
            let form = t.try_publish(&[("data", "no topic")])?;
            same(
                "text",
                &answer[1]["error"].as_str(),
                &Some(&*form.problem()?),
            )?;
            stream.expect_data("1")?;
            stream.expect_data("2")?;
            nothing_before(t, &mut stream, &topic)
        }),
        case(
            "gush/batch-grants",
            &[],
            "the token's grants hold for each line",
            |t| {
                let (mine, other) = (t.topic(), t.topic());
                let token = t.publisher.sign(&Claims::new().publish(&[&mine]))?;
                let line = |topic: &str| json!({ "topic": topic }).to_string();
                let body = [line(&mine), line(&other), line(&mine)].join("\n");
                let request = Request::new("POST", HUB)
                    .bearer(&token)
                    .header("Content-Type", "application/x-ndjson")
                    .body(body);
                let answer = lines(&t.send(&request)?)?;
                let expected = vec![json!(null), 403.into(), json!(null)];
                same("statuses", &statuses(&answer), &expected)
            },
        ),
        case(
            "gush/batch-no-token",
            &[],
            "401 before any line is read",
            |t| {
                let request = Request::new("POST", HUB)
                    .header("Content-Type", "application/x-ndjson")
                    .body("{\"topic\":\"a\"}\n");
                t.send(&request)?.expect_status(&[401])
            },
        ),
    ]
}

fn framings() -> Vec<Case> {
    vec![case(
        "gush/batch-streams",
        &[],
        "each line is answered as soon as it is stored, while the request goes on",
        |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            let mut connection = t.connect()?;
            let head = format!(
                "POST {HUB} HTTP/1.1\r\nHost: hub.example\r\nAuthorization: Bearer {}\r\n\
                 Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
                t.publisher_token()?
            );
            connection.send(head.as_bytes())?;
            for n in 0..3 {
                let line = json!({ "topic": topic, "data": n.to_string() }).to_string() + "\n";
                // A line may come in pieces.
                let (first, second) = line.split_at(line.len() / 2);
                for piece in [first, second] {
                    connection.send(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())?;
                }
                stream.expect_data(&n.to_string())?;
            }
            connection.send(b"0\r\n\r\n")?;
            same("answers", &lines(&connection.read_response()?)?.len(), &3)?;
            // The connection stays good.
            let again = request(t, &json!({ "topic": topic }).to_string())?;
            same("again", &lines(&connection.exchange(&again)?)?.len(), &1)
        },
    )]
}
