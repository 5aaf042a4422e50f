//! The four rules, and what breaks them.

use std::collections::BTreeMap;

use crate::graph::{self, Imports};
use crate::words::{self, says};

/// Where PostgreSQL's C is called.
const DOOR: &str = "src/pg/";

/// What the door may import.
const LEAVES: [&str; 5] =
    ["src/bytes.rs", "src/lsn.rs", "src/memory.rs", "src/place.rs", "src/running.rs"];

/// Lines that a file may have.
const MOST_LINES: usize = 450;

/// Where the binaries are that are crates of their own.
const BINARIES: &str = "pg_test/src/bin/";

/// What breaks the rules in these files.
pub fn problems(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, text) in files {
        problems.extend(behind_the_door(file, text));
        let lines = text.lines().count();
        if lines > MOST_LINES {
            problems.push(format!("{file}: {lines} lines, more than {MOST_LINES}"));
        }
    }
    for (folder, files) in crates(files) {
        let imports = graph::imports(folder, &files);
        problems.extend(out_of_the_door(&imports));
        for circle in graph::circles(&imports) {
            problems.push(describe(&circle, &imports));
        }
    }
    problems
}

/// The files of each crate, with the folder of its root.
fn crates(files: &BTreeMap<String, String>) -> BTreeMap<&str, Vec<(&str, &str)>> {
    let mut crates = BTreeMap::<_, Vec<_>>::new();
    for (file, text) in files {
        let folder = match file.strip_prefix(BINARIES) {
            Some(inner) => &file[..BINARIES.len() + inner.find('/').unwrap_or(0)],
            None if file.starts_with("pg_test/src/") => "pg_test/src",
            None => "src",
        };
        crates.entry(folder).or_default().push((file.as_str(), text.as_str()));
    }
    crates
}

/// What only the door may say.
fn behind_the_door(file: &str, text: &str) -> Vec<String> {
    if file.starts_with(DOOR) {
        return Vec::new();
    }
    let words = words::of(text);
    let mut problems = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let version = words.get(at + 2).map_or("", |word| word.text);
        let number = version.strip_prefix("\"pg").unwrap_or_default();
        let is_version = says(&words[at..], &["feature", "="])
            && number.starts_with(|c: char| c.is_ascii_digit());
        let what = match word.text {
            "unsafe" | "pg_sys" => word.text,
            _ if is_version => "version of PostgreSQL",
            _ => continue,
        };
        problems.push(format!("{file}:{}: {what} outside of {DOOR}", word.line));
    }
    problems
}

/// What is imported out of the door, or by a leaf, but for leaves.
fn out_of_the_door(imports: &Imports) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, imports) in imports {
        let is_in = |file: &str| file.starts_with(DOOR);
        let is_leaf = LEAVES.contains(&file.as_str());
        for (imported, line) in imports {
            let may = LEAVES.contains(&imported.as_str()) || (is_in(file) && is_in(imported));
            if (is_leaf || is_in(file)) && !may {
                let who = if is_leaf { "a leaf" } else { DOOR };
                problems.push(format!("{file}:{line}: {who} imports {imported}, which is no leaf"));
            }
        }
    }
    problems
}

/// The circle in words: who imports whom in which line.
fn describe(circle: &[&str], imports: &Imports) -> String {
    let next = circle.iter().cycle().skip(1);
    let steps = circle.iter().zip(next).map(|(&from, &to)| {
        let line = imports.get(from).and_then(|imports| imports.get(to)).unwrap_or(&0);
        format!("{from}:{line} imports {to}")
    });
    format!("circle: {}", steps.collect::<Vec<_>>().join(", "))
}
