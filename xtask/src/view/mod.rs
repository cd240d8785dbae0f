//! Shows results to people: as text, as files, and as a page. All of it is made from recorded events.

pub(crate) mod files;
mod idea;
mod ideas;
mod legend;
mod machine;
pub(crate) mod output;
mod page;
pub(crate) mod question;
mod questions;
mod slider;
mod snapshot;
mod story;
pub(crate) mod text;
mod timeline;
pub(crate) mod tree;
pub(crate) mod words;
