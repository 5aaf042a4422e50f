//! A numeric as text, as PostgreSQL's `numeric_out` (numeric.c: `get_str_from_var`) writes it, made
//! from its stored bytes: a header of two or four bytes, then digits in base 10,000.

use super::escape;
use crate::memory;

/// The two highest bits of the header (numeric.c: "struct NumericData").
const FORM: u16 = 0xC000;
const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
/// Sign, scale and weight are in these two bytes alone.
const SHORT: u16 = 0x8000;

const SHORT_SIGN: u16 = 0x2000;
const SHORT_SCALE: u16 = 0x1F80;
const SHORT_SCALE_SHIFT: u16 = 7;
const SHORT_WEIGHT_SIGN: u16 = 0x0040;
const SHORT_WEIGHT: u16 = 0x003F;
const LONG_SCALE: u16 = 0x3FFF;

/// Decimal digits in one stored digit.
const WIDTH: usize = 4;

/// A number as it is stored.
struct Stored<'a> {
    is_negative: bool,
    /// Decimal digits behind the point.
    scale: u16,
    /// The first stored digit counts `10000^weight`.
    weight: i16,
    digits: &'a [u8],
}

impl Stored<'_> {
    /// None for NaN and the infinities.
    fn of(stored: &[u8]) -> Option<Stored<'_>> {
        let (&header, rest) = stored.split_first_chunk()?;
        let header = u16::from_ne_bytes(header);
        Some(match header & FORM {
            SHORT => {
                // The sign is extended.
                let sign = if header & SHORT_WEIGHT_SIGN != 0 { !SHORT_WEIGHT } else { 0 };
                Stored {
                    is_negative: header & SHORT_SIGN != 0,
                    scale: (header & SHORT_SCALE) >> SHORT_SCALE_SHIFT,
                    weight: (header & SHORT_WEIGHT | sign) as i16,
                    digits: rest,
                }
            }
            form @ (POSITIVE | NEGATIVE) => {
                let (&weight, digits) = rest.split_first_chunk()?;
                let weight = i16::from_ne_bytes(weight);
                Stored { is_negative: form == NEGATIVE, scale: header & LONG_SCALE, weight, digits }
            }
            _ => return None,
        })
    }
}

/// Bytes of the text of the number whose stored bytes, after the length, these are: so many, or up to [`WIDTH`]
/// more. Returns none for NaN and the infinities.
pub fn size(stored: &[u8]) -> Option<usize> {
    let Stored { scale, weight, .. } = Stored::of(stored)?;
    let fraction = if scale > 0 { 1 + usize::from(scale) } else { 0 };
    Some(1 + WIDTH * usize::try_from(weight).unwrap_or(0) + fraction)
}

/// Appends the number whose stored bytes, after the length, these are. None, with nothing
/// appended, for NaN and the infinities.
pub fn push(out: &mut Vec<u8>, stored: &[u8]) -> Option<()> {
    let Stored { is_negative, scale, weight, digits } = Stored::of(stored)?;
    // Of the stored digits, the one that counts `10000^(weight - index)`; none there is a zero.
    let digit = |index: i32| {
        let at = usize::try_from(index).ok().map(|index| 2 * index);
        let pair = at.and_then(|at| digits.get(at..)?.first_chunk());
        pair.map_or(0, |&pair| u16::from_ne_bytes(pair))
    };
    let weight = i32::from(weight);
    // Sign, point, the first digit of up to four; the others before the point; those behind it.
    memory::reserve(out, 2 + WIDTH + WIDTH * weight.max(0) as usize + usize::from(scale));
    if is_negative {
        out.push(b'-');
    }
    escape::push_integer(out, i64::from(digit(0.min(weight))));
    for index in 1..=weight {
        out.extend_from_slice(&four(digit(index)));
    }
    if scale > 0 {
        out.push(b'.');
        let end = out.len() + usize::from(scale);
        let mut index = weight + 1;
        while out.len() < end {
            let room = (end - out.len()).min(WIDTH);
            out.extend_from_slice(&four(digit(index))[..room]);
            index += 1;
        }
    }
    Some(())
}

fn four(digit: u16) -> [u8; WIDTH] {
    let decimal = |number: u16| b'0' + (number % 10) as u8;
    [decimal(digit / 1000), decimal(digit / 100), decimal(digit / 10), decimal(digit)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(words: &[u16]) -> Option<String> {
        let stored: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut out = Vec::new();
        push(&mut out, &stored).map(|()| String::from_utf8(out).unwrap())
    }

    fn short(is_negative: bool, scale: u16, weight: i16) -> u16 {
        let sign = if is_negative { SHORT_SIGN } else { 0 };
        SHORT | sign | scale << SHORT_SCALE_SHIFT | weight as u16 & 0x7F
    }

    #[test]
    fn numbers_have_the_digits_that_they_were_given() {
        for (words, number) in [
            (&[short(false, 0, 0)][..], "0"),
            (&[short(false, 3, 0)], "0.000"),
            (&[short(false, 2, 0), 12, 3400], "12.34"),
            (&[short(true, 1, 1), 1, 2, 5000], "-10002.5"),
            (&[short(false, 0, 2), 7], "700000000"),
            (&[short(true, 6, -1), 12], "-0.001200"),
            (&[short(false, 10, -2), 12], "0.0000001200"),
            (&[POSITIVE | 1, 1, 9999, 1, 9000], "99990001.9"),
            (&[NEGATIVE, 0, 5], "-5"),
        ] {
            assert_eq!(text(words).as_deref(), Some(number));
        }
    }

    proptest! {
        #[test]
        fn the_size_is_known_before(
            header in any::<u16>(),
            rest in prop::collection::vec(0u16..10_000, 0..4),
        ) {
            let words = [vec![header], rest].concat();
            let stored: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let length = text(&words).map(|text| text.len());
            prop_assert_eq!(size(&stored).is_some(), length.is_some());
            if let (Some(size), Some(length)) = (size(&stored), length) {
                prop_assert!((size..=size + WIDTH).contains(&length), "{} for {}", size, length);
            }
        }
    }

    #[test]
    fn what_is_no_number_is_declined() {
        for words in [&[0xC000][..], &[0xD000], &[0xF000], &[], &[POSITIVE]] {
            assert_eq!(text(words), None);
        }
    }
}
