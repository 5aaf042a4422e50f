//! A template of which only the values of a row are missing, as it stands in an event.
//!
//! The bytes: 1 if a value is all there is, or else 0; then part by part a tag and, of a text, its length and its
//! bytes; of a value, the column's number among those that are published ([`crate::bytes::put_number`]).

use std::rc::Rc;

use super::filling::Filling;
use super::template::Side;
use crate::bytes::{Reader, put_number};
use crate::memory;

const TEXT: u8 = 0;
const NEW: u8 = 1;
const OLD: u8 = 2;

/// Such a template. Its bytes make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Rc<[u8]>);

/// A part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// It stands as it is.
    Text(&'a str),
    /// A column's value.
    Value(Side, usize),
}

impl Pattern {
    /// Puts it together.
    pub(super) fn new<'a>(is_value_alone: bool, parts: impl Iterator<Item = Part<'a>>) -> Pattern {
        let mut bytes = vec![u8::from(is_value_alone)];
        for part in parts {
            match part {
                Part::Text(text) => {
                    memory::push(&mut bytes, TEXT);
                    put_number(&mut bytes, text.len() as u64);
                    memory::append(&mut bytes, text.as_bytes());
                }
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

    /// Returns a key to which nothing was added yet.
    pub fn begin(&self) -> Filling {
        Filling::new(self.0[0] != 0)
    }

    /// Fills in the values. `add` adds the value of a column.
    pub fn fill(&self, mut add: impl FnMut(Side, usize, &mut Filling)) -> Filling {
        let mut filling = self.begin();
        for part in self.parts() {
            match part {
                Part::Text(text) => filling.add_text(text),
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
        ];
        let pattern = Pattern::new(false, parts.into_iter());
        let decoded = Pattern::decode(pattern.as_bytes()).unwrap();
        assert_eq!(decoded.parts().collect::<Vec<_>>(), parts);
        let filling = decoded.fill(|side, column, filling| {
            filling.add_value(Some(format!("\"{side:?}.{column}\"").as_bytes()));
        });
        assert_eq!(filling.fit(), "cdc.New%2E300.ü.Old%2E0");
        let alone = Pattern::new(true, [Part::Value(Side::New, 1)].into_iter());
        assert_eq!(alone.fill(|_, _, filling| filling.add_value(Some(b"\"a.b\""))).fit(), "a.b");
        for end in 0..pattern.as_bytes().len() {
            let cut = Pattern::decode(&pattern.as_bytes()[..end]);
            assert!(cut.is_none_or(|cut| cut.parts().count() < 4));
        }
    }

    #[test]
    fn what_is_no_pattern_is_none() {
        for bytes in [
            &b""[..],
            b"\x02",
            b"\x00\x03\x00",
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
                pattern.fill(|_, _, filling| filling.add_value(None)).fit();
            }
        }
    }
}
