//! Names of columns as options have them. Pure.

use crate::memory;

/// Splits a list at its commas; `None` if a name is missing or its quotes are not closed.
pub fn split_names(list: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = list.trim_start();
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (memory::text(rest[..end].trim_end()), &rest[end..])
            }
        };
        if name.is_empty() {
            return None;
        }
        memory::push(&mut names, name);
        let after = after.trim_start();
        if after.is_empty() {
            return Some(names);
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

/// Writes a name so that [`split_names`] reads it again.
pub fn quote_name(name: &str) -> String {
    if name.contains([',', '"']) || name.trim() != name {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

/// Returns the name before the closing quote, and what comes after that.
fn take_quoted(mut rest: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        memory::append_text(&mut name, part);
        match after.strip_prefix('"') {
            Some(more) => {
                memory::append_text(&mut name, "\"");
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}
