//! Exercises about servers and their clients.

use crate::exercises::{Exercise, exercise};
use crate::scenarios::servers::{ANSWERED, CLOSED, CONNECTED, PATIENCE, answered, connect};

const CUT_OFF: &str = "the connection closed by the server";

pub(super) const ONE_AT_A_TIME: Exercise = exercise!(
    "one-at-a-time",
    section 1,
    |w| {
        let server = w.start()?;
        let mut clients = connect(w, 5)?;
        w.give_time(PATIENCE, |_| answered(&mut clients) == 5)?;
        let children = w.children(server, "child")?;
        for (number, client) in (1..).zip(&mut clients) {
            match client.is_cut_off() {
                true => w.client(number, CUT_OFF),
                false => client.record(w, ANSWERED),
            }
        }
        w.snapshot(CONNECTED)?;
        drop(clients);
        w.give_time(PATIENCE, |w| children.iter().all(|child| w.has_ended(*child)))?;
        w.give_a_moment(|w| w.has_ended(server))?; // one that waits for its children, and ends
        w.snapshot(CLOSED)
    },
    ("drops-child", CONNECTED, "server", |e| e.clients_saw(0, CUT_OFF)),
    ("waits-for-child", CONNECTED, "server", |e| match e.clients_saw(5, ANSWERED) {
        Err(_) => e.at(CONNECTED).live_children(0, "server").map(drop),
        Ok(()) => Ok(()),
    }),
    ("one-at-a-time", CONNECTED, "server", |e| e.clients_saw(5, ANSWERED)),
    ("one-process", CONNECTED, "server", |e| e.at(CONNECTED).live_children(5, "server").map(drop)),
    ("server-ends", CLOSED, "server", |e| e.at(CLOSED).alive("server").map(drop)),
    ("child-stays", CLOSED, "server", |e| e.at(CLOSED).live_children(0, "server").map(drop)),
);
