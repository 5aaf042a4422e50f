//! The message body: one JSON object with eight members in a fixed order, UTF-8, without white
//! space. The worker renders it, or, where only the row's database can, the writing backend.

use std::ops::Range;

use super::json::Json;
use super::shape::Shape;
use crate::event::Operation;
use crate::memory;
use crate::pg::tuple::Values;

/// A change, as it is to be rendered.
pub struct Change<'a> {
    pub shape: &'a Shape,
    /// The body from the operation on ([`tail`]).
    pub tail: &'a [u8],
    /// The row before, if there was one.
    pub old: Option<Values<'a>>,
    /// The row after, if there is one.
    pub new: Option<Values<'a>>,
    /// On an update: whether each column's value changed.
    pub changed: &'a [bool],
    /// Start of the transaction, ISO 8601 with offset, in UTC.
    pub timestamp: &'a str,
}

/// How much of the rows is rendered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All that is published.
    Rows,
    /// The columns that identify them.
    Keys,
    /// No column at all.
    Nothing,
}

/// Memory for one body, used again from event to event.
#[derive(Default)]
pub struct BodyMemory {
    ranges: Vec<Range<usize>>,
    sizes: Vec<usize>,
    chosen: Vec<bool>,
}

impl Change<'_> {
    /// Renders the body: whole if it is not larger than `limit` bytes; otherwise with the keys of its
    /// rows alone, and the size that the whole would have at least is returned. What is known to be larger
    /// before it is rendered is not rendered.
    pub fn render(&self, limit: usize, memory: &mut BodyMemory, json: &mut Json) -> Option<u64> {
        self.render_from(Extent::Rows, limit, memory, json)
    }

    /// The same, but with no more of the rows than this to begin with.
    pub fn render_from(
        &self,
        most: Extent,
        limit: usize,
        memory: &mut BodyMemory,
        json: &mut Json,
    ) -> Option<u64> {
        let output = self.shape.columns.fix_output();
        let mut oversize = None;
        let extents = [Extent::Rows, Extent::Keys, Extent::Nothing];
        for extent in extents.into_iter().skip_while(|&extent| extent != most) {
            json.begin(limit);
            let mut size = self.measure(extent, limit, memory);
            if size <= limit || extent == Extent::Nothing {
                self.render_extent(extent, memory, json);
                size = json.size();
            }
            if size <= limit {
                break;
            }
            oversize.get_or_insert(size as u64);
        }
        output.undo();
        oversize
    }

    /// Bytes that the body takes at least, found without rendering it.
    fn measure(&self, extent: Extent, limit: usize, memory: &mut BodyMemory) -> usize {
        let (shape, columns) = (self.shape, &self.shape.columns);
        let mut size = self.tail.len();
        memory.sizes.clear();
        if let (Some(old), Some(extent)) = (&self.old, self.extent_before(extent)) {
            let chosen = choose(shape, extent, None, &mut memory.chosen);
            size += columns.measure(old, chosen, limit, &mut memory.sizes);
        }
        if let Some(new) = &self.new {
            let changed = self.old.is_some().then_some(self.changed);
            let chosen = choose(shape, extent, changed, &mut memory.chosen);
            let (sizes, most) = (&memory.sizes, limit.saturating_sub(size));
            size += columns.measure_changed(new, chosen, most, sizes, self.changed);
        }
        size
    }

    fn render_extent(&self, extent: Extent, memory: &mut BodyMemory, json: &mut Json) {
        json.push(b"{\"previous\":");
        memory.ranges.clear();
        let shape = self.shape;
        let columns = &shape.columns;
        let is_update = self.old.is_some() && self.new.is_some();
        match (&self.old, self.extent_before(extent)) {
            (Some(old), Some(extent)) => {
                let chosen = choose(shape, extent, None, &mut memory.chosen);
                columns.render(old, chosen, json, &mut memory.ranges);
            }
            _ => json.push(b"null"),
        }
        json.push(b",\"current\":");
        match &self.new {
            Some(new) => {
                let changed = is_update.then_some(self.changed);
                let chosen = choose(shape, extent, changed, &mut memory.chosen);
                if is_update {
                    columns.render_changed(new, chosen, json, &memory.ranges, self.changed);
                } else {
                    columns.render(new, chosen, json, &mut memory.ranges);
                }
            }
            None => json.push(b"null"),
        }
        self.push_targets(json);
        json.push(b",\"timestamp\":\"");
        json.push(self.timestamp.as_bytes());
        json.push(self.tail);
    }

    /// How much of the row before is rendered, where so much of rows is; `None`: nothing, not even its
    /// braces. A consumer must always learn which row it was: without `previous` that is said by the key
    /// before, unless `current` has the same one.
    fn extent_before(&self, extent: Extent) -> Option<Extent> {
        let shape = self.shape;
        if !shape.without_previous {
            return Some(extent);
        }
        if self.new.is_some() && !shape.changes_identity(self.changed) {
            return None;
        }
        Some(if extent == Extent::Rows && shape.has_key() { Extent::Keys } else { extent })
    }

    fn push_targets(&self, json: &mut Json) {
        match (&self.old, &self.new) {
            (None, None) => json.push(b",\"targets\":[]"),
            (Some(_), Some(_)) => {
                json.push(b",\"targets\":");
                let changed = |&column: &usize| self.changed[column];
                self.shape.columns.push_names(changed, |piece| json.push(piece));
            }
            _ => json.push(&self.shape.all_targets),
        }
    }
}

