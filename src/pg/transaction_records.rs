//! The WAL records of transactions and of logical messages, which the assembler needs, and those of which it
//! learns which transactions there are.

use std::ffi::{c_char, c_int};

use pgrx::pg_sys;

use super::logical_message::{HEADER_SIZE, XLOG_LOGICAL_MESSAGE};
use crate::lsn::Lsn;

/// A record that matters to the assembler.
#[derive(Debug)]
pub enum Record<'a> {
    /// A transactional logical message of no database, with its prefix.
    TransactionalMessage { xid: u32, lsn: Lsn, prefix: &'a [u8], payload: &'a [u8] },
    /// A logical message of no database that counts at once. `end` is the LSN after the record.
    PlainMessage { lsn: Lsn, end: Lsn, prefix: &'a [u8], payload: &'a [u8] },
    /// A transaction committed, or COMMIT PREPARED. `end` is the LSN after the record, `time` is
    /// in microseconds since 2000.
    Commit { xid: u32, subxids: &'a [u32], end: Lsn, time: i64 },
    /// A transaction or subtransaction was rolled back, or ROLLBACK PREPARED.
    Abort { xid: u32, subxids: &'a [u32] },
    /// PREPARE TRANSACTION.
    Prepare { xid: u32, subxids: &'a [u32] },
    /// Which xid comes next, and that no transaction older than `oldest` runs any more.
    RunningXacts { next: u32, oldest: u32 },
    /// Which xid came next when a checkpoint began, with its epoch.
    Checkpoint { next_xid: u64 },
    /// No transaction runs any more, but for the prepared ones; and which xid comes next, if it says so.
    NothingRuns { next_xid: Option<u64> },
}

/// The records that matter.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Message,
    Commit,
    Abort,
    Prepare,
    RunningXacts,
    OnlineCheckpoint,
    ShutdownCheckpoint,
    EndOfRecovery,
}

impl Kind {
    pub(super) fn of(header: &pg_sys::XLogRecord) -> Option<Kind> {
        let info = u32::from(header.xl_info) & !pg_sys::XLR_INFO_MASK;
        match header.xl_rmid as pg_sys::RmgrIds::Type {
            pg_sys::RmgrIds::RM_LOGICALMSG_ID => {
                (info == u32::from(XLOG_LOGICAL_MESSAGE)).then_some(Kind::Message)
            }
            pg_sys::RmgrIds::RM_XACT_ID => match info & pg_sys::XLOG_XACT_OPMASK {
                pg_sys::XLOG_XACT_COMMIT | pg_sys::XLOG_XACT_COMMIT_PREPARED => Some(Kind::Commit),
                pg_sys::XLOG_XACT_ABORT | pg_sys::XLOG_XACT_ABORT_PREPARED => Some(Kind::Abort),
                pg_sys::XLOG_XACT_PREPARE => Some(Kind::Prepare),
                _ => None,
            },
            pg_sys::RmgrIds::RM_STANDBY_ID => {
                (info == pg_sys::XLOG_RUNNING_XACTS).then_some(Kind::RunningXacts)
            }
            pg_sys::RmgrIds::RM_XLOG_ID => match info {
                pg_sys::XLOG_CHECKPOINT_ONLINE => Some(Kind::OnlineCheckpoint),
                pg_sys::XLOG_CHECKPOINT_SHUTDOWN => Some(Kind::ShutdownCheckpoint),
                pg_sys::XLOG_END_OF_RECOVERY => Some(Kind::EndOfRecovery),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What a record says. Returns none for a logical message of others.
///
/// # Safety
///
/// `state` describes a record of this kind, and the result is not used after the next read.
pub(super) unsafe fn parse<'a>(kind: Kind, state: &pg_sys::XLogReaderState) -> Option<Record<'a>> {
    // SAFETY: the record is of this kind, so that its main data are laid out as that kind's are: PostgreSQL's own
    // functions parse what PostgreSQL wrote, and slices stay inside the main data.
    unsafe {
        let decoded = &*state.record;
        let data = decoded.main_data;
        let info = decoded.header.xl_info;
        let xid = u32::from(decoded.header.xl_xid);
        match kind {
            Kind::Message => {
                let bytes =
                    std::slice::from_raw_parts(data.cast::<u8>(), decoded.main_data_len as usize);
                parse_message(bytes, xid, Lsn(state.ReadRecPtr), Lsn(state.EndRecPtr))
            }
            Kind::Commit => {
                let mut parsed: pg_sys::xl_xact_parsed_commit = std::mem::zeroed();
                pg_sys::ParseCommitRecord(info, data.cast(), &mut parsed);
                Some(Record::Commit {
                    xid: own_or_prepared(xid, parsed.twophase_xid),
                    subxids: xids(parsed.subxacts, parsed.nsubxacts),
                    end: Lsn(state.EndRecPtr),
                    time: parsed.xact_time,
                })
            }
            Kind::Abort => {
                let mut parsed: pg_sys::xl_xact_parsed_abort = std::mem::zeroed();
                pg_sys::ParseAbortRecord(info, data.cast(), &mut parsed);
                Some(Record::Abort {
                    xid: own_or_prepared(xid, parsed.twophase_xid),
                    subxids: xids(parsed.subxacts, parsed.nsubxacts),
                })
            }
            Kind::Prepare => {
                let mut parsed: pg_sys::xl_xact_parsed_prepare = std::mem::zeroed();
                pg_sys::ParsePrepareRecord(info, data.cast(), &mut parsed);
                Some(Record::Prepare {
                    xid: own_or_prepared(xid, parsed.twophase_xid),
                    subxids: xids(parsed.subxacts, parsed.nsubxacts),
                })
            }
            Kind::RunningXacts => {
                let running: *const pg_sys::xl_running_xacts = data.cast();
                Some(Record::RunningXacts {
                    next: u32::from((*running).nextXid),
                    oldest: u32::from((*running).oldestRunningXid),
                })
            }
            Kind::OnlineCheckpoint => Some(Record::Checkpoint { next_xid: next_xid(data) }),
            Kind::ShutdownCheckpoint => {
                Some(Record::NothingRuns { next_xid: Some(next_xid(data)) })
            }
            Kind::EndOfRecovery => Some(Record::NothingRuns { next_xid: None }),
        }
    }
}

/// The xid that came next when a checkpoint began.
///
/// # Safety
///
/// `data` is that of a checkpoint record.
unsafe fn next_xid(data: *const c_char) -> u64 {
    // SAFETY: the data are a checkpoint's; the reader aligns main data (xlogreader.c: `DecodeXLogRecord`).
    unsafe { (*data.cast::<pg_sys::CheckPoint>()).nextXid.value }
}

/// COMMIT PREPARED and ROLLBACK PREPARED carry the prepared transaction's xid in their body.
fn own_or_prepared(own: u32, prepared: pg_sys::TransactionId) -> u32 {
    match u32::from(prepared) {
        0 => own,
        prepared => prepared,
    }
}

/// # Safety
///
/// `first` is null, or so many xids are there, which live for `'a`.
unsafe fn xids<'a>(first: *const pg_sys::TransactionId, count: c_int) -> &'a [u32] {
    const _: () = assert!(size_of::<pg_sys::TransactionId>() == size_of::<u32>());
    if count <= 0 || first.is_null() {
        return &[];
    }
    // SAFETY: so many xids are there until the next read; a TransactionId is a u32 (asserted above; transparent
    // in pgrx).
    unsafe { std::slice::from_raw_parts(first.cast(), count as usize) }
}

/// Ours are written with no database; all others, whatever their prefix, were not written by us.
fn parse_message(bytes: &[u8], xid: u32, lsn: Lsn, end: Lsn) -> Option<Record<'_>> {
    let header = bytes.get(..HEADER_SIZE)?;
    let database = u32::from_ne_bytes(header[0..4].try_into().ok()?);
    let transactional = header[4] != 0;
    let prefix_size = usize::from_ne_bytes(header[8..16].try_into().ok()?);
    let message_size = usize::from_ne_bytes(header[16..24].try_into().ok()?);
    let rest = &bytes[HEADER_SIZE..];
    let prefix = rest.get(..prefix_size)?;
    let payload = rest.get(prefix_size..prefix_size.checked_add(message_size)?)?;
    if database != 0 {
        return None;
    }
    Some(if transactional {
        Record::TransactionalMessage { xid, lsn, prefix, payload }
    } else {
        Record::PlainMessage { lsn, end, prefix, payload }
    })
}
