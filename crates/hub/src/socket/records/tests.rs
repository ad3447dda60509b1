use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, SignatureScheme,
};

use super::*;

/// Takes any certificate: these tests are about what comes after.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Both ends after a handshake with one suite.
fn connected(suite: SupportedCipherSuite) -> (ClientConnection, ServerConnection) {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
        ..aws_lc_rs::default_provider()
    });
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("a version for the suite")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they fit");
    server.enable_secret_extraction = true;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("a version for the suite")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name).expect("a client");
    let mut server = ServerConnection::new(Arc::new(server)).expect("a server");
    while client.wants_write() || server.wants_write() {
        let sent = sent_by(&mut client);
        let mut rest = &sent[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("from memory");
            server.process_new_packets().expect("a handshake");
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("into memory");
        }
        hear(&mut client, &bytes);
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    (client, server)
}

fn sent_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("into memory");
    }
    bytes
}

/// The plain text of what the client hears, and whether it is the end.
pub(crate) fn hear(client: &mut ClientConnection, mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut plain = Vec::new();
    let mut is_end = false;
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("from memory");
        let state = client.process_new_packets().expect("good records");
        is_end |= state.peer_has_closed();
        let mut part = vec![0; state.plaintext_bytes_to_read()];
        client.reader().read_exact(&mut part).expect("it is there");
        plain.extend(part);
    }
    (plain, is_end)
}

pub(in crate::socket) fn all_suites() -> impl Iterator<Item = SupportedCipherSuite> {
    aws_lc_rs::ALL_CIPHER_SUITES
        .iter()
        .copied()
        .filter(|suite| suite.tls13().is_some())
}

pub(in crate::socket) fn lean(suite: SupportedCipherSuite) -> (ClientConnection, Records) {
    let (client, server) = connected(suite);
    assert!(Records::can_take(&server));
    (client, Records::take(server).expect("its secrets"))
}

/// As `seal`, for all of it.
fn seal(records: &mut Records, texts: &[&[u8]]) -> Vec<u8> {
    let slices: Vec<_> = texts.iter().map(|text| IoSlice::new(text)).collect();
    let mut out = Vec::new();
    let sealed = records.seal(&slices, usize::MAX, &mut out).expect("few");
    assert_eq!(sealed, texts.iter().map(|text| text.len()).sum::<usize>());
    out
}

#[test]
fn a_client_reads_what_was_sealed() {
    let mut suites = 0;
    for suite in all_suites() {
        suites += 1;
        let (mut client, mut records) = lean(suite);
        let long: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let texts: [&[&[u8]]; 6] = [
            &[b"a"],
            &[b"", b"b", b"", b"cd"],
            &[&long],
            &[&long[..PLAIN_BYTES_MAX], b"x"],
            &[&long[..7], &long, &long[..9]],
            &[],
        ];
        for texts in texts {
            let bytes = seal(&mut records, texts);
            assert_eq!(hear(&mut client, &bytes), (texts.concat(), false));
        }
        let mut bytes = Vec::new();
        records.seal_close_notify(&mut bytes).expect("few");
        assert_eq!(hear(&mut client, &bytes), (Vec::new(), true));
    }
    assert_eq!(suites, 3);
}

#[test]
fn sealing_stops_at_the_bound_and_goes_on() {
    let (mut client, mut records) = lean(all_suites().next().expect("three"));
    let long = vec![7_u8; 100_000];
    let mut heard = Vec::new();
    while heard.len() < long.len() {
        let mut out = Vec::new();
        let rest = [IoSlice::new(&long[heard.len()..])];
        let sealed = records.seal(&rest, 20_000, &mut out).expect("few");
        assert!(sealed > 0 && out.len() < 20_000 + PLAIN_BYTES_MAX + 64);
        let plain = hear(&mut client, &out).0;
        assert_eq!(plain.len(), sealed);
        heard.extend(plain);
    }
    assert_eq!(heard, long);
}

#[test]
fn what_a_client_says_is_counted_however_it_comes() {
    for suite in all_suites() {
        for step in [1, 4, 23, 4096] {
            let (mut client, mut records) = lean(suite);
            let mut bytes = Vec::new();
            for length in [1, 100, 20_000] {
                client.writer().write_all(&vec![0; length]).expect("room");
                bytes.extend(sent_by(&mut client));
            }
            let mut count = 0;
            for part in bytes.chunks(step) {
                match records.receive(part).expect("good records") {
                    Received::Bytes(more) => count += more,
                    Received::End => panic!("nobody has ended anything"),
                }
                assert!(records.begun.len() <= HEAD_BYTES + SEALED_BYTES_MAX);
            }
            assert_eq!((count, records.begun.capacity()), (bytes.len(), 0));
            client.send_close_notify();
            let bytes = sent_by(&mut client);
            assert_eq!(records.receive(&bytes), Ok(Received::End));
        }
    }
}

#[test]
fn a_peer_that_changes_its_keys_goes_on_reading() {
    let (mut client, mut records) = lean(all_suites().next().expect("three"));
    client.refresh_traffic_keys().expect("after a handshake");
    client.writer().write_all(b"more").expect("room");
    let bytes = sent_by(&mut client);
    assert!(records.receive(&bytes).is_ok());
    client.writer().write_all(b"and more").expect("room");
    let bytes = sent_by(&mut client);
    // Not opened any more, but it counts.
    assert_eq!(records.receive(&bytes), Ok(Received::Bytes(bytes.len())));
    let bytes = seal(&mut records, &[b"still there"]);
    assert_eq!(hear(&mut client, &bytes).0, b"still there");
}

