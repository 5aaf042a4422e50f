//! The position record in the WAL: a position, and what else a later life of the worker has to know. Pure.
//!
//! Bytes: version; C, R and the number of confirmed events after C (u64 each); then fields in any order, each with
//! its tag and length ([`put_number`]) before it. Unknown fields are passed over.

use std::rc::Rc;

use super::pair::Position;
use crate::bytes::{Reader, put_number};
use crate::lsn::Lsn;
use crate::memory;
use crate::stream::gap::{Gap, OwedGap};

/// Prefix of the logical message that carries a position record. It cannot be forged, like that of events.
pub const POSITION_PREFIX: &[u8] = b"amqp_cdc\0position\0";

/// The first version, which has a position alone.
const POSITION_ONLY: u8 = 1;

/// The version that is written.
const VERSION: u8 = 2;

// The tags of fields.
const OWED: u8 = 1;
const EXCHANGE: u8 = 2;
const IS_PARTIAL: u8 = 3;

/// What one life of the worker leaves to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Gaps that exchanges are yet to be told of.
    pub owed: Vec<OwedGap>,
    /// The exchanges that events went to last, the last one at the end.
    pub exchanges: Vec<Rc<str>>,
    /// Whether earlier records still count: they were not all read when this one was written.
    pub is_partial: bool,
}

impl Notes {
    /// Brings the notes up to date with those of a later record.
    pub fn update(&mut self, later: Notes) {
        if !later.is_partial {
            *self = later;
            return;
        }
        for owed in later.owed {
            match self.owed.iter_mut().find(|known| known.exchange == owed.exchange) {
                Some(known) => {
                    known.gap = known.gap.and(owed.gap);
                    known.last = known.last.max(owed.last);
                }
                None => memory::push(&mut self.owed, owed),
            }
        }
        self.exchanges.retain(|known| !later.exchanges.contains(known));
        memory::reserve(&mut self.exchanges, later.exchanges.len());
        self.exchanges.extend(later.exchanges);
    }
}

/// A record's bytes.
pub fn encode(position: &Position, notes: &Notes) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    put_lsns(&mut bytes, [position.confirmed, position.restart, Lsn(position.tx_seq)]);
    for OwedGap { exchange, gap, last } in &notes.owed {
        let mut value = Vec::new();
        put_lsns(&mut value, [gap.from.unwrap_or_default(), gap.to, *last]);
        memory::append(&mut value, exchange.as_bytes());
        put_field(&mut bytes, OWED, &value);
    }
    for exchange in &notes.exchanges {
        put_field(&mut bytes, EXCHANGE, exchange.as_bytes());
    }
    if notes.is_partial {
        put_field(&mut bytes, IS_PARTIAL, &[]);
    }
    bytes
}

/// Decodes a record; one of the first version has no notes. Returns None if another version wrote it.
pub fn decode(payload: &[u8]) -> Option<(Position, Option<Notes>)> {
    let mut reader = Reader::new(payload);
    let version = reader.byte()?;
    let [confirmed, restart, Lsn(tx_seq)] = take_lsns(&mut reader)?;
    let position = Position { confirmed, restart, tx_seq };
    match version {
        POSITION_ONLY => reader.rest().is_empty().then_some((position, None)),
        VERSION => Some((position, Some(take_notes(&mut reader)?))),
        _ => None,
    }
}

fn take_notes(reader: &mut Reader<'_>) -> Option<Notes> {
    let mut notes = Notes::default();
    while !reader.rest().is_empty() {
        let tag = reader.byte()?;
        let length = usize::try_from(reader.number()?).ok()?;
        let mut value = Reader::new(reader.bytes(length)?);
        match tag {
            OWED => {
                let [from, to, last] = take_lsns(&mut value)?;
                let gap = Gap { from: from.is_valid().then_some(from), to };
                let owed = OwedGap { exchange: text(value.rest())?, gap, last };
                memory::push(&mut notes.owed, owed);
            }
            EXCHANGE => memory::push(&mut notes.exchanges, text(value.rest())?),
            IS_PARTIAL => notes.is_partial = true,
            _ => {}
        }
    }
    Some(notes)
}

fn put_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    memory::push(out, tag);
    put_number(out, value.len() as u64);
    memory::append(out, value);
}

fn put_lsns(out: &mut Vec<u8>, lsns: [Lsn; 3]) {
    lsns.iter().for_each(|lsn| memory::append(out, &lsn.0.to_le_bytes()));
}

fn take_lsns(reader: &mut Reader<'_>) -> Option<[Lsn; 3]> {
    Some([Lsn(reader.u64()?), Lsn(reader.u64()?), Lsn(reader.u64()?)])
}

fn text(bytes: &[u8]) -> Option<Rc<str>> {
    std::str::from_utf8(bytes).ok().map(Rc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSITION: Position = Position { confirmed: Lsn(7), restart: Lsn(5), tx_seq: 3 };

    fn owed(exchange: &str, from: Option<u64>, to: u64) -> OwedGap {
        OwedGap {
            exchange: exchange.into(),
            gap: Gap { from: from.map(Lsn), to: Lsn(to) },
            last: Lsn(to - 1),
        }
    }

    fn notes() -> Notes {
        Notes {
            owed: vec![owed("a", Some(10), 20), owed("ü", None, 30)],
            exchanges: vec!["a".into(), "".into()],
            is_partial: true,
        }
    }

    #[test]
    fn a_position_record_comes_back_as_it_was_written() {
        for notes in [Notes::default(), notes(), Notes { is_partial: false, ..notes() }] {
            assert_eq!(decode(&encode(&POSITION, &notes)), Some((POSITION, Some(notes))));
        }
    }

    #[test]
    fn the_records_of_the_first_version_are_read() {
        let mut bytes = vec![1];
        put_lsns(&mut bytes, [Lsn(7), Lsn(5), Lsn(3)]);
        assert_eq!(decode(&bytes), Some((POSITION, None)));
        bytes.push(0);
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn a_strange_position_record_is_none_and_a_strange_field_is_passed_over() {
        let bytes = encode(&POSITION, &notes());
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[&[9], &bytes[1..]].concat()), None);
        // What is left where a field ends is a record, too; anywhere else it is none.
        let whole = (0..bytes.len()).filter(|&length| decode(&bytes[..length]).is_some()).count();
        assert_eq!(whole, 5);
        let strange = [&bytes[..], &[99, 2, 1, 1]].concat();
        assert_eq!(decode(&strange), Some((POSITION, Some(notes()))));
    }

    #[test]
    fn a_whole_record_replaces_what_was_known_and_a_partial_one_adds_to_it() {
        let mut known = Notes { is_partial: false, ..notes() };
        known.update(Notes {
            owed: vec![owed("a", Some(15), 25), owed("b", Some(1), 2)],
            exchanges: vec!["b".into(), "a".into()],
            is_partial: true,
        });
        assert_eq!(
            known.owed,
            [owed("a", Some(10), 25), owed("ü", None, 30), owed("b", Some(1), 2)]
        );
        assert_eq!(known.exchanges, ["".into(), "b".into(), "a".into()]);
        known.update(Notes::default());
        assert_eq!(known, Notes::default());
    }
}
