//! The model `template`: its workers have no more than forked ones.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use test_support::{assert_sleeps, reap};

use crate::models::{served, start};
use crate::sandbox::start_without;
use crate::server::{Server, descriptors, is_root};

/// What the kernel shows of a worker, as far as it is the same for all workers. Which filters a process
/// has, the kernel does not show; tests in `filter.rs` compare them.
fn shown(worker: Pid) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    let wanted =
        ["Name:", "Umask:", "Uid:", "Gid:", "Groups:", "SigBlk:", "SigCgt:", "NoNewPrivs:"];
    let wanted = [&wanted[..], &["CapInh:", "CapPrm:", "CapEff:", "CapAmb:", "Seccomp:"]].concat();
    let lines = status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    let limits = fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    // Descriptors to the same files, and one socket.
    let descriptors = descriptors(worker).into_iter().map(|link| match link.split_once(':') {
        Some((kind, _)) => kind.to_owned(),
        None => link,
    });
    lines.map(str::to_owned).chain(limits.lines().map(str::to_owned)).chain(descriptors).collect()
}

/// Serves a client, and returns what is shown of its worker.
fn shown_of_next_worker(server: &Server) -> Vec<String> {
    let client = served(server);
    let workers = server.workers();
    assert_eq!(workers.len(), 1);
    let shown = shown(workers[0]);
    drop(client);
    server.assert_no_worker_is_left();
    shown
}

#[test]
fn a_worker_has_what_a_forked_one_has() {
    let mut all = vec![vec!["--sandbox", "require"], vec!["--sandbox", "off"]];
    if is_root() {
        all.extend([vec!["--user", "65534:65534"], vec!["--user=65534:65534", "--sandbox=off"]]);
    }
    for options in all {
        let forked = shown_of_next_worker(&start("fork", &options));
        let server = start("template", &options);
        assert_eq!(shown_of_next_worker(&server), forked, "{options:?}");
        let template = server.template().unwrap();
        kill(template, Signal::SIGKILL).unwrap();
        assert_eq!(shown_of_next_worker(&server), forked, "{options:?}, of the next template");
        assert_ne!(server.template(), Some(template));
    }
}

/// It keeps no connection, reads no byte of a client, and ends with the server however that ends.
#[test]
fn the_template_has_no_client_and_ends_with_the_server() {
    let server = start("template", &[]);
    server.assert_serves();
    server.assert_no_worker_is_left();
    let template = server.template().unwrap();
    assert_sleeps(template);
    let before = descriptors(template);
    let clients = server.connect_many(3);
    assert_sleeps(template);
    let now = descriptors(template);
    assert_eq!(now.len(), before.len() + 3, "a pidfd each: {now:?}");
    let sockets = |all: &[String]| all.iter().filter(|it| it.starts_with("socket:")).count();
    assert_eq!(sockets(&now), sockets(&before));
    kill(server.program.pid(), Signal::SIGKILL).unwrap();
    reap(template);
    drop(clients);
}

/// In a container, a filter may refuse the call by which the template makes sure that it has one thread. It
/// asks /proc then, in which its sandbox lets it open nothing.
#[test]
fn a_template_works_where_unshare_is_refused() {
    let options = ["--sandbox", "require"];
    let Some(program) = start_without("unshare", "EPERM", "template", &options) else {
        return;
    };
    Server::of(program).assert_serves();
}
