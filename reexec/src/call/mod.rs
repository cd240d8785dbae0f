//! Typed calls: a registered function gets a value from the parent, and returns one.
//!
//! Both values travel in one memory file, which the child inherits. The parent writes the argument
//! before it starts the child; the child replaces it with its reply; the parent reads the reply when the
//! child has ended. So nobody blocks, however long the values are: a pipe would block its writer at
//! 64 KiB, and would not end as long as another process holds it open.

mod error;
mod file;
mod message;
mod parent;
mod register;

pub use error::CallError;
pub use parent::Call;
pub use register::register_call;
