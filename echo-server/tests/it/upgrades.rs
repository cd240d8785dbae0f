//! Many upgrades in a row, under load and with sessions that last longer than a server: nobody is refused,
//! nothing is lost, and there is one server.
//!
//! One server means: one process and its workers accept clients. That is shown in two ways. After each
//! upgrade, no other process has the listener. And in a trace of all calls of `accept4`, no server accepts
//! once the next one has begun to.

use std::collections::{HashMap, VecDeque};
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use test_support::{TempDir, processes, stat, state, wait_until};

use crate::errors::strace_works;
use crate::models::served;
use crate::server::{Model, Server, descriptors, flood};
use crate::upgrade::{Stop, Successor};

/// How many upgrades there are, unless this variable names another number.
const UPGRADES: usize = 20;
const VARIABLE: &str = "ECHO_SERVER_UPGRADES";

/// A long session lasts for so many upgrades: so many old servers finish their sessions at a time.
const LONG: usize = 3;

fn upgrades() -> usize {
    let number = env::var(VARIABLE).ok().map(|number| number.parse().expect(VARIABLE));
    number.unwrap_or(UPGRADES)
}

models!(upgrades_in_a_row_lose_nothing);
fn upgrades_in_a_row_lose_nothing(model: Model) {
    let server = model.start(&["--drain-timeout", "0"]);
    let listener = listening_socket(server.address);
    let sessions = under_load(server, upgrades(), |new| {
        let is_foreign = |pid: &Pid| *pid != new && stat(*pid).is_some_and(|it| it.parent != new);
        let foreign = || holders(&listener).into_iter().filter(is_foreign).collect();
        // The workers of an old pool close it when they find that they are to leave.
        wait_until("only the new server has the listener", foreign, Vec::<Pid>::is_empty);
        assert!(holders(&listener).contains(&new));
    });
    println!("{} upgrades, {sessions} sessions", upgrades());
}

/// Upgrades the server again and again while clients have sessions, short and long ones. Calls `check`
/// with each new server. Returns how many sessions there were.
fn under_load(mut server: Server, upgrades: usize, mut check: impl FnMut(Pid)) -> usize {
    const ROUND: usize = 25;
    let address = server.address;
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = || {
        let mut failures = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            failures.extend(flood(address, ROUND, 4));
            rounds.fetch_add(1, Ordering::Relaxed);
        }
        failures
    };
    let mut long = VecDeque::new();
    let mut servers = VecDeque::new(); // the old ones, and the current one at the end
    thread::scope(|scope| {
        let clients = scope.spawn(load);
        let _stop = Stop(&stop);
        for _ in 0..upgrades {
            long.push_back(served(&server));
            let current = servers.back().map_or(server.program.pid(), Successor::id);
            kill(current, Signal::SIGUSR2).unwrap();
            let new = Successor::of(&mut server);
            check(new.id());
            servers.push_back(new);
            for session in &mut long {
                session.assert_echo(b"not disturbed");
            }
            if long.len() > LONG {
                assert!(long.pop_front().unwrap().session(b"the end").unwrap() == b"the end");
            }
            // All their sessions have ended.
            while servers.len() > LONG + 1 {
                assert_finished(servers.pop_front().unwrap());
            }
        }
        server.assert_serves(); // also by the last one
        stop.store(true, Ordering::Relaxed);
        assert_eq!(clients.join().unwrap(), [""; 0]);
    });
    drop(long);
    let last = servers.pop_back().unwrap();
    servers.into_iter().for_each(assert_finished);
    assert_eq!(server.program.exit_code(), 0);
    last.terminate();
    // A tracer is left, as a zombie, until the first server is reaped.
    let alive = || {
        let rest = server.program.rest_of_group().into_iter();
        rest.filter(|pid| state(*pid).is_some_and(|state| state != 'Z')).collect()
    };
    wait_until("nothing is left", alive, Vec::<Pid>::is_empty);
    rounds.into_inner() * ROUND + upgrades
}

/// Has ended because its sessions have, and by itself.
#[track_caller]
fn assert_finished(server: Successor) {
    let id = server.id();
    assert_eq!(server.end(), WaitStatus::Exited(id, 0));
}

/// As `/proc/PID/fd` names it.
fn listening_socket(address: SocketAddr) -> String {
    let port = format!(":{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let mut listening = fields.filter(|it| it[1].ends_with(&port) && it[3] == "0A");
    format!("socket:[{}]", listening.next().unwrap()[9])
}

/// The processes that have this socket.
fn holders(socket: &String) -> Vec<Pid> {
    processes(|stat| descriptors(stat.pid).contains(socket))
}

models!(no_server_accepts_after_the_next_one_has_begun_to, fork, reexec);
/// In the models of a pool, a worker of the old server may still accept a client while it has not found
/// that it is to leave.
fn no_server_accepts_after_the_next_one_has_begun_to(model: Model) {
    if !strace_works() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let trace = folder.path().join("trace");
    let calls = "trace=accept4,clone,clone3,fork,vfork";
    let trace_to = trace.to_str().unwrap();
    let launcher = ["strace", "-Dfqq", "--seccomp-bpf", "-o", trace_to, "-e", calls];
    let server = model.start_by(&launcher, &["--drain-timeout", "0"]);
    let mut servers = vec![server.program.pid()];
    under_load(server, upgrades().min(5), |new| servers.push(new));
    let accepted = accepts(&fs::read_to_string(trace).unwrap(), &servers);
    let mut runs = accepted.clone();
    runs.dedup();
    assert_eq!(runs, servers, "{} clients were accepted", accepted.len());
}

/// Which of these servers has accepted a client, itself or by a worker, one entry for each client.
fn accepts(trace: &str, servers: &[Pid]) -> Vec<Pid> {
    let mut parents = HashMap::new();
    let mut accepted = Vec::new();
    for line in trace.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let Some(result) = call.rsplit_once(" = ").and_then(|it| it.1.parse().ok()) else {
            continue; // an error, or half of a call
        };
        let pid = Pid::from_raw(pid.parse().unwrap());
        if call.contains("accept4") {
            let parent = parents.get(&pid).copied();
            let acts_for = if servers.contains(&pid) { Some(pid) } else { parent };
            accepted.extend(acts_for);
        } else {
            parents.insert(Pid::from_raw(result), pid);
        }
    }
    accepted
}
