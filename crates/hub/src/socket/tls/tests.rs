use std::net::{TcpListener, TcpStream as StdStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConnection;
use socket2::SockRef;

use super::*;
use crate::socket::records::tests::{all_suites, hear, lean};

/// A sink that takes some ten KiB, its client's TLS, and the client's socket. With less room to
/// receive the kernel waits a fifth of a second before each piece.
pub(crate) fn connected(number: usize) -> (TlsSink, ClientConnection, StdStream) {
    let (client, records) = lean(all_suites().nth(number).expect("three"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let theirs = StdStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (ours, _) = listener.accept().expect("accepts");
    ours.set_nonblocking(true).expect("a socket option");
    SockRef::from(&ours)
        .set_send_buffer_size(8192)
        .and_then(|()| SockRef::from(&theirs).set_recv_buffer_size(64 * 1024))
        .expect("socket options");
    let patience = Some(Duration::from_secs(20));
    theirs.set_read_timeout(patience).expect("a socket option");
    let layer = TlsLayer(Layer::Lean(records, Vec::new()));
    (TlsSink::new(ours, layer, Framing::Raw), client, theirs)
}

fn pending(sink: &TlsSink) -> &[u8] {
    match &sink.layer.0 {
        Layer::Lean(_, pending) => pending,
        Layer::Whole(_) => panic!("the secrets are not here"),
    }
}

fn read_some(theirs: &mut StdStream, client: &mut ClientConnection, heard: &mut Vec<u8>) {
    let mut buffer = [0; 1000];
    let count = theirs.read(&mut buffer).expect("bytes in time");
    assert!(count > 0, "it ended after {} bytes", heard.len());
    heard.extend(hear(client, &buffer[..count]).0);
}

/// A slow reader: the socket took a part of a record, the rest of it goes over sealed, and what
/// comes behind it is sealed by the other process.
#[test]
fn another_process_goes_on_in_the_middle_of_a_record() {
    for number in 0..3 {
        let (mut sink, mut client, mut theirs) = connected(number);
        let text: Vec<u8> = (0..1_u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
        let frame = Frame::of_framed(Bytes::from(text.clone()));
        let mut heard = Vec::new();
        let mut taken = sink.write(&Outgoing::one(&frame), 0).expect("a socket");
        // The begin of a record's head: that would be a border.
        while pending(&sink).is_empty() || pending(&sink).starts_with(&[23, 3, 3]) {
            read_some(&mut theirs, &mut client, &mut heard);
            taken += sink.write(&Outgoing::one(&frame), taken).expect("a socket");
        }
        assert!(taken < text.len());
        let socket = sink.socket_to_give().expect("it can go");
        let socket: OwnedFd = socket.try_clone_to_owned().expect("a descriptor");
        let (suite, bytes) = sink.layer_to_give().expect("a layer");
        let mut state = Vec::with_capacity(bytes);
        sink.give_layer(&mut state);
        assert_eq!(state.len(), bytes);
        drop(sink);
        let layer = TlsLayer::taken_over(suite, &state).expect("its state");
        let mut next = TlsSink::new(socket.into(), layer, Framing::Raw);
        while heard.len() < text.len() {
            taken += next.write(&Outgoing::one(&frame), taken).expect("a socket");
            read_some(&mut theirs, &mut client, &mut heard);
        }
        assert!(heard == text, "each byte once");
    }
}
