//! A value's JSON as a word of a routing key: a text is its content, null is nothing, and anything else is its
//! JSON, as `->>` has it. Never panics, whatever the bytes.

use std::borrow::Cow;

use crate::memory;

/// Returns the text of a value, given its JSON.
pub fn text(json: &[u8]) -> Cow<'_, str> {
    let json = json.trim_ascii();
    let literal = json.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match literal {
        None if json == b"null" => Cow::Borrowed(""),
        None => lossy(json),
        Some(plain) if !plain.contains(&b'\\') => lossy(plain),
        Some(escaped) => Cow::Owned(unescaped(&lossy(escaped))),
    }
}

/// What is damaged on disk may be no text.
fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// The content of a string literal of JSON. Half of a surrogate pair stays as it is written.
fn unescaped(mut literal: &str) -> String {
    let mut text = String::new();
    while let Some((plain, rest)) = literal.split_once('\\') {
        memory::append_text(&mut text, plain);
        let (character, length) = match rest.as_bytes().first() {
            Some(b'u') => code_point(rest).unwrap_or(('\\', 0)),
            Some(b'b') => ('\u{8}', 1),
            Some(b'f') => ('\u{C}', 1),
            Some(b'n') => ('\n', 1),
            Some(b'r') => ('\r', 1),
            Some(b't') => ('\t', 1),
            Some(&itself @ (b'"' | b'\\' | b'/')) => (char::from(itself), 1),
            _ => ('\\', 0),
        };
        memory::append_text(&mut text, character.encode_utf8(&mut [0; 4]));
        literal = &rest[length..];
    }
    memory::append_text(&mut text, literal);
    text
}

/// The character that `uXXXX`, or a pair of these, stands for, and how many bytes say so.
fn code_point(text: &str) -> Option<(char, usize)> {
    const ONE: usize = "uXXXX".len();
    let unit = |text: &str| {
        let digits = text.strip_prefix('u')?.get(..ONE - 1)?;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(text)?;
    if let Some(character) = char::from_u32(u32::from(first)) {
        return Some((character, ONE));
    }
    let second = unit(text.get(ONE..)?.strip_prefix('\\')?)?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, 2 * ONE + 1))
}

/// Appends a text so that it is one word, and no other text's: what ends a word or stands for words in a binding,
/// `%`, blanks and control characters become `%XX`.
pub fn push_escaped(key: &mut String, mut text: &str) {
    let is_misread = |c: char| matches!(c, '.' | '*' | '#' | '%' | '\0'..=' ' | '\x7F');
    while let Some(at) = text.find(is_misread) {
        let (plain, rest) = text.split_at(at);
        memory::append_text(key, plain);
        push_percent(key, rest.as_bytes()[0]);
        text = &rest[1..];
    }
    memory::append_text(key, text);
}

/// Appends `%` and the two digits of a byte.
pub fn push_percent(key: &mut String, byte: u8) {
    memory::append_text(key, "%");
    for digit in [byte >> 4, byte & 0xF] {
        let digit = char::from(b"0123456789ABCDEF"[usize::from(digit)]);
        memory::append_text(key, digit.encode_utf8(&mut [0; 4]));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_its_content_and_anything_else_its_json() {
        for (json, expected) in [
            (r#""acme""#, "acme"),
            (r#""""#, ""),
            (r#""a\"b\\c\/d""#, "a\"b\\c/d"),
            (r#""\b\f\n\r\t""#, "\u{8}\u{C}\n\r\t"),
            (r#""\u00fc\u20AC\u0000\u001f""#, "ü€\0\u{1F}"),
            (r#""\ud83d\ude00x""#, "\u{1F600}x"),
            (r#" "json" "#, "json"),
            ("null", ""),
            (r#""null""#, "null"),
            ("12.50", "12.50"),
            ("true", "true"),
            (r#"["a", null]"#, r#"["a", null]"#),
            (r#"{"a":"\u0041"}"#, r#"{"a":"\u0041"}"#),
        ] {
            assert_eq!(text(json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn what_means_nothing_stays_into_key() {
        for (json, expected) in [
            (&br#""\ud83dx""#[..], r"\ud83dx"),
            (br#""\ud83d\u0041""#, r"\ud83dA"),
            (br#""\ude00""#, r"\ude00"),
            (br#""\u00""#, r"\u00"),
            (br#""\u+123""#, r"\u+123"),
            (br#""\x\""#, r"\x\"),
            (b"\"", "\""),
            (b"", ""),
            (b"\"\xFF\"", "\u{FFFD}"),
        ] {
            assert_eq!(text(json), expected);
        }
    }

    fn escaped(text: &str) -> String {
        let mut key = String::new();
        push_escaped(&mut key, text);
        key
    }

    #[test]
    fn what_would_make_a_word_or_a_pattern_becomes_percent_and_digits() {
        assert_eq!(escaped("a.b*c#d%e f\tg\0\x7F"), "a%2Eb%2Ac%23d%25e%20f%09g%00%7F");
        assert_eq!(escaped("Ünï-{x}/\"~\u{A0}"), "Ünï-{x}/\"~\u{A0}");
    }

    proptest! {
        #[test]
        fn a_text_comes_back_from_its_json_and_from_its_escapes(original in any::<String>()) {
            let json = serde_json::to_string(&original).unwrap();
            prop_assert_eq!(text(json.as_bytes()), original.as_str());
            let escaped = escaped(&original);
            prop_assert!(!escaped.contains(['.', '*', '#', ' ', '\n', '\t']));
            let mut bytes = Vec::new();
            let mut pieces = escaped.split('%');
            bytes.extend(pieces.next().unwrap().bytes());
            for piece in pieces {
                bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
                bytes.extend(piece[2..].bytes());
            }
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), original);
        }

        #[test]
        fn no_bytes_are_too_much(json in any::<Vec<u8>>()) {
            text(&json);
            text(&[b"\"\\u", json.as_slice(), b"\""].concat());
        }
    }
}
