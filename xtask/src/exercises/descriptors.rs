//! Exercises about descriptors that are open in one process too many.

use crate::evidence::{Evidence, check};
use crate::exercises::{Exercise, exercise};
use crate::model::bilingual::{Text, text};
use crate::model::event::{Event, What};
use crate::scenarios::servers::{Client, answered, connect};

const COMMAND_ENDED: Text = text("the command has ended", "命令已结束");
const HELPER_ENDED: Text = text("the helper has ended, too", "辅助进程也结束了");

pub(super) const LEAKED_DESCRIPTOR: Exercise = exercise!(
    "leaked-descriptor",
    section 2,
    |w| {
        let parent = w.start()?;
        let helper = w.process_in_line("Helper: ", "helper")?;
        let command = w.process_in_line("Command: ", "command")?;
        w.until_ended(command)?;
        w.read_descriptors(&[parent, helper]);
        w.snapshot(COMMAND_ENDED)?;
        w.until("the helper has ended", |w| w.has_ended(helper))?;
        w.give_a_moment(|w| w.is_gone(parent))?;
        w.snapshot(HELPER_ENDED)
    },
    ("kills-helper", COMMAND_ENDED, "helper", |e| e.at(COMMAND_ENDED).alive("helper").map(drop)),
    ("parent-holds", HELPER_ENDED, "parent", |e| e.at(HELPER_ENDED).gone("parent").map(drop)),
    ("leaked-descriptor", COMMAND_ENDED, "helper", |e| {
        let links = (3..20).filter_map(|fd| e.reading("helper", &format!("fd/{fd}")).ok());
        let has = || format!("the helper had {} open", links.collect::<Vec<_>>().join(", "));
        let ended = e.before(COMMAND_ENDED).line("The output has ended.");
        ended.map(drop).map_err(|why| format!("{why} until the command had ended; {}", has()))
    }),
    ("reads-part", COMMAND_ENDED, "parent", |e| e.prints_each("Read: ", &["first", "second"])),
);

const BOTH: Text = text("two clients are connected", "两个客户端已连接");
const ONE_FINISHED: Text = text(
    "the first client has sent its last byte, the second is still connected",
    "第一个客户端已发完，第二个还连着",
);

const ANSWERED: &str = "its answers";
const UNANSWERED: &str = "no answers";
const END: &str = "the end of the connection";

pub(super) const MISSING_CLOSE: Exercise = exercise!(
    "missing-close",
    section 10,
    |w| {
        let server = w.start()?;
        w.line("listening on ")?;
        w.read_descriptors(&[server]);
        let mut clients = connect(w, 2)?;
        w.give_a_moment(|_| answered(&mut clients) == 2)?;
        w.until_settled(server)?; // what it does to a connection, it has done
        clients.iter_mut().for_each(Client::ask_again);
        w.give_a_moment(|_| answered(&mut clients) == 2)?;
        clients.iter_mut().for_each(|client| client.record(w, ANSWERED, UNANSWERED));
        w.children(server, "child")?;
        w.snapshot(BOTH)?;
        let mut first = clients.remove(0);
        first.half_close();
        w.give_a_moment(|_| first.is_cut_off())?;
        w.client(1, if first.is_cut_off() { END } else { "no end" });
        w.read_descriptors(&[server]);
        w.snapshot(ONE_FINISHED)?;
        drop((first, clients));
        w.until_gone(server)
    },
    ("shuts-down", BOTH, "server", |e| {
        check!(e.clients_saw(2, UNANSWERED).is_err(), "no client got its answers")
    }),
    ("waits-for-child", BOTH, "server", |e| {
        check!(e.clients_saw(2, ANSWERED).is_ok(), "only one of two clients got its answers")
    }),
    ("missing-close", ONE_FINISHED, "server", |e| {
        check!(e.clients_saw(1, END).is_ok(), "the first client saw no end of its connection")
    }),
    ("still-open", ONE_FINISHED, "server", |e| {
        let before = sockets(e.before(BOTH));
        let now = sockets(e) - before;
        check!(now <= before, "sockets of the server: {before} before its clients came, {now} now")
    }),
);

/// How many of the descriptors that were read led to sockets.
fn sockets(e: Evidence<'_>) -> usize {
    let is_socket = |event: &&Event| matches!(&event.what, What::Proc { text, .. } if text.starts_with("socket:"));
    e.0.iter().filter(is_socket).count()
}
