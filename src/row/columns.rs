//! The columns of a table, and rows rendered and compared by them: what does not change from row to
//! row is found once ([`Columns::of`]), and holds until the table changes
//! ([`crate::pg::invalidation`]).

use std::ops::Range;

use super::column::{Column, Source};
use super::escape;
use super::json::Json;
use super::type_lookup::TypeLookup;
use crate::memory;
use crate::pg::descriptor::Descriptor;
use crate::pg::invalidation::Dependencies;
use crate::pg::output_settings::Output;
use crate::pg::plan_memory::PlanMemory;
use crate::pg::stored_column::StoredColumn;
use crate::pg::tuple::Values;

/// Columns of one table, in its order.
pub struct Columns {
    pub list: Vec<Column>,
    /// Whether values look different under other string settings.
    depend_on_settings: bool,
}

impl Columns {
    /// The columns of a table of this database with these numbers.
    pub fn of(
        descriptor: Descriptor<'_>,
        numbers: &[usize],
        dependencies: &mut Dependencies,
    ) -> Columns {
        let plan_memory = PlanMemory::new();
        let mut types =
            TypeLookup { memory: &plan_memory, dependencies, depend_on_settings: false };
        let mut list = memory::with_room(numbers.len());
        for attribute in descriptor.attributes() {
            if !numbers.contains(&attribute.number) {
                continue;
            }
            let mut label = Vec::new();
            escape::push_quoted(&mut label, attribute.name().as_bytes());
            label.push(b':');
            let type_id = attribute.type_id();
            let kind = types.kind(type_id);
            let source = match types.portable(type_id) {
                Some(portable) => Source::Anywhere(kind, portable),
                None => Source::Here(kind),
            };
            let stored = StoredColumn { number: attribute.number, storage: attribute.storage() };
            list.push(Column { label, stored, source });
            // Each column takes little, but there may be many.
            memory::check();
        }
        Columns { list, depend_on_settings: types.depend_on_settings }
    }

    /// Columns that were found elsewhere, whose values look the same under all settings, or came as JSON.
    pub fn found(list: Vec<Column>) -> Columns {
        Columns { list, depend_on_settings: false }
    }

    /// Returns whether some have values that can be rendered in this database only.
    pub fn need_this_database(&self) -> bool {
        self.list.iter().any(Column::is_rendered_here_alone)
    }

    /// Appends the values of those columns, each by itself, for who renders the rest of the row
    /// elsewhere ([`super::layout::Layout::take_pieces`]).
    pub fn prerender(&self, row: &Values<'_>, json: &mut Json) {
        for column in self.list.iter().filter(|column| column.is_rendered_here_alone()) {
            column.prerender(row, json);
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

    /// Appends the names of those that are named, as a JSON array.
    pub fn push_names(&self, is_named: impl Fn(&usize) -> bool, mut push: impl FnMut(&[u8])) {
        let mut separator = b"[".as_slice();
        for column in (0..self.count()).filter(is_named) {
            push(separator);
            separator = b",";
            push(self.quoted_name(column));
        }
        push(if separator == b"[" { b"[]" } else { b"]" });
    }

    /// The member `targets` that names all of them, after its comma.
    pub fn all_targets(&self) -> Vec<u8> {
        let mut out = memory::copy(b",\"targets\":");
        self.push_names(|_| true, |piece| memory::append(&mut out, piece));
        out
    }

    /// Sets `changed` to whether each column's value differs between the two rows. Returns whether any does.
    pub fn compare(&self, old: &Values<'_>, new: &Values<'_>, changed: &mut Vec<bool>) -> bool {
        changed.clear();
        memory::reserve(changed, self.list.len());
        changed.extend(self.list.iter().map(|column| !column.stored.is_same(old, new)));
        changed.contains(&true)
    }

    /// Sets the output settings under which rows are to be rendered; [`Output::undo`] sets them
    /// back.
    pub fn fix_output(&self) -> Output {
        Output::fix(self.depend_on_settings)
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
