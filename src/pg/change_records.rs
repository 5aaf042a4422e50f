//! The WAL records of changes: rows that come and go (access/heapam_xlog.h), files of tables that are made
//! or cut to nothing (catalog/storage_xlog.h). Their layouts are the same in PostgreSQL 15 to 18; pgrx has them
//! for 18 alone.

use std::mem::{offset_of, size_of};

use pgrx::pg_sys;

use super::sys::versions;
use crate::lsn::Lsn;
use crate::place::{Place, TableFile, Trace};

const XLOG_HEAP_INSERT: u8 = 0x00;
const XLOG_HEAP_DELETE: u8 = 0x10;
const XLOG_HEAP_UPDATE: u8 = 0x20;
const XLOG_HEAP_HOT_UPDATE: u8 = 0x40;
const XLOG_HEAP_OPMASK: u8 = 0x70;
/// Of a row that is the first on its page.
const XLOG_HEAP_INIT_PAGE: u8 = 0x80;
const XLOG_HEAP2_MULTI_INSERT: u8 = 0x50;
const XLOG_SMGR_CREATE: u8 = 0x10;
const XLOG_SMGR_TRUNCATE: u8 = 0x20;
/// `XLR_RMGR_INFO_MASK` (access/xlogrecord.h).
const INFO_MASK: u8 = 0xF0;

// The main data of the records. It may be longer than these (wal_level logical adds the old row), and ends
// with the last member, without what aligns a structure's end (`SizeOfHeapInsert` and the like).

/// `xl_heap_insert`
#[repr(C)]
struct HeapInsert {
    offset: u16,
    flags: u8,
}

/// `xl_heap_delete`
#[repr(C)]
struct HeapDelete {
    xmax: u32,
    offset: u16,
    infobits_set: u8,
    flags: u8,
}

/// `xl_heap_update`
#[repr(C)]
struct HeapUpdate {
    old_xmax: u32,
    old_offset: u16,
    old_infobits_set: u8,
    flags: u8,
    new_xmax: u32,
    new_offset: u16,
}

/// `xl_heap_multi_insert` up to its offsets, which a page's first rows go without.
#[repr(C)]
struct HeapMultiInsert {
    flags: u8,
    tuples: u16,
}

/// `xl_smgr_create`
#[repr(C)]
struct SmgrCreate {
    file: [u32; 3],
    fork: i32,
}

/// `xl_smgr_truncate`
#[repr(C)]
struct SmgrTruncate {
    block: u32,
    file: [u32; 3],
    flags: i32,
}

const _: () = {
    assert!(offset_of!(HeapInsert, offset) == 0 && offset_of!(HeapInsert, flags) == 2);
    assert!(offset_of!(HeapDelete, offset) == 4 && size_of::<HeapDelete>() == 8);
    assert!(offset_of!(HeapUpdate, new_offset) == 12 && size_of::<HeapUpdate>() == 16);
    assert!(offset_of!(HeapMultiInsert, tuples) == 2 && size_of::<HeapMultiInsert>() == 4);
    assert!(offset_of!(SmgrCreate, fork) == 12 && size_of::<SmgrCreate>() == 16);
    assert!(offset_of!(SmgrTruncate, file) == 4 && size_of::<SmgrTruncate>() == 20);
};

#[cfg(feature = "pg18")]
const _: () = {
    assert!(offset_of!(HeapInsert, flags) == offset_of!(pg_sys::xl_heap_insert, flags));
    assert!(offset_of!(HeapDelete, offset) == offset_of!(pg_sys::xl_heap_delete, offnum));
    assert!(offset_of!(HeapUpdate, new_offset) == offset_of!(pg_sys::xl_heap_update, new_offnum));
    assert!(
        offset_of!(HeapMultiInsert, tuples) == offset_of!(pg_sys::xl_heap_multi_insert, ntuples)
    );
};

/// What a record changed.
#[derive(Debug)]
pub struct Change<'a> {
    /// Of the transaction or subtransaction; 0 where a file is made in one that has none yet.
    pub xid: u32,
    /// First byte of the record.
    pub lsn: Lsn,
    pub trace: Trace,
    file: TableFile,
    block: u32,
    offsets: Offsets<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Offsets<'a> {
    One(u16),
    /// From 1 to this.
    UpTo(u16),
    /// Two bytes each.
    List(&'a [[u8; 2]]),
}

impl Change<'_> {
    /// Where: several places for several rows on a page.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let (list, range) = match self.offsets {
            Offsets::One(offset) => (&[][..], offset..=offset),
            Offsets::UpTo(last) => (&[][..], 1..=last),
            #[allow(clippy::reversed_empty_ranges)]
            Offsets::List(list) => (list, 1..=0),
        };
        let (file, block) = (self.file, self.block);
        let offsets = list.iter().map(|&bytes| u16::from_ne_bytes(bytes)).chain(range);
        offsets.map(move |offset| Place { file, block, offset })
    }
}

