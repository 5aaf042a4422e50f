//! Rows of the table that fired: their values, and the command that made them.

use std::cell::Cell;
use std::marker::PhantomData;

use pgrx::pg_sys;

use super::storage::Storage;
use super::sys::plain::{
    HeapTupleHeaderGetCmax, HeapTupleHeaderGetCmin, TransactionIdIsCurrentTransactionId,
};
use super::value::Value;
use super::{sys, tuple_bytes};
use crate::memory;

/// `HEAP_NATTS_MASK` (htup_details.h), of `t_infomask2`.
const NUMBER_OF_ATTRIBUTES: u16 = 0x07FF;

/// One row. Valid while the trigger runs.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    lives: PhantomData<&'a ()>,
}

/// Memory for the values of rows, used again from row to row.
#[derive(Default)]
pub struct ValueMemory {
    values: Vec<Cell<pg_sys::Datum>>,
    nulls: Vec<bool>,
}

/// A row taken apart, of the table whose columns it is asked for. What had to be fetched to look into it may stand in the place of a value.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    values: &'a [Cell<pg_sys::Datum>],
    nulls: &'a [bool],
    pieces: &'a [Piece<'a>],
}

/// The number of a column whose value came as text, and the text.
pub type Piece<'a> = (usize, &'a [u8]);

impl ValueMemory {
    /// Takes a row apart. A column that was added after the row was written has the default that
    /// it was added with.
    pub fn take_apart<'a>(&'a mut self, row: Row<'a>) -> Values<'a> {
        // SAFETY: the descriptor is there as long as the row.
        let count = unsafe { (*row.descriptor).natts.max(0) as usize };
        memory::resize(&mut self.values, count, Cell::new(pg_sys::Datum::from(0)));
        memory::resize(&mut self.nulls, count, true);
        // SAFETY: room for every attribute of the descriptor that the tuple was made by; a Cell is laid out
        // as what it holds.
        unsafe {
            sys::heap_deform_tuple(
                row.tuple,
                row.descriptor,
                self.values.as_mut_ptr().cast(),
                self.nulls.as_mut_ptr(),
            );
        }
        Values::new(&self.values, &self.nulls)
    }
}

impl<'a> Values<'a> {
    pub(super) fn new(values: &'a [Cell<pg_sys::Datum>], nulls: &'a [bool]) -> Values<'a> {
        Values { values, nulls, pieces: &[] }
    }

    /// The same row with texts that some of its values came as.
    pub fn with_pieces(self, pieces: &'a [Piece<'a>]) -> Values<'a> {
        Values { pieces, ..self }
    }

    /// The text that the value of a column came as.
    pub fn piece(&self, column: usize) -> Option<&'a [u8]> {
        self.pieces.iter().find(|piece| piece.0 == column).map(|piece| piece.1)
    }

    /// The value of a column that is so stored; none if it is null.
    #[inline]
    pub(super) fn value(&self, column: usize, storage: Storage) -> Option<Value<'a>> {
        // SAFETY: rows are taken apart on the main thread, and what they are made of is there for 'a. A column
        // that is so stored was found in the table, or in the layout, that the row is of.
        (!self.nulls[column]).then(|| unsafe { Value::new(self.values[column].get(), storage) })
    }

    /// Puts what was fetched in the place of the value that it was made of.
    pub(super) fn replace(&self, column: usize, fetched: Value<'a>) {
        self.values[column].set(fetched.datum());
    }
}

impl<'a> Row<'a> {
    /// # Safety
    ///
    /// `tuple` is a tuple of this descriptor, and both live for the lifetime.
    pub(super) unsafe fn new(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Self {
        Row { tuple, descriptor, lives: PhantomData }
    }

    /// The row as it is stored: whether some values are null, and its bytes from the bitmap of nulls on.
    /// Returns none if these are not all, because values lie out of line or columns were added since; or if
    /// they would not fit a page, as rows of foreign tables need not.
    ///
    /// The bytes may be those in the shared buffer, which is pinned while the trigger runs. Nobody
    /// changes them meanwhile, as opposed to the header before them, which takes hints and locks:
    /// rows are moved only by who holds the only pin (storage/buffer/README, "Buffer Access Rules";
    /// pruneheap.c: `heap_page_prune_opt`).
    pub fn image(&self) -> Option<(bool, &'a [u8])> {
        // SAFETY: a live tuple of so many bytes.
        unsafe {
            let (header, length) = ((*self.tuple).t_data, (*self.tuple).t_len as usize);
            let infomask = u32::from((*header).t_infomask);
            let has_nulls = infomask & pg_sys::HEAP_HASNULL != 0;
            let columns = usize::from((*header).t_infomask2 & NUMBER_OF_ATTRIBUTES);
            let data_offset = tuple_bytes::HEADER + tuple_bytes::data_offset(columns, has_nulls);
            let is_whole = length <= pg_sys::BLCKSZ as usize
                && infomask & pg_sys::HEAP_HASEXTERNAL == 0
                && (*self.descriptor).natts as usize == columns
                && usize::from((*header).t_hoff) == data_offset;
            is_whole.then(|| {
                let start = header.cast::<u8>().cast_const().add(tuple_bytes::HEADER);
                (has_nulls, std::slice::from_raw_parts(start, length - tuple_bytes::HEADER))
            })
        }
    }

    /// Where the row lies in its table's file: block and offset.
    pub(super) fn place(&self) -> (u32, u16) {
        // SAFETY: a live tuple, which says where it was read (trigger.c: `AfterTriggerExecute`).
        let place = unsafe { (*self.tuple).t_self };
        let block = u32::from(place.ip_blkid.bi_hi) << 16 | u32::from(place.ip_blkid.bi_lo);
        (block, place.ip_posid)
    }

    /// The command that inserted this row; none where the row does not say (foreign tables, table
    /// access methods other than heap, COPY FREEZE).
    pub(super) fn inserting_command(&self) -> Option<u32> {
        // SAFETY: a live tuple; Cmin is meaningful only in the transaction that inserted it
        // (combocid.c: GetRealCmin indexes an array with it).
        unsafe {
            let header = (*self.tuple).t_data;
            let xmin = pg_sys::htup::HeapTupleHeaderGetXmin(header);
            TransactionIdIsCurrentTransactionId(xmin).then(|| HeapTupleHeaderGetCmin(header))
        }
    }

    /// The command that deleted this row; none where the row does not say.
    pub(super) fn deleting_command(&self) -> Option<u32> {
        // SAFETY: a live tuple; Cmax is meaningful only in the transaction that deleted it (combocid.c:
        // GetRealCmax indexes an array with it).
        unsafe {
            let header = (*self.tuple).t_data;
            let infomask = u32::from((*header).t_infomask);
            let xmax = if infomask & pg_sys::HEAP_XMAX_IS_MULTI != 0 {
                sys::HeapTupleGetUpdateXid(header)
            } else {
                (*header).t_choice.t_heap.t_xmax
            };
            TransactionIdIsCurrentTransactionId(xmax).then(|| HeapTupleHeaderGetCmax(header))
        }
    }
}
