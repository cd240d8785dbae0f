//! The line protocol of YOUR-PROTOCOL.md, in every model: what the page says of it is true.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use test_support::{LIMIT, example};

use crate::models::in_every_model;
use crate::server::{Model, Server};
use crate::service_manager::hand_over_to;

#[path = "../../examples/line-server/protocol.rs"]
mod protocol;

use protocol::{LONGEST, Protocol};

const PAGES: [&str; 2] =
    [include_str!("../../YOUR-PROTOCOL.md"), include_str!("../../YOUR-PROTOCOL.zh-CN.md")];

const UNKNOWN: &str = "ERR unknown command\n";
const TOO_LONG: &str = "ERR line too long\n";
const WITHOUT_END: &str = "ERR line without an end\n";

fn start(model: &str, options: &[&str]) -> Server {
    Server::run(&mut example("line-server", &[&["0", "--model", model], options].concat()))
}

/// A client that asks, and waits for the answer.
struct Asking(BufReader<TcpStream>);

impl Asking {
    fn connect(server: &Server) -> Self {
        let mut client = server.connect();
        Self(BufReader::new(client.stream().try_clone().unwrap()))
    }

    #[track_caller]
    fn ask(&mut self, line: &str) -> String {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        assert_eq!(answer.pop(), Some('\n'), "{line}");
        answer
    }

    #[track_caller]
    fn total(&mut self) -> u64 {
        self.ask("TOTAL").parse().unwrap()
    }
}

/// What the page says comes back, to a whole session at once.
fn expected(sent: &[u8]) -> Vec<u8> {
    let mut answers = String::new();
    let mut lines = sent.split(|byte| *byte == b'\n').zip(1..).peekable();
    while let Some((line, count)) = lines.next() {
        let is_whole = lines.peek().is_some();
        if line.len() > LONGEST {
            answers += TOO_LONG;
            break;
        }
        if !is_whole {
            answers += if line.is_empty() { "" } else { WITHOUT_END };
            break;
        }
        match line.strip_suffix(b"\r").unwrap_or(line) {
            b"PING" => answers += "PONG\n",
            b"COUNT" => answers += &format!("{count}\n"),
            b"QUIT" => {
                answers += "BYE\n";
                break;
            }
            _ => answers += UNKNOWN,
        }
    }
    answers.into_bytes()
}

/// Sessions in pieces, cut anywhere.
fn sessions() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let command = prop_oneof![
        8 => Just("PING\n"), 8 => Just("COUNT\n"), 4 => Just("PING\r\n"), 1 => Just("QUIT\n"),
        2 => Just("\n"), 1 => Just("\r"), 2 => Just("PIN"), 1 => Just("count\n"),
    ];
    let part = prop_oneof![
        20 => command.prop_map(|command| command.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..30),
        1 => (LONGEST - 2..LONGEST + 2).prop_map(|length| vec![b'x'; length]),
    ];
    let stream = vec(part, 0..40).prop_map(|parts| parts.concat());
    (stream, vec(1..60_usize, 0..60)).prop_map(|(stream, lengths)| {
        let mut rest = &stream[..];
        let mut pieces: Vec<_> = Vec::new();
        for length in lengths {
            pieces.extend(rest.split_off(..length.min(rest.len())).map(<[u8]>::to_vec));
        }
        pieces.push(rest.to_vec());
        pieces.retain(|piece| !piece.is_empty());
        pieces
    })
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn the_answers_do_not_depend_on_where_the_bytes_are_cut() {
    runner(400)
        .run(&sessions(), |pieces| {
            let mut protocol = Protocol::new();
            let mut answers = Vec::new();
            let mut is_last = false;
            for piece in &pieces {
                let answer = protocol.answer(piece);
                answers.extend_from_slice(answer.bytes);
                is_last = answer.is_last;
                if is_last {
                    break;
                }
            }
            if !is_last {
                answers.extend_from_slice(protocol.answer_end());
            }
            assert_eq!(
                answers.escape_ascii().to_string(),
                expected(&pieces.concat()).escape_ascii().to_string()
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn nor_do_the_answers_of_the_server() {
    in_every_model(|model| {
        let server = start(model, &[]);
        let has_session = |pieces: Vec<Vec<u8>>| {
            let pieces: Vec<_> = pieces.iter().map(|piece| &piece[..]).collect();
            let received = server.connect().session_of(pieces.iter().copied()).unwrap();
            assert!(received == expected(&pieces.concat()));
            Ok(())
        };
        runner(12).run(&sessions(), has_session).unwrap();
        server.assert_is_at_rest(Model(model));
    });
}

/// The lines after `C:` are sent, and those after `S:` must come back.
#[test]
fn the_conversation_on_the_page() {
    in_every_model(|model| {
        let server = start(model, &[]);
        for page in PAGES {
            let said = |who| page.lines().filter_map(move |line| line.strip_prefix(who));
            let (sent, received): (Vec<_>, Vec<_>) = (said("C: ").collect(), said("S: ").collect());
            assert_eq!((sent.len(), sent.last()), (received.len(), Some(&"QUIT")));
            let mut client = Asking::connect(&server);
            for (line, answer) in sent.into_iter().zip(received) {
                assert_eq!(client.ask(line), answer, "{line}");
            }
            // The server has ended its stream first.
            assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
        }
    });
}

/// Each answer is larger than the room in the connection, also the last one.
#[test]
fn answers_that_wait_for_room() {
    let sessions = ["QUIT\n", "PIN"].map(|end| {
        let sent = ["\n".repeat(20_000), end.to_owned()].concat().into_bytes();
        (expected(&sent), sent)
    });
    in_every_model(|model| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        setsockopt(&listener, sockopt::SndBuf, &1).unwrap(); // connections inherit the least there is
        let program = example("line-server", &[]);
        let server = Server::of(hand_over_to(program.get_program(), &[], listener, 1, model));
        for (expected, sent) in &sessions {
            assert!(server.connect().session(sent).unwrap() == *expected);
        }
    });
}

/// Its answers are twenty times as long as what it sends: the memory would fill.
#[test]
fn from_a_client_that_never_reads_no_more_is_read() {
    in_every_model(|model| {
        let server = start(model, &["--workers", "1"]);
        let mut client = server.connect();
        client.stream().write_all(b"PING\n").unwrap();
        client.assert_reads(b"PONG\n");
        client.fill_with(server.assert_workers(1)[0], &[b'\n'; 10_000]);
    });
}

/// If the server closed the connection instead, the kernel would reset it, and the client would lose the
/// last answer.
#[test]
fn what_comes_after_the_last_answer_is_thrown_away() {
    in_every_model(|model| {
        let server = start(model, &[]);
        for first in ["QUIT\n", &"x".repeat(LONGEST + 1)] {
            let sent = [first, &"PING\n".repeat(200_000)].concat().into_bytes();
            assert!(server.connect().session(&sent).unwrap() == expected(first.as_bytes()));
        }
        server.assert_is_at_rest(Model(model));
    });
}

#[test]
fn a_client_that_does_not_end_after_the_last_answer_is_disconnected() {
    in_every_model(|model| {
        let mut server = start(model, &["-v", "--idle-timeout", "2"]);
        let mut client = Asking::connect(&server);
        assert_eq!(client.ask("QUIT"), "BYE");
        let deadline = Instant::now() + LIMIT;
        let error = loop {
            assert!(Instant::now() < deadline, "it may send for ever");
            match client.0.get_mut().write_all(b"more\n") {
                Ok(()) => thread::sleep(Duration::from_millis(10)),
                Err(error) => break error,
            }
        };
        assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()));
        let line = server.program.stderr.next_with("disconnected");
        assert!(line.ends_with("was connected for too long, disconnected"), "{line}");
    });
}

/// The cells of the row of a table on a page, of which this is the first.
fn row<'a>(page: &'a str, first: &str) -> Vec<&'a str> {
    let start = format!("| {first} |");
    let line = page.lines().find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("no row {start}"));
    line.trim_matches('|').split('|').map(str::trim).skip(1).collect()
}

