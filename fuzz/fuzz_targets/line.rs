//! A line of a batch publish, and the event read from it.
#![no_main]

use gush_hub::publish_line::line_draft;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let Ok(draft) = line_draft(line) else {
        return;
    };
    assert!(!draft.topics.is_empty());
    // Written as a line again, it is the same event.
    let again = serde_json::json!({
        "topic": draft.topics.iter().map(|topic| topic.as_str()).collect::<Vec<_>>(),
        "data": draft.data,
        "id": draft.id.as_ref().map(|id| id.as_str()),
        "type": draft.kind.as_ref().map(|kind| kind.as_str()),
        "retry": draft.retry_ms,
        "private": draft.is_private,
    });
    let again = line_draft(again.to_string().as_bytes()).expect("a good line");
    assert_eq!(again, draft);
});
