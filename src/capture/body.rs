//! The message body: one JSON object with eight members in a fixed order. Pure.

/// The members. Rows are JSON already; all else is plain text.
pub struct Body<'a> {
    /// The old row, or none.
    pub previous: Option<&'a str>,
    /// The new row, or none.
    pub current: Option<&'a str>,
    /// Names of the columns whose value changed; all columns on insert and delete.
    pub targets: &'a [String],
    /// Start of the transaction, ISO 8601 with offset, in UTC.
    pub timestamp: &'a str,
    /// `insert`, `update`, `delete`, `truncate`.
    pub operation: &'a str,
    /// First trigger argument or its default.
    pub resource: &'a str,
    /// The table that fired.
    pub table: &'a str,
    /// As sent.
    pub routing_key: &'a str,
}

impl Body<'_> {
    /// The object's bytes: UTF-8, without white space.
    pub fn render(&self) -> Vec<u8> {
        let rows = self.previous.map_or(4, str::len) + self.current.map_or(4, str::len);
        let mut out = Vec::with_capacity(rows + 256 + 24 * self.targets.len());
        out.extend_from_slice(b"{\"previous\":");
        out.extend_from_slice(self.previous.unwrap_or("null").as_bytes());
        out.extend_from_slice(b",\"current\":");
        out.extend_from_slice(self.current.unwrap_or("null").as_bytes());
        out.extend_from_slice(b",\"targets\":[");
        for (n, target) in self.targets.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            push_text(&mut out, target);
        }
        out.push(b']');
        for (name, value) in [
            ("timestamp", self.timestamp),
            ("operation", self.operation),
            ("resource", self.resource),
            ("tablename", self.table),
            ("routing_key", self.routing_key),
        ] {
            out.push(b',');
            push_text(&mut out, name);
            out.push(b':');
            push_text(&mut out, value);
        }
        out.push(b'}');
        out
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    // Writing a string into a vector cannot fail: neither the text nor the vector can.
    let written = serde_json::to_writer(&mut *out, text);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_eight_members_in_order() {
        let body = Body {
            previous: None,
            current: Some(r#"{"id":1}"#),
            targets: &["id".to_owned(), "a \"b\"".to_owned()],
            timestamp: "2026-01-02T03:04:05+00:00",
            operation: "insert",
            resource: "article",
            table: "blog_articles",
            routing_key: "cdc.article.insert",
        };
        assert_eq!(
            String::from_utf8(body.render()).unwrap(),
            concat!(
                r#"{"previous":null,"current":{"id":1},"targets":["id","a \"b\""],"#,
                r#""timestamp":"2026-01-02T03:04:05+00:00","operation":"insert","#,
                r#""resource":"article","tablename":"blog_articles","#,
                r#""routing_key":"cdc.article.insert"}"#
            )
        );
    }
}
