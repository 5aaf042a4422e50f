//! Events as they are written and as 0.1.0 wrote them: they decode to what was encoded, and so does what is left of
//! them once they are damaged, or they do not decode; decoding never panics.

#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/bytes.rs"]
mod bytes;
#[path = "../shared/damage.rs"]
mod damage;
#[path = "../../src/event/mod.rs"]
mod event;
#[path = "../../src/lsn.rs"]
mod lsn;
#[path = "../../src/memory.rs"]
mod memory;
#[path = "../../src/place.rs"]
mod place;

use std::rc::Rc;

use arbitrary::Arbitrary;
use event::{
    ChangeKey, Codec, Content, EncodedNames, Event, EventHead, HeadStart, Image, ImagesStart, Names,
    Operation, Second,
};
use bytes::put_number;
use libfuzzer_sys::fuzz_target;
use lsn::Lsn;
use place::{Place, TableFile};

#[derive(Arbitrary, Debug)]
struct Input {
    head: Head,
    content: Given,
    /// As 0.1.0 wrote it.
    is_old: bool,
    flips: Vec<(u16, u8)>,
    cut: u8,
}

#[derive(Arbitrary, Debug)]
struct Head {
    operation: u8,
    command_id: u32,
    first_lsn: u64,
    place: Option<([u32; 4], u16)>,
    /// Exchange, routing key, database, schema and table.
    names: [String; 5],
    lossy: bool,
    oversize: Option<u64>,
    key: Option<String>,
    /// Routing key and bytes of a second message.
    second: Option<(String, Option<u64>)>,
}

#[derive(Arbitrary, Debug)]
enum Given {
    Body(Vec<u8>),
    Bodies(Vec<u8>, Vec<u8>),
    Images { timestamp: i64, limit: u32, parts: [Vec<u8>; 4], rows: [Option<bool>; 2] },
}

/// In the order of their codes; 0.1.0 knew all but the last.
const OPERATIONS: [Operation; 6] = [
    Operation::Insert,
    Operation::Update,
    Operation::Delete,
    Operation::Truncate,
    Operation::Gap,
    Operation::Split,
];

impl Input {
    fn operation(&self) -> usize {
        usize::from(self.head.operation) % (OPERATIONS.len() - usize::from(self.is_old))
    }

    fn head(&self) -> EventHead {
        let Head { command_id, first_lsn, place, names, lossy, oversize, key, second, .. } = &self.head;
        let [exchange, routing_key, database, schema, table] = names.each_ref().map(|name| name.as_str().into());
        let place = place.map(|([tablespace, database, number, block], offset)| Place {
            file: TableFile { tablespace, database, number },
            block,
            offset,
        });
        EventHead {
            command_id: *command_id,
            first_lsn: Lsn(*first_lsn),
            place: place.filter(|_| !self.is_old),
            operation: OPERATIONS[self.operation()],
            exchange,
            routing_key,
            database,
            schema,
            table,
            lossy: *lossy,
            oversize: *oversize,
            key: key.clone().map(Rc::new).filter(|_| !self.is_old),
            second: second.as_ref().filter(|_| !self.is_old).map(|(routing_key, oversize)| Second {
                routing_key: routing_key.as_str().into(),
                oversize: *oversize,
            }),
        }
    }

