//! Names that may stand in double quotes, in which a double quote is doubled. Pure.

use crate::memory;

/// Reads a name whose opening quote was read. Returns it, and what comes after the closing one; none if there is none.
pub fn take(mut rest: &str) -> Option<(String, &str)> {
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

/// Writes a name, in quotes if it holds one, or one of these characters, or blanks at its ends.
pub fn write(name: &str, special: &[char]) -> String {
    if name.contains(special) || name.contains('"') || name.trim() != name {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}
