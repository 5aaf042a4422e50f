//! The bodies of events whose rows came as they are stored: rendered in the worker, so that their
//! writers need not.
//!
//! What a writer's session would have failed at, a value whose bytes are damaged, must not end the
//! stream: such an event is published with as much of its rows as can be told.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::event::{EventHead, Image, Images, Operation};
use crate::memory::{self, OutOfMemory};
use crate::pg::guard::Problem;
use crate::pg::row_context::{RowContext, RowToken};
use crate::pg::row_image::RowMemory;
use crate::row::body::{self, BodyMemory, Change, Extent};
use crate::row::json::Json;
use crate::row::layout::Layout;
use crate::row::shape::{DecodedShape, Shape};
use crate::row::timestamp::TimestampText;

/// Bytes of shapes that are kept: those of some thousand tables.
const KEPT_BYTES: usize = 1024 * 1024;

/// Ends of bodies that are kept with a shape: those of some partitions of a table.
const KEPT_TAILS: usize = 64;

/// Characters of what is said of damaged bytes: it becomes a header, and a broker sends headers back.
const LONGEST_DAMAGE: usize = 200;

/// Bytes that a body may take in memory beyond its own.
const SLACK: usize = 4096;

/// Renders bodies.
pub struct Rendering {
    shapes: Shapes,
    rows: Rows,
    context: RowContext,
}

/// The shapes that came last.
#[derive(Default)]
struct Shapes {
    known: HashMap<Box<[u8]>, Rc<KnownShape>>,
    /// Bytes of all of them.
    bytes: usize,
}

/// Memory for the rows of an event, used again by the next.
#[derive(Default)]
struct Rows {
    old: RowMemory,
    new: RowMemory,
    changed: Vec<bool>,
    body: BodyMemory,
    /// When the transaction of the last event began.
    timestamp: TimestampText,
}

/// The body of an event.
#[derive(Debug)]
pub struct Rendered {
    pub body: Vec<u8>,
    /// Bytes of the whole body, if it was too large and this one holds the rows' keys alone.
    pub oversize: Option<u64>,
    /// Why the rows are not whole, if their bytes are damaged.
    pub damage: Option<String>,
    /// Names of the columns that identify the rows, as a JSON array, if they are known.
    pub key: Option<Rc<String>>,
}

/// A shape, and the ends of bodies that were needed.
struct KnownShape {
    decoded: DecodedShape,
    /// Names of the columns that identify a row, as a JSON array.
    key: Rc<String>,
    tails: RefCell<Vec<Rc<Tail>>>,
}

/// The end of the bodies of an operation on a table.
struct Tail {
    operation: Operation,
    table: Rc<str>,
    routing_key: Rc<str>,
    bytes: Vec<u8>,
}

impl Rendering {
    pub fn new() -> Rendering {
        Rendering { shapes: Shapes::default(), rows: Rows::default(), context: RowContext::new() }
    }

    /// The body of an event, in the memory of another. None if its shape is not one that this version's
    /// triggers write.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn render(
        &mut self,
        head: &EventHead,
        images: &Images,
        mut body: Vec<u8>,
    ) -> Result<Option<Rendered>, OutOfMemory> {
        let Rendering { shapes, rows, context } = self;
        let found = match shapes.known.get(images.shape()) {
            Some(known) => Ok(Some(Rc::clone(known))),
            None => context.within(|_| shapes.learn(images.shape())),
        };
        let known = match found {
            Ok(Some(known)) => known,
            Ok(None) | Err(Problem::Other(_)) => return Ok(None),
            Err(Problem::OutOfMemory) => return Err(OutOfMemory { bytes: 0 }),
        };
        let tail = memory::attempt(|| known.tail(head))?;
        let mut damage = None;
        for most in [Extent::Rows, Extent::Keys] {
            let body = std::mem::take(&mut body);
            let attempt = |token: &RowToken| {
                rows.render(&known.decoded, images, &tail.bytes, most, body, token)
            };
            match context.within(attempt) {
                Ok(Some(rendered)) => {
                    let key = Some(Rc::clone(&known.key));
                    return Ok(Some(Rendered { damage, key, ..rendered }));
                }
                Ok(None) => damage = Some("a row is not laid out as its table is".to_owned()),
                Err(Problem::Other(problem)) => {
                    damage = Some(problem.chars().take(LONGEST_DAMAGE).collect());
                }
                Err(Problem::OutOfMemory) => {
                    return Err(OutOfMemory { bytes: images.likely_size() });
                }
            }
        }
        let body = rows.render_none(&known.decoded.shape, images, &tail.bytes);
        Ok(Some(Rendered { body, damage, oversize: None, key: None }))
    }
}

