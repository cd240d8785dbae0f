//! SCM_RIGHTS, unix(7): messages that carry descriptors.

use std::ffi::c_int;
use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::errno::{check_return, retry_on_interrupt};

/// The most descriptors that one message can carry: `SCM_MAX_FD` in the kernel.
pub(crate) const RIGHTS_MAX: usize = 253;

/// Room for the control message with [`RIGHTS_MAX`] descriptors, in words, so that it is aligned.
const CONTROL_WORDS: usize = 2 + RIGHTS_MAX.div_ceil(2);

type ControlBuffer = [MaybeUninit<u64>; CONTROL_WORDS];

/// A message that has come.
pub(crate) struct Received {
    /// The length of the message, 0 at the end of the connection.
    pub(crate) length: usize,
    /// Whether the message was longer than the buffer, or had more descriptors than this process has
    /// room for.
    pub(crate) is_cut: bool,
}

/// Sends one message, and copies of these descriptors. `flags` are those of send(2). Fails with `EBADF`
/// if one of the descriptors is not open.
pub(crate) fn send_with_descriptors(
    socket: impl AsFd,
    parts: &[IoSlice<'_>],
    descriptors: &[RawFd],
    flags: c_int,
) -> io::Result<()> {
    if descriptors.len() > RIGHTS_MAX {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut control: ControlBuffer = [MaybeUninit::zeroed(); CONTROL_WORDS];
    let bytes = mem::size_of_val(descriptors) as u32;
    // SAFETY: all-zero is a value of this plain data. The control buffer has room for the header and
    // `RIGHTS_MAX` numbers, and is aligned as the header must be. `IoSlice` has the layout of `iovec`,
    // and sendmsg(2) only reads. Everything outlives the call.
    let sent = unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = parts.as_ptr().cast_mut().cast();
        message.msg_iovlen = parts.len() as _;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(bytes) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
        let numbers = libc::CMSG_DATA(header).cast::<RawFd>();
        ptr::copy_nonoverlapping(descriptors.as_ptr(), numbers, descriptors.len());
        let socket = socket.as_fd().as_raw_fd();
        retry_on_interrupt(|| {
            check_return(libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL | flags) as _)
        })
    };
    sent.map(drop)
}

/// Receives the next message, and adds its descriptors in the order in which they were sent. All are
/// close-on-exec. `flags` are those of recv(2).
pub(crate) fn receive_with_descriptors(
    socket: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    flags: c_int,
) -> io::Result<Received> {
    let mut control: ControlBuffer = [MaybeUninit::zeroed(); CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a value of this plain data. Both buffers are valid for writes of the lengths
    // given. The kernel has filled in the headers that the macros walk over, and the numbers that it
    // wrote are descriptors that nobody else owns.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control) as _;
        let socket = socket.as_fd().as_raw_fd();
        let length = retry_on_interrupt(|| {
            check_return(
                libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC | flags) as _
            )
        })?;
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let kind = ((*header).cmsg_level, (*header).cmsg_type);
            if kind == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let numbers = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    let number = numbers.add(index).read_unaligned();
                    descriptors.push(OwnedFd::from_raw_fd(number));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        Ok(Received {
            length: length as usize,
            is_cut: message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        })
    }
}
