//! What a parent and its child write into the file of a call, as bytes.

use std::any::type_name;
use std::io;
use std::path::{Path, PathBuf};

use postcard::{take_from_bytes, to_stdvec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file::invalid_data;

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
}

/// Returns the name of the type that owns what the named type borrows. Both are encoded alike.
fn owned_name(name: &str) -> String {
    if let Some(borrowed) = name.strip_prefix('&') {
        return owned_name(borrowed.strip_prefix("mut ").unwrap_or(borrowed));
    }
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

/// Encodes the argument, behind the types of the call.
pub(super) fn encode_argument<A: Serialize + ?Sized>(
    types: &Types,
    argument: &A,
) -> io::Result<Vec<u8>> {
    // A tuple is encoded as its values one after another.
    let encoded = to_stdvec(&(&types.argument, &types.result, argument));
    encoded.map_err(cannot_encode::<A>)
}

/// Returns the types of the call, and the encoded argument.
pub(super) fn split_argument(message: &[u8]) -> io::Result<(Types, &[u8])> {
    let split = take_from_bytes(message);
    let ((argument, result), rest) = split.map_err(|error| invalid_data(error.to_string()))?;
    Ok((Types { argument, result }, rest))
}

/// Encodes what the function has returned, as a reply.
pub(super) fn encode_result<R: Serialize>(result: &R) -> io::Result<Vec<u8>> {
    to_stdvec(&(RETURNED, result)).map_err(cannot_encode::<R>)
}

/// The reason why the child has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The function has panicked.
    Panicked { message: String, location: String },
    /// The function has other types, and was not run.
    WrongTypes(Types),
    /// The argument could not be read, and the function was not run.
    Argument(io::Error),
    /// The function has run, and its result could not be written.
    Result(io::Error),
}

const RETURNED: u8 = 1;
const PANICKED: u8 = 2;
const WRONG_TYPES: u8 = 3;
const NO_ARGUMENT: u8 = 4;
const NO_RESULT: u8 = 5;

impl Failure {
    /// Encodes this as a reply.
    pub(super) fn encode(&self) -> Vec<u8> {
        let encoded = match self {
            Failure::Panicked { message, location } => to_stdvec(&(PANICKED, message, location)),
            Failure::WrongTypes(types) => to_stdvec(&(WRONG_TYPES, &types.argument, &types.result)),
            Failure::Argument(error) => to_stdvec(&(NO_ARGUMENT, number_and_text(error))),
            Failure::Result(error) => to_stdvec(&(NO_RESULT, number_and_text(error))),
        };
        encoded.unwrap_or_default() // numbers and strings can always be encoded
    }
}

/// Returns the encoded result in a reply, or the failure. Returns `None` if it is no reply.
pub(super) fn decode_reply(reply: &[u8]) -> Option<Result<&[u8], Failure>> {
    let (kind, rest) = reply.split_first()?;
    let failure = match *kind {
        RETURNED => return Some(Ok(rest)),
        PANICKED => {
            let (message, location) = decode(rest).ok()?;
            Failure::Panicked { message, location }
        }
        WRONG_TYPES => {
            let (argument, result) = decode(rest).ok()?;
            Failure::WrongTypes(Types { argument, result })
        }
        NO_ARGUMENT => Failure::Argument(to_error(decode(rest).ok()?)),
        NO_RESULT => Failure::Result(to_error(decode(rest).ok()?)),
        _ => return None,
    };
    Some(Err(failure))
}

/// Returns the number of an error of a system call, and the text of any other.
fn number_and_text(error: &io::Error) -> (Option<i32>, String) {
    (error.raw_os_error(), error.to_string())
}

fn to_error((number, text): (Option<i32>, String)) -> io::Error {
    number.map_or_else(|| invalid_data(text), io::Error::from_raw_os_error)
}

fn cannot_encode<T: ?Sized>(error: postcard::Error) -> io::Error {
    invalid_data(format!("{} cannot be encoded: {error}", type_name::<T>()))
}

