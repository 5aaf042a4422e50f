//! The columns of a table, and rows rendered and compared by them: what does not change from row to
//! row is found once ([`Columns::of`]), and holds until the table changes
//! ([`super::invalidation`]).

use std::ops::Range;

use pgrx::pg_sys;

use super::escape;
use super::given;
use super::invalidation::Dependencies;
use super::json::Json;
use super::kind::{Kind, Kinds};
use super::output::{FixedOutput, FixedSettings};
use super::plan_memory::PlanMemory;
use super::stored::Stored;
use super::sys::versions;
use super::text;
use super::tuple::Values;
use crate::memory;

/// Columns of one table, in its order.
pub struct Columns {
    pub(super) list: Vec<Column>,
    /// Whether values look different under other string settings.
    depend_on_settings: bool,
    /// Holds what the kinds of the columns point to.
    _memory: PlanMemory,
}

/// One column.
pub(super) struct Column {
    /// `"name":`
    pub label: Vec<u8>,
    pub stored: Stored,
    pub kind: Kind,
    /// The type of PostgreSQL's own that its values are of, or are arrays of, and whether they are
    /// arrays. None: they can be rendered in this database only, or this is not that database.
    pub builtin: Option<(u8, bool)>,
}

/// The attributes of a descriptor.
///
/// # Safety
///
/// `descriptor` lives for `'a`.
pub(super) unsafe fn attributes<'a>(
    descriptor: pg_sys::TupleDesc,
) -> impl Iterator<Item = &'a pg_sys::FormData_pg_attribute> {
    // SAFETY: the descriptor lives for 'a, and has as many attributes as it says.
    unsafe {
        let count = (*descriptor).natts.max(0) as usize;
        (0..count).map(move |index| versions::attribute(descriptor, index))
    }
}

/// Whether a column has a value that a trigger can see. Virtual generated columns, which 18 brought,
/// are not computed there (trigger.sgml).
pub(super) fn is_there(attribute: &pg_sys::FormData_pg_attribute) -> bool {
    const GENERATED_VIRTUAL: u8 = b'v';
    !attribute.attisdropped && attribute.attgenerated as u8 != GENERATED_VIRTUAL
}

fn name(attribute: &pg_sys::FormData_pg_attribute) -> String {
    // SAFETY: a NameData is NUL-terminated.
    unsafe { text::c_to_utf8(attribute.attname.data.as_ptr()) }
}

/// Numbers and names of the columns that have values.
///
/// # Safety
///
/// `descriptor` is live.
pub(super) unsafe fn names(descriptor: pg_sys::TupleDesc) -> Vec<(usize, String)> {
    // SAFETY: the caller's.
    let attributes = || unsafe { attributes(descriptor) };
    let mut names = memory::with_room(attributes().count());
    for (index, attribute) in attributes().enumerate() {
        if is_there(attribute) {
            names.push((index, name(attribute)));
            memory::check();
        }
    }
    names
}

impl Columns {
    /// The columns with these numbers.
    ///
    /// # Safety
    ///
    /// `descriptor` is live, and has these columns.
    pub(super) unsafe fn of(
        descriptor: pg_sys::TupleDesc,
        numbers: &[usize],
        dependencies: &mut Dependencies,
    ) -> Columns {
        let plan_memory = PlanMemory::new();
        let mut kinds = Kinds { memory: &plan_memory, dependencies, depend_on_settings: false };
        let mut list = memory::with_room(numbers.len());
        // SAFETY: the caller's.
        let attributes = unsafe { attributes(descriptor) }.enumerate();
        for (index, attribute) in attributes.filter(|(index, _)| numbers.contains(index)) {
            let mut label = Vec::new();
            escape::push_quoted(&mut label, name(attribute).as_bytes());
            label.push(b':');
            let type_oid = attribute.atttypid;
            let kind = kinds.of(type_oid);
            let stored = Stored::new(index, attribute);
            list.push(Column { label, stored, kind, builtin: kinds.builtin(type_oid) });
            // Each column takes little, but there may be many.
            memory::check();
        }
        let depend_on_settings = kinds.depend_on_settings;
        Columns { list, depend_on_settings, _memory: plan_memory }
    }

    /// Columns that were found elsewhere, whose values are given or look the same under all settings.
    pub(super) fn found(list: Vec<Column>, memory: PlanMemory) -> Columns {
        Columns { list, depend_on_settings: false, _memory: memory }
    }

    /// Whether some have values that can be rendered in this database only. For the columns of a table
    /// of this database.
    pub fn have_given(&self) -> bool {
        self.list.iter().any(|column| column.builtin.is_none())
    }

