//! The assembler against a model of what it should do, for arbitrary sequences of WAL records.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::event::{ChangeKey, EventHead, Operation};
use crate::lsn::Lsn;
use crate::wal::committed::{CommittedTransaction, Found, OrderedEvents};
use crate::wal::transactions::Transactions;

/// Sessions, each with a transaction at a time.
const SESSIONS: std::ops::Range<usize> = 0..4;

/// Subtransactions that a transaction can have at a time.
const SUBTRANSACTIONS: std::ops::Range<usize> = 0..5;

#[derive(Clone, Debug)]
enum Step {
    /// Of the transaction itself or of a subtransaction.
    Event {
        session: usize,
        sub: Option<usize>,
        command_id: u32,
        size: usize,
    },
    RollBackTo {
        session: usize,
        sub: usize,
    },
    Commit(usize),
    Abort(usize),
    Prepare(usize),
    /// The session is gone, and left no record of it.
    Die(usize),
    /// No transaction runs any more that is not among the last so many.
    RetireOlderThan(u64),
    RetireAll,
    SetMemoryLimit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let event = (SESSIONS, proptest::option::of(SUBTRANSACTIONS), 0..5u32, 0..300usize);
    prop_oneof![
        16 => event.prop_map(|(session, sub, command_id, size)| Step::Event {
            session, sub, command_id, size
        }),
        2 => (SESSIONS, SUBTRANSACTIONS).prop_map(|(session, sub)| Step::RollBackTo { session, sub }),
        4 => SESSIONS.prop_map(Step::Commit),
        1 => SESSIONS.prop_map(Step::Abort),
        2 => SESSIONS.prop_map(Step::Prepare),
        1 => SESSIONS.prop_map(Step::Die),
        1 => (0..30u64).prop_map(Step::RetireOlderThan),
        1 => Just(Step::RetireAll),
        1 => (0..4000usize).prop_map(Step::SetMemoryLimit),
    ]
}

/// A transaction and its subtransactions, those that were not rolled back.
#[derive(Debug, Default)]
struct Session {
    xid: Option<u64>,
    subxids: BTreeMap<usize, u64>,
    is_prepared: bool,
}

impl Session {
    /// The xid of the transaction or of a subtransaction, which has one from now on.
    fn xid(&mut self, sub: Option<usize>, next: &mut u64) -> u64 {
        let mut assign = || {
            *next += 1;
            *next - 1
        };
        let own = *self.xid.get_or_insert_with(&mut assign);
        sub.map_or(own, |sub| *self.subxids.entry(sub).or_insert_with(assign))
    }

    /// As a record has them.
    fn family(&self) -> Option<(u64, Vec<u32>)> {
        let mut subxids: Vec<_> = self.subxids.values().copied().collect();
        subxids.sort_unstable();
        Some((self.xid?, subxids.into_iter().map(|xid| xid as u32).collect()))
    }
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
    open: BTreeMap<u64, (Vec<(Lsn, u32)>, bool)>,
}

impl Model {
    fn end(&mut self, session: &Session) -> Vec<(Lsn, u32)> {
        let family = session.xid.iter().chain(session.subxids.values());
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
    fn the_assembler_gives_each_transaction_what_is_its_own(steps in vec(step(), 0..200)) {
        let mut assembler = Transactions::new(3000);
        let mut model = Model::default();
        let mut sessions: [Session; SESSIONS.end] = Default::default();
        // So that the lower half wraps around.
        let mut next = u64::from(u32::MAX) - 20;
        for (number, step) in steps.into_iter().enumerate() {
            let lsn = Lsn(8 * (number as u64 + 1));
            match step {
                Step::Event { session, sub, command_id, size } => {
                    let session = &mut sessions[session];
                    if session.is_prepared {
                        continue;
                    }
                    let xid = session.xid(sub, &mut next);
                    assembler.event(xid, lsn, &payload(command_id, size));
                    model.open.entry(xid).or_default().0.push((lsn, command_id));
                }
                Step::RollBackTo { session, sub } => {
                    let session = &mut sessions[session];
                    if session.is_prepared {
                        continue;
                    }
                    let Some(xid) = session.subxids.remove(&sub) else { continue };
                    assembler.abort(xid, &[]);
                    model.open.remove(&xid);
                }
                Step::Commit(session) => {
                    let session = std::mem::take(&mut sessions[session]);
                    let Some((xid, subxids)) = session.family() else { continue };
                    let expected = model.end(&session);
                    let committed = assembler.commit(xid, &subxids, lsn, 0);
                    let first = committed.as_ref().map(|transaction| transaction.first_lsn);
                    prop_assert_eq!(first, expected.iter().map(|key| key.0).min());
                    let Some(committed) = committed else { continue };
                    prop_assert_eq!(keys_of(&committed), &expected[..]);
                    let mut lsns = lsns_in_order(&committed);
                    lsns.sort_unstable();
                    prop_assert_eq!(lsns, expected.iter().map(|key| key.0).collect::<Vec<_>>());
                }
                Step::Abort(session) => {
                    let session = std::mem::take(&mut sessions[session]);
                    let Some((xid, subxids)) = session.family() else { continue };
                    assembler.abort(xid, &subxids);
                    model.end(&session);
                }
                Step::Prepare(session) => {
                    let session = &mut sessions[session];
                    let Some((xid, subxids)) = session.family() else { continue };
                    if session.is_prepared {
                        continue;
                    }
                    session.is_prepared = true;
                    assembler.prepare(xid, &subxids);
                    for xid in session.xid.iter().chain(session.subxids.values()) {
                        model.open.entry(*xid).and_modify(|open| open.1 = true);
                    }
                }
                Step::Die(session) => {
                    if !sessions[session].is_prepared {
                        sessions[session] = Session::default();
                    }
                }
                Step::RetireOlderThan(ago) => {
                    let oldest = next - ago;
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
