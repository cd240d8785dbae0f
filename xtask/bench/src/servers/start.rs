//! Starts a server, and reads where it listens.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

/// Starts a server whose stderr goes to `log`.
pub(crate) fn start(
    program: &Path,
    args: &[&str],
    stdout: Stdio,
    log: &Path,
) -> Result<Child, String> {
    let stderr =
        File::create(log).map_err(|error| format!("cannot write to {}: {error}", log.display()))?;
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))
}

/// Opens a log that several processes write to, one after the other.
pub(crate) fn log_file(log: &Path) -> Result<File, String> {
    let file = File::options().create(true).append(true).open(log);
    file.map_err(|error| format!("cannot write to {}: {error}", log.display()))
}

/// What a server prints on stdout, and those that replace it after USR2: a line each.
pub(crate) struct Announcements {
    stdout: ChildStdout,
    /// What came from there, as far as it is no whole line.
    unread: Vec<u8>,
}

impl Announcements {
    /// Reads from the server without waiting.
    pub(crate) fn of(server: &mut Child) -> Result<Self, String> {
        let stdout = server.stdout.take().ok_or_else(|| "the server has no stdout".to_owned())?;
        // Of our end alone: a pipe has a description for each of its ends.
        fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|error| format!("cannot read from the server: {error}"))?;
        Ok(Self { stdout, unread: Vec::new() })
    }

    /// The next line, if there is one: the address and the number of a server that listens.
    pub(crate) fn next(&mut self) -> Result<Option<(SocketAddrV4, Pid)>, String> {
        let mut buffer = [0; 256];
        match self.stdout.read(&mut buffer) {
            Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("cannot read what the server prints: {error}")),
        }
        let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line: Vec<u8> = self.unread.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line);
        match (address(&line), pid(&line)) {
            (Some(address), Some(pid)) => Ok(Some((address, Pid::from_raw(pid)))),
            _ => Err(format!("the server prints {:?}", line.trim_end())),
        }
    }
}

/// Says how a server has ended.
pub(crate) fn describe(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("has exited with {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("was ended by {signal}"),
        other => format!("{other:?}"),
    }
}

/// Parses `listening on ADDRESS`, which more may follow.
pub(crate) fn address(line: &str) -> Option<SocketAddrV4> {
    let rest = line.strip_prefix("listening on ")?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// Parses the end of `listening on ADDRESS (MODEL, pid N)`.
pub(crate) fn pid(line: &str) -> Option<i32> {
    let (_, pid) = line.split_once("pid ")?;
    pid.trim_end().strip_suffix(')')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_names_the_address_and_the_process() {
        let line = "listening on 127.0.0.1:9190 (fork, pid 4711)\n";
        let expected = "127.0.0.1:9190".parse().unwrap();
        assert_eq!((address(line), pid(line)), (Some(expected), Some(4711)));
        assert_eq!(address("listening on 127.0.0.1:9190\n"), Some(expected));
        assert_eq!(address("listening on nowhere (fork, pid 4711)\n"), None);
        assert_eq!(address("running 1 test\n"), None);
    }
}
