//! What a message looks like on the page: its routing key and headers on one line, below it the
//! body, still JSON, with the two rows and the changed columns one under the other. Pure.

use std::collections::BTreeSet;

use pg_test::Message;
use serde_json::Value;

use crate::page::{Page, Pen, WIDTH};

/// How far the body is indented.
const INDENT: usize = 4;

/// The column where the values of `previous`, `current` and `targets` begin.
const VALUE: usize = INDENT + r#"{ "previous": "#.len();

/// The message, line by line.
pub fn lines(page: &Page, message: &Message) -> Vec<String> {
    let body = str::from_utf8(&message.body).ok().and_then(|body| object(page, body));
    let mut lines = vec![head(page, message)];
    let text = || format!("{:INDENT$}{}", "", String::from_utf8_lossy(&message.body));
    lines.extend(body.unwrap_or_else(|| vec![text()]));
    lines
}

/// Routing key, place in the transaction, and what else tells one message from others.
fn head(page: &Page, message: &Message) -> String {
    let header = |name: &str| match message.headers.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "?".to_owned(),
    };
    let (seq, size) = (header("tx_seq"), header("tx_size"));
    let id = message.message_id.as_deref().unwrap_or("?");
    let mut rest = format!("tx {seq} of {size}   ");
    // What is sent at once is of no transaction.
    if message.headers.contains_key("xid") {
        rest.push_str(&format!("xid {}   ", header("xid")));
    }
    rest.push_str(&format!("message_id {id}"));
    if message.headers.contains_key("published") {
        let kind = message.kind.as_deref().unwrap_or("?");
        rest.push_str(&format!("   type {kind}"));
    }
    for rare in ["resent", "oversize", "truncated"] {
        if message.headers.contains_key(rare) {
            rest.push_str(&format!("   {rare} {}", header(rare)));
        }
    }
    let key = page.paint(Pen::Green, &format!("● {:<18}", message.routing_key));
    format!("  {key}   {}", page.paint(Pen::Dim, &rest))
}

/// The body, or `None` if it is not an object.
fn object(page: &Page, body: &str) -> Option<Vec<String>> {
    let parsed: Value = serde_json::from_str(body).ok()?;
    let targets = parsed["targets"].as_array().into_iter().flatten();
    let changed: BTreeSet<&str> = targets.filter_map(Value::as_str).collect();

    let mut lines = Vec::new();
    let mut short = Vec::new();
    for (name, value) in members(body)? {
        let brace = if lines.is_empty() { "{" } else { " " };
        let label = format!("{:<width$}", format!("{name}:"), width = VALUE - INDENT - 3);
        let start = format!("{:INDENT$}{brace} {} ", "", page.paint(Pen::Cyan, &label));
        match name {
            "\"previous\"" => lines.extend(row(page, start, value, &changed, Pen::Yellow)),
            "\"current\"" => lines.extend(row(page, start, value, &changed, Pen::Green)),
            "\"targets\"" => lines.extend(list(start, value)),
            _ => short.push(Piece {
                width: name.chars().count() + 2 + value.chars().count(),
                painted: format!("{} {value}", page.paint(Pen::Cyan, &format!("{name}:"))),
            }),
        }
    }
    // Not all have rows.
    let brace = if lines.is_empty() { "{" } else { " " };
    lines.extend(flow(format!("{:INDENT$}{brace} ", ""), INDENT + 2, &short, " }"));
    Some(lines)
}

/// A row, with the changed columns in the colour of `pen`.
fn row(page: &Page, start: String, row: &str, changed: &BTreeSet<&str>, pen: Pen) -> Vec<String> {
    let Some(columns) = members(row) else {
        return vec![format!("{start}{row},")];
    };
    let piece = |(name, value): (&str, &str)| {
        let text = format!("{name}: {value}");
        let name: Option<String> = serde_json::from_str(name).ok();
        match name.is_some_and(|name| changed.contains(name.as_str())) {
            true => Piece { painted: page.paint(pen, &text), ..Piece::plain(text) },
            false => Piece::plain(text),
        }
    };
    let pieces: Vec<Piece> = columns.into_iter().map(piece).collect();
    flow(start + "{", VALUE + 1, &pieces, "},")
}

fn list(start: String, list: &str) -> Vec<String> {
    let inner = list.trim_start_matches('[').trim_end_matches(']');
    let pieces: Vec<Piece> = split(inner, ',').into_iter().map(Piece::plain).collect();
    flow(start + "[", VALUE + 1, &pieces, "],")
}

/// A text that stays together on a line.
struct Piece {
    painted: String,
    width: usize,
}

impl Piece {
    fn plain(text: impl Into<String>) -> Piece {
        let painted = text.into();
        Piece { width: painted.chars().count(), painted }
    }
}

