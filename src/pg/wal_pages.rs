//! Where on the pages of the WAL a record begins and ends (access/xlogrecord.h, access/xlog_internal.h).

use pgrx::pg_sys;

use super::server;
use crate::lsn::Lsn;

/// Bytes of a page.
pub(super) const PAGE: usize = pg_sys::XLOG_BLCKSZ as usize;

/// Bytes of a record's head (access/xlogrecord.h: `SizeOfXLogRecord`).
pub(super) const RECORD_HEADER: u32 = 24;

/// No record is longer (access/xlogrecord.h of 16 and later: `XLogRecordMaxSize`).
pub(super) const LONGEST_RECORD: u32 = 1020 * 1024 * 1024;

/// Bytes of the head of the page that begins at `page` (access/xlog_internal.h: `SizeOfXLogLongPHD` at the
/// start of a segment, else `SizeOfXLogShortPHD`).
fn page_header(page: u64) -> u64 {
    let is_first = page.is_multiple_of(server::wal_segment_size());
    let size = if is_first {
        size_of::<pg_sys::XLogLongPageHeaderData>()
    } else {
        size_of::<pg_sys::XLogPageHeaderData>()
    };
    size.next_multiple_of(8) as u64
}

/// Where a record begins that the reader expects at `lsn`: a page begins with its head.
pub(super) fn record_start(lsn: Lsn) -> Lsn {
    let is_page = lsn.0.is_multiple_of(PAGE as u64);
    Lsn(if is_page { lsn.0 + page_header(lsn.0) } else { lsn.0 })
}

/// Where the next record begins after one of this length: the heads of the pages that it goes over come in
/// addition, and each begins at a multiple of eight.
pub(super) fn end_of_record(start: Lsn, length: u64) -> Lsn {
    let (mut at, mut left) = (start.0, length);
    loop {
        let on_page = PAGE as u64 - at % PAGE as u64;
        if left <= on_page {
            return record_start(Lsn((at + left).next_multiple_of(8)));
        }
        left -= on_page;
        at += on_page;
        at += page_header(at);
    }
}
