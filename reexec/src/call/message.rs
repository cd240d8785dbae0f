//! What a parent and its child write into the file of a call, as bytes.

use std::any::type_name;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file::invalid_data;
use crate::codec::{Input, put_i32, put_string};

/// The types of a call, by name. The encoding does not contain types, so without this check a child
/// would take the bytes of one type for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Types {
    pub(super) argument: String,
    pub(super) result: String,
}

impl Types {
    /// Returns the names of these types. `A` may be borrowed: a `&str` is passed to a `String`.
    pub(super) fn of<A: ?Sized, R>() -> Self {
        Self { argument: owned_name(type_name::<A>()), result: type_name::<R>().to_owned() }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, &self.argument);
        put_string(out, &self.result);
    }

    fn decode(input: &mut Input<'_>) -> Option<Self> {
        Some(Self { argument: input.string()?, result: input.string()? })
    }
}

/// Returns the name of the type that owns what the named type borrows. Both are encoded alike.
fn owned_name(name: &str) -> String {
    let name = name.trim_start_matches('&');
    let is_slice = |inner: &&str| {
        let length = inner.rsplit_once("; ").map(|(_, length)| length); // as in "u8; 4"
        !length.is_some_and(|length| length.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let element = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(is_slice);
    match element {
        Some(element) => type_name::<Vec<()>>().replace("()", element),
        None if name == type_name::<str>() => type_name::<String>().to_owned(),
        None if name == type_name::<Path>() => type_name::<PathBuf>().to_owned(),
        None => name.to_owned(),
    }
}

/// Encodes the argument behind the types of the call.
pub(super) fn encode_argument<A: Serialize + ?Sized>(
    types: &Types,
    argument: &A,
) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    types.encode(&mut out);
    encode(argument, out)
}

/// Returns the types of the call, and the encoded argument.
pub(super) fn split_argument(message: &[u8]) -> Option<(Types, &[u8])> {
    let mut input = Input(message);
    let types = Types::decode(&mut input)?;
    Some((types, input.0))
}

/// What the child writes.
#[derive(Debug)]
pub(super) enum Reply<'a> {
    /// The function has returned this value, encoded.
    Returned(&'a [u8]),
    /// The function has panicked.
    Panicked { message: String, location: String },
    /// The function has other types, and was not run.
    WrongTypes(Types),
    /// The argument could not be read, and the function was not run.
    NoArgument(io::Error),
    /// The function has run, and its result could not be written.
    NoResult(io::Error),
}

const RETURNED: u8 = 1;
const PANICKED: u8 = 2;
const WRONG_TYPES: u8 = 3;
const NO_ARGUMENT: u8 = 4;
const NO_RESULT: u8 = 5;

/// Encodes a [`Reply::Returned`].
pub(super) fn encode_result<R: Serialize>(result: &R) -> io::Result<Vec<u8>> {
    encode(result, vec![RETURNED])
}

impl<'a> Reply<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Reply::Returned(value) => {
                out.push(RETURNED);
                out.extend_from_slice(value);
            }
            Reply::Panicked { message, location } => {
                out.push(PANICKED);
                put_string(&mut out, message);
                put_string(&mut out, location);
            }
            Reply::WrongTypes(types) => {
                out.push(WRONG_TYPES);
                types.encode(&mut out);
            }
            Reply::NoArgument(error) => {
                out.push(NO_ARGUMENT);
                encode_error(error, &mut out);
            }
            Reply::NoResult(error) => {
                out.push(NO_RESULT);
                encode_error(error, &mut out);
            }
        }
        out
    }

    pub(super) fn decode(message: &'a [u8]) -> Option<Reply<'a>> {
        let (kind, rest) = message.split_first()?;
        let mut input = Input(rest);
        let reply = match *kind {
            RETURNED => return Some(Reply::Returned(rest)),
            PANICKED => Reply::Panicked { message: input.string()?, location: input.string()? },
            WRONG_TYPES => Reply::WrongTypes(Types::decode(&mut input)?),
            NO_ARGUMENT => Reply::NoArgument(decode_error(&mut input)?),
            NO_RESULT => Reply::NoResult(decode_error(&mut input)?),
            _ => return None,
        };
        input.0.is_empty().then_some(reply)
    }
}

/// Encodes the number of a system call's error, or 0, and the text of another error.
fn encode_error(error: &io::Error, out: &mut Vec<u8>) {
    put_i32(out, error.raw_os_error().unwrap_or(0));
    put_string(out, &error.to_string());
}

fn decode_error(input: &mut Input<'_>) -> Option<io::Error> {
    let (errno, text) = (input.i32()?, input.string()?);
    Some(match errno {
        0 => invalid_data(text),
        errno => io::Error::from_raw_os_error(errno),
    })
}

/// Appends the encoded value.
fn encode<T: Serialize + ?Sized>(value: &T, out: Vec<u8>) -> io::Result<Vec<u8>> {
    let name = type_name::<T>();
    postcard::to_extend(value, out)
        .map_err(|error| invalid_data(format!("{name} cannot be encoded: {error}")))
}

/// Decodes a value, which must have no further bytes behind it.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let name = type_name::<T>();
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(invalid_data(format!("{} bytes follow after {name}", rest.len()))),
        Err(error) => Err(invalid_data(format!("the bytes are no {name}: {error}"))),
    }
}
