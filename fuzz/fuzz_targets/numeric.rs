//! A numeric's stored bytes, any or those of a number: rendering never panics, its size is known before, and the
//! text of a number says that number.

#![no_main]
#![allow(dead_code)]

#[path = "../../src/memory.rs"]
mod memory;
#[path = "../../src/row"]
mod row {
    pub mod escape;
    pub mod numeric;
}

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use row::numeric;
use serde_json::value::RawValue;

#[derive(Arbitrary, Debug)]
enum Input {
    Any(Vec<u8>),
    Number(Number),
}

#[derive(Arbitrary, Debug)]
struct Number {
    is_negative: bool,
    /// Whether all but the digits stands in two bytes.
    is_short: bool,
    scale: u16,
    weight: i16,
    digits: Vec<u16>,
}

impl Number {
    /// What PostgreSQL would store: digits below 10,000, the first of which is no zero, and what has room in the
    /// header (numeric.c: "struct NumericData").
    fn tidied(self) -> Number {
        let Number { is_short, scale, weight, mut digits, .. } = self;
        digits.iter_mut().for_each(|digit| *digit %= 10_000);
        match digits.first_mut() {
            Some(first) => *first = (*first).max(1),
            None => digits.push(1),
        }
        let (scale, weight) = if is_short { (scale & 0x3F, weight % 64) } else { (scale & 0x3FFF, weight) };
        Number { scale, weight, digits, ..self }
    }

    fn stored(&self) -> Vec<u8> {
        let Number { is_negative, is_short, scale, weight, .. } = *self;
        let header = if is_short {
            vec![0x8000 | u16::from(is_negative) << 13 | scale << 7 | weight as u16 & 0x7F]
        } else {
            vec![u16::from(is_negative) << 14 | scale, weight as u16]
        };
        header.iter().chain(&self.digits).flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// The digit that counts `10000^power`.
    fn digit(&self, power: i32) -> u16 {
        let index = usize::try_from(i32::from(self.weight) - power).ok();
        index.and_then(|index| self.digits.get(index)).copied().unwrap_or(0)
    }

    /// That the text says this number, as far as it has digits behind the point.
    fn check(&self, text: &str) {
        assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "{text}");
        let digits = text.strip_prefix('-');
        assert_eq!(digits.is_some(), self.is_negative);
        let (whole, fraction) = digits.unwrap_or(text).split_once('.').unwrap_or((digits.unwrap_or(text), ""));
        assert_eq!(fraction.len(), usize::from(self.scale));
        let highest = whole.len().div_ceil(4) as i32 - 1;
        assert!(highest >= i32::from(self.weight));
        let whole = "0".repeat(whole.len().next_multiple_of(4) - whole.len()) + whole;
        for (index, four) in whole.as_bytes().chunks(4).enumerate() {
            assert_eq!(number(four), self.digit(highest - index as i32));
        }
        for (index, digits) in fraction.as_bytes().chunks(4).enumerate() {
            let cut_off = 10u16.pow(4 - digits.len() as u32);
            assert_eq!(number(digits), self.digit(-1 - index as i32) / cut_off);
        }
    }
}

fn number(digits: &[u8]) -> u16 {
    std::str::from_utf8(digits).unwrap().parse().unwrap()
}

fn text(stored: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    let text = numeric::push(&mut out, stored).map(|()| String::from_utf8(out.clone()).unwrap());
    assert!(text.is_some() || out.is_empty());
    assert_eq!(numeric::size(stored).is_some(), text.is_some());
    text
}

fuzz_target!(|input: Input| {
    match input {
        Input::Any(stored) => {
            let _ = text(&stored);
        }
        Input::Number(number) => {
            let number = number.tidied();
            let stored = number.stored();
            let text = text(&stored).expect("it is a number");
            let size = numeric::size(&stored).unwrap_or(0);
            assert!((size..=size + 4).contains(&text.len()), "{size} for {text}");
            number.check(&text);
        }
    }
});
