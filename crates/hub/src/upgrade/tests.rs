use super::message::STREAMS_VERSION;
use crate::frame::{Frame, Framing};

/// A stream may come over with half a frame sent: the new binary sends the rest of its own frame
/// of that event. Whoever changes these bytes has to raise the version.
#[test]
fn the_bytes_of_a_frame_belong_to_the_version() {
    assert_eq!(STREAMS_VERSION, 1);
    let frame = frame_of_an_event();
    assert_eq!(
        std::str::from_utf8(frame.framed(Framing::Raw)),
        Ok("event: kind\nretry: 7\nid: own\ndata: a\ndata: b\n\n")
    );
    assert_eq!(
        std::str::from_utf8(frame.framed(Framing::Chunked)),
        Ok("2e\r\nevent: kind\nretry: 7\nid: own\ndata: a\ndata: b\n\n\r\n")
    );
    let heartbeat = Frame::of_text(gush_sse::HEARTBEAT);
    assert_eq!(
        std::str::from_utf8(heartbeat.framed(Framing::Chunked)),
        Ok("2\r\n:\n\r\n")
    );
}

fn frame_of_an_event() -> Frame {
    let draft = gush_log::Draft {
        topics: [gush_sse::Topic::parse("t").expect("a topic")].into(),
        is_private: false,
        id: gush_sse::EventId::parse("own").expect("a good id"),
        kind: gush_sse::EventType::parse("kind").expect("a good type"),
        retry_ms: Some(7),
        conflation: gush_log::Conflation::default(),
        data: "a\nb".into(),
    };
    let position = gush_log::Position {
        epoch: gush_log::Epoch::from_u64(1),
        offset: gush_log::Offset::FIRST,
    };
    crate::frame::FramePool::new(1 << 20).encode(&draft.as_record(position, 0))
}
