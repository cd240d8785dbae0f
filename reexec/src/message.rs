//! The messages on the control channel, as bytes. Parent and child are the same program, so the
//! encoding needs no versions.

use std::io;
use std::os::fd::RawFd;

use crate::Stage;
use crate::child_setting::Setting;
use crate::codec::{Input, put_i32, put_string, put_u32, put_u64};
use crate::lifeline::ChildEnd;
use crate::program::{FileId, Identity};

/// The name of the descriptor that makes a start a typed call.
pub(crate) const CALL_FILE: &str = "reexec/call";

/// The function that confines a template, or a child that is executed instead, and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preparation {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
}

/// Tells the child's `init` what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    /// The registered function to run.
    pub(crate) entry: String,
    /// The number of re-executions that led to the child, including its own.
    pub(crate) depth: u32,
    /// Whether the parent waits for a report.
    pub(crate) confirm: bool,
    /// The child's end of the lifeline, unless the child outlives its parent.
    pub(crate) lifeline: Option<ChildEnd>,
    /// A descriptor that must stay open as long as the child lives.
    pub(crate) keep_open: Option<RawFd>,
    /// The sealed copy that the child executes. The child closes this descriptor.
    pub(crate) sealed_copy: Option<RawFd>,
    /// The identity of the program, if the child executes the parent's own file.
    pub(crate) identity: Option<Identity>,
    /// Whether the spawn has closed every undeclared descriptor.
    pub(crate) undeclared_closed: bool,
    /// The descriptors passed by name.
    pub(crate) descriptors: Vec<(String, RawFd)>,
    /// The settings to apply, in this order.
    pub(crate) settings: Vec<Setting>,
    /// What runs after the settings, and before the entry.
    pub(crate) preparation: Option<Preparation>,
}

impl Launch {
    pub(crate) fn is_call(&self) -> bool {
        self.descriptors.iter().any(|(name, _)| name == CALL_FILE)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(&mut out, &self.entry);
        put_u32(&mut out, self.depth);
        put_u32(&mut out, self.confirm.into());
        put_i32(&mut out, self.lifeline.map_or(-1, |end| end.fd));
        put_i32(&mut out, self.lifeline.map_or(0, |end| end.signal));
        put_i32(&mut out, self.keep_open.unwrap_or(-1));
        put_i32(&mut out, self.sealed_copy.unwrap_or(-1));
        put_u32(&mut out, self.undeclared_closed.into());
        put_u32(&mut out, self.identity.is_some().into());
        if let Some(Identity { file, root }) = self.identity {
            for number in [file.0, file.1, root.0, root.1] {
                put_u64(&mut out, number);
            }
        }
        put_u32(&mut out, self.descriptors.len() as u32);
        for (name, fd) in &self.descriptors {
            put_string(&mut out, name);
            put_i32(&mut out, *fd);
        }
        put_u32(&mut out, self.settings.len() as u32);
        for setting in &self.settings {
            setting.encode(&mut out);
        }
        put_u32(&mut out, self.preparation.is_some().into());
        if let Some(Preparation { name, args }) = &self.preparation {
            put_string(&mut out, name);
            put_u32(&mut out, args.len() as u32);
            args.iter().for_each(|arg| put_string(&mut out, arg));
        }
        out
    }

    pub(crate) fn decode(message: &[u8]) -> Option<Launch> {
        let mut input = Input(message);
        let entry = input.string()?;
        let depth = input.u32()?;
        let confirm = input.u32()? != 0;
        let (fd, signal) = (input.i32()?, input.i32()?);
        let (keep_open, sealed_copy) = (input.i32()?, input.i32()?);
        let undeclared_closed = input.u32()? != 0;
        let identity = match input.u32()? {
            0 => None,
            _ => Some(Identity {
                file: FileId(input.u64()?, input.u64()?),
                root: FileId(input.u64()?, input.u64()?),
            }),
        };
        let count = input.u32()?;
        let descriptors =
            (0..count).map(|_| Some((input.string()?, input.i32()?))).collect::<Option<_>>()?;
        let count = input.u32()?;
        let settings = (0..count).map(|_| Setting::decode(&mut input)).collect::<Option<_>>()?;
        let preparation = match input.u32()? {
            0 => None,
            _ => {
                let (name, count) = (input.string()?, input.u32()?);
                let args = (0..count).map(|_| input.string()).collect::<Option<_>>()?;
                Some(Preparation { name, args })
            }
        };
        input.0.is_empty().then_some(Launch {
            entry,
            depth,
            confirm,
            lifeline: (fd >= 0).then_some(ChildEnd { fd, signal }),
            keep_open: (keep_open >= 0).then_some(keep_open),
            sealed_copy: (sealed_copy >= 0).then_some(sealed_copy),
            identity,
            undeclared_closed,
            descriptors,
            settings,
            preparation,
        })
    }
}

/// Tells the parent how far the child got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The entry is about to run.
    Ready,
    /// No entry of that name is registered.
    UnknownEntry,
    /// This step of the set-up failed with this `errno`.
    Failed { step: String, errno: i32 },
    /// This step of the set-up failed for this reason, which is no `errno`.
    Refused { step: String, reason: String },
}

