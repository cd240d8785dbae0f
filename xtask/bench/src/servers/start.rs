//! Starts a server, and reads where it listens.

use std::fs::File;
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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
