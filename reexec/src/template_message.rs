//! What a template and its maker say to each other, over a pair of sequenced-packet sockets.
//!
//! ```text
//! template  Greeting → maker       it can make children, or why it cannot
//! maker     Request  → template    the launch, arguments, environment, and the child's descriptors
//! template  Reply    → maker       the child's number, or why there is none
//! ```
//!
//! The maker waits for each reply before the next request. The template ends when the maker closes its
//! end.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use crate::codec::{Input, put_i32, put_string, put_u32};
use crate::sys::{self, CStrings};

/// The entry that a template runs. No program can register it, because of the '/'.
pub(crate) const ENTRY: &str = "reexec/template";

/// The names of the template's descriptors. The page comes last, and so has the highest number.
pub(crate) const SOCKET: &str = "reexec/socket";
pub(crate) const PAGE: &str = "reexec/page";

/// The most arguments that a child of a template can have, without `argv[0]`. The template is started
/// with as many empty ones, because the place for them is made at exec.
pub(crate) const ARGUMENTS_MAX: usize = 64;

/// The longest request. Sockets accept longer messages, but how long depends on the system's settings.
pub(crate) const REQUEST_MAX: usize = 64 * 1024;

/// Asks for a child.
pub(crate) struct Request<'a> {
    /// The encoded [`Launch`](crate::message::Launch).
    pub(crate) launch: &'a [u8],
    pub(crate) argv: &'a CStrings,
    pub(crate) env: &'a CStrings,
    /// Whether the child has the template's environment, and `env` is empty.
    pub(crate) keeps_env: bool,
    /// The signals that the child ignores.
    pub(crate) ignored: &'a [i32],
    /// The process group that the child is born into; 0 for one of its own.
    pub(crate) group: Option<i32>,
    /// The descriptors that the child gets, at the numbers from 0 on.
    pub(crate) descriptors: &'a [RawFd],
}

impl Request<'_> {
    pub(crate) fn send(&self, socket: impl AsFd) -> io::Result<()> {
        let mut header = Vec::new();
        put_u32(&mut header, self.argv.len() as u32);
        put_u32(&mut header, self.keeps_env.into());
        put_i32(&mut header, self.group.unwrap_or(-1));
        put_u32(&mut header, self.launch.len() as u32);
        put_u32(&mut header, self.ignored.len() as u32);
        self.ignored.iter().for_each(|signal| put_i32(&mut header, *signal));
        let parts = [&header, self.launch, self.argv.as_bytes(), self.env.as_bytes()];
        if parts.iter().map(|part| part.len()).sum::<usize>() > REQUEST_MAX {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        sys::send_with_descriptors(socket, &parts.map(IoSlice::new), self.descriptors, 0)
    }
}

/// A request that has come.
pub(crate) struct Order {
    /// The number of the arguments.
    pub(crate) arguments: usize,
    pub(crate) keeps_env: bool,
    /// Where in the buffer the numbers of the signals are that the child ignores.
    pub(crate) ignored: Range<usize>,
    pub(crate) group: Option<i32>,
    /// Where in the buffer the launch is.
    pub(crate) launch: Range<usize>,
    /// Where in the buffer the strings are: the arguments, then the environment.
    pub(crate) strings: Range<usize>,
}

impl Order {
    /// Waits for the next request. Returns `None` at the end of the connection, and an error inside
    /// for a request that this process has no room for.
    pub(crate) fn receive(
        socket: impl AsFd,
        buffer: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<Option<io::Result<Order>>> {
        let received = sys::receive_with_descriptors(socket, buffer, descriptors, 0)?;
        if received.length == 0 {
            return Ok(None);
        }
        if received.is_cut {
            return Ok(Some(Err(io::Error::from_raw_os_error(libc::EMFILE))));
        }
        let order = Self::decode(&buffer[..received.length]);
        Ok(Some(order.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))))
    }

    fn decode(message: &[u8]) -> Option<Order> {
        let mut input = Input(message);
        let arguments = input.u32()? as usize;
        let keeps_env = input.u32()? != 0;
        let group = Some(input.i32()?).filter(|group| *group >= 0);
        let (length, count) = (input.u32()? as usize, input.u32()? as usize);
        let start = message.len() - input.0.len();
        let ignored = start..start.checked_add(count.checked_mul(size_of::<i32>())?)?;
        let launch = ignored.end..ignored.end.checked_add(length)?;
        let strings = launch.end..message.len();
        let is_whole = strings.start <= strings.end;
        is_whole.then_some(Order { arguments, keeps_env, ignored, group, launch, strings })
    }
}

