//! What clients get back: everything, in order, to the last byte.

use std::io::{Read, Write};
use std::net::Shutdown;

use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};

use crate::server::{Server, random_bytes};

/// Around the size of the worker's buffer, and around what the kernel buffers.
const SIZES: [usize; 7] = [0, 1, 16_383, 16_384, 16_385, 64 << 10, 1 << 20];

#[test]
fn every_byte_comes_back() {
    let server = Server::start(&[]);
    for size in SIZES {
        let sent = random_bytes(size);
        let received = server.connect().session(&sent).unwrap();
        assert_eq!(received.len(), size);
        assert!(received == sent, "{size} bytes, but not the same");
    }
}

#[test]
fn however_the_bytes_are_split() {
    let server = Server::start(&[]);
    let config = Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    };
    let lengths = vec(0..40_000_usize, 0..12);
    TestRunner::new(config)
        .run(&lengths, |lengths| {
            let sent = random_bytes(lengths.iter().sum());
            let mut rest = &sent[..];
            let pieces = lengths
                .iter()
                .map(|length| rest.split_off(..*length).unwrap());
            let received = server.connect().session_of(pieces).unwrap();
            assert!(received == sent);
            Ok(())
        })
        .unwrap();
}

#[test]
fn pieces_come_back_before_the_end_of_the_stream() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for size in [1, 100, 16_384, 16_385] {
        client.assert_echo(&random_bytes(size));
    }
    assert!(client.session(b"").unwrap().is_empty());
}

/// The client sends everything, ends its stream and starts to read when its worker has gone.
#[test]
fn a_client_that_reads_late_gets_every_byte() {
    let server = Server::start(&[]);
    let sent = random_bytes(64 << 10);
    let mut client = server.connect();
    client.assert_echo(b"served");
    client.stream().write_all(&sent).unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    server.assert_no_worker_is_left();

    let mut received = Vec::new();
    client.stream().read_to_end(&mut received).unwrap();
    assert!(received == sent);
}