/// The first client sends 3 lines, the second one 1 meanwhile, the third one 1 after both have left.
#[test]
fn the_total_of_each_model_is_that_on_the_page() {
    in_every_model(|model| {
        let server = start(model, &["--workers", "2"]);
        let mut first = Asking::connect(&server);
        first.ask("PING");
        first.ask("PING");
        let mut totals = vec![first.total()];
        let mut second = Asking::connect(&server);
        totals.push(second.total());
        drop((first, second));
        server.assert_is_at_rest(Model(model));
        totals.push(Asking::connect(&server).total());
        for page in PAGES {
            let cells = row(page, &format!("`{model}`"));
            for (cell, total) in cells.iter().zip(&totals) {
                let numbers = cell.split(|c: char| !c.is_ascii_digit());
                let mut numbers = numbers.filter_map(|number| number.parse().ok());
                assert!(numbers.any(|number: u64| number == *total), "{totals:?}, {cells:?}");
            }
            assert_eq!(cells.len(), totals.len());
        }
    });
}

#[test]
fn the_total_is_lost_with_the_worker() {
    in_every_model(|model| {
        let server = start(model, &["--workers", "1"]);
        let mut client = Asking::connect(&server);
        client.ask("PING");
        kill(server.assert_workers(1)[0], Signal::SIGKILL).unwrap();
        server.assert_connections(0);
        assert_eq!(Asking::connect(&server).total(), 1);
    });
}

#[test]
fn the_sandbox_allows_what_the_page_says() {
    in_every_model(|model| {
        for (column, options) in [(1, &[][..]), (2, &["--sandbox", "off"])] {
            let server = start(model, options);
            let mut client = Asking::connect(&server);
            for command in ["TIME", "RANDOM", "FILE", "CONNECT", "THREAD"] {
                let first = match (command, model) {
                    ("THREAD", "thread") => "`THREAD`, `--model thread`",
                    _ => &format!("`{command}`"),
                };
                let answer = client.ask(command);
                for page in PAGES {
                    let cell = row(page, first)[column];
                    match cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) {
                        Some(expected) => assert_eq!(answer, expected, "{command}"),
                        None => assert!(answer.parse::<u64>().is_ok(), "{command}: {answer}"),
                    }
                }
            }
        }
    });
}

/// A forked worker has a copy of the keys that std gave to the supervisor.
#[test]
fn random_numbers_of_std_are_the_same_in_forked_workers() {
    let numbers = |model| {
        let server = start(model, &[]);
        [(); 2].map(|()| Asking::connect(&server).ask("RANDOM"))
    };
    let [one, other] = numbers("fork");
    assert_eq!(one, other);
    let [one, other] = numbers("reexec");
    assert_ne!(one, other);
}
