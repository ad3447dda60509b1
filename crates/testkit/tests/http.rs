//! The raw HTTP reader against answers whose bytes are known.

use gush_testkit::{Connection, Outcome, PATIENCE, Request, SseStream, exchange};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Answers one connection with these bytes, in pieces of `step`, and closes it.
fn answering(bytes: &'static [u8], step: usize) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the test connects");
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).expect("the test sends a request");
        for piece in bytes.chunks(step) {
            stream.write_all(piece).expect("the test reads");
        }
    });
    Ok(address)
}

#[test]
fn every_framing_is_read_in_pieces_of_every_size() -> Outcome<()> {
    let answers: [&'static [u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloX",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n\
          2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
    ];
    for answer in answers {
        for step in [1, 2, 7, 1000] {
            let response = exchange(answering(answer, step)?, &Request::get("/"))?;
            assert_eq!(
                (response.status(), response.text().as_str()),
                (200, "hello")
            );
        }
    }
    Ok(())
}

#[test]
fn a_cut_body_is_a_failure_that_says_so() -> Outcome<()> {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    for answer in [
        chunked.as_slice(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel",
    ] {
        let failure = exchange(answering(answer, 1000)?, &Request::get("/"))
            .expect_err("the body is not whole");
        assert!(failure.to_string().contains("closed"), "{failure}");
    }
    Ok(())
}

#[test]
fn silence_ends_at_the_deadline() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut connection = Connection::open(listener.local_addr()?)?;
    connection.send_request(&Request::get("/"))?;
    let failure = connection
        .read_response_within(Duration::from_millis(50))
        .expect_err("nobody answers");
    assert!(
        failure.to_string().contains("nothing came in time"),
        "{failure}"
    );
    Ok(())
}

#[test]
fn a_stream_keeps_a_hubs_opening_retry_apart_from_the_first_event() -> Outcome<()> {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\
        :\nretry: 1500\nid: 1\ndata: a\n\n:\nretry: 3\nid: 2\ndata: b\n\n";
    let mut stream = SseStream::open(answering(answer, 3)?, &Request::get("/"))?;
    let first = stream.expect_data("a")?;
    assert_eq!(
        (first.retry, first.lines.len(), stream.retry()),
        (None, 2, Some(1500))
    );
    assert_eq!(stream.expect_data("b")?.retry, Some(3));
    assert_eq!(stream.comments(), 2);
    assert!(stream.read_to_end(PATIENCE)?.is_empty());
    Ok(())
}

#[test]
fn what_is_no_stream_is_shown_with_its_body() -> Outcome<()> {
    let answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 7\r\n\r\nbecause";
    let failure =
        SseStream::open(answering(answer, 1000)?, &Request::get("/")).expect_err("not a stream");
    let text = failure.to_string();
    assert!(text.contains("401") && text.contains("because"), "{text}");
    Ok(())
}
