//! Bytes that may be an event: decoding never panics, and what was decoded encodes to the same.

#![no_main]
#![allow(dead_code)]

#[path = "../../src/event.rs"]
mod event;
#[path = "../../src/lsn.rs"]
mod lsn;

use event::{Content, Event};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: Vec<u8>| {
    let _ = event::command_id(&payload);
    match Event::decode(payload.clone()) {
        Ok(Event { head, content: Content::Body(body) }) => {
            let mut again = Vec::new();
            head.encode_into(&mut again);
            again.extend_from_slice(&body);
            assert_eq!(Event::decode(again), Ok(Event { head, content: Content::Body(body) }));
        }
        Ok(Event { content: Content::Images(images), .. }) => {
            let _ = (images.shape(), images.given(), images.old_row(), images.new_row());
        }
        Err(_) => {}
    }
});
