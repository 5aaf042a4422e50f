//! The bodies of events whose rows came as they are stored: rendered in the worker, so that their
//! writers need not.

use std::collections::HashMap;
use std::rc::Rc;

use crate::body::{self, BodyMemory, Change, DecodedShape, Shape};
use crate::event::{EventHead, Image, Images, Operation};
use crate::pg::json::Json;
use crate::pg::layout::{Layout, RowMemory};
use crate::pg::output::TimestampText;
use crate::pg::row_context::RowContext;

/// Bytes of shapes that are kept: those of some thousand tables.
const KEPT_BYTES: usize = 1024 * 1024;

/// Renders bodies.
pub struct Rendering {
    shapes: HashMap<Box<[u8]>, Rc<KnownShape>>,
    /// Bytes of all of them.
    shape_bytes: usize,
    old: RowMemory,
    new: RowMemory,
    changed: Vec<bool>,
    memory: BodyMemory,
    /// When the transaction of the last event began.
    timestamp: TimestampText,
    context: RowContext,
}

/// The body of an event.
#[derive(Debug)]
pub struct Rendered {
    pub body: Vec<u8>,
    /// Bytes of the whole body, if it was too large and this one holds the rows' keys alone.
    pub oversize: Option<u64>,
}

/// A shape, and the ends of bodies that were needed.
struct KnownShape {
    decoded: DecodedShape,
    tails: Vec<Tail>,
}

/// The end of the bodies of an operation.
struct Tail {
    operation: Operation,
    table: String,
    routing_key: String,
    bytes: Vec<u8>,
}

impl Rendering {
    pub fn new() -> Rendering {
        Rendering {
            shapes: HashMap::new(),
            shape_bytes: 0,
            old: RowMemory::default(),
            new: RowMemory::default(),
            changed: Vec::new(),
            memory: BodyMemory::default(),
            timestamp: TimestampText::default(),
            context: RowContext::new(),
        }
    }

    /// The body of an event. None if its bytes are not what this version's triggers write.
    pub fn render(&mut self, head: &EventHead, images: &Images) -> Option<Rendered> {
        let known = self.shape(head, images.shape())?;
        let KnownShape { decoded: DecodedShape { shape, layout, .. }, tails } = &*known;
        let tail = tails.iter().find(|tail| tail.is_of(head))?;
        self.context.within(|| {
            let has_old = take_apart(&mut self.old, layout, images.old_row())?;
            let has_new = take_apart(&mut self.new, layout, images.new_row())?;
            if has_old && has_new {
                shape.columns.compare(&self.old.values(), &self.new.values(), &mut self.changed);
            }
            let mut given = images.given();
            for (row, is_there) in [(&mut self.old, has_old), (&mut self.new, has_new)] {
                if is_there {
                    row.give(layout, &mut given)?;
                }
            }
            let change = Change {
                shape,
                tail: &tail.bytes,
                old: has_old.then(|| self.old.values()),
                new: has_new.then(|| self.new.values()),
                changed: &self.changed,
                timestamp: self.timestamp.of(images.timestamp),
            };
            let mut json = Json::utf8(images.likely_size());
            let oversize = change.render(images.limit, &mut self.memory, &mut json);
            Some(Rendered { body: json.into_bytes(), oversize })
        })
    }

    /// The shape that these bytes are of, with the end of this event's body.
    fn shape(&mut self, head: &EventHead, bytes: &[u8]) -> Option<Rc<KnownShape>> {
        if let Some(known) = self.shapes.get(bytes)
            && known.tails.iter().any(|tail| tail.is_of(head))
        {
            return Some(Rc::clone(known));
        }
        let mut known = match self.shapes.remove(bytes).and_then(Rc::into_inner) {
            Some(known) => known,
            None => {
                let decoded = Shape::decode(bytes)?;
                if self.shape_bytes + bytes.len() > KEPT_BYTES {
                    self.shapes.clear();
                    self.shape_bytes = 0;
                }
                self.shape_bytes += bytes.len();
                KnownShape { decoded, tails: Vec::new() }
            }
        };
        known.tails.retain(|tail| tail.operation != head.operation);
        known.tails.push(Tail::new(head, &known.decoded.resource));
        let known = Rc::new(known);
        self.shapes.insert(bytes.into(), Rc::clone(&known));
        Some(known)
    }
}

impl Tail {
    fn new(head: &EventHead, resource: &str) -> Tail {
        let EventHead { operation, table, routing_key, .. } = head;
        Tail {
            operation: *operation,
            bytes: body::tail(*operation, resource, table, routing_key),
            table: table.clone(),
            routing_key: routing_key.clone(),
        }
    }

    fn is_of(&self, head: &EventHead) -> bool {
        self.operation == head.operation
            && self.table == head.table
            && self.routing_key == head.routing_key
    }
}

/// Takes a row apart, and says whether there is one. None if its bytes are not those of a row.
fn take_apart(row: &mut RowMemory, layout: &Layout, image: Option<Image<'_>>) -> Option<bool> {
    match image {
        Some(image) => row.take_apart(layout, image.has_nulls, image.bytes).map(|()| true),
        None => Some(false),
    }
}
