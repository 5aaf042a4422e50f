//! Reading the WAL of this server record by record, as contrib/pg_walinspect does it
//! (`InitXLogReaderState`, `ReadNextXLogRecord`). Only records that the caller needs are handed out,
//! those of transactions or those of changes; all others are passed over.

use std::ffi::{CStr, c_char, c_int};

use pgrx::pg_sys;

use super::change_records::{self, Change};
use super::guard::guard;
use super::sys::plain::{
    PageReadState, XLogReadRecord, read_local_xlog_page_no_wait, wal_segment_close,
    wal_segment_open,
};
use super::transaction_records::{self, Kind, Record};
use super::wal_pages::{LONGEST_RECORD, PAGE, RECORD_HEADER, end_of_record, record_start};
use super::{server, worker_process};
use crate::lsn::Lsn;
use crate::memory;

/// What reading on gave.
pub enum Step<T> {
    /// A record.
    Record(T),
    /// Records that do not matter, at most [`PASSED_AT_ONCE`].
    Skipped,
    /// Up to here the WAL is on disk; more may come.
    EndOfWal,
}

/// The WAL cannot be read.
#[derive(Debug)]
pub struct ReadError {
    /// Where.
    pub lsn: Lsn,
    /// What PostgreSQL's reader says about it.
    pub message: String,
    /// Whether the file is not there.
    pub is_missing: bool,
}

impl ReadError {
    /// What is there is not what should be.
    pub fn new(lsn: Lsn, message: impl Into<String>) -> ReadError {
        ReadError { lsn, message: message.into(), is_missing: false }
    }
}

/// Records that do not matter are passed over so many at a time: setting up for an ERROR, as for each
/// call of PostgreSQL, costs as much as a tenth of reading one.
const PASSED_AT_ONCE: usize = 100;

/// A record above this size leaves the reader with a buffer that is given back before the next one.
const LARGE_RECORD: u32 = 16 * 1024 * 1024;

/// A reader of this server's WAL.
pub struct XLogReader {
    state: *mut pg_sys::XLogReaderState,
    page_read: Box<PageReadState>,
    next: Lsn,
    /// Records that were read, those included that do not matter.
    records: usize,
    /// Whether the last record was a large one: the reader's buffer grows and never shrinks
    /// (xlogreader.c: `allocate_recordbuf`).
    is_swollen: bool,
}

impl XLogReader {
    /// A reader that begins at `start`, which must be the first byte of a record, or invalid: then
    /// [`XLogReader::begin`] says where.
    pub fn new(start: Lsn) -> XLogReader {
        let mut page_read = Box::new(PageReadState { end_of_wal: false });
        let state = allocate(&mut page_read);
        let mut reader =
            XLogReader { state, page_read, next: start, records: 0, is_swollen: false };
        if start.is_valid() {
            reader.begin(start);
        }
        reader
    }

    /// A reader that begins at the first record at or after `from`, and where that is; none if
    /// there is no record.
    pub fn at_first_record_after(from: Lsn) -> Option<(XLogReader, Lsn)> {
        let mut reader = XLogReader::new(Lsn::INVALID);
        // SAFETY: on the main thread; the state is live, and no record of it is in use.
        let found = unsafe { pg_sys::XLogFindNextRecord(reader.state, from.0) };
        (found != 0).then(|| {
            reader.begin(Lsn(found));
            (reader, Lsn(found))
        })
    }

    /// Goes on at `lsn`, the first byte of a record.
    pub fn begin(&mut self, lsn: Lsn) {
        let is_backwards = lsn < self.next;
        self.next = lsn;
        // SAFETY: on the main thread; the state is live, and the borrow says that no record of it is in use.
        unsafe {
            // The timeline that it reads may have begun after that (xlogutils.c: `XLogReadDetermineTimeline`
            // only looks for where an older one ends).
            if is_backwards && (*self.state).currTLIValidUntil != 0 {
                (*self.state).currTLI = 0;
                (*self.state).currTLIValidUntil = 0;
            }
            pg_sys::XLogBeginRead(self.state, lsn.0);
        }
    }

    /// Reads on at the same place, and the page from the disk: what could not be read may have been mended.
    pub fn retry(&mut self) {
        self.begin(self.next);
    }

    /// The LSN after the last record that was read.
    pub fn position(&self) -> Lsn {
        self.next
    }

