//! How many clients, from where, and how long they may keep the server waiting.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use test_support::{LIMIT, wait_until};

use crate::cut_off::{Queues, Stuck, queues, with_small_buffers};
use crate::models::{in_every_model, in_models, served, start};
use crate::server::{BINARY, Client, Server, random_bytes, stop};

/// Another address of this machine, as if it were another machine.
pub(crate) const fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}

/// A client with this address. Whether it is served: it gets back its byte, or is disconnected.
pub(crate) fn client_of(source: Ipv4Addr, server: &Server) -> (TcpStream, bool) {
    let to = SocketAddrV4::new(host(1), server.address.port());
    let socket =
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let address = |address| SockaddrStorage::from(SocketAddr::V4(address));
    bind(socket.as_raw_fd(), &address(SocketAddrV4::new(source, 0))).unwrap();
    match connect(socket.as_raw_fd(), &address(to)) {
        // A client that is disconnected at once may get the reset already.
        Ok(()) | Err(Errno::ECONNRESET) => {}
        Err(error) => panic!("{error}"),
    }
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let is_served = is_served(&mut client);
    (client, is_served)
}

fn is_served(client: &mut TcpStream) -> bool {
    let result = client.write_all(b"x");
    match result.and_then(|()| client.read_exact(&mut [0])) {
        Ok(()) => true,
        Err(error) if is_end(error.kind()) => false,
        Err(error) => panic!("neither served nor disconnected: {error}"),
    }
}

fn is_end(error: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error, BrokenPipe | ConnectionReset | UnexpectedEof)
}

#[test]
fn each_source_has_its_limit() {
    in_every_model(|model| {
        let server = start(model, &["--max-per-source", "2", "--workers", "5"]);
        let (mut first, is_served_first) = client_of(host(2), &server);
        let (second, is_served_second) = client_of(host(2), &server);
        assert!(is_served_first && is_served_second);
        let (_third, is_served_third) = client_of(host(2), &server);
        assert!(!is_served_third, "one too many of this source");
        let (_other, is_served_other) = client_of(host(3), &server);
        assert!(is_served_other, "another source");
        assert!(is_served(&mut first), "not disturbed");

        drop(second);
        wait_until(
            "room again after the end of a session",
            || client_of(host(2), &server).1,
            |is_served| *is_served,
        );
    });
}

/// The control of the test above.
#[test]
fn without_a_limit_one_source_may_have_all() {
    in_every_model(|model| {
        let server = start(model, &["--max-per-source", "0", "--workers", "5"]);
        let clients: Vec<_> = (0..5).map(|_| client_of(host(2), &server)).collect();
        assert!(clients.iter().all(|(_, is_served)| *is_served));
    });
}

#[test]
fn a_killed_worker_gives_back_its_clients_room() {
    in_every_model(|model| {
        let server = start(model, &["--max-per-source", "1", "--workers", "2"]);
        let (mut client, was_served) = client_of(host(2), &server);
        assert!(was_served && !client_of(host(2), &server).1);
        for worker in server.workers() {
            kill(worker, Signal::SIGKILL).unwrap();
        }
        assert!(!is_served(&mut client));
        wait_until(
            "room again after the end of the worker",
            || client_of(host(2), &server).1,
            |is_served| *is_served,
        );
    });
}

/// A listener for both gives an IPv4 client an IPv6 address, which is not another source.
#[test]
fn a_source_is_the_same_under_ipv6() {
    in_every_model(|model| {
        let options = [":0", "--max-per-source=1", "--workers=4", "--model", model];
        let server = Server::run(Command::new(BINARY).args(options));
        let (_first, is_served_first) = client_of(host(2), &server);
        let (_second, is_served_second) = client_of(host(2), &server);
        let (_other, is_served_other) = client_of(host(3), &server);
        assert_eq!([is_served_first, is_served_second, is_served_other], [true, false, true]);
        let loopback = ([0, 0, 0, 0, 0, 0, 0, 1], server.address.port());
        match Client::connect(loopback.into()) {
            Ok(mut client) => client.assert_echo(b"another source"),
            Err(error) => println!("without IPv6 here: {error}"),
        }
    });
}