impl Shapes {
    fn learn(&mut self, bytes: &[u8]) -> Option<Rc<KnownShape>> {
        let decoded = Shape::decode(bytes)?;
        if self.bytes + bytes.len() > KEPT_BYTES {
            self.known.clear();
            self.bytes = 0;
        }
        let key = Rc::new(String::from_utf8(decoded.shape.key_names()).unwrap_or_default());
        let known = Rc::new(KnownShape { decoded, key, tails: RefCell::default() });
        memory::reserve_entry(&mut self.known);
        self.known.insert(memory::copy(bytes).into_boxed_slice(), Rc::clone(&known));
        self.bytes += bytes.len();
        Some(known)
    }
}

impl Rows {
    /// None if the bytes are not those of such rows. Raises what PostgreSQL's functions raise.
    fn render(
        &mut self,
        decoded: &DecodedShape,
        images: &Images,
        tail: &[u8],
        most: Extent,
        body: Vec<u8>,
        token: &RowToken,
    ) -> Option<Rendered> {
        let DecodedShape { shape, layout, .. } = decoded;
        let has_old = take_apart(&mut self.old, layout, images.old_row())?;
        let has_new = take_apart(&mut self.new, layout, images.new_row())?;
        if has_old && has_new {
            let (old, new) = (self.old.values(token), self.new.values(token));
            shape.columns.compare(&old, &new, &mut self.changed);
        }
        let mut pieces = images.prerendered();
        let mut take = |row: &RowMemory, is_there: bool| {
            if is_there { layout.take_pieces(row, &mut pieces) } else { Some(Vec::new()) }
        };
        let (old_pieces, new_pieces) = (take(&self.old, has_old)?, take(&self.new, has_new)?);
        let change = Change {
            shape,
            tail,
            old: has_old.then(|| self.old.values(token).with_pieces(&old_pieces)),
            new: has_new.then(|| self.new.values(token).with_pieces(&new_pieces)),
            changed: &self.changed,
            timestamp: self.timestamp.of(images.timestamp),
        };
        let mut json = Json::utf8(body, images.likely_size());
        let oversize = change.render_from(most, images.limit, &mut self.body, &mut json);
        let mut body = json.into_bytes();
        if body.capacity() > body.len() + SLACK {
            body.shrink_to_fit();
        }
        Some(Rendered { body, oversize, damage: None, key: None })
    }

    /// A body without rows.
    fn render_none(&mut self, shape: &Shape, images: &Images, tail: &[u8]) -> Vec<u8> {
        let timestamp = self.timestamp.of(images.timestamp);
        let change = Change { shape, tail, old: None, new: None, changed: &[], timestamp };
        let mut json = Json::utf8(Vec::new(), SLACK);
        change.render(images.limit, &mut self.body, &mut json);
        json.into_bytes()
    }
}

impl KnownShape {
    fn tail(&self, head: &EventHead) -> Rc<Tail> {
        let mut tails = self.tails.borrow_mut();
        if let Some(tail) = tails.iter().find(|tail| tail.is_of(head)) {
            return Rc::clone(tail);
        }
        if tails.len() >= KEPT_TAILS {
            tails.clear();
        }
        let tail = Rc::new(Tail::new(head, &self.decoded.resource));
        tails.push(Rc::clone(&tail));
        tail
    }
}

impl Tail {
    fn new(head: &EventHead, resource: &str) -> Tail {
        let EventHead { operation, table, routing_key, .. } = head;
        Tail {
            operation: *operation,
            bytes: body::tail(*operation, resource, table, routing_key),
            table: Rc::clone(table),
            routing_key: Rc::clone(routing_key),
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
        Some(image) => {
            row.take_apart(&layout.storages, image.has_nulls, image.bytes).map(|()| true)
        }
        None => Some(false),
    }
}
