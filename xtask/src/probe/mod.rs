//! Looks at processes from outside: through /proc, and through `ps`.

pub(crate) mod procfs;
pub(crate) mod ps;
