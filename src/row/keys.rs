//! A body with less of its rows, without rendering them again: where only the body is left. Pure.

use crate::memory;

/// A member's name and value, or a row's column and value, as they stand.
type Member<'a> = (&'a [u8], &'a [u8]);

/// The body with those columns of its rows alone that `key`, a JSON array of names, holds. A body that is not
/// laid out as ours are gets no rows at all.
pub fn keys_alone(body: &[u8], key: &str) -> Vec<u8> {
    let key = elements(key.as_bytes());
    let mut out = Vec::new();
    let mut rest = body;
    for (opening, name) in [("{", "\"previous\":"), (",", "\"current\":")] {
        let start = [opening, name].concat();
        let Some((row, after)) = rest
            .strip_prefix(start.as_bytes())
            .and_then(|rest| rest.split_at_checked(value_end(rest)?))
        else {
            return br#"{"previous":null,"current":null}"#.to_vec();
        };
        memory::append(&mut out, start.as_bytes());
        push_row(&mut out, row, &key);
        rest = after;
    }
    memory::append(&mut out, rest);
    out
}

/// Appends a row, or null.
fn push_row(out: &mut Vec<u8>, row: &[u8], key: &[&[u8]]) {
    let Some(mut rest) = row.strip_prefix(b"{") else {
        memory::append(out, b"null");
        return;
    };
    memory::push(out, b'{');
    let mut separator = b"".as_slice();
    while let Some((column, after)) = take_member(rest) {
        if key.contains(&column.0) {
            for piece in [separator, column.0, b":", column.1] {
                memory::append(out, piece);
            }
            separator = b",";
        }
        rest = after.strip_prefix(b",").unwrap_or(b"}");
    }
    memory::push(out, b'}');
}

/// The first member, and what comes after it.
fn take_member(text: &[u8]) -> Option<(Member<'_>, &[u8])> {
    let (name, rest) = text.split_at_checked(string_end(text)?)?;
    let rest = rest.strip_prefix(b":")?;
    let (value, after) = rest.split_at_checked(value_end(rest)?)?;
    Some(((name, value), after))
}

/// The elements of an array of texts, as they stand.
fn elements(array: &[u8]) -> Vec<&[u8]> {
    let mut elements = Vec::new();
    let mut rest = array.strip_prefix(b"[").unwrap_or_default();
    while let Some(end) = string_end(rest) {
        let (element, after) = rest.split_at(end);
        memory::push(&mut elements, element);
        rest = after.strip_prefix(b",").unwrap_or_default();
    }
    elements
}

/// Where a text ends that begins here.
fn string_end(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where a value of an object ends that begins here.
fn value_end(text: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    loop {
        match text.get(at)? {
            b',' | b'}' | b']' if depth == 0 => return Some(at),
            b'"' => at += string_end(&text[at..])?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(body: &str, key: &str) -> String {
        String::from_utf8(keys_alone(body.as_bytes(), key)).unwrap()
    }

    #[test]
    fn only_the_key_stays_of_the_rows_and_all_else_as_it_was() {
        let rest = r#","targets":["id"],"timestamp":"2026","operation":"update"}"#;
        let old = r#"{"id":1,"a":"}\",\"id\":3\\","j": {"id":[4,{"id":5}],"x":"]"},"k \"q\"":-1.5e3,"n":null}"#;
        let new = r#"{"id":2,"a":"ü","j":[],"k \"q\"":null,"n":true}"#;
        let body = format!(r#"{{"previous":{old},"current":{new}{rest}"#);
        let expected = format!(
            r#"{{"previous":{{"id":1,"k \"q\"":-1.5e3}},"current":{{"id":2,"k \"q\"":null}}{rest}"#
        );
        assert_eq!(alone(&body, r#"["k \"q\"","id"]"#), expected);
        let expected = format!(
            r#"{{"previous":{{"j": {{"id":[4,{{"id":5}}],"x":"]"}}}},"current":{{"j":[]}}{rest}"#
        );
        assert_eq!(alone(&body, r#"["j"]"#), expected);
        let none = format!(r#"{{"previous":{{}},"current":{{}}{rest}"#);
        assert_eq!(alone(&body, "[]"), none);
    }

    #[test]
    fn a_row_that_is_not_there_is_null() {
        let body = r#"{"previous":null,"current":{"id":1},"targets":["id"]}"#;
        assert_eq!(alone(body, r#"["id"]"#), body);
        assert_eq!(
            alone(r#"{"previous":{},"current":null}"#, "[]"),
            r#"{"previous":{},"current":null}"#
        );
    }

    #[test]
    fn what_is_no_body_of_ours_loses_its_rows() {
        let none = r#"{"previous":null,"current":null}"#;
        for body in ["", "{", r#"{"previous":"#, r#"{"previous":{"a":"#, r#"{"previous":"\"#, "[1]"]
        {
            assert_eq!(alone(body, "[]"), none, "{body}");
        }
    }
}