    /// All but the content, as src/event/layout_1.rs says.
    fn push_old_head(&self, out: &mut Vec<u8>) {
        let Head { command_id, first_lsn, names, lossy, oversize, .. } = &self.head;
        let flags = u8::from(*lossy) + 2 * u8::from(oversize.is_some());
        let codec = matches!(self.content, Given::Images { .. });
        out.extend_from_slice(&[1, codec.into(), self.operation() as u8 + 1, flags]);
        out.extend_from_slice(&command_id.to_le_bytes());
        out.extend_from_slice(&first_lsn.to_le_bytes());
        if let Some(bytes) = oversize {
            out.extend_from_slice(&bytes.to_le_bytes());
        }
        for name in names {
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
    }

    fn push_head(&self, head: &EventHead, out: &mut Vec<u8>) {
        let names = EncodedNames::new(&head.routing_key, &head.database, &head.schema, &head.table);
        let codec = match self.content {
            Given::Body(_) => Codec::Body,
            Given::Bodies(..) => Codec::Bodies,
            Given::Images { .. } => Codec::Images,
        };
        let EventHead { command_id, first_lsn, place, operation, lossy, oversize, .. } = *head;
        let (exchange, key) = (&*head.exchange, head.key.as_ref().map(|key| key.as_bytes()));
        let second = head.second.as_ref().map(|second| (&*second.routing_key, second.oversize));
        let made = None;
        let start = HeadStart {
            codec, command_id, first_lsn, place, operation, exchange, lossy, oversize, key, made, second,
        };
        start.encode_into(&names, out);
    }

    fn payload(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.is_old {
            true => self.push_old_head(&mut out),
            false => self.push_head(&self.head(), &mut out),
        }
        match &self.content {
            Given::Body(body) => out.extend_from_slice(body),
            Given::Bodies(first, second) => {
                put_number(&mut out, first.len() as u64);
                out.extend_from_slice(first);
                out.extend_from_slice(second);
            }
            Given::Images { .. } => {
                let start = self.content.images();
                start.encode_into(&mut out);
                out.extend_from_slice(start.prerendered);
                for image in [start.old, start.new].into_iter().flatten() {
                    out.extend_from_slice(image.bytes);
                }
            }
        }
        out
    }
}

impl Given {
    fn images(&self) -> ImagesStart<'_> {
        let Given::Images { timestamp, limit, parts, rows } = self else { panic!("it is a body") };
        let image = |n: usize| rows[n].map(|has_nulls| Image { has_nulls, bytes: &parts[2 + n] });
        let (shape, prerendered) = (&parts[0], &parts[1]);
        let (timestamp, limit) = (*timestamp, *limit as usize);
        ImagesStart { timestamp, limit, shape, prerendered, old: image(0), new: image(1) }
    }

    fn check(&self, content: &Content) {
        match (self, content) {
            (Given::Body(given), Content::Body(body)) => assert_eq!(body, given),
            (Given::Bodies(first, second), Content::Bodies(one, other)) => {
                assert_eq!((one, other), (first, second));
            }
            (Given::Images { .. }, Content::Images(images)) => {
                let given = self.images();
                assert_eq!((images.timestamp, images.limit), (given.timestamp, given.limit));
                assert_eq!((images.shape(), images.prerendered()), (given.shape, given.prerendered));
                assert_eq!((images.old_row(), images.new_row()), (given.old, given.new));
            }
            _ => panic!("{self:?} became {content:?}"),
        }
    }
}

fuzz_target!(|input: Input| {
    if input.head.names.iter().any(|name| name.len() > usize::from(u16::MAX)) {
        return;
    }
    // 0.1.0 knew no two bodies.
    if input.is_old && matches!(input.content, Given::Bodies(..)) {
        return;
    }
    let whole = input.payload();
    let (key, head) = (ChangeKey::of(&whole), input.head());
    assert_eq!((key.command_id, key.place, key.is_of_layout_1), (head.command_id, head.place, input.is_old));
    assert_eq!(key.is_split, head.operation == Operation::Split);
    let mut names = Names::default();
    let event = Event::decode(whole.clone(), &mut names).expect("it is an event");
    assert_eq!(event.head, head);
    input.content.check(&event.content);

    let mut payload = whole;
    damage::damage(&mut payload, &input.flips);
    payload.truncate(payload.len().saturating_sub(input.cut.into()));
    let key = ChangeKey::of(&payload);
    let Ok(Event { head, content }) = Event::decode(payload, &mut names) else { return };
    assert_eq!((key.command_id, key.place), (head.command_id, head.place));
    match content {
        Content::Images(images) => {
            let _ = (images.shape(), images.prerendered(), images.old_row(), images.new_row());
        }
        Content::Body(body) => {
            let mut again = Vec::new();
            head.encode_into(&mut again);
            again.extend_from_slice(&body);
            let expected = Event { head, content: Content::Body(body) };
            assert_eq!(Event::decode(again, &mut names), Ok(expected));
        }
        // What a message holds, the target `event` checks.
        Content::Message(..) | Content::Bodies(..) => {}
    }
});
