//! Events that are lost or given up, and who is told.

use pgrx::PgSqlErrorCode;

use super::{Worker, notes};
use crate::delivery::Counts;
use crate::lsn::Lsn;
use crate::pg::report::{self, Report};
use crate::pg::server;
use crate::pg::xlog_reader::XLogReader;
use crate::position::{POSITION_PREFIX, Position};
use crate::settings;
use crate::status;
use crate::stream::Stream;
use crate::stream::gap::{Gap, OwedGap};
use crate::stream::takeover::{Switch, Takeover};
use crate::wal::reader::TransactionReader;

impl Worker {
    /// Gives up the backlog, if that is wanted, and goes on at the first record behind it, once there is one.
    pub(super) fn give_up_backlog(&mut self) {
        let Some(until) = self.giving_up.filter(|&until| server::flushed_lsn() > until) else {
            return;
        };
        let Some((_, begin)) = XLogReader::at_first_record_after(until) else { return };
        self.giving_up = None;
        let notes = notes(&self.handover, self.delivery.as_ref());
        let owed = notes.owed.clone();
        let from = self.keeper.give_up(self.position().confirmed, begin, notes);
        let memory_limit = server::logical_decoding_work_mem();
        self.reader = TransactionReader::new(begin, memory_limit, POSITION_PREFIX, Lsn::INVALID);
        self.stream = Stream::resume(Position::default());
        self.composer.begin_at(begin);
        (self.held, self.damage, self.awaiting_standby) = (None, None, None);
        // Another one: what is on its way in this one is given up as well.
        (self.delivery, self.seen, self.handed_over) = (None, Counts::default(), 0);
        self.condition.begin_anew();
        let gap = Gap { from, to: begin };
        let problem = format!("backlog is given up by order of an operator: what committed {gap}");
        self.announce(gap, problem);
        self.apply_settings();
        self.owe(owed);
    }

    /// Has the delivery announce what exchanges are owed.
    pub(super) fn owe(&mut self, owed: Vec<OwedGap>) {
        if let Some(delivery) = &self.delivery {
            owed.into_iter().for_each(|owed| delivery.owe(self.composer.debt(owed)));
        }
    }

    /// Tells the consumers, before anything else is published, that the stream goes on on another timeline, and of the
    /// gap, if there is one.
    pub(super) fn tell_of(&mut self, takeover: Takeover, gap: Option<Gap>) {
        for Switch { from, to, at } in &takeover.switches {
            report::log(format!(
                "stream of timeline {from} goes on on timeline {to}, which began at {at}"
            ));
        }
        let addressees = self.handover.addressees(&settings::exchange());
        self.stream.push(takeover.into_transaction(gap, &addressees, server::now()));
    }

    /// Announces a gap in the log, in the status and, before anything else is published, to the consumers.
    pub(super) fn announce(&mut self, gap: Gap, problem: String) {
        self.note_gap(gap, problem);
        let addressees = self.handover.addressees(&settings::exchange());
        self.stream.push(gap.into_transaction(&addressees, server::now()));
    }

    /// Tells of a gap in the log and in the status.
    pub(super) fn note_gap(&mut self, gap: Gap, problem: String) {
        self.condition.lose(problem.clone());
        status::set_gap(gap);
        Report::new(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, problem)
            .detail("Transactions that committed in that time may be missing from the stream, wholly or their first events.")
            .hint("Bring consumers in line with the tables; they are told by an event of type \"gap\".")
            .warn();
    }
}
