//! Bytes that may be an event: decoding never panics, and what was decoded encodes to the same.

#![no_main]
#![allow(dead_code)]

#[path = "../../src/event.rs"]
mod event;
#[path = "../../src/lsn.rs"]
mod lsn;

use event::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: Vec<u8>| {
    let _ = event::command_id(&payload);
    if let Ok(event) = Event::decode(payload.clone()) {
        let mut again = Vec::new();
        event.head.encode_into(&mut again);
        again.extend_from_slice(&event.body);
        assert_eq!(Event::decode(again).as_ref(), Ok(&event));
    }
});