/// What a template answers: the child's number, or the error that there is none for.
pub(crate) type Reply = Result<i32, i32>;

pub(crate) fn encode_reply(reply: Reply) -> [u8; 4] {
    reply.unwrap_or_else(|errno| -errno).to_ne_bytes()
}

pub(crate) fn decode_reply(message: &[u8]) -> Option<Reply> {
    match Input(message).i32()? {
        0 => None,
        pid if pid > 0 => Some(Ok(pid)),
        error => Some(Err(-error)),
    }
}

/// The first message of a template: its own number as it sees it, or why it cannot make children.
pub(crate) type Greeting = Result<u32, String>;

pub(crate) fn encode_greeting(greeting: &Greeting) -> Vec<u8> {
    let mut out = Vec::new();
    put_u32(&mut out, *greeting.as_ref().unwrap_or(&0));
    put_string(&mut out, greeting.as_ref().err().map_or("", String::as_str));
    out
}

pub(crate) fn decode_greeting(message: &[u8]) -> Option<Greeting> {
    let mut input = Input(message);
    let (pid, reason) = (input.u32()?, input.string()?);
    Some(if pid == 0 { Err(reason) } else { Ok(pid) })
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, RawFd};
    use std::os::unix::net::UnixDatagram;

    use proptest::prelude::*;

    use super::*;

    fn strings(list: &[String]) -> CStrings {
        let mut strings = CStrings::default();
        list.iter().for_each(|string| assert!(strings.push(&[string.as_bytes()]).is_ok()));
        strings
    }

    proptest! {
        #[test]
        fn a_request_arrives_as_it_was_sent(
            argv in proptest::collection::vec("[^\0]{0,20}", 0..9),
            env in proptest::collection::vec("[^\0]{0,20}", 0..9),
            ignored in proptest::collection::vec(1..65, 0..5),
            count in 0..9_usize,
            keeps_env in any::<bool>(),
            group in proptest::option::of(0..99),
            launch in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let (maker, template) = UnixDatagram::pair().unwrap();
            let descriptors: Vec<RawFd> = vec![maker.as_raw_fd(); count];
            let (argv, env) = (strings(&argv), strings(&env));
            let (ignored, descriptors) = (&ignored[..], &descriptors[..]);
            let (launch, argv, env) = (&launch[..], &argv, &env);
            let request = Request { launch, argv, env, keeps_env, ignored, group, descriptors };
            request.send(&maker).unwrap();
            let mut buffer = vec![0; REQUEST_MAX];
            let mut received = Vec::new();
            let order = Order::receive(&template, &mut buffer, &mut received);
            let order = order.unwrap().unwrap().unwrap();
            prop_assert_eq!(order.arguments, argv.len());
            prop_assert_eq!(order.keeps_env, keeps_env);
            let numbers: Vec<_> = ignored.iter().flat_map(|it| it.to_ne_bytes()).collect();
            prop_assert_eq!(&buffer[order.ignored], numbers);
            prop_assert_eq!(order.group, group);
            prop_assert_eq!(&buffer[order.launch], launch);
            prop_assert_eq!(received.len(), count);
            let sent = [argv.as_bytes(), env.as_bytes()].concat();
            prop_assert_eq!(&buffer[order.strings], &sent[..]);
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(order) = Order::decode(&bytes) {
                let _ = (&bytes[order.ignored], &bytes[order.launch], &bytes[order.strings]);
            }
            let _ = decode_reply(&bytes);
            let _ = decode_greeting(&bytes);
        }
    }

    #[test]
    fn a_request_that_is_too_long_is_not_sent() {
        let (maker, _template) = UnixDatagram::pair().unwrap();
        let (argv, env) = (CStrings::default(), strings(&["x".repeat(REQUEST_MAX)]));
        let request = Request {
            launch: &[],
            argv: &argv,
            env: &env,
            keeps_env: false,
            ignored: &[],
            group: None,
            descriptors: &[],
        };
        assert!(sys::is(&request.send(&maker).unwrap_err(), libc::EMSGSIZE));
    }

    #[test]
    fn answers_arrive_as_they_were_sent() {
        for reply in [Ok(1), Ok(i32::MAX), Err(libc::EAGAIN)] {
            assert_eq!(decode_reply(&encode_reply(reply)), Some(reply));
        }
        for greeting in [Ok(1), Ok(u32::MAX), Err("the reason".to_owned())] {
            assert_eq!(decode_greeting(&encode_greeting(&greeting)), Some(greeting));
        }
    }
}
