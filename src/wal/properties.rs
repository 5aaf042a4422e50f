//! The assembler against a model of what it should do, for arbitrary sequences of WAL records.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::event::{ChangeKey, EventHead, Operation};
use crate::lsn::Lsn;
use crate::wal::transactions::{CommittedTransaction, Found, OrderedEvents, Transactions};

/// Few xids, so that what happens to one happens to another's subtransactions, too.
const XIDS: std::ops::Range<u32> = 1..8;

#[derive(Clone, Debug)]
enum Step {
    Event { xid: u32, command_id: u32, size: usize },
    Commit { xid: u32, subxids: Vec<u32> },
    Abort { xid: u32, subxids: Vec<u32> },
    Prepare { xid: u32, subxids: Vec<u32> },
    RetireOlderThan(u32),
    RetireAll,
    SetMemoryLimit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let family = || (XIDS, vec(XIDS, 0..3));
    prop_oneof![
        8 => (XIDS, 0..5u32, 0..300usize)
            .prop_map(|(xid, command_id, size)| Step::Event { xid, command_id, size }),
        3 => family().prop_map(|(xid, subxids)| Step::Commit { xid, subxids }),
        1 => family().prop_map(|(xid, subxids)| Step::Abort { xid, subxids }),
        1 => family().prop_map(|(xid, subxids)| Step::Prepare { xid, subxids }),
        1 => XIDS.prop_map(Step::RetireOlderThan),
        1 => Just(Step::RetireAll),
        1 => (0..2000usize).prop_map(Step::SetMemoryLimit),
    ]
}

/// An event's payload: only its command id matters here.
fn payload(command_id: u32, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    EventHead::new(Operation::Insert, command_id).encode_into(&mut bytes);
    bytes.resize(bytes.len() + size, 0);
    bytes
}

/// What should be open: LSN and command id of the events of each xid, and which xids are prepared.
#[derive(Default)]
struct Model {
    open: BTreeMap<u32, (Vec<(Lsn, u32)>, bool)>,
}

impl Model {
    fn end(&mut self, xid: u32, subxids: &[u32]) -> Vec<(Lsn, u32)> {
        let family = std::iter::once(&xid).chain(subxids);
        let ended = family.filter_map(|xid| self.open.remove(xid));
        let mut keys: Vec<_> = ended.flat_map(|(keys, _)| keys).collect();
        keys.sort();
        keys
    }
}

/// LSN and command id of what was assembled, in the order of the WAL.
fn keys_of(transaction: &CommittedTransaction<Found>) -> Vec<(Lsn, u32)> {
    match &transaction.events {
        Found::Kept(events) => {
            let key = |payload: &[u8]| ChangeKey::of(payload).command_id;
            events.iter().map(|event| (event.lsn, key(&event.payload))).collect()
        }
        Found::Spilled(list) => list.iter().map(|e| (e.lsn, e.key.command_id)).collect(),
    }
}

/// The same events in their order.
fn lsns_in_order(transaction: &CommittedTransaction<Found>) -> Vec<Lsn> {
    match transaction.events.clone().in_order(transaction.events.order()) {
        OrderedEvents::Kept(events) => {
            assert!(events.iter().all(|event| !event.payload.is_empty()));
            events.into_iter().map(|event| event.lsn).collect()
        }
        OrderedEvents::Spilled(lsns) => lsns.iter().map(|[lsn]| Lsn(lsn)).collect(),
    }
}

proptest! {
    #[test]
    fn the_assembler_gives_each_transaction_what_is_its_own(steps in vec(step(), 0..120)) {
        let mut assembler = Transactions::new(1000);
        let mut model = Model::default();
        for (number, step) in steps.into_iter().enumerate() {
            let lsn = Lsn(8 * (number as u64 + 1));
            match step {
                Step::Event { xid, command_id, size } => {
                    assembler.event(xid, lsn, &payload(command_id, size));
                    model.open.entry(xid).or_default().0.push((lsn, command_id));
                }
                Step::Commit { xid, subxids } => {
                    let expected = model.end(xid, &subxids);
                    let committed = assembler.commit(xid, &subxids, lsn, 0);
                    let first = committed.as_ref().map(|transaction| transaction.first_lsn);
                    prop_assert_eq!(first, expected.iter().map(|key| key.0).min());
                    let Some(committed) = committed else { continue };
                    prop_assert_eq!(keys_of(&committed), &expected[..]);
                    let mut lsns = lsns_in_order(&committed);
                    lsns.sort_unstable();
                    prop_assert_eq!(lsns, expected.iter().map(|key| key.0).collect::<Vec<_>>());
                }
                Step::Abort { xid, subxids } => {
                    assembler.abort(xid, &subxids);
                    model.end(xid, &subxids);
                }
                Step::Prepare { xid, subxids } => {
                    assembler.prepare(xid, &subxids);
                    for xid in std::iter::once(&xid).chain(&subxids) {
                        model.open.entry(*xid).and_modify(|open| open.1 = true);
                    }
                }
                Step::RetireOlderThan(oldest) => {
                    assembler.retire_older_than(oldest);
                    model.open.retain(|&xid, open| open.1 || xid >= oldest);
                }
                Step::RetireAll => {
                    assembler.retire_all();
                    model.open.retain(|_, open| open.1);
                }
                Step::SetMemoryLimit(bytes) => assembler.set_memory_limit(bytes),
            }
            let keys = || model.open.values().flat_map(|(keys, _)| keys);
            prop_assert_eq!(assembler.oldest_lsn(), keys().map(|key| key.0).min());
            prop_assert_eq!(assembler.has_prepared(), model.open.values().any(|open| open.1));
        }
    }
}
