//! The bodies of events whose rows came as they are stored: rendered in the worker, so that their
//! writers need not.
//!
//! What a writer's session would have failed at, a value whose bytes are damaged, must not end the
//! stream: such an event is published with as much of its rows as can be told.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::event::{EventHead, Half, Image, Images, Operation};
use crate::memory::{self, OutOfMemory};
use crate::pg::guard::Problem;
use crate::pg::row_context::{RowContext, RowToken};
use crate::pg::row_image::RowMemory;
use crate::pg::tuple::Values;
use crate::row::body::{self, BodyMemory, Change, Extent, push_key};
use crate::row::json::Json;
use crate::row::layout::Layout;
use crate::row::made_key::MadeKey;
use crate::row::shape::{DecodedShape, Shape};
use crate::row::timestamp::TimestampText;

/// Bytes of shapes that are kept: those of some thousand tables.
const KEPT_BYTES: usize = 1024 * 1024;

/// Ends of bodies that are kept with a shape: those of some partitions of a table.
const KEPT_TAILS: usize = 64;

/// Characters of what is said of damaged bytes: it becomes a header, and a broker sends headers back.
const LONGEST_DAMAGE: usize = 200;

/// What is said of a row that cannot be taken apart.
const MISLAID: &str = "a row is not laid out as its table is";

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
    /// A value of a routing key.
    value: Vec<u8>,
}

/// The body of an event, and what is known by then.
#[derive(Debug)]
pub struct Rendered {
    pub body: Vec<u8>,
    /// The routing key, if the event's head does not hold it.
    pub routing_key: Option<Rc<str>>,
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
    /// Empty if it is made of the row, and ends the body.
    routing_key: Rc<str>,
    bytes: Vec<u8>,
}

impl Rendered {
    /// With nothing else to say.
    pub fn of(body: Vec<u8>) -> Rendered {
        Rendered { body, routing_key: None, oversize: None, damage: None, key: None }
    }
}

impl Rendering {
    pub fn new() -> Rendering {
        Rendering { shapes: Shapes::default(), rows: Rows::default(), context: RowContext::new() }
    }

    /// The body of an event, or of that half of it, in the memory of another. None if its shape is not one that this
    /// version's triggers write.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn render(
        &mut self,
        head: &EventHead,
        half: Half,
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
        let part = Part::of(head.operation, half);
        let source = &Source { decoded: &known.decoded, images, part };
        let (routing_key, mut damage) = match rows.routing_key(source, context)? {
            Some(MadeHere { routing_key, damage }) => (Some(routing_key), damage),
            None => (None, None),
        };
        let tail = memory::attempt(|| known.tail(part.operation, head))?;
        let mut made_tail = Vec::new();
        let tail = match &routing_key {
            None => &tail.bytes,
            Some(routing_key) => memory::attempt(|| {
                memory::append(&mut made_tail, &tail.bytes);
                push_key(&mut made_tail, routing_key);
                &made_tail
            })?,
        };
        for most in [Extent::Rows, Extent::Keys] {
            let body = std::mem::take(&mut body);
            let attempt = |token: &RowToken| rows.render(source, tail, most, body, token);
            match context.within(attempt) {
                Ok(Some(rendered)) => {
                    let key = Some(Rc::clone(&known.key));
                    return Ok(Some(Rendered { routing_key, damage, key, ..rendered }));
                }
                Ok(None) => damage = Some(MISLAID.to_owned()),
                Err(Problem::Other(problem)) => damage = Some(describe(&problem)),
                Err(Problem::OutOfMemory) => {
                    return Err(OutOfMemory { bytes: images.likely_size() });
                }
            }
        }
        let body = rows.render_none(&known.decoded.shape, images, tail);
        Ok(Some(Rendered { routing_key, damage, ..Rendered::of(body) }))
    }
}

/// Of which rows of an event a message is made, and what happened as it has it.
#[derive(Clone, Copy)]
struct Part {
    operation: Operation,
    has_old: bool,
    has_new: bool,
}

impl Part {
    fn of(operation: Operation, half: Half) -> Part {
        match (operation, half) {
            (Operation::Split, half) => Part {
                operation: half.operation(),
                has_old: half == Half::Delete,
                has_new: half == Half::Insert,
            },
            (operation, _) => Part { operation, has_old: true, has_new: true },
        }
    }
}

/// What a message is made of.
struct Source<'a> {
    decoded: &'a DecodedShape,
    images: &'a Images,
    part: Part,
}

/// A routing key that was made of the rows.
struct MadeHere {
    routing_key: Rc<str>,
    /// Why no value is in it, if their bytes are damaged.
    damage: Option<String>,
}

