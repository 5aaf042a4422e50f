//! Hearing the position records as they are replayed.

use crate::lsn::Lsn;
use crate::pg::transaction_records::Record;
use crate::pg::xlog_reader::{ReadError, Step, XLogReader};
use crate::pg::{wait, worker_process};
use crate::position::{self, Notes, POSITION_PREFIX, Position};
use crate::wal::batch::Batch;

/// What a position record says; none if it cannot be read, or says nothing.
pub type Heard = Option<(Position, Option<Notes>)>;

/// Reads what was replayed, unless the worker is told to end, and has each position record heard, with its end.
///
/// # Errors
///
/// [`ReadError`] if the WAL cannot be read.
pub fn listen(reader: &mut XLogReader, mut hear: impl FnMut(Heard, Lsn)) -> Result<(), ReadError> {
    while !worker_process::must_end() {
        let batch = Batch::begin(reader);
        while !batch.is_over(reader) {
            match reader.read()? {
                Step::Record(Record::PlainMessage { prefix: POSITION_PREFIX, payload, .. }) => {
                    let heard = position::decode(payload);
                    hear(heard, reader.position());
                }
                Step::Record(_) | Step::Skipped => {}
                Step::EndOfWal => return Ok(()),
            }
        }
        wait::serve_interrupts();
    }
    Ok(())
}
