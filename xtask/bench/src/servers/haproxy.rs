//! HAProxy in front of servers, and its admin socket.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddrV4;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::programs::installed;
use crate::servers::start::log_file;

/// HAProxy answers within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The socket, in the folder where HAProxy runs. The whole path might be too long for a socket's address.
const ADMIN: &str = "admin.sock";

/// Whether HAProxy gives new sessions to a server.
#[derive(Clone, Copy)]
pub(crate) enum State {
    Ready,
    Drain,
}

pub(crate) struct Haproxy(Child);

/// What it has to say, in that folder.
const LOG: &str = "haproxy.stderr";

/// Finds the program. An error says how to get it.
pub(crate) fn find() -> Result<PathBuf, String> {
    let found = installed("haproxy").or_else(|_| {
        let program = PathBuf::from("/usr/sbin/haproxy"); // which is in the PATH of root only
        program.is_file().then_some(program).ok_or("there is no haproxy in PATH or /usr/sbin")
    });
    found.map_err(|why| format!("{why}; to get it: apt-get install haproxy"))
}

impl Haproxy {
    /// Starts it in this folder. It may not listen yet.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        address: SocketAddrV4,
        servers: impl Iterator<Item = SocketAddrV4>,
    ) -> Result<Self, String> {
        let file = folder.join("haproxy.cfg");
        fs::write(&file, configuration(address, servers))
            .map_err(|error| format!("cannot write to {}: {error}", file.display()))?;
        // What an earlier run has left would look as if this one listened.
        let _ = fs::remove_file(folder.join(ADMIN));
        Command::new(program)
            .args(["-db", "-f"])
            .arg(&file)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file(&folder.join(LOG))?)
            .spawn()
            .map(Self)
            .map_err(|error| format!("cannot start {}: {error}", program.display()))
    }

    /// Whether it listens. An error if it has ended.
    pub(crate) fn is_ready(&mut self) -> Result<bool, String> {
        match self.0.try_wait() {
            Ok(None) => Ok(self.ask("show info").is_ok()),
            Ok(Some(status)) => Err(format!("haproxy has ended: {status}; its log is {LOG}")),
            Err(error) => Err(format!("cannot wait for haproxy: {error}")),
        }
    }

    pub(crate) fn set_state(&self, server: usize, state: State) -> Result<(), String> {
        let state = match state {
            State::Ready => "ready",
            State::Drain => "drain",
        };
        let answer = self.ask(&format!("set server echo/s{server} state {state}"))?;
        if answer.trim().is_empty() { Ok(()) } else { Err(format!("haproxy answers {answer:?}")) }
    }

    /// Counts the sessions that a server has now.
    pub(crate) fn sessions(&self, server: usize) -> Result<u64, String> {
        let table = self.ask("show stat")?;
        parse_sessions(&table, server)
            .ok_or_else(|| format!("haproxy does not know how many sessions s{server} has"))
    }

    fn ask(&self, question: &str) -> Result<String, String> {
        let path = format!("/proc/{}/cwd/{ADMIN}", self.0.id());
        let ask = || {
            let mut socket = UnixStream::connect(path)?;
            socket.set_read_timeout(Some(ANSWERS_WITHIN))?;
            socket.write_all(format!("{question}\n").as_bytes())?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().map_err(|error: std::io::Error| format!("cannot ask haproxy to {question}: {error}"))
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It has ended, or will.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A session that a server refuses goes to another one, as it does wherever there are several.
fn configuration(address: SocketAddrV4, servers: impl Iterator<Item = SocketAddrV4>) -> String {
    let mut text = format!(
        "global
    stats socket unix@{ADMIN} mode 600 level admin
    maxconn 1000
    nbthread 1
    log stderr format raw local0
defaults
    log global
    option tcplog
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch 1
frontend clients
    bind {address}
    default_backend echo
backend echo
    balance roundrobin
"
    );
    for (index, server) in servers.enumerate() {
        text += &format!("    server s{index} {server}\n");
    }
    text
}

/// Reads the column `scur` of a server's line.
fn parse_sessions(table: &str, server: usize) -> Option<u64> {
    let mut lines = table.lines();
    let column = lines.next()?.split(',').position(|name| name == "scur")?;
    let start = format!("echo,s{server},");
    let line = lines.find(|line| line.starts_with(&start))?;
    line.split(',').nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_of_a_server_are_found() {
        let table = "# pxname,svname,qcur,qmax,scur,smax\nclients,FRONTEND,,,9,9\necho,s0,0,0,1,5\necho,s1,0,0,7,9\n";
        assert_eq!(parse_sessions(table, 1), Some(7));
        assert_eq!(parse_sessions(table, 2), None);
        assert_eq!(parse_sessions("", 0), None);
    }
}
