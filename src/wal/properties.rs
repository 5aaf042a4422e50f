//! The assembler against a model of what it should do, for arbitrary sequences of WAL records.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::lsn::Lsn;
use crate::wal::event_list::{EventKey, EventList};
use crate::wal::transactions::{Events, Transactions};

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
    let mut bytes = vec![0; 8 + size];
    bytes[4..8].copy_from_slice(&command_id.to_le_bytes());
    bytes
}

/// What should be open: the keys of each xid, and which xids are prepared.
#[derive(Default)]
struct Model {
    open: BTreeMap<u32, (Vec<EventKey>, bool)>,
}

impl Model {
    fn end(&mut self, xid: u32, subxids: &[u32]) -> Vec<EventKey> {
        let family = std::iter::once(&xid).chain(subxids);
        let ended = family.filter_map(|xid| self.open.remove(xid));
        let mut keys: Vec<EventKey> = ended.flat_map(|(keys, _)| keys).collect();
        keys.sort();
        keys
    }
}

fn keys_of(events: Events) -> Vec<EventKey> {
    match events {
        Events::Kept(events) => {
            for event in &events {
                assert_eq!(crate::event::command_id(&event.payload), event.key.command_id);
            }
            events.into_iter().map(|event| event.key).collect()
        }
        Events::Spilled(list) => list.into_iter().collect(),
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
                    model.open.entry(xid).or_default().0.push(EventKey { command_id, lsn });
                }
                Step::Commit { xid, subxids } => {
                    let expected = model.end(xid, &subxids);
                    let committed = assembler.commit(xid, &subxids, lsn, 0);
                    let first = committed.as_ref().map(|transaction| transaction.first_lsn);
                    prop_assert_eq!(first, expected.iter().map(|key| key.lsn).min());
                    let keys = committed.map(|transaction| keys_of(transaction.events));
                    prop_assert_eq!(keys.unwrap_or_default(), expected);
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
            prop_assert_eq!(assembler.oldest_lsn(), keys().map(|key| key.lsn).min());
            prop_assert_eq!(assembler.has_prepared(), model.open.values().any(|open| open.1));
        }
    }

    #[test]
    fn a_list_of_events_gives_back_what_was_put_in(
        numbers in vec((any::<u32>(), any::<u64>()), 0..100)
    ) {
        let key = |(command_id, lsn)| EventKey { command_id, lsn: Lsn(lsn) };
        let keys: Vec<EventKey> = numbers.into_iter().map(key).collect();
        let list: EventList = keys.iter().copied().collect();
        prop_assert_eq!(list.is_sorted(), keys.is_sorted());
        prop_assert_eq!(list.len(), keys.len());
        prop_assert_eq!(list.into_iter().collect::<Vec<_>>(), keys);
    }
}
