use super::*;

#[test]
fn borders_of_records_are_seen_however_the_bytes_come() {
    let record = |length: u16| {
        let mut record = vec![23, 3, 3];
        record.extend_from_slice(&length.to_be_bytes());
        record.resize(5 + usize::from(length), 0xff);
        record
    };
    let records = [record(0), record(1), record(300), record(0x4100)];
    let bytes = records.concat();
    let mut borders = vec![0];
    for record in &records {
        borders.push(borders[borders.len() - 1] + record.len());
    }
    for step in [1, 2, 3, 5, 7, 306, 5000, bytes.len()] {
        let mut border = Border::default();
        let mut passed = 0;
        for part in bytes.chunks(step) {
            border.pass(part);
            passed += part.len();
            assert_eq!(
                border.is_here(),
                borders.contains(&passed),
                "{passed} by {step}"
            );
        }
    }
}

#[test]
fn only_whole_subscribe_heads_are_taken() {
    let table: [(&[u8], Look); 16] = [
        (b"", Look::More),
        (b"GET /.we", Look::More),
        (b"GET /.well-known/mercure?topic=a HTTP/1.1\r\n", Look::More),
        (
            b"GET /.well-known/mercure?topic=a HTTP/1.1\r\nHost: h\r\n\r\n",
            Look::Subscribe,
        ),
        (b"GET /.well-known/mercure HTTP/1.1\r\n\r\n", Look::Other),
        (
            b"HEAD /.well-known/mercure?topic=a HTTP/1.1\r\n\r\n",
            Look::Other,
        ),
        (b"POST /.well-known/other", Look::More),
        (b"POST /.well-known/mercure", Look::More),
        (
            b"POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n",
            Look::More,
        ),
        (
            b"POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n",
            Look::Publish,
        ),
        (
            b"POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\n\r\n",
            Look::Other,
        ),
        (
            b"POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\
              content-length: 2\r\n\r\n",
            Look::Unclear,
        ),
        (
            b"POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
              content-length: 2\r\n\r\n",
            Look::Unclear,
        ),
        (
            b"POST /.well-known/mercure HTTP/1.1\nHost: h\nContent-Length: 2\n\
              transfer-encoding: x\n\n",
            Look::Unclear,
        ),
        (b"P", Look::More),
        (b"PRI * HTTP/2.0\r\n\r\n", Look::Other),
    ];
    for (bytes, expected) in table {
        assert_eq!(look(bytes), expected, "{}", String::from_utf8_lossy(bytes));
    }
    let long = [look::SUBSCRIBE_BEGIN, &vec![b'a'; HEAD_BYTES_MAX]].concat();
    assert_eq!(look(&long), Look::Other);
}

#[test]
fn heads_of_other_requests_are_whole_before_hyper_has_them() {
    let table: [(&[u8], Look); 14] = [
        (b"GET /healthz HTTP/1.1\r\nHost: h\r\n", Look::More),
        (b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", Look::Other),
        (
            b"GET /healthz HTTP/1.1\r\nContent-Length: 0\r\ncontent-length: 0\r\n\r\n",
            Look::Unclear,
        ),
        (
            b"\r\n\n\r\nPUT / HTTP/1.0\nContent-Length: 1\nTransfer-Encoding: chunked\n\n",
            Look::Unclear,
        ),
        (
            b"\r\nGET /.well-known/mercure?topic=a HTTP/1.1\r\nHost: h\r\n\r\n",
            Look::Other,
        ),
        (b"\r\n\r\n", Look::More),
        (b"\x16\x03\x01", Look::Other),
        (b"SSH-2.0-x\r\n", Look::Other),
        (b"*1\r\n$4\r\n", Look::Other),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", Look::Other),
        (b"GET /healthz\r\n", Look::Other),
        (b"not a request of any kind\r\nHost: h\r\n", Look::Other),
        (b"G", Look::More),
        (b"PATCH /limits HTTP/1.1\r\nHost: h\r\nX", Look::More),
    ];
    for (bytes, expected) in table {
        assert_eq!(look(bytes), expected, "{}", String::from_utf8_lossy(bytes));
    }
}
