//! JSON string literals, spelt as PostgreSQL spells them (json.c: `escape_json`), and the digits of
//! integers. Pure; works on bytes of any encoding that PostgreSQL has in a server, all of which keep
//! ASCII bytes for ASCII characters.

use crate::memory;

/// Bytes looked at together.
const STRIDE: usize = 16;

/// Appends what stands between the quotes.
pub fn push_escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let plain = plain_prefix(text);
        memory::append(out, &text[..plain]);
        let Some((&byte, rest)) = text[plain..].split_first() else {
            return;
        };
        push_special(out, byte);
        text = rest;
    }
}

/// Appends a whole literal.
pub fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    memory::reserve(out, text.len() + 2);
    out.push(b'"');
    push_escaped(out, text);
    memory::push(out, b'"');
}

/// How many bytes stand for themselves, from the first on.
fn plain_prefix(text: &[u8]) -> usize {
    let mut plain = 0;
    for stride in text.chunks_exact(STRIDE) {
        if stride.iter().fold(false, |any, &byte| any | is_special(byte)) {
            break;
        }
        plain += STRIDE;
    }
    while text.get(plain).is_some_and(|&byte| !is_special(byte)) {
        plain += 1;
    }
    plain
}

fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

fn push_special(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        0x08 => b'b',
        0x0C => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        b'"' | b'\\' => byte,
        _ => {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            memory::append(out, b"\\u00");
            memory::append(out, &digits);
            return;
        }
    };
    memory::append(out, &[b'\\', letter]);
}

/// Appends bytes as pairs of hexadecimal digits.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    memory::reserve(out, bytes.len() * 2);
    out.extend(
        bytes.iter().flat_map(|&byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
    );
}

/// Appends a number in decimal.
pub fn push_integer(out: &mut Vec<u8>, number: i64) {
    // As many as the digits of u64::MAX.
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    memory::reserve(out, digits.len() + 1);
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quoted(text: &[u8]) -> String {
        let mut out = Vec::new();
        push_quoted(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_json_cannot_hold_is_escaped_and_nothing_else() {
        let every: String = (1u8..0x80).map(char::from).collect();
        assert_eq!(quoted(every.as_bytes()), serde_json::to_string(&every).unwrap());
        assert_eq!(quoted("é\u{7f}/<🦀".as_bytes()), "\"é\u{7f}/<🦀\"");
        assert_eq!(quoted(b"\x01\x1f"), r#""\u0001\u001f""#);
    }

    #[test]
    fn integers_have_all_their_digits() {
        for number in [0, 7, -7, 10, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            push_integer(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn bytes_become_pairs_of_digits() {
        let mut out = Vec::new();
        push_hex(&mut out, &[0, 0xFF, 0x1A]);
        assert_eq!(out, b"00ff1a");
    }

    proptest! {
        #[test]
        fn a_literal_is_what_any_json_library_writes(text in any::<String>()) {
            prop_assert_eq!(quoted(text.as_bytes()), serde_json::to_string(&text).unwrap());
        }
    }
}
