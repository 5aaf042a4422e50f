//! Any sequence of WAL records: the assembler never panics, keeps no more than it may, and gives
//! each committed transaction exactly what was collected under its xids, in order.

#![no_main]
#![allow(dead_code)]

#[path = "../../src/event.rs"]
mod event;
#[path = "../../src/lsn.rs"]
mod lsn;
#[path = "../../src/wal"]
mod wal {
    pub mod event_list;
    pub mod transactions;
}

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use lsn::Lsn;
use wal::transactions::{Events, Transactions};

#[derive(Arbitrary, Debug)]
enum Step {
    Event { xid: u8, payload: Vec<u8> },
    Commit { xid: u8, subxids: Vec<u8> },
    Abort { xid: u8, subxids: Vec<u8> },
    Prepare { xid: u8, subxids: Vec<u8> },
    RetireOlderThan { xid: u32 },
    RetireAll,
    SetMemoryLimit { bytes: u16 },
}

fuzz_target!(|steps: Vec<Step>| {
    let wide = |xids: &[u8]| xids.iter().map(|&xid| u32::from(xid)).collect::<Vec<_>>();
    let mut open = Transactions::new(1000);
    for (number, step) in steps.into_iter().enumerate() {
        let lsn = Lsn(number as u64 * 8 + 8);
        match step {
            Step::Event { xid, payload } => open.event(u32::from(xid), lsn, &payload),
            Step::Commit { xid, subxids } => {
                let xids = wide(&subxids);
                if let Some(transaction) = open.commit(u32::from(xid), &xids, lsn, 0) {
                    assert!(transaction.first_lsn < lsn && transaction.events.len() > 0);
                    let keys: Vec<_> = match transaction.events {
                        Events::Kept(events) => events.iter().map(|event| event.key).collect(),
                        Events::Spilled(list) => list.into_iter().collect(),
                    };
                    assert!(keys.is_sorted(), "{keys:?}");
                }
            }
            Step::Abort { xid, subxids } => open.abort(u32::from(xid), &wide(&subxids)),
            Step::Prepare { xid, subxids } => open.prepare(u32::from(xid), &wide(&subxids)),
            Step::RetireOlderThan { xid } => open.retire_older_than(xid),
            Step::RetireAll => open.retire_all(),
            Step::SetMemoryLimit { bytes } => open.set_memory_limit(usize::from(bytes)),
        }
        assert!(open.oldest_lsn().is_none_or(|oldest| oldest <= lsn));
    }
});
