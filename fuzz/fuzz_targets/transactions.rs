//! Any sequence of WAL records: the assembler never panics, keeps no more than it may, and gives
//! each committed transaction exactly what was collected under its xids, in order.

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
#[path = "../../src/wal"]
mod wal {
    pub mod committed;
    pub mod event_list;
    mod family;
    pub mod min_queue;
    pub mod numbers;
    pub mod order;
    pub mod order_queue;
    mod spilled_events;
    pub mod transactions;
}

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use lsn::Lsn;
use place::{Place, TableFile, Trace};
use wal::committed::OrderedEvents;
use wal::order_queue::OrderQueue;
use wal::transactions::Transactions;

#[derive(Arbitrary, Debug)]
enum Step {
    Event { xid: u8, payload: Vec<u8> },
    /// An event of the layout that is written, which says its place or does not.
    Change { xid: u8, operation: u8, command_id: u8, place: Option<u8> },
    Record { xid: u8, trace: u8, place: u8 },
    Commit { xid: u8, subxids: Vec<u8> },
    Abort { xid: u8, subxids: Vec<u8> },
    Prepare { xid: u8, subxids: Vec<u8> },
    RetireOlderThan { xid: u64 },
    RetireAll,
    SetMemoryLimit { bytes: u16 },
    Pass,
}

fn place(number: u8) -> Place {
    let file = TableFile { number: u32::from(number) & 1, ..TableFile::default() };
    Place { file, block: 0, offset: u16::from(number) & 7 }
}

fn payload(operation: u8, command_id: u8, place: Option<Place>) -> Vec<u8> {
    // One of six makes two messages.
    let operation = [0, 1, 2, 3, 4, 9][usize::from(operation) % 6];
    let mut bytes = vec![2, operation, command_id % 8, 0, 0, 0];
    bytes.extend_from_slice(&[0; 8]);
    if let Some(place) = place {
        bytes.extend_from_slice(&[1, Place::SIZE as u8]);
        bytes.extend_from_slice(&place.to_bytes());
    }
    bytes.push(0x40);
    bytes
}

/// What was committed and how many events it has, and the records that were written.
#[derive(Default)]
struct Seen {
    committed: Vec<(Lsn, usize)>,
    records: Vec<(u32, Lsn, Trace, Place)>,
}

fn read_for(queue: &mut OrderQueue, seen: &Seen) {
    while queue.needs_pass() {
        let mut pass = queue.begin_pass();
        while let Some(range) = pass.next_range() {
            for &(xid, lsn, trace, place) in &seen.records {
                if range.contains(&lsn) {
                    pass.take(xid, lsn, trace, std::iter::once(place));
                }
            }
        }
        queue.end_pass(pass);
    }
}

/// Everything that leaves the queue does so in commit order, with each of its messages.
fn take_all(queue: &mut OrderQueue, seen: &mut Seen) {
    while let Some(transaction) = queue.pop() {
        let (commit_lsn, count) = seen.committed.remove(0);
        assert_eq!(transaction.commit_lsn, commit_lsn);
        let lsns: Vec<_> = match transaction.events {
            OrderedEvents::Kept(events) => events.iter().map(|event| event.lsn.0).collect(),
            OrderedEvents::Spilled(lsns) => lsns.iter().map(|[lsn]| lsn).collect(),
        };
        assert_eq!(lsns.len(), count);
        // One that comes twice does so at once.
        let mut events = lsns.clone();
        events.dedup();
        let mut sorted = events.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), events.len());
    }
}

fuzz_target!(|steps: Vec<Step>| {
    // As PostgreSQL lists them: younger than their transaction, in their order.
    let family = |xid: u8, subxids: &[u8]| {
        let younger: BTreeSet<u32> =
            subxids.iter().filter(|&&subxid| subxid > xid).map(|&subxid| u32::from(subxid)).collect();
        younger.into_iter().collect::<Vec<_>>()
    };
    let mut open = Transactions::new(1000);
    let (mut queue, mut seen) = (OrderQueue::default(), Seen::default());
    for (number, step) in steps.into_iter().enumerate() {
        let lsn = Lsn(number as u64 * 8 + 8);
        match step {
            Step::Event { xid, payload } => open.event(u64::from(xid), lsn, &payload),
            Step::Change { xid, operation, command_id, place: at } => {
                open.event(u64::from(xid), lsn, &payload(operation, command_id, at.map(place)));
            }
            Step::Record { xid, trace, place: at } => {
                let trace = Trace::from_number(trace % 3).unwrap_or(Trace::Storage);
                seen.records.push((u32::from(xid), lsn, trace, place(at)));
            }
            Step::Commit { xid, subxids } => {
                let xids = family(xid, &subxids);
                if let Some(transaction) = open.commit(u64::from(xid), &xids, lsn, 0) {
                    assert!(transaction.first_lsn < lsn);
                    let count = transaction.events.messages();
                    assert!(count > 0);
                    seen.committed.push((lsn, count));
                    queue.push(transaction, &xids);
                }
            }
            Step::Abort { xid, subxids } => open.abort(u64::from(xid), &family(xid, &subxids)),
            Step::Prepare { xid, subxids } => open.prepare(u64::from(xid), &family(xid, &subxids)),
            Step::RetireOlderThan { xid } => open.retire_older_than(xid),
            Step::RetireAll => open.retire_all(),
            Step::SetMemoryLimit { bytes } => open.set_memory_limit(usize::from(bytes)),
            Step::Pass => {
                read_for(&mut queue, &seen);
                take_all(&mut queue, &mut seen);
            }
        }
        assert!(open.oldest_lsn().is_none_or(|oldest| oldest <= lsn));
        if !queue.needs_pass() {
            take_all(&mut queue, &mut seen);
        }
    }
    read_for(&mut queue, &seen);
    take_all(&mut queue, &mut seen);
    assert!(seen.committed.is_empty());
});
