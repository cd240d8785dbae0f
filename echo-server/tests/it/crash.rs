//! Workers that crash. A signal from kill(2) would not do: after the handler of the signal, the worker
//! goes on with its next instruction, and there is nothing wrong with that.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::server::{Client, Model, Server, signals};
use test_support::{Program, wait_until};

/// The names of faults, machine code that leads to them, and the signals that the kernel sends then.
#[cfg(target_arch = "x86_64")]
const FAULTS: &[(&str, &[u8], Signal)] = &[
    // xor eax, eax; mov eax, [rax]
    ("no memory there", &[0x31, 0xc0, 0x8b, 0x00], Signal::SIGSEGV),
    // movabs rbp, 1 << 63; mov eax, [rbp]
    (
        "no address of a stack",
        &[0x48, 0xbd, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x8b, 0x45, 0x00],
        Signal::SIGBUS,
    ),
    // This instruction calls itself, and never returns.
    ("stack overflow", &[0xe8, 0xfb, 0xff, 0xff, 0xff], Signal::SIGSEGV),
    // ud2
    ("no instruction", &[0x0f, 0x0b], Signal::SIGILL),
    // xor ecx, ecx; div ecx
    ("division by zero", &[0x31, 0xc9, 0xf7, 0xf1], Signal::SIGFPE),
    // int3
    ("breakpoint", &[0xcc], Signal::SIGTRAP),
    // hlt, by which abort(3) ends if it may not send SIGABRT
    ("not for programs", &[0xf4], Signal::SIGSEGV),
];

#[cfg(not(target_arch = "x86_64"))]
const FAULTS: &[(&str, &[u8], Signal)] = &[];

models!(a_worker_that_crashes_costs_the_clients_it_has);
fn a_worker_that_crashes_costs_the_clients_it_has(model: Model) {
    if FAULTS.is_empty() {
        return println!("skipped: there is no machine code for this processor");
    }
    let mut server = model.start(&[]);
    for (fault, code, signal) in FAULTS {
        let (mut client, worker) = server.connect_and_see_worker();
        if let Err(error) = replace_next_instructions(worker, code) {
            return println!("skipped: may not change the code of a worker: {error}");
        }
        client.stream().write_all(b"crash").unwrap();
        assert_is_reset(&mut client, fault);
        let number = *signal as i32;
        assert_eq!(
            server.event(),
            format!("echo-server: worker {worker} failed: signal: {number} ({signal})"),
            "{fault}"
        );
        server.assert_serves();
        server.assert_is_at_rest(model);
    }
}

#[track_caller]
fn assert_is_reset(client: &mut Client, why: &str) {
    let error = client.stream().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{why}");
}

/// Writes `code` to the places where the threads of this process go on when they have waited.
fn replace_next_instructions(worker: Pid, code: &[u8]) -> io::Result<()> {
    let memory = File::options().write(true).open(format!("/proc/{worker}/mem"))?;
    for task in fs::read_dir(format!("/proc/{worker}/task"))? {
        let path = task?.path().join("syscall");
        fs::read_to_string(&path)?;
        let line = wait_until(
            "a thread that waits",
            || fs::read_to_string(&path).unwrap(),
            |line| !line.starts_with("running"),
        );
        let (_, address) = line.trim_end().rsplit_once(" 0x").unwrap();
        memory.write_all_at(code, u64::from_str_radix(address, 16).unwrap())?;
    }
    Ok(())
}

models!(a_worker_handles_no_signal);
/// Its sandbox would not let a handler go back to the default, as std's for SIGSEGV and SIGBUS want to.
fn a_worker_handles_no_signal(model: Model) {
    let server = model.start(&[]);
    let (_client, worker) = server.connect_and_see_worker();
    assert_eq!(signals(worker, "SigCgt"), []);
}

models!(a_worker_that_runs_out_of_memory_ends, multiplex);
/// By abort(3), which in the sandbox may not send SIGABRT. A worker of the other models has nothing
/// that grows with its clients, or, in `thread`, first has no room for another thread.
fn a_worker_that_runs_out_of_memory_ends(model: Model) {
    let mut server = model.start(&["--max-children", "0"]);
    let (mut client, worker) = server.connect_and_see_worker();
    if take_all_memory(&server, worker).is_none() {
        return;
    }
    assert_is_reset(&mut client, "no memory");
    server.program.stderr.next_with("memory allocation of ");
    let line = server.program.stderr.next_with(" failed: ");
    let start = format!("echo-server: worker {worker} failed: signal: ");
    assert!(line.starts_with(&start), "{line}");
    server.assert_serves();
}

/// The worker, which serves all clients, gets no more memory, and clients come until it is gone. `None`
/// without prlimit(1).
pub(crate) fn take_all_memory(server: &Server, worker: Pid) -> Option<()> {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--as=0", "--pid", &worker.to_string()]);
    match Program::try_start(&mut prlimit) {
        Ok(prlimit) => assert_eq!(prlimit.exit_code(), 0),
        Err(error) => {
            println!("skipped: needs prlimit(1): {error}");
            return None;
        }
    }
    let served = || {
        let mut client = Client::connect(server.address)?;
        client.stream().write_all(b"x")?;
        client.stream().read_exact(&mut [0])?;
        Ok::<_, io::Error>(client)
    };
    let mut clients = Vec::new();
    while clients.len() < 1000 {
        match served() {
            Ok(client) => clients.push(client),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                return Some(());
            }
        }
    }
    panic!("1000 clients, and the worker still has memory");
}