/// The columns of a row that are rendered; `None`: all of them. `changed`: those that an update changed,
/// of the row after it. One that changes the key is to a consumer a row that it has not seen, and whole.
fn choose<'a>(
    shape: &'a Shape,
    extent: Extent,
    changed: Option<&[bool]>,
    memory: &'a mut Vec<bool>,
) -> Option<&'a [bool]> {
    match (extent, changed) {
        (Extent::Rows, Some(changed)) if shape.only_changed && !shape.changes_key(changed) => {
            memory.clear();
            memory::reserve(memory, shape.key.len());
            memory.extend(shape.key.iter().zip(changed).map(|(&key, &changed)| key || changed));
            Some(memory)
        }
        (Extent::Rows, _) => None,
        (Extent::Keys, _) => Some(&shape.key),
        (Extent::Nothing, _) => {
            memory.clear();
            memory::resize(memory, shape.columns.count(), false);
            Some(memory)
        }
    }
}

/// The body from the end of its timestamp on.
pub fn tail(operation: Operation, resource: &str, table: &str, routing_key: &str) -> Vec<u8> {
    let mut out = tail_before_key(operation, resource, table);
    push_key(&mut out, routing_key);
    out.shrink_to_fit();
    out
}

/// The same but for the routing key, which [`push_key`] appends.
pub fn tail_before_key(operation: Operation, resource: &str, table: &str) -> Vec<u8> {
    let mut out = Vec::new();
    memory::push(&mut out, b'"');
    for (name, value) in
        [("operation", operation.as_str()), ("resource", resource), ("tablename", table)]
    {
        memory::append(&mut out, format!(",\"{name}\":").as_bytes());
        push_text(&mut out, value);
    }
    out
}

/// Ends a body with its routing key.
pub fn push_key(tail: &mut Vec<u8>, routing_key: &str) {
    memory::append(tail, b",\"routing_key\":");
    push_text(tail, routing_key);
    memory::push(tail, b'}');
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    // Escaping makes six bytes of one at most.
    memory::reserve(out, 6 * text.len() + 2);
    // Writing a string into a vector cannot fail: neither the text nor the vector can.
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_has_four_members_and_ends_the_body() {
        let tail = tail(Operation::Insert, "a \"b\"", "blog_articles", "cdc.a \"b\".insert");
        assert_eq!(
            String::from_utf8(tail).unwrap(),
            concat!(
                r#"","operation":"insert","resource":"a \"b\"","tablename":"blog_articles","#,
                r#""routing_key":"cdc.a \"b\".insert"}"#
            )
        );
    }
}