/// What is said of damaged bytes.
fn describe(problem: &str) -> String {
    problem.chars().take(LONGEST_DAMAGE).collect()
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
    /// The routing key, if it is made of the rows.
    fn routing_key(
        &mut self,
        source: &Source<'_>,
        context: &mut RowContext,
    ) -> Result<Option<MadeHere>, OutOfMemory> {
        let Source { decoded, images, part } = source;
        let DecodedShape { shape, pattern: Some(pattern), .. } = decoded else { return Ok(None) };
        let operation = part.operation.as_str();
        let mut json = Json::utf8(std::mem::take(&mut self.value), 0);
        let made = context.within(|token| {
            self.with_rows(source, token, |old, new, _| {
                let columns = &shape.columns;
                MadeKey::of(pattern, operation, columns, old.as_ref(), new.as_ref(), &mut json)
                    .filling
                    .fit()
            })
        });
        json.give_back();
        self.value = json.into_bytes();
        let damage = match made {
            Ok(Some(key)) => {
                return Ok(Some(MadeHere { routing_key: key.into(), damage: None }));
            }
            Ok(None) => MISLAID.to_owned(),
            Err(Problem::Other(problem)) => describe(&problem),
            Err(Problem::OutOfMemory) => return Err(OutOfMemory { bytes: images.likely_size() }),
        };
        let key = MadeKey::without_values(pattern, operation).fit();
        Ok(Some(MadeHere { routing_key: key.into(), damage: Some(damage) }))
    }

    /// Calls `use_them` with those rows of an event that the message is made of, and with whether each column changed
    /// if these are both. None if the bytes are not those of such rows.
    fn with_rows<T>(
        &mut self,
        source: &Source<'_>,
        token: &RowToken,
        use_them: impl FnOnce(Option<Values<'_>>, Option<Values<'_>>, &[bool]) -> T,
    ) -> Option<T> {
        let Source { decoded: DecodedShape { shape, layout, .. }, images, part } = source;
        let has_old = take_apart(&mut self.old, layout, images.old_row())?;
        let has_new = take_apart(&mut self.new, layout, images.new_row())?;
        let mut pieces = images.prerendered();
        let mut take = |row: &RowMemory, is_there: bool| {
            if is_there { layout.take_pieces(row, &mut pieces) } else { Some(Vec::new()) }
        };
        let (old_pieces, new_pieces) = (take(&self.old, has_old)?, take(&self.new, has_new)?);
        let old =
            (has_old && part.has_old).then(|| self.old.values(token).with_pieces(&old_pieces));
        let new =
            (has_new && part.has_new).then(|| self.new.values(token).with_pieces(&new_pieces));
        if let (Some(old), Some(new)) = (&old, &new) {
            shape.columns.compare(old, new, &mut self.changed);
        }
        Some(use_them(old, new, &self.changed))
    }

    /// None if the bytes are not those of such rows. Raises what PostgreSQL's functions raise.
    fn render(
        &mut self,
        source: &Source<'_>,
        tail: &[u8],
        most: Extent,
        body: Vec<u8>,
        token: &RowToken,
    ) -> Option<Rendered> {
        let Source { decoded: DecodedShape { shape, .. }, images, .. } = source;
        let mut memory = std::mem::take(&mut self.body);
        let mut timestamp = std::mem::take(&mut self.timestamp);
        let mut json = Json::utf8(body, images.likely_size());
        let oversize = self.with_rows(source, token, |old, new, changed| {
            let timestamp = timestamp.of(images.timestamp);
            let change = Change { shape, tail, old, new, changed, timestamp };
            change.render_from(most, images.limit, &mut memory, &mut json)
        });
        (self.body, self.timestamp) = (memory, timestamp);
        let oversize = oversize?;
        let mut body = json.into_bytes();
        if body.capacity() > body.len() + SLACK {
            body.shrink_to_fit();
        }
        Some(Rendered { oversize, ..Rendered::of(body) })
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
    fn tail(&self, operation: Operation, head: &EventHead) -> Rc<Tail> {
        let mut tails = self.tails.borrow_mut();
        if let Some(tail) = tails.iter().find(|tail| tail.is_of(operation, head)) {
            return Rc::clone(tail);
        }
        if tails.len() >= KEPT_TAILS {
            tails.clear();
        }
        let tail = Rc::new(Tail::new(operation, head, &self.decoded));
        tails.push(Rc::clone(&tail));
        tail
    }
}

impl Tail {
    fn new(operation: Operation, head: &EventHead, decoded: &DecodedShape) -> Tail {
        let EventHead { table, routing_key, .. } = head;
        let DecodedShape { resource, pattern, .. } = decoded;
        Tail {
            operation,
            bytes: match pattern {
                None => body::tail(operation, resource, table, routing_key),
                Some(_) => body::tail_before_key(operation, resource, table),
            },
            table: Rc::clone(table),
            routing_key: Rc::clone(routing_key),
        }
    }

    fn is_of(&self, operation: Operation, head: &EventHead) -> bool {
        self.operation == operation
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
