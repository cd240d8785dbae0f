//! Workers that really crash. A signal of the same number from kill(2) would show nothing: the sandbox
//! has no say in what the kernel does then, and nothing is wrong with the next instruction.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::processes::until;
use crate::server::{Model, signals};

/// The names of faults, machine code that leads to them, and the signals that the kernel sends then.
#[cfg(target_arch = "x86_64")]
const FAULTS: &[(&str, &[u8], Signal)] = &[
    // xor eax, eax; mov eax, [rax]
    (
        "no memory there",
        &[0x31, 0xc0, 0x8b, 0x00],
        Signal::SIGSEGV,
    ),
    // movabs rbp, 1 << 63; mov eax, [rbp]
    (
        "no address of a stack",
        &[0x48, 0xbd, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x8b, 0x45, 0x00],
        Signal::SIGBUS,
    ),
    // This instruction calls itself, and never returns.
    (
        "stack overflow",
        &[0xe8, 0xfb, 0xff, 0xff, 0xff],
        Signal::SIGSEGV,
    ),
    // ud2
    ("no instruction", &[0x0f, 0x0b], Signal::SIGILL),
    // xor ecx, ecx; div ecx
    (
        "division by zero",
        &[0x31, 0xc9, 0xf7, 0xf1],
        Signal::SIGFPE,
    ),
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
        let error = client.stream().read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{fault}");
        let number = *signal as i32;
        assert_eq!(
            server.event(),
            format!("echo-server: worker {worker} failed: signal: {number} ({signal})"),
            "{fault}"
        );
        server.assert_serves();
    }
    server.assert_is_at_rest(model);
}

/// Writes `code` to the places where the threads of this process go on when they have waited.
fn replace_next_instructions(worker: Pid, code: &[u8]) -> io::Result<()> {
    let memory = File::options()
        .write(true)
        .open(format!("/proc/{worker}/mem"))?;
    for task in fs::read_dir(format!("/proc/{worker}/task"))? {
        let path = task?.path().join("syscall");
        fs::read_to_string(&path)?;
        let line = until(
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