#[test]
fn a_silent_client_is_disconnected_and_a_slow_one_is_not() {
    in_every_model(|model| {
        let server = start(model, &["--idle-timeout", "0.8"]);
        let start = Instant::now();
        let mut silent = served(&server);
        let mut slow = served(&server);
        let is_over = thread::spawn(move || silent.assert_is_cut_off());
        while !is_over.is_finished() || start.elapsed() < Duration::from_millis(1200) {
            slow.assert_echo(b"x");
            thread::sleep(Duration::from_millis(100));
        }
        is_over.join().unwrap();
        assert!(start.elapsed() >= Duration::from_millis(800));
    });
}

/// A read with a limit of time ends early when its process goes on after STOP. Another read would wait
/// for the whole time again.
#[test]
fn a_worker_that_was_stopped_waits_no_longer_for_a_silent_client() {
    in_every_model(|model| {
        let server = start(model, &["--idle-timeout", "4", "--workers", "1"]);
        let start = Instant::now();
        let mut silent = served(&server);
        let worker = server.workers()[0];
        thread::sleep(Duration::from_millis(2500));
        stop(worker);
        kill(worker, Signal::SIGCONT).unwrap();
        silent.assert_is_cut_off();
        assert!(start.elapsed() < Duration::from_secs(6));
    });
}

/// The control of the tests above: 0 is no limit, and not none at all.
#[test]
fn a_client_may_be_silent_for_ever() {
    in_every_model(|model| {
        let server = start(model, &["--idle-timeout", "0"]);
        let mut silent = served(&server);
        silent.assert_hears_nothing();
        silent.assert_echo(b"still there");
    });
}

/// Clients that send a byte now and then have all places. No other timeout disconnects them.
#[test]
fn clients_that_dawdle_lose_their_places() {
    in_every_model(|model| {
        let four = ["--workers=4", "--max-children=4"];
        let server = start(model, &[&four[..], &["--session-timeout=0.8"]].concat());
        let start = Instant::now();
        let mut dawdlers = server.connect_many(4);
        let mut next = server.connect();
        next.stream().write_all(b"patience").unwrap();
        thread::scope(|scope| {
            for client in &mut dawdlers {
                scope.spawn(|| {
                    while is_served(client.stream()) {
                        assert!(start.elapsed() < LIMIT, "it keeps its place");
                        thread::sleep(Duration::from_millis(50));
                    }
                });
            }
            next.assert_reads(b"patience");
        });
        assert!(start.elapsed() >= Duration::from_millis(800));
    });
}

/// The control of the test above: without the option, a session may last.
#[test]
fn clients_that_dawdle_keep_their_places() {
    in_every_model(|model| {
        let server = start(model, &["--workers=1", "--max-children=1"]);
        let start = Instant::now();
        let mut dawdler = served(&server);
        let mut next = server.connect();
        next.stream().write_all(b"patience").unwrap();
        while start.elapsed() < Duration::from_millis(1600) {
            dawdler.assert_echo(b"x");
            thread::sleep(Duration::from_millis(50));
        }
        next.assert_hears_nothing();
        drop(dawdler);
        next.assert_reads(b"patience");
    });
}

/// A client whose machine has lost power sends no end of its stream. With keepalive, the kernel asks
/// it from time to time.
#[test]
fn a_client_that_has_vanished_is_found_out() {
    const KEEPALIVE: u8 = 2;
    in_every_model(|model| {
        let server = start(model, &[]);
        let mut client = served(&server);
        let own = client.stream().local_addr().unwrap();
        let timer = |queues: &Option<Queues>| queues.map(|queues| queues.timer);
        wait_until(
            "keepalive is what the connection waits for",
            || queues(server.address, own),
            |servers| timer(servers) == Some(KEEPALIVE),
        );
        // The client has not set keepalive, so its end of the connection waits for nothing.
        assert_eq!(timer(&queues(own, server.address)), Some(0));
    });
}

/// Sends and does not read. `None` if that could go on for `time`.
fn is_cut_off_while_it_sends(client: &mut Client, time: Duration) -> Option<ErrorKind> {
    let stream = client.stream();
    let start = Instant::now();
    stream.set_nonblocking(true).unwrap();
    while start.elapsed() < time {
        match stream.write(&[0; 65_536]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(3));
            }
            Err(error) => return Some(error.kind()),
        }
    }
    None
}