    /// How many records were read, those included that do not matter.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Returns whether nothing is on disk that was not read yet.
    pub fn is_at_end(&self) -> bool {
        server::flushed_lsn() <= self.next
    }

    /// The first whole record behind the one at `damaged`, which cannot be read; none if there is none yet.
    ///
    /// Only what the server itself wrote tells where a record begins: the length of the one before, if the
    /// record there names that one as its predecessor, or the head of a page. Bytes in the damaged record may
    /// be a user's, and look like a record.
    pub fn next_whole(damaged: Lsn) -> Option<Lsn> {
        let damaged = record_start(damaged);
        let mut reader = XLogReader::new(Lsn::INVALID);
        if let Some(next) = reader.successor(damaged) {
            return Some(next);
        }
        let mut page = damaged.0 / PAGE as u64;
        loop {
            page += 1;
            let start = page * PAGE as u64;
            if start >= server::flushed_lsn().0 || worker_process::must_end() {
                return None;
            }
            // SAFETY: main thread; raises if a segment is missing.
            let found = unsafe { pg_sys::XLogFindNextRecord(reader.state, start) };
            if found != 0 {
                return Some(Lsn(found));
            }
        }
    }

    /// The record behind the one at `damaged`, if that one's length is right.
    fn successor(&mut self, damaged: Lsn) -> Option<Lsn> {
        let length = self.length_of(damaged)?;
        let next = end_of_record(damaged, length);
        self.begin(next);
        // SAFETY: the state describes the record until the next read.
        let step = self.read_next(
            Lsn(0),
            |_| true,
            |state| unsafe { Some(Lsn((*state.record).header.xl_prev)) },
        );
        match step {
            Ok(Step::Record(previous)) if previous == damaged => Some(record_start(next)),
            _ => None,
        }
    }

    /// What the record there says of its length, if that can be true.
    fn length_of(&mut self, record: Lsn) -> Option<u64> {
        let mut page = vec![0u8; PAGE];
        let offset = (record.0 % PAGE as u64) as usize;
        let (state, start) = (self.state, record.0 - offset as u64);
        let buffer = page.as_mut_ptr().cast();
        // A record begins at a multiple of eight, so that its length lies on the same page.
        // SAFETY: main thread; the buffer holds a page; nothing in the guarded call has a destructor.
        let read = unsafe {
            guard(|| {
                read_local_xlog_page_no_wait(state, start, offset as c_int + 4, record.0, buffer)
            })
        };
        let bytes = page.get(offset..offset + 4).filter(|_| read >= offset as c_int + 4)?;
        let length = u32::from_ne_bytes(bytes.try_into().ok()?);
        let is_possible = (RECORD_HEADER..=LONGEST_RECORD).contains(&length);
        is_possible.then_some(u64::from(length))
    }

