//! Bytes that may be an event, of the layout that is written or of an older one: decoding never panics, and
//! what was decoded encodes to the same.

#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/bytes.rs"]
mod bytes;
#[path = "../../src/event/mod.rs"]
mod event;
#[path = "../../src/lsn.rs"]
mod lsn;
#[path = "../../src/memory.rs"]
mod memory;
#[path = "../../src/place.rs"]
mod place;

use bytes::put_number;
use event::{
    ChangeKey, Codec, Content, EncodedNames, Event, HeadStart, Names, PropertiesStart, is_split, time_of_message,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: Vec<u8>| {
    let key = ChangeKey::of(&payload);
    assert_eq!(key.messages() == 2, is_split(&payload));
    match Event::decode(payload.clone(), &mut Names::default()) {
        Ok(Event { head, content: Content::Body(body) }) => {
            assert_eq!((key.command_id, key.place.is_none()), (head.command_id, head.place.is_none()));
            let mut again = Vec::new();
            head.encode_into(&mut again);
            again.extend_from_slice(&body);
            assert_eq!(Event::decode(again, &mut Names::default()), Ok(Event { head, content: Content::Body(body) }));
        }
        Ok(Event { content: Content::Images(images), .. }) => {
            let _ = (images.shape(), images.prerendered(), images.old_row(), images.new_row());
        }
        // What a message says of itself and its body encode to the same again.
        Ok(Event { head, content: Content::Message(properties, body) }) => {
            let start = PropertiesStart {
                content_type: properties.content_type.as_deref(),
                content_encoding: properties.content_encoding.as_deref(),
                headers: &properties.headers,
                delivery_mode: properties.delivery_mode,
                priority: properties.priority,
                correlation_id: properties.correlation_id.as_deref(),
                reply_to: properties.reply_to.as_deref(),
                expiration: properties.expiration.as_deref(),
                kind: properties.kind.as_deref(),
                user: &properties.user,
                application: &properties.application,
                time: properties.time,
            };
            let names = EncodedNames::new(&head.routing_key, &head.database, &head.schema, &head.table);
            let mut again = Vec::new();
            HeadStart {
                codec: Codec::Message,
                command_id: head.command_id,
                first_lsn: head.first_lsn,
                place: head.place,
                operation: head.operation,
                exchange: &head.exchange,
                lossy: head.lossy,
                oversize: head.oversize,
                key: head.key.as_ref().map(|key| key.as_bytes()),
                made: None,
                second: head.second.as_ref().map(|second| (&*second.routing_key, second.oversize)),
            }
            .encode_into(&names, &mut again);
            start.encode_into(&mut again);
            again.extend_from_slice(&body);
            assert_eq!(time_of_message(&again), properties.time);
            assert_eq!(
                Event::decode(again, &mut Names::default()),
                Ok(Event { head, content: Content::Message(properties, body) })
            );
        }
        // Two bodies, each with a key.
        Ok(Event { head, content: Content::Bodies(first, second) }) => {
            let names = EncodedNames::of_table(&head.database, &head.schema, &head.table);
            let mut again = Vec::new();
            HeadStart {
                codec: Codec::Bodies,
                command_id: head.command_id,
                first_lsn: head.first_lsn,
                place: head.place,
                operation: head.operation,
                exchange: &head.exchange,
                lossy: head.lossy,
                oversize: head.oversize,
                key: head.key.as_ref().map(|key| key.as_bytes()),
                made: Some(&head.routing_key),
                second: head.second.as_ref().map(|second| (&*second.routing_key, second.oversize)),
            }
            .encode_into(&names, &mut again);
            put_number(&mut again, first.len() as u64);
            again.extend_from_slice(&first);
            again.extend_from_slice(&second);
            let expected = Event { head, content: Content::Bodies(first, second) };
            assert_eq!(Event::decode(again, &mut Names::default()), Ok(expected));
        }
        Err(_) => {}
    }
});
