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

use event::{ChangeKey, Content, Event, Names};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: Vec<u8>| {
    let key = ChangeKey::of(&payload);
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
        Err(_) => {}
    }
});
