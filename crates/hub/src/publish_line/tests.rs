use super::*;
use crate::dialect::{PAIRS_MAX, publish_request};
use crate::form::parse_pairs;

fn refusal(line: &str) -> (u16, String) {
    let rejection = line_draft(line.as_bytes()).expect_err(line);
    (rejection.status.as_u16(), rejection.text)
}

#[test]
fn a_line_is_the_event_that_a_form_with_the_same_fields_is() {
    let rows = [
        (r#"{"topic":"a"}"#, "topic=a"),
        (
            r#" { "data" : "x" , "topic" : [ "a" , "b" ] } "#,
            "topic=a&topic=b&data=x",
        ),
        (
            r#"{"topic":"https://e.com/1","data":"1\r\n2\u0000\ud83d\ude00","id":"own","type":"t",
               "retry":18446744073709551615,"private":true}"#,
            "topic=https%3A%2F%2Fe.com%2F1&data=1%0D%0A2%00%F0%9F%98%80&id=own&type=t\
             &retry=18446744073709551615&private=on",
        ),
        (
            r#"{"topic":"a","data":null,"id":null,"type":null,"retry":null,"private":null}"#,
            "topic=a",
        ),
        (
            r#"{"topic":"a","private":false,"retry":0}"#,
            "topic=a&retry=0",
        ),
        (
            r#"{"topic":"a","other":{"topic":[1,{}]},"more":[]}"#,
            "topic=a&other=1",
        ),
    ];
    for (line, form) in rows {
        let pairs = parse_pairs(form.as_bytes(), PAIRS_MAX).expect("a good form");
        let expected = publish_request(&pairs).expect("a good publish");
        let draft = line_draft(line.as_bytes());
        assert_eq!(draft.expect(line), expected, "{line}");
    }
}

#[test]
fn a_line_is_refused_as_a_form_with_the_same_fields_is() {
    let many = vec!["\"a\""; TOPICS_MAX + 1].join(",");
    let rows = [
        (r#"{"data":"x"}"#.to_owned(), "data=x".to_owned()),
        (r#"{"topic":[]}"#.into(), "data=x".into()),
        (r#"{"topic":""}"#.into(), "topic=".into()),
        (
            r#"{"topic":["a","\u0007"]}"#.into(),
            "topic=a&topic=%07".into(),
        ),
        (r#"{"topic":"a","id":"\r"}"#.into(), "topic=a&id=%0d".into()),
        (
            r##"{"topic":"a","id":"#x"}"##.into(),
            "topic=a&id=%23x".into(),
        ),
        (
            r#"{"topic":"a","id":"earliest"}"#.into(),
            "topic=a&id=earliest".into(),
        ),
        (
            r#"{"topic":"a","type":"\n"}"#.into(),
            "topic=a&type=%0a".into(),
        ),
        (
            r#"{"topic":"a","retry":1.5}"#.into(),
            "topic=a&retry=1.5".into(),
        ),
        (
            r#"{"topic":"a","retry":-1}"#.into(),
            "topic=a&retry=-1".into(),
        ),
        (
            r#"{"topic":"a","retry":"1"}"#.into(),
            "topic=a&retry=x".into(),
        ),
        (
            r#"{"topic":"a","retry":18446744073709551616}"#.into(),
            "topic=a&retry=18446744073709551616".into(),
        ),
        (
            r#"{"topic":"x/.well-known/mercure/y"}"#.into(),
            "topic=x%2F.well-known%2Fmercure%2Fy".into(),
        ),
        (
            format!(r#"{{"topic":[{many}]}}"#),
            vec!["topic=a"; TOPICS_MAX + 1].join("&"),
        ),
    ];
    for (line, form) in rows {
        let pairs = parse_pairs(form.as_bytes(), PAIRS_MAX).expect("a good form");
        let expected = publish_request(&pairs).expect_err("refused");
        let expected = (expected.status.as_u16(), expected.text);
        assert_eq!(refusal(&line), expected, "{line}");
    }
}

#[test]
fn what_is_no_object_of_fields_is_refused_by_name() {
    for line in [
        "",
        "x",
        "1",
        "\"a\"",
        "[]",
        "null",
        "{",
        "{}x",
        "{\"topic\":\"a\",}",
    ] {
        let (status, text) = refusal(line);
        assert_eq!(status, 400, "{line}");
        assert!(text.starts_with("the line is not a JSON object"), "{text}");
    }
    let rows = [
        (r#"{"topic":1}"#, "topic"),
        (r#"{"topic":["a",1]}"#, "topic"),
        (r#"{"topic":["a",null]}"#, "topic"),
        (r#"{"topic":[["a"]]}"#, "topic"),
        (r#"{"topic":{"a":1}}"#, "topic"),
        (r#"{"topic":"a","data":1}"#, "data"),
        (r#"{"topic":"a","data":{"n":1}}"#, "data"),
        (r#"{"topic":"a","data":["x"]}"#, "data"),
        (r#"{"topic":"a","id":true}"#, "id"),
        (r#"{"topic":"a","type":1}"#, "type"),
        (r#"{"topic":"a","private":"on"}"#, "private"),
        (r#"{"topic":"a","private":1}"#, "private"),
        (r#"{"topic":"a","topic":"b"}"#, "topic"),
        (r#"{"topic":"a","data":"1","data":"2"}"#, "data"),
    ];
    for (line, name) in rows {
        let (status, text) = refusal(line);
        assert_eq!(status, 400, "{line}");
        let begin = format!("Invalid \"{name}\" parameter: ");
        assert!(text.starts_with(&begin), "{line}: {text}");
    }
    let bad_utf8 = line_draft(b"{\"topic\":\"a\",\"data\":\"\xff\"}");
    assert_eq!(bad_utf8.expect_err("refused").status.as_u16(), 400);
}

#[test]
fn depth_costs_no_stack_and_nothing_of_the_line_is_repeated() {
    let deep = format!("{{\"topic\":\"a\",\"x\":{}", "[".repeat(1_000_000));
    assert_eq!(refusal(&deep).0, 400);
    let deep = format!("{{\"topic\":{}", "[".repeat(1_000_000));
    assert_eq!(refusal(&deep).0, 400);
    for line in [
        "\"secret\"",
        "{\"topic\":secret}",
        "{\"secret\":1,\"topic\":true}",
    ] {
        let (_, text) = refusal(line);
        assert!(!text.contains("secret"), "{text}");
    }
}