impl Report {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Report::Ready => out.push(0),
            Report::UnknownEntry => out.push(1),
            Report::Failed { step, errno } => {
                out.push(2);
                put_string(&mut out, step);
                put_i32(&mut out, *errno);
            }
            Report::Refused { step, reason } => {
                out.push(3);
                put_string(&mut out, step);
                put_string(&mut out, reason);
            }
        }
        out
    }

    /// Returns the stage at which the start failed, if it did.
    pub(crate) fn failure(&self) -> Option<Stage> {
        match self {
            Report::Ready => None,
            Report::UnknownEntry => Some(Stage::UnknownEntry),
            Report::Failed { step, errno } => Some(Stage::SetUp {
                step: step.clone(),
                source: io::Error::from_raw_os_error(*errno),
            }),
            Report::Refused { step, reason } => {
                let source = io::Error::other(reason.clone());
                Some(Stage::SetUp { step: step.clone(), source })
            }
        }
    }

    pub(crate) fn decode(message: &[u8]) -> Option<Report> {
        let (kind, rest) = message.split_first()?;
        let mut input = Input(rest);
        let report = match kind {
            0 => Report::Ready,
            1 => Report::UnknownEntry,
            2 => Report::Failed { step: input.string()?, errno: input.i32()? },
            3 => Report::Refused { step: input.string()?, reason: input.string()? },
            _ => return None,
        };
        input.0.is_empty().then_some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resource;
    use proptest::prelude::*;

    fn settings() -> impl Strategy<Value = Setting> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            Just(Setting::NewSession),
            (any::<u64>(), any::<u64>()).prop_map(|(soft, hard)| Setting::Limit {
                resource: Resource::OpenFiles,
                soft,
                hard
            }),
            any::<i32>().prop_map(Setting::Nice),
            any::<u32>().prop_map(Setting::Umask),
            proptest::collection::vec(any::<u32>(), 0..9).prop_map(Setting::Groups),
            any::<u32>().prop_map(Setting::Group),
            any::<u32>().prop_map(Setting::User),
            bytes.prop_map(Setting::CurrentDir),
            Just(Setting::NoNewPrivileges),
            any::<i32>().prop_map(Setting::IgnoreSignal),
        ]
    }

    fn identities() -> impl Strategy<Value = Identity> {
        any::<[u64; 4]>()
            .prop_map(|[a, b, c, d]| Identity { file: FileId(a, b), root: FileId(c, d) })
    }

    fn preparations() -> impl Strategy<Value = Preparation> {
        (".{0,20}", proptest::collection::vec(".{0,20}", 0..5))
            .prop_map(|(name, args)| Preparation { name, args })
    }

    fn launches() -> impl Strategy<Value = Launch> {
        (
            ".{0,40}",
            any::<u32>(),
            any::<bool>(),
            proptest::option::of(
                (0..1_000_000, 1..65).prop_map(|(fd, signal)| ChildEnd { fd, signal }),
            ),
            proptest::option::of(0..1_000_000),
            proptest::option::of(0..1_000_000),
            (proptest::option::of(identities()), any::<bool>()),
            proptest::collection::vec((".{0,20}", 0..1_000_000), 0..20),
            proptest::collection::vec(settings(), 0..9),
            proptest::option::of(preparations()),
        )
            .prop_map(
                |(
                    entry,
                    depth,
                    confirm,
                    lifeline,
                    keep_open,
                    sealed_copy,
                    (identity, undeclared_closed),
                    descriptors,
                    settings,
                    preparation,
                )| Launch {
                    entry,
                    depth,
                    confirm,
                    lifeline,
                    keep_open,
                    sealed_copy,
                    identity,
                    undeclared_closed,
                    descriptors,
                    settings,
                    preparation,
                },
            )
    }

    fn reports() -> impl Strategy<Value = Report> {
        prop_oneof![
            Just(Report::Ready),
            Just(Report::UnknownEntry),
            (".{0,40}", any::<i32>()).prop_map(|(step, errno)| Report::Failed { step, errno }),
            (".{0,40}", ".{0,40}").prop_map(|(step, reason)| Report::Refused { step, reason }),
        ]
    }

    proptest! {
        #[test]
        fn a_launch_arrives_as_it_was_sent(launch in launches()) {
            prop_assert_eq!(Launch::decode(&launch.encode()), Some(launch));
        }

        #[test]
        fn a_report_arrives_as_it_was_sent(report in reports()) {
            prop_assert_eq!(Report::decode(&report.encode()), Some(report));
        }

        #[test]
        fn a_shortened_or_lengthened_launch_is_refused(launch in launches(), cut in 1usize..9) {
            let mut message = launch.encode();
            message.truncate(message.len() - cut.min(message.len()));
            prop_assert_eq!(Launch::decode(&message), None);
            let mut message = launch.encode();
            message.push(0);
            prop_assert_eq!(Launch::decode(&message), None);
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Launch::decode(&bytes);
            let _ = Report::decode(&bytes);
        }
    }
}