#[test]
fn a_client_that_never_reads_is_disconnected() {
    in_every_model(|model| {
        let server = start(model, &["--write-timeout", "0.4", "--idle-timeout", "0"]);
        let mut other = served(&server);
        let mut stuck = served(&server);
        let start = Instant::now();
        let error = is_cut_off_while_it_sends(&mut stuck, LIMIT);
        assert!(error.is_some_and(is_end), "{error:?}");
        assert!(start.elapsed() >= Duration::from_millis(400));
        other.assert_echo(b"not disturbed");
    });
}

/// A part of what it sent last still fits into the buffers. If each system call had the timeout, the
/// one that sends this part would wait as long, and the next one once more.
#[test]
fn a_client_that_never_reads_is_disconnected_in_time() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    with_small_buffers(|| {
        in_every_model(|model| {
            let options = ["--write-timeout=2", "--idle-timeout=0", "--workers=1", "-v"];
            let mut server = start(model, &options);
            let stuck = Stuck::new(&server);
            let line = server.program.stderr.next_with("disconnected");
            let time = stuck.last_sent.elapsed();
            assert!(line.contains("took nothing for too long"), "{line}");
            assert!(time >= TIMEOUT && time < 2 * TIMEOUT, "{time:?}");
        });
    });
}

/// The control of the test above.
#[test]
fn a_client_may_read_nothing_for_ever() {
    in_every_model(|model| {
        let server = start(model, &["--write-timeout", "0", "--idle-timeout", "0"]);
        let mut stuck = served(&server);
        let short = Duration::from_millis(800);
        assert_eq!(is_cut_off_while_it_sends(&mut stuck, short), None);
    });
}

/// Its worker is stuck in writes for several times as long as it may be in one.
#[test]
fn a_client_that_reads_slowly_gets_every_byte() {
    in_every_model(|model| {
        let server = start(model, &["--write-timeout", "1.5"]);
        let mut client = served(&server);
        setsockopt(client.stream(), sockopt::RcvBuf, &(64 << 10)).unwrap();
        let sent = random_bytes(8 << 20);
        let mut writer = client.stream().try_clone().unwrap();
        let mut received = vec![0; sent.len()];
        thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&sent).unwrap());
            for piece in received.chunks_mut(256 << 10) {
                client.stream().read_exact(piece).unwrap();
                thread::sleep(Duration::from_millis(80));
            }
        });
        assert!(received == sent);
    });
}

/// How many clients can connect, of which one is served, and the others wait.
fn queue_of(server: &Server, most: usize) -> usize {
    let _served = served(server);
    let short = Duration::from_millis(300);
    let connect = |_| TcpStream::connect_timeout(&server.address, short).ok();
    (0..most).map_while(connect).collect::<Vec<_>>().len()
}

#[test]
fn the_queue_is_as_long_as_asked_for() {
    in_every_model(|model| {
        let one_at_a_time = ["--max-children", "1", "--workers", "1"];
        let server = start(model, &[&one_at_a_time[..], &["--backlog", "3"]].concat());
        let length = queue_of(&server, 30);
        // The kernel counts one more, listen(2).
        assert!((3..=4).contains(&length), "{length}");
    });
}

/// The control of the test above.
#[test]
fn the_queue_is_as_long_as_the_system_allows() {
    in_every_model(|model| {
        let one_at_a_time = ["--max-children", "1", "--workers", "1"];
        let server = start(model, &[&one_at_a_time[..], &["--backlog", "0"]].concat());
        assert_eq!(queue_of(&server, 100), 100);
    });
}

/// More than the default.
#[test]
fn as_many_clients_as_there_are() {
    const DEFAULT: usize = 256;
    // One after the other: a process may have 1024 descriptors.
    for model in ["fork", "reexec", "template"] {
        in_models(&[model], |model| {
            let many = |options: &[&str]| {
                let server = start(model, options);
                let mut clients: Vec<_> = (0..=DEFAULT).map(|_| server.connect()).collect();
                let mut last = clients.pop().unwrap();
                for client in &mut clients {
                    client.assert_echo(b"served");
                }
                last.stream().write_all(b"served").unwrap();
                (server, clients, last)
            };
            let (_server, _clients, mut last) = many(&[]);
            last.assert_hears_nothing();
            drop((_server, _clients, last));

            let (_server, _clients, mut last) = many(&["--max-children", "0"]);
            last.assert_reads(b"served");
        });
    }
}
