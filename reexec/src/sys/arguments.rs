//! The arguments and the environment of this process: what std reads, and what ps shows.

use std::env;
use std::ffi::{CStr, c_char};
use std::fs;
use std::io;
use std::iter;
use std::ptr;

unsafe extern "C" {
    /// environ(7).
    static mut environ: *mut *mut c_char;
}

/// The arguments that the kernel has put on the stack of this process, and the bounds of its memory.
#[derive(Debug)]
pub(crate) struct Arguments {
    argv: *mut *mut c_char,
    /// How many arguments the array has room for, without the null pointer at its end.
    room: usize,
    bounds: MemoryMap,
}

/// `struct prctl_mm_map` of linux/prctl.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: usize, // a pointer
    auxv_size: u32,
    exe_fd: u32,
}

impl Arguments {
    /// Finds the arguments, and makes sure that std reads them there. Call it with one thread.
    ///
    /// # Errors
    ///
    /// Those of reading `/proc/self/stat`; [`io::ErrorKind::Unsupported`] if the arguments are not
    /// where the kernel has put them.
    pub(crate) fn find() -> io::Result<Arguments> {
        let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
        let bounds = bounds(&fs::read_to_string("/proc/self/stat")?).ok_or_else(unsupported)?;
        // Above the stack's start are the number of arguments, the pointers, and then the strings.
        let is_plausible = bounds.start_stack != 0
            && bounds.start_stack.is_multiple_of(align_of::<usize>() as u64)
            && bounds.arg_start.checked_sub(bounds.start_stack).is_some_and(|size| size < 1 << 22);
        if !is_plausible {
            return Err(unsupported());
        }
        let count = ptr::with_exposed_provenance_mut::<usize>(bounds.start_stack as usize);
        // SAFETY: everything from the stack's start to the strings is one piece of memory, because the
        // stack grows down; and the kernel begins it with the number of arguments.
        let room = unsafe { count.read_volatile() };
        if room as u64 > (bounds.arg_start - bounds.start_stack) / size_of::<usize>() as u64 - 1 {
            return Err(unsupported());
        }
        // SAFETY: the pointers follow the number.
        let argv = unsafe { count.add(1) }.cast::<*mut c_char>();
        let found = Arguments { argv, room, bounds };
        match found.is_read_by_std() {
            true => Ok(found),
            false => Err(unsupported()),
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Whether std notices a change of the array.
    fn is_read_by_std(&self) -> bool {
        let all = || env::args_os().count();
        if all() != self.room || self.room == 0 {
            return false;
        }
        // SAFETY: there is an element; with one thread, nobody reads the array meanwhile.
        unsafe {
            let last = self.argv.add(self.room - 1);
            let kept = last.read_volatile();
            last.write_volatile(ptr::null_mut());
            let found = all();
            last.write_volatile(kept);
            found == self.room - 1
        }
    }

    /// Replaces the arguments and the environment by these strings, each with a NUL byte at its end:
    /// first the arguments, of which there are `count`. Leaves the environment as it is if `keeps_env`
    /// says so. Call it with one thread.
    ///
    /// If the kernel does not let this process say where its arguments are, ps shows the old ones.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if there are fewer strings, or too many arguments.
    pub(crate) fn replace(
        &self,
        strings: &'static [u8],
        count: usize,
        keeps_env: bool,
    ) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        if count > self.room {
            return Err(invalid());
        }
        let (mut rest, whole) = (strings, strings.as_ptr_range());
        // SAFETY: the array has room for `count` pointers and the null pointer. The strings live for ever.
        // With one thread, nobody reads the array meanwhile.
        unsafe {
            for index in 0..count {
                self.argv.add(index).write(next_string(&mut rest).ok_or_else(invalid)?);
            }
            self.argv.add(count).write(ptr::null_mut());
        }
        let [start, env_start, end] =
            [whole.start, rest.as_ptr(), whole.end].map(|it| it.expose_provenance() as u64);
        if !keeps_env {
            let mut variables = Vec::new();
            variables.extend(iter::from_fn(|| next_string(&mut rest)));
            variables.push(ptr::null_mut());
            // SAFETY: the strings and this array live for ever. With one thread, nobody reads it meanwhile.
            unsafe { environ = variables.leak().as_mut_ptr() };
        }
        if !rest.is_empty() {
            return Err(invalid());
        }
        let mut bounds = MemoryMap { arg_start: start, arg_end: env_start, ..self.bounds };
        if !keeps_env {
            (bounds.env_start, bounds.env_end) = (env_start, end);
        }
        tell_kernel(bounds);
        Ok(())
    }
}

/// Takes the next string off the rest.
fn next_string(rest: &mut &'static [u8]) -> Option<*mut c_char> {
    let string = CStr::from_bytes_until_nul(rest).ok()?;
    *rest = &rest[string.count_bytes() + 1..];
    Some(string.as_ptr().cast_mut())
}

/// Tells the kernel where the arguments are: `PR_SET_MM_MAP` in prctl(2), which needs no privilege.
fn tell_kernel(mut bounds: MemoryMap) {
    // SAFETY: the kernel reads a structure of this size. It changes what /proc shows of this process;
    // the end of the heap is set to what it is.
    unsafe {
        bounds.brk = libc::syscall(libc::SYS_brk, 0) as u64;
        let size = size_of::<MemoryMap>();
        libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const bounds, size, 0);
    }
}

/// Reads the bounds from the text of /proc/self/stat; proc_pid_stat(5) counts its fields from 1.
fn bounds(stat: &str) -> Option<MemoryMap> {
    const FIRST: usize = 3; // the first field after the name, which may contain anything
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - FIRST)?.parse().ok();
    Some(MemoryMap {
        start_code: field(26)?,
        end_code: field(27)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        brk: 0,
        start_stack: field(28)?,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
        auxv: 0,
        auxv_size: 0,
        exe_fd: u32::MAX,
    })
}