/// Returns whether a record is of a change.
pub(super) fn is_change(header: &pg_sys::XLogRecord) -> bool {
    let operation = header.xl_info & XLOG_HEAP_OPMASK;
    match header.xl_rmid as pg_sys::RmgrIds::Type {
        pg_sys::RmgrIds::RM_HEAP_ID => matches!(
            operation,
            XLOG_HEAP_INSERT | XLOG_HEAP_DELETE | XLOG_HEAP_UPDATE | XLOG_HEAP_HOT_UPDATE
        ),
        pg_sys::RmgrIds::RM_HEAP2_ID => operation == XLOG_HEAP2_MULTI_INSERT,
        pg_sys::RmgrIds::RM_SMGR_ID => {
            matches!(header.xl_info & INFO_MASK, XLOG_SMGR_CREATE | XLOG_SMGR_TRUNCATE)
        }
        _ => false,
    }
}

/// The change that a record is of. Returns none for one that is not as PostgreSQL writes it.
///
/// # Safety
///
/// `state` describes a record for which [`is_change`] holds, and the result is not used after the next
/// read.
pub(super) unsafe fn parse<'a>(state: &pg_sys::XLogReaderState) -> Option<Change<'a>> {
    // SAFETY: the state has a record, which stays where it is, with its data, until the next read.
    let (record, data) = unsafe {
        let record = &*state.record;
        let length = record.main_data_len as usize;
        let data = if length == 0 {
            &[][..]
        } else {
            std::slice::from_raw_parts(record.main_data.cast::<u8>().cast_const(), length)
        };
        (record, data)
    };
    let info = record.header.xl_info;
    let u16_at = |at: usize| data.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
    let is_smgr = record.header.xl_rmid as pg_sys::RmgrIds::Type == pg_sys::RmgrIds::RM_SMGR_ID;
    let is_heap2 = record.header.xl_rmid as pg_sys::RmgrIds::Type == pg_sys::RmgrIds::RM_HEAP2_ID;
    let (trace, file, block, offsets) = if is_smgr {
        let at = match info & INFO_MASK {
            XLOG_SMGR_CREATE => offset_of!(SmgrCreate, file),
            _ => offset_of!(SmgrTruncate, file),
        };
        let u32_at = |at: usize| data.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let file = TableFile {
            tablespace: u32_at(at)?,
            database: u32_at(at + 4)?,
            number: u32_at(at + 8)?,
        };
        (Trace::Storage, file, 0, Offsets::One(0))
    } else {
        // SAFETY: the reader has decoded the record, with the references that it says.
        let (file, block) = unsafe { first_block(record) }?;
        let (trace, offsets) = match info & XLOG_HEAP_OPMASK {
            _ if is_heap2 => (Trace::NewVersion, multi_insert_offsets(info, data)?),
            XLOG_HEAP_INSERT => {
                (Trace::NewVersion, Offsets::One(u16_at(offset_of!(HeapInsert, offset))?))
            }
            XLOG_HEAP_DELETE => {
                (Trace::Deletion, Offsets::One(u16_at(offset_of!(HeapDelete, offset))?))
            }
            _ => (Trace::NewVersion, Offsets::One(u16_at(offset_of!(HeapUpdate, new_offset))?)),
        };
        (trace, file, block, offsets)
    };
    let xid = u32::from(record.header.xl_xid);
    Some(Change { xid, lsn: Lsn(state.ReadRecPtr), trace, file, block, offsets })
}

/// The offsets are left out where the rows are all that is on the page (heapam.c: `heap_multi_insert`).
fn multi_insert_offsets(info: u8, data: &[u8]) -> Option<Offsets<'_>> {
    let tuples = data.get(offset_of!(HeapMultiInsert, tuples)..)?.first_chunk::<2>()?;
    let tuples = u16::from_ne_bytes(*tuples);
    if info & XLOG_HEAP_INIT_PAGE != 0 {
        return Some(Offsets::UpTo(tuples));
    }
    let (list, _) = data.get(size_of::<HeapMultiInsert>()..)?.as_chunks::<2>();
    list.get(..usize::from(tuples)).map(Offsets::List)
}

/// The page that the record's first reference is to: the one of the new row, where there are two.
///
/// # Safety
///
/// `record` was decoded, with so many references as it says.
unsafe fn first_block(record: &pg_sys::DecodedXLogRecord) -> Option<(TableFile, u32)> {
    if record.max_block_id < 0 {
        return None;
    }
    // SAFETY: the record has one reference at least, which is the first of the array.
    let block = unsafe { &*record.blocks.as_ptr() };
    block.in_use.then(|| (versions::file_of_block(block), block.blkno))
}
