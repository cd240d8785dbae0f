//! The `argv` and `envp` of execve(2).

use std::ffi::{CStr, c_char};
use std::ptr;

/// Holds NUL-terminated strings in one piece of memory.
///
/// A process has some forty variables. With an allocation for each of them, those would cost most of
/// the time that a spawn needs before the clone.
#[derive(Default)]
pub(crate) struct CStrings {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

/// The error for a string with a NUL byte.
pub(crate) struct ContainsNul;

impl CStrings {
    /// Adds one string, which is the concatenation of these parts.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> Result<(), ContainsNul> {
        if parts.iter().any(|part| part.contains(&0)) {
            return Err(ContainsNul);
        }
        self.starts.push(self.bytes.len());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
        Ok(())
    }

    /// Returns the number of strings.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns the strings one after another, each with its NUL byte.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what C calls a `char *const[]`, with a null pointer at its end.
    ///
    /// Nobody may write through these pointers. They are valid as long as `self` lives unchanged.
    pub(super) fn pointers(&self) -> Vec<*mut c_char> {
        let start_of = |start: &usize| self.bytes[*start..].as_ptr().cast::<c_char>().cast_mut();
        let pointers = self.starts.iter().map(start_of);
        pointers.chain([ptr::null_mut()]).collect()
    }
}

impl From<&CStr> for CStrings {
    fn from(string: &CStr) -> Self {
        Self { bytes: string.to_bytes_with_nul().to_vec(), starts: vec![0] }
    }
}
