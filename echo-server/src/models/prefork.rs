//! A pool of processes, all of which accept from the one listener. Each serves one client after
//! another.

use std::io;

use crate::intake::{Event, Intake};
use crate::options::Options;
use crate::pool::Seat;
use crate::record::Record;
use crate::session::{self, Timeouts};

pub(crate) fn serve(seat: Seat, options: &Options, timeouts: Timeouts) -> io::Result<()> {
    let mut record = Record::new(seat.board, seat.row, options.max_per_source());
    let mut intake = Intake::new(seat.listener, seat.orders, false)?;
    loop {
        match intake.next(None)? {
            Event::Client(connection, source) => {
                intake.is_served();
                if record.admits(source)? {
                    session::serve_in_process(connection, timeouts, Some(&mut intake))?;
                    record.has_left(source)?;
                }
                if intake.is_closed() {
                    return Ok(());
                }
            }
            Event::Closed => return Ok(()),
            Event::Ready(_) | Event::Nothing => {}
        }
    }
}