#[test]
fn what_is_no_record_of_this_connection_breaks_it() {
    let suite = all_suites().next().expect("three");
    let (mut client, mut records) = lean(suite);
    client.writer().write_all(b"x").expect("room");
    let good = sent_by(&mut client);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let (_, mut records) = (&client, lean(suite).1);
        // One that is longer than what has come is still waited for.
        let outcome = records.receive(&bad);
        let waits = (3..5).contains(&at) && outcome == Ok(Received::Bytes(0));
        assert!(outcome == Err(Broken) || waits, "{at}: {outcome:?}");
    }
    let mut twice = good.clone();
    twice.extend(&good);
    assert_eq!(
        records.receive(&twice),
        Err(Broken),
        "sent again by somebody"
    );
    for junk in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[23, 3, 3, 0xff, 0xff],
        &[20, 3, 3, 0, 1, 1],
    ] {
        assert_eq!(lean(suite).1.receive(junk), Err(Broken));
    }
}

#[test]
fn a_key_seals_no_more_than_it_may() {
    let (mut client, mut records) = lean(all_suites().next().expect("three"));
    records.sealed_max = records.write.sequence + 2;
    let mut bytes = seal(&mut records, &[b"1"]);
    bytes.extend(seal(&mut records, &[b"2"]));
    let kept = bytes.len();
    let slices = [IoSlice::new(b"3")];
    assert!(records.seal(&slices, usize::MAX, &mut bytes).is_err());
    assert!(records.seal_close_notify(&mut bytes).is_err());
    assert_eq!(bytes.len(), kept, "nothing of it goes out");
    assert_eq!(hear(&mut client, &bytes).0, b"12");
}

#[test]
fn older_tls_stays_with_rustls() {
    let mut suites = aws_lc_rs::ALL_CIPHER_SUITES.iter().copied();
    let suite = suites
        .find(|suite| suite.tls13().is_none())
        .expect("TLS 1.2");
    assert!(!Records::can_take(&connected(suite).1));
}

#[test]
fn a_stream_takes_little() {
    assert!(size_of::<Records>() <= 256, "{}", size_of::<Records>());
}

/// All that another process gets of them.
fn given(records: &mut Records) -> (u16, Vec<u8>) {
    let suite = records.suite().expect("one of three");
    let mut state = Vec::with_capacity(records.state_bytes());
    records.give(&mut state);
    assert_eq!(state.len(), state.capacity());
    (suite, state)
}

#[test]
fn another_process_goes_on_sealing_and_opening() {
    for suite in all_suites() {
        let (mut client, mut records) = lean(suite);
        let bytes = seal(&mut records, &[b"before"]);
        assert_eq!(hear(&mut client, &bytes).0, b"before");
        client.writer().write_all(&[7; 100]).expect("room");
        let said = sent_by(&mut client);
        let (first, second) = said.split_at(said.len() / 2);
        assert_eq!(records.receive(first), Ok(Received::Bytes(0)));
        let sealed_max = records.sealed_max;
        let (number, state) = given(&mut records);
        let (mut next, rest) = Records::taken_over(number, &state).expect("its state");
        assert_eq!((rest.len(), next.sealed_max), (0, sealed_max));
        let bytes = seal(&mut next, &[b"after"]);
        assert_eq!(hear(&mut client, &bytes), (b"after".to_vec(), false));
        // The record that had come in part, and the end.
        assert_eq!(next.receive(second), Ok(Received::Bytes(said.len())));
        client.send_close_notify();
        assert_eq!(next.receive(&sent_by(&mut client)), Ok(Received::End));
    }
}

/// A nonce must not be used twice: whoever has given the secrets away seals nothing more, unless
/// they reached nobody.
#[test]
fn who_has_given_the_secrets_away_seals_nothing() {
    for suite in all_suites() {
        let (mut client, mut records) = lean(suite);
        given(&mut records);
        let mut bytes = Vec::new();
        let slices = [IoSlice::new(b"x")];
        assert!(records.seal(&slices, usize::MAX, &mut bytes).is_err());
        assert!(records.seal_close_notify(&mut bytes).is_err());
        assert!(bytes.is_empty());
        records.keep();
        let bytes = seal(&mut records, &[b"kept"]);
        assert_eq!(hear(&mut client, &bytes).0, b"kept");
    }
}

#[test]
fn after_a_change_of_keys_another_process_goes_on_too() {
    let (mut client, mut records) = lean(all_suites().next().expect("three"));
    client.refresh_traffic_keys().expect("after a handshake");
    assert!(records.receive(&sent_by(&mut client)).is_ok());
    let (number, state) = given(&mut records);
    let (mut next, _) = Records::taken_over(number, &state).expect("its state");
    client.writer().write_all(b"more").expect("room");
    let bytes = sent_by(&mut client);
    assert_eq!(next.receive(&bytes), Ok(Received::Bytes(bytes.len())));
    let bytes = seal(&mut next, &[b"still there"]);
    assert_eq!(hear(&mut client, &bytes).0, b"still there");
}

#[test]
fn what_is_no_state_is_refused() {
    let (_, mut records) = lean(all_suites().next().expect("three"));
    let (number, state) = given(&mut records);
    for length in 0..state.len() {
        assert!(Records::taken_over(number, &state[..length]).is_none());
    }
    assert!(Records::taken_over(0x1304, &state).is_none(), "a fourth");
    let mut bad = state.clone();
    let at = bad.len() - 5;
    bad[at] = 2;
    assert!(Records::taken_over(number, &bad).is_none());
    let mut long = state[..state.len() - 4].to_vec();
    long.extend_from_slice(&100_000_u32.to_be_bytes());
    long.resize(long.len() + 100_000, 0);
    assert!(Records::taken_over(number, &long).is_none());
}