    /// Appends the values of those columns, each by itself, for who renders the rest of the row
    /// elsewhere ([`super::layout::RowMemory::give`]).
    pub fn render_given(&self, row: &Values<'_>, json: &mut Json) {
        for column in self.list.iter().filter(|column| column.builtin.is_none()) {
            if column.stored.value(row).is_some() {
                given::push(json, |json| column.render(row, json));
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// The column's name as a JSON string.
    pub fn quoted_name(&self, column: usize) -> &[u8] {
        let label = &self.list[column].label;
        &label[..label.len() - 1]
    }

    /// Sets `changed` to whether each column's value differs between the two rows. Whether any does.
    pub fn compare(&self, old: &Values<'_>, new: &Values<'_>, changed: &mut Vec<bool>) -> bool {
        changed.clear();
        memory::reserve(changed, self.list.len());
        changed.extend(self.list.iter().map(|column| !column.stored.is_same(old, new)));
        changed.contains(&true)
    }

    /// Sets the output settings under which rows are to be rendered; [`Output::undo`] sets them
    /// back.
    pub fn fix_output(&self) -> Output {
        Output {
            _globals: FixedOutput::set(),
            settings: self.depend_on_settings.then(FixedSettings::set).flatten(),
        }
    }

    /// Appends a row, as `row_to_json` would render it if the table had only the columns that are
    /// `chosen` (without a choice: all of them). Text of the database's encoding is converted to
    /// UTF-8. `ranges` tells where the values stand.
    pub fn render(
        &self,
        row: &Values<'_>,
        chosen: Option<&[bool]>,
        json: &mut Json,
        ranges: &mut Vec<Range<usize>>,
    ) {
        ranges.clear();
        self.render_with(chosen, json, |n, column, json| {
            let start = json.bytes().len();
            column.render(row, json);
            memory::reserve(ranges, n + 1 - ranges.len());
            ranges.resize(n, 0..0);
            ranges.push(start..json.bytes().len());
        });
    }

    /// The same for a row of which another version stands in the text already: values that are not
    /// `changed` are copied from there.
    pub fn render_changed(
        &self,
        row: &Values<'_>,
        chosen: Option<&[bool]>,
        json: &mut Json,
        ranges: &[Range<usize>],
        changed: &[bool],
    ) {
        self.render_with(chosen, json, |n, column, json| match ranges.get(n) {
            // A value that was left out has no text.
            Some(range) if !changed[n] && !range.is_empty() => {
                if !json.leaves_out(range.len()) {
                    json.repeat(range.clone());
                }
            }
            _ => column.render(row, json),
        });
    }

    /// Bytes that a row takes at least as [`Columns::render`] renders it, found without rendering it; into
    /// what may hold long texts it looks no further than to know that there are more than `most`. `sizes` tells
    /// what the values take.
    pub fn measure(
        &self,
        row: &Values<'_>,
        chosen: Option<&[bool]>,
        most: usize,
        sizes: &mut Vec<usize>,
    ) -> usize {
        sizes.clear();
        memory::resize(sizes, self.count(), 0);
        self.measure_with(chosen, most, |n, column, most| {
            sizes[n] = column.measure(row, most);
            sizes[n]
        })
    }

    /// The same for [`Columns::render_changed`], given what the values of the other version take.
    pub fn measure_changed(
        &self,
        row: &Values<'_>,
        chosen: Option<&[bool]>,
        most: usize,
        sizes: &[usize],
        changed: &[bool],
    ) -> usize {
        self.measure_with(chosen, most, |n, column, most| match sizes.get(n) {
            Some(&size) if !changed[n] && size > 0 => size,
            _ => column.measure(row, most),
        })
    }

    fn measure_with(
        &self,
        chosen: Option<&[bool]>,
        most: usize,
        mut measure: impl FnMut(usize, &Column, usize) -> usize,
    ) -> usize {
        let mut size = 0;
        for (n, column) in self.list.iter().enumerate() {
            if chosen.is_none_or(|chosen| chosen[n]) {
                size += column.label.len();
                size += measure(n, column, most.saturating_sub(size));
            }
        }
        size
    }

    fn render_with(
        &self,
        chosen: Option<&[bool]>,
        json: &mut Json,
        mut render: impl FnMut(usize, &Column, &mut Json),
    ) {
        let mut separator = b"{".as_slice();
        for (n, column) in self.list.iter().enumerate() {
            if chosen.is_none_or(|chosen| chosen[n]) {
                json.push(separator);
                separator = b",";
                json.push(&column.label);
                render(n, column, json);
            }
        }
        json.push(if separator == b"{" { b"{}" } else { b"}" });
    }
}

impl Column {
    fn measure(&self, row: &Values<'_>, most: usize) -> usize {
        let Some(place) = self.stored.place(row) else { return b"null".len() };
        // SAFETY: a value of this column, as below.
        unsafe { self.kind.measure(place, self.stored.is_varlena(), most) }
    }

    fn render(&self, row: &Values<'_>, json: &mut Json) {
        let Some(value) = self.stored.value(row) else {
            return json.push(b"null");
        };
        // SAFETY: a value of this column: the row is of the table that the column was found in, where
        // whoever has a stale plan makes a new one first, or came with the columns that it is of.
        unsafe {
            let least_size = self.kind.least_size(value, self.stored.is_varlena());
            if !json.leaves_out(least_size) {
                self.kind.render(value, json);
            }
        }
    }
}

/// While this value lives, values are rendered in the same way whatever the session has set. After
/// an error PostgreSQL itself undoes what dropping it does not.
pub struct Output {
    _globals: FixedOutput,
    settings: Option<FixedSettings>,
}

impl Output {
    /// Sets everything back.
    pub fn undo(self) {
        if let Some(settings) = self.settings {
            settings.undo();
        }
    }
}