/// Sets pieces side by side with commas in between, as many on a line as fit. `start` begins the
/// first line and reaches to column `indent`, where the others begin; `end` ends the last.
fn flow(start: String, indent: usize, pieces: &[Piece], end: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = start;
    let mut column = indent;
    for (n, piece) in pieces.iter().enumerate() {
        let is_first = column == indent;
        let after = if n + 1 < pieces.len() { "," } else { end };
        if !is_first && column + 1 + piece.width + after.len() > WIDTH {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            column = indent;
        } else if !is_first {
            line.push(' ');
            column += 1;
        }
        line.push_str(&piece.painted);
        column += piece.width;
        if n + 1 < pieces.len() {
            line.push(',');
            column += 1;
        }
    }
    lines.push(line + end);
    lines
}

/// Names (in quotes) and values of a JSON object in the order and the spelling of its text, which
/// a parsed one does not keep. `None` if it is not an object; that it is JSON is taken for granted.
fn members(object: &str) -> Option<Vec<(&str, &str)>> {
    let inner = object.trim().strip_prefix('{')?.strip_suffix('}')?;
    let member = |text| {
        let name = *split(text, ':').first()?;
        let value = text.get(name.len() + 1..)?;
        Some((name.trim(), value.trim()))
    };
    split(inner, ',').into_iter().map(member).collect()
}

/// The parts between those separators that are not inside of strings, arrays or objects.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut is_string, mut is_escaped) = (0_i32, false, false);
    let is_separator = |letter: char| {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_string = !is_string,
            _ if is_string => {}
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => return letter == separator && depth == 0,
        }
        false
    };
    let mut parts: Vec<&str> = text.split(is_separator).collect();
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(body: &str) -> Message {
        Message {
            exchange: "pg-messaging".to_owned(),
            routing_key: "cdc.article.update".to_owned(),
            body: body.as_bytes().to_vec(),
            redelivered: false,
            content_type: None,
            content_encoding: None,
            priority: None,
            correlation_id: None,
            reply_to: None,
            expiration: None,
            delivery_mode: None,
            message_id: Some("7/1/0/15E8".to_owned()),
            timestamp: None,
            kind: None,
            app_id: None,
            headers: [("tx_seq", json!(1)), ("tx_size", json!(2)), ("xid", json!(731))]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        }
    }

    #[test]
    fn members_keep_their_order_and_spelling() {
        let text = r#"{"b":1.50,"a":{"x":[1,2],"y":","},"q\"\\":":{[","n":null}"#;
        let expected = [
            ("\"b\"", "1.50"),
            ("\"a\"", r#"{"x":[1,2],"y":","}"#),
            (r#""q\"\\""#, "\":{[\""),
            ("\"n\"", "null"),
        ];
        assert_eq!(members(text).as_deref(), Some(&expected[..]));
        assert_eq!(members("{}").as_deref(), Some(&[][..]));
        assert_eq!(members("null"), None);
    }

    #[test]
    fn a_message_is_its_head_and_an_aligned_body_that_is_still_the_same_json() {
        let long = "x".repeat(55);
        let body = format!(
            "{{\"previous\":{{\"id\":1,\"title\":\"a\"}},\"current\":{{\"id\":1,\"title\":\"{long}\",\
             \"body\":null}},\"targets\":[\"title\"],\"timestamp\":\"t\",\"operation\":\"update\"}}"
        );
        let lines = lines(&Page::plain(), &message(&body));
        assert_eq!(
            lines,
            [
                "  ● cdc.article.update   tx 1 of 2   xid 731   message_id 7/1/0/15E8",
                r#"    { "previous": {"id": 1, "title": "a"},"#,
                &format!(r#"      "current":  {{"id": 1, "title": "{long}","#),
                r#"                   "body": null},"#,
                r#"      "targets":  ["title"],"#,
                r#"      "timestamp": "t", "operation": "update" }"#,
            ]
        );
        let shown: Value = serde_json::from_str(&lines[1..].join("\n")).unwrap();
        assert_eq!(shown, message(&body).json());
    }

    #[test]
    fn a_body_that_is_no_object_is_shown_as_it_is() {
        assert_eq!(lines(&Page::plain(), &message("oops"))[1], "    oops");
    }

    #[test]
    fn a_message_of_a_users_own_is_shown_with_its_type_and_without_rows() {
        let mut sent = message(r#"{"order": 1, "total": 100}"#);
        sent.kind = Some("OrderPlaced".to_owned());
        sent.headers.insert("published".to_owned(), json!(true));
        sent.headers.remove("xid");
        assert_eq!(
            lines(&Page::plain(), &sent),
            [
                "  ● cdc.article.update   tx 1 of 2   message_id 7/1/0/15E8   type OrderPlaced",
                r#"    { "order": 1, "total": 100 }"#,
            ]
        );
    }
}
