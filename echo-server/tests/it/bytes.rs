//! What clients get back: everything, in order, to the last byte.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Command;

use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};
use test_support::Program;

use crate::server::{Model, random_bytes};

/// Around the size of the server's buffer, and around what the kernel buffers.
const SIZES: [usize; 8] = [0, 1, 4_000, 16_383, 16_384, 16_385, 64 << 10, 1 << 20];

models!(every_byte_comes_back);
fn every_byte_comes_back(model: Model) {
    let server = model.start(&[]);
    for size in SIZES {
        for sent in [random_bytes(size), vec![0; size]] {
            let received = server.connect().session(&sent).unwrap();
            assert_eq!(received.len(), size);
            assert!(received == sent, "{size} bytes, but not the same");
        }
    }
}

models!(however_the_bytes_are_split);
fn however_the_bytes_are_split(model: Model) {
    let server = model.start(&[]);
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let lengths = vec(0..40_000_usize, 0..12);
    TestRunner::new(config)
        .run(&lengths, |lengths| {
            let sent = random_bytes(lengths.iter().sum());
            let mut rest = &sent[..];
            let pieces = lengths.iter().map(|length| rest.split_off(..*length).unwrap());
            let received = server.connect().session_of(pieces).unwrap();
            assert!(received == sent);
            Ok(())
        })
        .unwrap();
}

models!(pieces_come_back_before_the_end_of_the_stream);
fn pieces_come_back_before_the_end_of_the_stream(model: Model) {
    let server = model.start(&[]);
    let mut client = server.connect();
    for size in [1, 100, 16_384, 16_385] {
        client.assert_echo(&random_bytes(size));
    }
    assert!(client.session(b"").unwrap().is_empty());
}

models!(a_client_that_reads_late_gets_every_byte);
/// It sends everything, ends its stream and starts to read when the server has done with it.
fn a_client_that_reads_late_gets_every_byte(model: Model) {
    let server = model.start(&[]);
    let sent = random_bytes(64 << 10);
    let mut client = server.connect();
    client.assert_echo(b"served");
    client.stream().write_all(&sent).unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    server.assert_is_at_rest(model);

    let mut received = Vec::new();
    client.stream().read_to_end(&mut received).unwrap();
    assert!(received == sent);
}

models!(a_client_that_never_reads_disturbs_nobody);
fn a_client_that_never_reads_disturbs_nobody(model: Model) {
    let server = model.start(&[]);
    let mut other = server.connect_many(1).remove(0);
    let (mut client, worker) = server.connect_and_see_worker();
    let sent = client.fill(worker);
    other.assert_echo(&random_bytes(100_000));
    server.assert_serves();
    // Nothing is lost by that, if it reads in the end.
    assert!(client.session(b"").unwrap() == sent);
}

models!(ordinary_clients_get_every_byte);
/// Those that are installed here, each with what makes it end its stream at the end of its input.
fn ordinary_clients_get_every_byte(model: Model) {
    const SCRIPT: &str = "set -o pipefail; command -v \"$1\" || exit 127
        seq 200000 | \"$@\" | cmp - <(seq 200000)";
    let server = model.start(&[]);
    let port = server.address.port().to_string();
    let socat = format!("TCP:127.0.0.1:{port}");
    let address = ["127.0.0.1", &port];
    let clients: [(&str, &[&str]); 4] = [
        ("nc.openbsd", &["-N"]),
        ("busybox", &["nc"]),
        ("ncat", &[]),
        ("socat", &["-t", "10", "-", &socat]),
    ];
    for (name, options) in clients {
        let mut client = Command::new("bash");
        client.args(["-c", SCRIPT, "bash", name]).args(options);
        if name != "socat" {
            client.args(address);
        }
        let output = Program::start(&mut client).output();
        match output.code {
            127 => println!("skipped: no {name} here"),
            code => assert_eq!(code, 0, "{output:?}"),
        }
    }
}

models!(five_clients_at_once);
fn five_clients_at_once(model: Model) {
    let server = model.start(&[]);
    let mut clients = server.connect_many(5);
    server.assert_connections(5);
    for (number, client) in clients.iter_mut().enumerate() {
        client.assert_echo(&random_bytes(1_000 * number));
    }
    drop(clients);
    server.assert_is_at_rest(model);
}
