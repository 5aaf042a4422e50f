//! One column of a table, and its values rendered.

use super::json::Json;
use super::kind::{Kind, Portable};
use super::prerendered;
use crate::pg::stored_column::StoredColumn;
use crate::pg::tuple::Values;

/// One column.
pub struct Column {
    /// `"name":`
    pub label: Vec<u8>,
    pub stored: StoredColumn,
    pub source: Source,
}

/// Where the JSON of its values comes from.
pub enum Source {
    /// Of a type that the worker knows: its values are rendered there, or here.
    Anywhere(Kind, Portable),
    /// Of a type that only this database knows.
    Here(Kind),
    /// The values came as JSON, from the database that knows their type.
    Prerendered,
}

impl Column {
    /// How its values are rendered, if the worker can do that, too.
    pub fn portable_kind(&self) -> Option<&Kind> {
        match &self.source {
            Source::Anywhere(kind, _) => Some(kind),
            Source::Here(_) | Source::Prerendered => None,
        }
    }

    /// Returns whether its values can be rendered in this database only.
    pub fn is_rendered_here_alone(&self) -> bool {
        matches!(self.source, Source::Here(_))
    }

    /// Bytes that its value takes at least, without rendering it; looked into no further than to know that there
    /// are more than `most`.
    pub fn measure(&self, row: &Values<'_>, most: usize) -> usize {
        let Some(value) = self.stored.value(row) else { return b"null".len() };
        let kind = match &self.source {
            Source::Anywhere(kind, _) | Source::Here(kind) => kind,
            Source::Prerendered => return self.piece(row).len(),
        };
        let least = kind.least_size(value);
        if least > most || !kind.is_looked_into() {
            return least;
        }
        let looked_into = self.stored.fetch(row).and_then(|value| kind.size(value, most));
        looked_into.unwrap_or(least)
    }

    /// Appends its value.
    pub fn render(&self, row: &Values<'_>, json: &mut Json) {
        let Some(value) = self.stored.value(row) else {
            return json.push(b"null");
        };
        match &self.source {
            Source::Anywhere(kind, _) | Source::Here(kind) => {
                if !json.leaves_out(kind.least_size(value)) {
                    kind.render(value, json);
                }
            }
            Source::Prerendered => {
                let piece = self.piece(row);
                if !json.leaves_out(piece.len()) {
                    json.push(piece);
                }
            }
        }
    }

    /// Appends its value, unless it is null, for who renders the rest of the row elsewhere.
    pub fn prerender(&self, row: &Values<'_>, json: &mut Json) {
        if self.stored.value(row).is_some() {
            prerendered::push(json, |json| self.render(row, json));
        }
    }

    fn piece<'a>(&self, row: &Values<'a>) -> &'a [u8] {
        row.piece(self.stored.number).unwrap_or(b"null")
    }
}