    /// Reads up to the next record of a transaction, or passes some others over.
    ///
    /// # Errors
    ///
    /// [`ReadError`] for WAL that is damaged or missing.
    pub fn read(&mut self) -> Result<Step<Record<'_>>, ReadError> {
        let matters = |header: &pg_sys::XLogRecord| Kind::of(header).is_some();
        // SAFETY: the state describes the record until the next read, which needs &mut self.
        self.read_next(Lsn(u64::MAX), matters, |state| unsafe {
            let kind = Kind::of(&(*state.record).header)?;
            transaction_records::parse(kind, state)
        })
    }

    /// Reads up to the next record of a change that begins before `end`, or passes some others over.
    ///
    /// # Errors
    ///
    /// As [`XLogReader::read`].
    pub fn read_change(&mut self, end: Lsn) -> Result<Step<Change<'_>>, ReadError> {
        // SAFETY: the state describes the record until the next read, which needs &mut self.
        self.read_next(end, change_records::is_change, |state| unsafe {
            let is_change = change_records::is_change(&(*state.record).header);
            is_change.then(|| change_records::parse(state)).flatten()
        })
    }

    fn read_next<T>(
        &mut self,
        end: Lsn,
        matters: impl Fn(&pg_sys::XLogRecord) -> bool,
        parse: impl FnOnce(&pg_sys::XLogReaderState) -> Option<T>,
    ) -> Result<Step<T>, ReadError> {
        if self.is_swollen {
            self.shrink();
        }
        // PostgreSQL sets this and never clears it (xlogutils.c: read_local_xlog_page_guts).
        self.page_read.end_of_wal = false;
        let mut message: *mut c_char = std::ptr::null_mut();
        let (state, mut next, mut count) = (self.state, self.next.0, 0);
        // SAFETY: main thread, outside a transaction's memory context: the reader may grow its
        // buffer in the current one. No frame that an ERROR leaves has a destructor, and nothing
        // panics. A record that was read is there until the next read.
        let mut read = || unsafe {
            guard(|| {
                let mut record = std::ptr::null_mut();
                for _ in 0..PASSED_AT_ONCE {
                    record = XLogReadRecord(state, &mut message);
                    if record.is_null() {
                        break;
                    }
                    next = (*state).EndRecPtr;
                    count += 1;
                    // A large one is for `XLogReader::shrink`.
                    if matters(&*record) || (*record).xl_tot_len > LARGE_RECORD || next >= end.0 {
                        break;
                    }
                }
                record
            })
        };
        let record = match worker_process::catch(&mut read) {
            Ok(record) => record,
            Err(failure) if failure.is_for_memory() => {
                self.lose_buffer();
                failure.rethrow()
            }
            Err(failure) => {
                let message = failure.message().to_owned();
                let is_missing = failure.is_about_a_missing_file();
                return Err(ReadError { lsn: self.next, message, is_missing });
            }
        };
        self.next = Lsn(next);
        self.records += count;
        if record.is_null() {
            return self.nothing_read(message);
        }
        // SAFETY: a record was read, so the state describes it until the next read, which needs
        // &mut self.
        let state = unsafe { &*self.state };
        // SAFETY: the state has the record that was just read.
        self.is_swollen = unsafe { (*state.record).header.xl_tot_len > LARGE_RECORD };
        Ok(parse(state).map_or(Step::Skipped, Step::Record))
    }

    /// There was no memory for a record: the buffer that was too small for it may be free already (xlogreader.c:
    /// `allocate_recordbuf`). If it is not, it stays for as long as the process.
    fn lose_buffer(&mut self) {
        // SAFETY: no record of the state is in use any more.
        unsafe {
            (*self.state).readRecordBuf = std::ptr::null_mut();
            (*self.state).readRecordBufSize = 0;
        }
        // The reader relies on having one.
        self.is_swollen = true;
    }

    fn shrink(&mut self) {
        // Where there is no memory for another one, this one stays.
        let state = allocate(&mut self.page_read);
        self.free();
        self.state = state;
        self.is_swollen = false;
        self.begin(self.next);
    }

    /// NULL means the end of the WAL only if the page reader said so.
    fn nothing_read<T>(&mut self, message: *const c_char) -> Result<Step<T>, ReadError> {
        let lsn = self.next;
        if self.page_read.end_of_wal {
            self.begin(lsn);
            return Ok(Step::EndOfWal);
        }
        let message = if message.is_null() {
            "no record found".to_owned()
        } else {
            // SAFETY: a NUL-terminated text in the reader's buffer.
            unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
        };
        Err(ReadError::new(lsn, message))
    }
}

fn allocate(page_read: &mut Box<PageReadState>) -> *mut pg_sys::XLogReaderState {
    let mut routine = pg_sys::XLogReaderRoutine {
        page_read: Some(read_local_xlog_page_no_wait),
        segment_open: Some(wal_segment_open),
        segment_close: Some(wal_segment_close),
    };
    // SAFETY: main thread; the routine is copied; the private data, boxed, outlives the reader. The
    // reader allocates in the current context, which must outlive transactions.
    let state = unsafe {
        let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let state = pg_sys::XLogReaderAllocate(
            server::wal_segment_size() as c_int,
            std::ptr::null(),
            &mut routine,
            (&raw mut **page_read).cast(),
        );
        pg_sys::MemoryContextSwitchTo(before);
        state
    };
    if state.is_null() {
        memory::refuse(0);
    }
    state
}

impl XLogReader {
    /// Frees the state, and the last record with it: XLogReaderFree forgets a large one in minor
    /// versions before 15.16 and their like; beginning anew frees it (xlogreader.c: `ResetDecoder`).
    fn free(&mut self) {
        // SAFETY: allocated by XLogReaderAllocate; no record of it is in use any more.
        unsafe {
            if self.next.is_valid() {
                pg_sys::XLogBeginRead(self.state, self.next.0);
            }
            pg_sys::XLogReaderFree(self.state);
        }
    }
}

impl Drop for XLogReader {
    fn drop(&mut self) {
        // After an error the process ends, and with it the reader.
        if !std::thread::panicking() {
            self.free();
        }
    }
}
