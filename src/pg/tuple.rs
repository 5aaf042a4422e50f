//! Rows of the table that fired: rendering, comparing, and the command that made them.

use std::ffi::CStr;
use std::marker::PhantomData;

use pgrx::pg_sys;

use super::output::{FixedOutput, FixedSettings, depends_on_settings};
use super::text;

unsafe extern "C-unwind" {
    // utils/datum.h; missing from pgrx.
    fn datum_image_eq(
        a: pg_sys::Datum,
        b: pg_sys::Datum,
        by_value: bool,
        length: std::ffi::c_int,
    ) -> bool;
}

/// The columns of a table. Valid while the trigger runs: the relation is open and locked.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    descriptor: pg_sys::TupleDesc,
    lives: PhantomData<&'a ()>,
}

/// One row. Valid while the trigger runs.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    tuple: pg_sys::HeapTuple,
    lives: PhantomData<&'a ()>,
}

/// One column of a table.
struct Column {
    index: usize,
    name: String,
    by_value: bool,
    length: i16,
}

impl Columns<'_> {
    /// # Safety
    ///
    /// `descriptor` is the descriptor of a relation that stays open for the lifetime.
    pub(super) unsafe fn new(descriptor: pg_sys::TupleDesc) -> Self {
        Columns { descriptor, lives: PhantomData }
    }

    fn count(&self) -> usize {
        // SAFETY: a live descriptor.
        unsafe { (*self.descriptor).natts.max(0) as usize }
    }

    fn attribute(&self, index: usize) -> &pg_sys::FormData_pg_attribute {
        debug_assert!(index < self.count());
        // SAFETY: a live descriptor, an index inside it. 18 moved the array (access/tupdesc.h).
        unsafe {
            #[cfg(not(feature = "pg18"))]
            return &*(*self.descriptor).attrs.as_ptr().add(index);
            #[cfg(feature = "pg18")]
            return &*pg_sys::TupleDescAttr(self.descriptor, index as i32);
        }
    }

    /// The columns that were not dropped.
    fn live(&self) -> impl Iterator<Item = Column> + '_ {
        (0..self.count()).filter_map(|index| {
            let attribute = self.attribute(index);
            (!attribute.attisdropped).then(|| Column {
                index,
                // SAFETY: a NameData is NUL-terminated.
                name: unsafe { text::c_to_utf8(attribute.attname.data.as_ptr()) },
                by_value: attribute.attbyval,
                length: attribute.attlen,
            })
        })
    }

    /// Names of all columns.
    pub fn names(&self) -> Vec<String> {
        self.live().map(|column| column.name).collect()
    }

    /// Names of the columns whose stored value differs between the two rows.
    pub fn changed(&self, old: Row<'_>, new: Row<'_>) -> Vec<String> {
        let (old, new) = (old.deform(self), new.deform(self));
        self.live()
            .filter(|column| !same_value(column, &old, &new))
            .map(|column| column.name)
            .collect()
    }

    /// Bytes that the rows take as JSON, at least. Found without fetching or rendering anything, for
    /// rows that are too large for that.
    pub fn least_size(&self, rows: &[Option<Row<'_>>]) -> usize {
        let large = rows.iter().flatten().filter(|row| row.may_be_large());
        large.map(|row| row.least_size(self)).sum()
    }

    /// The columns with these indexes alone, as a table of their own, and the rows reduced to them.
    pub fn reduce<'r>(
        &self,
        indexes: &[usize],
        rows: &[Option<Row<'_>>],
    ) -> (Columns<'r>, Vec<Option<Row<'r>>>) {
        // SAFETY: a new descriptor in the per-tuple memory context, with copies of attributes that
        // the old one has; blessing it makes it a record type that row_to_json can look up.
        let descriptor = unsafe {
            let descriptor = pg_sys::CreateTemplateTupleDesc(indexes.len() as i32);
            for (to, &from) in (1i16..).zip(indexes) {
                let from = from as i16 + 1;
                pg_sys::TupleDescCopyEntry(descriptor, to, self.descriptor, from);
            }
            pg_sys::BlessTupleDesc(descriptor)
        };
        let reduced = Columns { descriptor, lives: PhantomData };
        let rows = rows.iter().map(|row| row.map(|row| row.reduce(self, indexes, &reduced)));
        (reduced, rows.collect())
    }

    /// The rows as JSON objects, as `row_to_json` renders them under the fixed output settings.
    /// In the same order as the rows; text of the server's encoding is converted to UTF-8. The
    /// second value says whether bytes had to be replaced for that.
    pub fn render(&self, rows: &[Option<Row<'_>>]) -> (Vec<Option<String>>, bool) {
        let _fixed = FixedOutput::set();
        let settings = self.depend_on_settings().then(FixedSettings::set);
        let mut lossy = false;
        let rendered = rows.iter().map(|row| row.map(|row| row.render(self, &mut lossy))).collect();
        if let Some(settings) = settings {
            settings.undo();
        }
        (rendered, lossy)
    }

    fn depend_on_settings(&self) -> bool {
        (0..self.count()).any(|index| {
            let attribute = self.attribute(index);
            !attribute.attisdropped && depends_on_settings(attribute.atttypid.to_u32())
        })
    }
}

/// A row taken apart.
struct Values {
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Row<'_> {
    /// # Safety
    ///
    /// `tuple` is a tuple that lives for the lifetime.
    pub(super) unsafe fn new(tuple: pg_sys::HeapTuple) -> Self {
        Row { tuple, lives: PhantomData }
    }

    fn deform(&self, columns: &Columns<'_>) -> Values {
        let count = columns.count();
        let mut values = vec![pg_sys::Datum::from(0); count];
        let mut nulls = vec![true; count];
        // SAFETY: room for every attribute of the descriptor that the tuple was made by.
        unsafe {
            pg_sys::heap_deform_tuple(
                self.tuple,
                columns.descriptor,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
        Values { values, nulls }
    }

    /// Whether a value may be large: it is stored elsewhere, or the row itself is large. What is
    /// compressed inside a row becomes no larger than a few megabytes.
    fn may_be_large(&self) -> bool {
        const LARGE: u32 = 64 * 1024;
        // SAFETY: a live tuple.
        unsafe {
            let infomask = u32::from((*(*self.tuple).t_data).t_infomask);
            infomask & pg_sys::HEAP_HASEXTERNAL != 0 || (*self.tuple).t_len > LARGE
        }
    }

    fn least_size(&self, columns: &Columns<'_>) -> usize {
        use pg_sys::BuiltinOid as B;
        let values = self.deform(columns);
        let size_of = |column: Column| {
            let type_oid = columns.attribute(column.index).atttypid.to_u32();
            let is = |candidate: B| candidate as u32 == type_oid;
            let per_byte = if is(B::BYTEAOID) {
                // Two hexadecimal digits.
                2
            } else if [B::TEXTOID, B::VARCHAROID, B::BPCHAROID, B::JSONOID].into_iter().any(is) {
                1
            } else {
                return 0;
            };
            if values.nulls[column.index] {
                return 0;
            }
            // SAFETY: a non-null value of a type of variable length; only its header is looked at.
            per_byte * unsafe { pg_sys::toast_raw_datum_size(values.values[column.index]) }
        };
        columns.live().map(size_of).sum()
    }

    fn reduce<'r>(
        &self,
        columns: &Columns<'_>,
        indexes: &[usize],
        reduced: &Columns<'r>,
    ) -> Row<'r> {
        let all = self.deform(columns);
        let mut values: Vec<_> = indexes.iter().map(|&index| all.values[index]).collect();
        let mut nulls: Vec<_> = indexes.iter().map(|&index| all.nulls[index]).collect();
        // SAFETY: one value for each attribute of the descriptor; the tuple is made in the per-tuple
        // memory context.
        unsafe {
            Row::new(pg_sys::heap_form_tuple(
                reduced.descriptor,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            ))
        }
    }

    fn render(&self, columns: &Columns<'_>, lossy: &mut bool) -> String {
        // SAFETY: row_to_json takes a composite datum, which carries its type; its result is a
        // text in the current (per-tuple) memory context.
        unsafe {
            let row = pg_sys::heap_copy_tuple_as_datum(self.tuple, columns.descriptor);
            let json = pg_sys::OidFunctionCall1Coll(
                pg_sys::Oid::from_u32(pg_sys::F_ROW_TO_JSON_RECORD),
                pg_sys::InvalidOid,
                row,
            );
            let json = pg_sys::pg_detoast_datum_packed(json.cast_mut_ptr());
            let bytes = std::slice::from_raw_parts(
                pgrx::vardata_any(json).cast::<u8>(),
                pgrx::varsize_any_exhdr(json),
            );
            text::to_utf8_noting_loss(bytes, lossy).into_owned()
        }
    }

    /// The command that inserted this row; none where the row does not say (foreign tables, table
    /// access methods other than heap).
    pub(super) fn inserting_command(&self) -> Option<u32> {
        // SAFETY: a live tuple; Cmin is meaningful only in the transaction that inserted it
        // (combocid.c: GetRealCmin indexes an array with it).
        unsafe {
            let header = (*self.tuple).t_data;
            let xmin = pg_sys::htup::HeapTupleHeaderGetXmin(header);
            pg_sys::TransactionIdIsCurrentTransactionId(xmin)
                .then(|| pg_sys::HeapTupleHeaderGetCmin(header))
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
            pg_sys::TransactionIdIsCurrentTransactionId(xmax)
                .then(|| pg_sys::HeapTupleHeaderGetCmax(header))
        }
    }
}

/// Compares by stored image, as `datum_image_eq` does, but for values that both rows keep out of
/// line: equal pointers into the TOAST table are equal values, nothing is fetched for them.
fn same_value(column: &Column, old: &Values, new: &Values) -> bool {
    let at = column.index;
    match (old.nulls[at], new.nulls[at]) {
        (true, true) => return true,
        (false, false) => {}
        _ => return false,
    }
    let (old, new) = (old.values[at], new.values[at]);
    let (by_value, length) = (column.by_value, i32::from(column.length));
    // SAFETY: both are values of this column's type, taken out of live tuples; the guarded call
    // holds nothing that would need dropping.
    unsafe {
        if length == -1 && same_toast_pointer(old, new) {
            return true;
        }
        pg_sys::ffi::pg_guard_ffi_boundary(|| datum_image_eq(old, new, by_value, length))
    }
}

/// # Safety
///
/// Both are non-null varlena values.
unsafe fn same_toast_pointer(a: pg_sys::Datum, b: pg_sys::Datum) -> bool {
    // SAFETY: the caller's; an on-disk TOAST pointer is VARHDRSZ_EXTERNAL + the pointer's bytes.
    unsafe {
        let (a, b) = (a.cast_mut_ptr::<pg_sys::varlena>(), b.cast_mut_ptr::<pg_sys::varlena>());
        pgrx::varatt_is_1b_e(a)
            && pgrx::varatt_is_1b_e(b)
            && pgrx::vartag_1b_e(a) as u32 == pg_sys::vartag_external::VARTAG_ONDISK
            && pgrx::vartag_1b_e(b) as u32 == pg_sys::vartag_external::VARTAG_ONDISK
            && {
                let size = pgrx::varsize_external(a);
                std::slice::from_raw_parts(a.cast::<u8>(), size)
                    == std::slice::from_raw_parts(b.cast::<u8>(), size)
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
