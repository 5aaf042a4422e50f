//! Names of columns as options have them. Pure.

use crate::{memory, quoted_name};

/// Splits a list at its commas; `None` if a name is missing or its quotes are not closed.
pub fn split_names(list: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = list.trim_start();
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_name::take(quoted)?,
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
    quoted_name::write(name, &[','])
}
