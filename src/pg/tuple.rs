//! Rows of the table that fired: their values, and the command that made them.

use std::ffi::CStr;
use std::marker::PhantomData;

use pgrx::pg_sys;

use super::text;

// Not pgrx's wrappers: they guard each call by itself.
unsafe extern "C-unwind" {
    // access/xact.h
    fn TransactionIdIsCurrentTransactionId(xid: pg_sys::TransactionId) -> bool;
    // access/htup_details.h
    fn HeapTupleHeaderGetCmin(tuple: pg_sys::HeapTupleHeader) -> pg_sys::CommandId;
    fn HeapTupleHeaderGetCmax(tuple: pg_sys::HeapTupleHeader) -> pg_sys::CommandId;
}

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
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

/// A row taken apart.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
}

impl ValueMemory {
    /// Takes a row apart. A column that was added after the row was written has the default that
    /// it was added with.
    pub fn take_apart<'a>(&'a mut self, row: Row<'a>) -> Values<'a> {
        // SAFETY: a live descriptor.
        let count = unsafe { (*row.descriptor).natts.max(0) as usize };
        self.values.resize(count, pg_sys::Datum::from(0));
        self.nulls.resize(count, true);
        // SAFETY: room for every attribute of the descriptor that the tuple was made by.
        unsafe {
            pg_sys::heap_deform_tuple(
                row.tuple,
                row.descriptor,
                self.values.as_mut_ptr(),
                self.nulls.as_mut_ptr(),
            );
        }
        Values { values: &self.values, nulls: &self.nulls }
    }
}

impl Values<'_> {
    /// The value of a column; none if it is null.
    pub(super) fn value(&self, column: usize) -> Option<pg_sys::Datum> {
        (!self.nulls[column]).then(|| self.values[column])
    }
}

impl Row<'_> {
    /// # Safety
    ///
    /// `tuple` is a tuple of this descriptor, and both live for the lifetime.
    pub(super) unsafe fn new(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Self {
        Row { tuple, descriptor, lives: PhantomData }
    }

    /// The command that inserted this row; none where the row does not say (foreign tables, table
    /// access methods other than heap).
    pub(super) fn inserting_command(&self) -> Option<u32> {
        // SAFETY: a live tuple; Cmin is meaningful only in the transaction that inserted it
        // (combocid.c: GetRealCmin indexes an array with it).
        unsafe {
            let header = (*self.tuple).t_data;
            let xmin = pg_sys::htup::HeapTupleHeaderGetXmin(header);
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                TransactionIdIsCurrentTransactionId(xmin).then(|| HeapTupleHeaderGetCmin(header))
            })
        }
    }

    /// The command that deleted this row; none where the row does not say.
    pub(super) fn deleting_command(&self) -> Option<u32> {
        // SAFETY: as above, with Cmax and the deleting transaction.
        unsafe {
            let header = (*self.tuple).t_data;
            let infomask = u32::from((*header).t_infomask);
            let xmax = if infomask & pg_sys::HEAP_XMAX_IS_MULTI != 0 {
                pg_sys::HeapTupleGetUpdateXid(header)
            } else {
                (*header).t_choice.t_heap.t_xmax
            };
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                TransactionIdIsCurrentTransactionId(xmax).then(|| HeapTupleHeaderGetCmax(header))
            })
        }
    }
}

/// A name in the catalogs, as UTF-8; empty if there is none.
///
/// # Safety
///
/// `name` is null or a palloc'd NUL-terminated string, which is freed.
pub(super) unsafe fn take_name(name: *mut std::ffi::c_char) -> String {
    if name.is_null() {
        return String::new();
    }
    // SAFETY: the caller's.
    unsafe {
        let owned = text::to_utf8(CStr::from_ptr(name).to_bytes()).into_owned();
        pg_sys::pfree(name.cast());
        owned
    }
}
