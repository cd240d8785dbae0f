//! What the compiler knows about the public types, as far as users rely on it.

#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::fs::File;
use std::hash::Hash;
use std::io;
use std::mem::size_of;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use reexec::{
    Child, Command, Error, Exit, Fork, ForkOptions, PartialOutput, Reaper, Resource, Stage, Stdio,
    Usage,
};

/// A function that returns a large `Result` copies it on each return.
const _: () = assert!(size_of::<Error>() == size_of::<usize>());

fn is_shared<T: Send + Sync + Debug>() {}
fn is_value<T: Copy + Eq + Hash>() {}
fn is_error<
    T: std::error::Error + Into<io::Error> + Into<Box<dyn std::error::Error + Send + Sync>>,
>() {
}
fn is_stdio<T: Into<Stdio>>() {}

/// The compiler decides.
#[test]
fn the_types_have_the_traits_that_users_rely_on() {
    is_shared::<Child>();
    is_shared::<Command>();
    is_shared::<Error>();
    is_shared::<Exit<u8>>();
    is_shared::<Fork>();
    is_shared::<ForkOptions>();
    is_shared::<PartialOutput>();
    is_shared::<Reaper<u8>>();
    is_shared::<Resource>();
    is_shared::<Stage>();
    is_shared::<Stdio>();
    is_shared::<Usage>();
    is_value::<Resource>();
    is_value::<Usage>();
    is_error::<Error>();
    is_stdio::<File>();
    is_stdio::<OwnedFd>();
    is_stdio::<ChildStdin>();
    is_stdio::<ChildStdout>();
    is_stdio::<ChildStderr>();
    is_stdio::<io::PipeReader>();
    is_stdio::<io::PipeWriter>();
    is_stdio::<io::Stdout>();
    is_stdio::<io::Stderr>();
    is_stdio::<TcpListener>();
    is_stdio::<TcpStream>();
    is_stdio::<UdpSocket>();
    is_stdio::<UnixDatagram>();
    is_stdio::<UnixListener>();
    is_stdio::<UnixStream>();
}
