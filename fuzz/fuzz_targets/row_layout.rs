//! Bytes that may say how the rows of a table are stored: taking them apart never panics, and what was found is what is
//! found again once it is written anew.

#![no_main]
#![allow(dead_code)]

#[path = "../../src/memory.rs"]
mod memory;
#[path = "../../src/pg"]
mod pg {
    pub mod storage;
}
#[path = "../../src/row"]
mod row {
    pub mod entry;
}

use libfuzzer_sys::fuzz_target;
use row::entry::{Entry, put_bytes, put_number, take_bytes, take_number};

fn entries(mut bytes: &[u8]) -> Vec<Entry<'_>> {
    let rest = &mut bytes;
    std::iter::from_fn(|| Entry::take(rest)).collect()
}

fuzz_target!(|bytes: Vec<u8>| {
    let found = entries(&bytes);
    let mut again = Vec::new();
    found.iter().for_each(|entry| entry.put(&mut again));
    assert!(bytes.len() >= again.len());
    assert_eq!(entries(&again), found);
    let rest = &mut &bytes[..];
    let (number, text) = (take_number(rest), take_bytes(rest));
    if let (Some(number), Some(text)) = (number, text) {
        let mut again = Vec::new();
        put_number(&mut again, number);
        put_bytes(&mut again, text);
        assert!(bytes.starts_with(&again) && bytes[again.len()..] == **rest);
    }
});
