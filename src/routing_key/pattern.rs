//! A template of which only the operation and the values of a row are missing, as it stands in an event.
//!
//! The bytes: 1 if one placeholder is all there is, or else 0; then part by part a tag and a number
//! ([`crate::bytes::put_number`]): of a text its length, and its bytes follow; of a value the column's number among
//! those that are published; of the operation 0.

use std::rc::Rc;

use super::filling::Filling;
use crate::bytes::{Reader, put_number};
use crate::memory;

const TEXT: u8 = 0;
const NEW: u8 = 1;
const OLD: u8 = 2;
const OPERATION: u8 = 3;

/// Such a template. Its bytes make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Rc<[u8]>);

/// A part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// It stands as it is.
    Text(&'a str),
    /// What happened to the row.
    Operation,
    /// A column's value.
    Value(Side, usize),
}

/// Which version of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one before the change.
    Old,
    /// The one after it, or before it where there is none after.
    New,
}

impl Pattern {
    /// Puts it together.
    pub(super) fn new<'a>(is_alone: bool, parts: impl Iterator<Item = Part<'a>>) -> Pattern {
        let mut bytes = vec![u8::from(is_alone)];
        for part in parts {
            match part {
                Part::Text(text) => {
                    memory::push(&mut bytes, TEXT);
                    put_number(&mut bytes, text.len() as u64);
                    memory::append(&mut bytes, text.as_bytes());
                }
                Part::Operation => memory::append(&mut bytes, &[OPERATION, 0]),
                Part::Value(side, column) => {
                    memory::push(&mut bytes, if side == Side::New { NEW } else { OLD });
                    put_number(&mut bytes, column as u64);
                }
            }
        }
        Pattern(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The pattern with these bytes. Returns none if they are of none.
    pub fn decode(bytes: &[u8]) -> Option<Pattern> {
        let (alone, mut parts) = bytes.split_first()?;
        while !parts.is_empty() {
            take(&mut parts)?;
        }
        (*alone <= 1).then(|| Pattern(memory::copy(bytes).into()))
    }

    /// Its parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let mut rest = &self.0[1..];
        std::iter::from_fn(move || take(&mut rest))
    }

    /// Whether keys are the same for all rows.
    pub fn is_fixed(&self) -> bool {
        !self.parts().any(|part| matches!(part, Part::Value(..)))
    }

    /// Fills in what is missing. `add` adds the value of a column.
    pub fn fill(&self, operation: &str, mut add: impl FnMut(Side, usize, &mut Filling)) -> Filling {
        let mut filling = Filling::new(self.0[0] != 0);
        for part in self.parts() {
            match part {
                Part::Text(text) => filling.add_text(text),
                Part::Operation => filling.add_text(operation),
                Part::Value(side, column) => add(side, column, &mut filling),
            }
        }
        filling
    }
}

/// Takes a part off the front.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<Part<'a>> {
    let mut reader = Reader::new(bytes);
    let tag = reader.byte()?;
    let number = usize::try_from(reader.number()?).ok()?;
    let part = match tag {
        TEXT => Part::Text(std::str::from_utf8(reader.bytes(number)?).ok()?),
        NEW => Part::Value(Side::New, number),
        OLD => Part::Value(Side::Old, number),
        OPERATION => Part::Operation,
        _ => return None,
    };
    *bytes = reader.rest();
    Some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_comes_back_and_is_filled_part_by_part() {
        let parts = [
            Part::Text("cdc."),
            Part::Value(Side::New, 300),
            Part::Text(".ü."),
            Part::Value(Side::Old, 0),
            Part::Operation,
        ];
        let pattern = Pattern::new(false, parts.into_iter());
        let decoded = Pattern::decode(pattern.as_bytes()).unwrap();
        assert_eq!(decoded.parts().collect::<Vec<_>>(), parts);
        let filling = decoded.fill("insert", |side, column, filling| {
            filling.add_value(Some(format!("\"{side:?}.{column}\"").as_bytes()));
        });
        assert_eq!(filling.fit(), "cdc.New%2E300.ü.Old%2E0insert");
        assert!(!pattern.is_fixed());
        let fixed = Pattern::new(true, [Part::Operation].into_iter());
        assert!(fixed.is_fixed());
        assert_eq!(fixed.fill("delete", |_, _, _| {}).fit(), "delete");
        let alone = Pattern::new(true, [Part::Value(Side::New, 1)].into_iter());
        let add = |_, _, filling: &mut Filling| filling.add_value(Some(b"\"a.b\""));
        assert_eq!(alone.fill("insert", add).fit(), "a.b");
        for end in 0..pattern.as_bytes().len() {
            let cut = Pattern::decode(&pattern.as_bytes()[..end]);
            assert!(cut.is_none_or(|cut| cut.parts().count() < 5));
        }
    }

    #[test]
    fn what_is_no_pattern_is_none() {
        for bytes in [
            &b""[..],
            b"\x02",
            b"\x00\x04\x00",
            b"\x00\x00\x05ab",
            b"\x00\x00\x01\xFF",
            b"\x00\x01",
        ] {
            assert_eq!(Pattern::decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes in any::<Vec<u8>>()) {
            if let Some(pattern) = Pattern::decode(&bytes) {
                prop_assert_eq!(pattern.as_bytes(), &bytes);
                pattern.fill("update", |_, _, filling| filling.add_value(None)).fit();
            }
        }
    }
}