/// Decodes a value that all of these bytes make up.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let name = type_name::<T>();
    match take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(invalid_data(format!("{} bytes follow after {name}", rest.len()))),
        Err(error) => Err(invalid_data(format!("the bytes are no {name}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;

    use super::*;

    fn failures() -> impl Strategy<Value = Failure> {
        let error = || {
            prop_oneof![
                (1..200).prop_map(io::Error::from_raw_os_error),
                ".{0,40}".prop_map(invalid_data),
            ]
        };
        prop_oneof![
            (".{0,40}", ".{0,40}")
                .prop_map(|(message, location)| Failure::Panicked { message, location }),
            (".{0,40}", ".{0,40}")
                .prop_map(|(argument, result)| Failure::WrongTypes(Types { argument, result })),
            error().prop_map(Failure::Argument),
            error().prop_map(Failure::Result),
        ]
    }

    /// With lengths that lie, at random places.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![any::<u8>(), Just(0xff), Just(1), Just(0x7f)];
        proptest::collection::vec(byte, 0..60)
    }

    proptest! {
        #[test]
        fn a_failure_arrives_as_it_was_sent(failure in failures()) {
            let reply = failure.encode();
            let decoded = decode_reply(&reply).unwrap().unwrap_err();
            prop_assert_eq!(format!("{decoded:?}"), format!("{failure:?}"));
        }

        #[test]
        fn an_argument_arrives_as_it_was_sent(
            argument in ".{0,40}", result in ".{0,40}", value in any::<(u8, Option<String>)>()
        ) {
            let types = Types { argument, result };
            let message = encode_argument(&types, &value).unwrap();
            let (found, rest) = split_argument(&message).unwrap();
            prop_assert_eq!(found, types);
            prop_assert_eq!(decode::<(u8, Option<String>)>(rest).unwrap(), value);
        }

        #[test]
        fn a_shortened_or_lengthened_value_is_refused(value in any::<(Vec<u32>, String)>()) {
            let mut bytes = encode_result(&value).unwrap();
            bytes.push(0);
            prop_assert!(decode::<(Vec<u32>, String)>(&bytes[1..]).is_err());
            bytes.truncate(bytes.len() - 2);
            prop_assert!(decode::<(Vec<u32>, String)>(&bytes[1..]).is_err());
        }

        /// Nor do they make it reserve the memory for a length that lies: that would abort.
        #[test]
        fn no_bytes_make_decoding_panic(bytes in bytes()) {
            let _ = split_argument(&bytes);
            let _ = decode_reply(&bytes);
            let _ = decode::<Vec<u64>>(&bytes);
            let _ = decode::<Vec<[u64; 32]>>(&bytes);
            let _ = decode::<HashMap<String, Option<Vec<char>>>>(&bytes);
            let _ = decode::<BTreeMap<i128, Result<f64, Box<str>>>>(&bytes);
            let _ = decode::<(PathBuf, std::time::Duration, std::net::SocketAddr)>(&bytes);
        }
    }

    #[test]
    fn a_borrowed_type_has_the_name_of_its_owner() {
        fn owner<A: ?Sized, R>() -> bool {
            Types::of::<A, ()>() == Types::of::<R, ()>()
        }
        assert!(owner::<str, String>());
        assert!(owner::<&&str, String>());
        assert!(owner::<Path, PathBuf>());
        assert!(owner::<[u8], Vec<u8>>());
        assert!(owner::<&[[u8; 4]], Vec<[u8; 4]>>());
        assert!(owner::<[Vec<String>], Vec<Vec<String>>>());
        assert!(owner::<&u8, u8>());
        assert!(owner::<&mut &mut [u8], Vec<u8>>());
        assert!(!owner::<[u8; 4], Vec<u8>>());
        assert!(!owner::<[[u8; 4]; 4], Vec<[u8; 4]>>());
        assert!(!owner::<(&str,), (String,)>());
    }
}
