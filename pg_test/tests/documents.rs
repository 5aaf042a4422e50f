//! What the documents promise each other: links lead somewhere, excerpts are what they are taken from, README is short,
//! and whoever writes figures finds the place for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// README is to be read to its end.
const README_AT_MOST: usize = 12_000;

/// Parts that are written by `make bench`, `make bench-capture`, `make chaos` and `make ha`.
const RECORDED: &[(&str, &[&str])] = &[
    (
        "docs/benchmarks.md",
        &[
            "throughput",
            "latency",
            "ceiling",
            "backlog",
            "transaction",
            "wal",
            "idle",
            "order",
            "growth",
            "tls",
            "capture",
            "messages",
        ],
    ),
    (
        "docs/guarantees.md",
        &["chaos", "chaos-standby", "chaos-synchronous", "ha-broker", "ha-patroni"],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[track_caller]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All documents, of the root and of docs/.
fn documents() -> Vec<PathBuf> {
    let folders = [root(), root().join("docs")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap().flatten());
    let paths = files.map(|file| file.path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect()
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let letters = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = letters.chars().filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(document: &str) -> BTreeSet<String> {
    document.lines().filter(|line| line.starts_with('#')).map(anchor).collect()
}

/// Where the links of a document lead to.
fn links(document: &str) -> impl Iterator<Item = &str> {
    document.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link)
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    for path in documents() {
        let document = read(&path);
        for link in links(&document).filter(|link| !link.starts_with("https://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            let is_there = heading.is_empty() || anchors(&read(&target)).contains(heading);
            assert!(is_there, "{}: no heading {link}", path.display());
        }
    }
}

#[test]
fn readme_is_short() {
    let length = read(&root().join("README.md")).len();
    assert!(length <= README_AT_MOST, "README.md has {length} bytes");
}

/// README repeats a few of the figures that programs write: of which machine they are stands there.
#[test]
fn figures_in_readme_are_those_of_the_benchmarks() {
    let readme = read(&root().join("README.md"));
    let benchmarks = read(&root().join("docs/benchmarks.md"));
    let part = |begin: &str, end: &str| {
        let from = readme.find(begin).unwrap_or_else(|| panic!("README.md has no \"{begin}\""));
        let length = readme[from..].find(end).expect("it ends");
        &readme[from..from + length]
    };
    let text = part("It takes", "([why").to_owned() + part("Measured, each", "## ");
    let words = text.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
    let figures: Vec<_> = words
        .map(|word| word.trim_matches(['.', ',']))
        .filter(|word| word.contains(['.', ',']))
        .collect();
    assert!(figures.len() >= 7, "{figures:?}");
    for figure in figures {
        assert!(benchmarks.contains(figure), "docs/benchmarks.md has no {figure}");
    }
}

/// The sources below a folder, as one text in which no line is broken.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text += &read(&path).replace("\\\n", "");
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the page quotes of it, but for what differs from case to case.
#[test]
fn what_the_page_of_tls_says_that_the_status_says_is_said() {
    let page = read(&root().join("docs/tls.md"));
    let (_, rows) = page.split_once("\n| `reason` |").expect("it has a table of reasons");
    let said = sources(&root().join("crates/socket/src")) + &sources(&root().join("src"));
    let reasons =
        rows.lines().skip(2).filter_map(|row| row.strip_prefix("| ")?.split(" | ").next());
    let quoted: Vec<_> =
        reasons.flat_map(|reasons| reasons.split('`').skip(1).step_by(2)).collect();
    assert!(quoted.len() > 20, "{quoted:?}");
    for quoted in quoted {
        for part in quoted.split('…').map(str::trim).filter(|part| !part.is_empty()) {
            assert!(said.contains(part), "nobody says \"{part}\"");
        }
    }
}

/// Every line of it, with another indentation: the program has more around it.
#[test]
fn the_excerpt_of_a_consumer_is_the_consumer() {
    let page = read(&root().join("docs/messages.md"));
    let excerpt = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let program = read(&root().join("docs/consumers/python/consumer.py"));
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let (excerpt, program) = (lines(excerpt.expect("there is an excerpt")), lines(&program));
    assert!(program.windows(excerpt.len()).any(|part| part == excerpt), "{excerpt:#?}");
}

#[test]
fn figures_that_programs_write_have_their_places() {
    for (document, names) in RECORDED {
        let text = read(&root().join(document));
        let begun = text.lines().filter_map(|line| line.strip_prefix("<!-- begin "));
        let begun: Vec<_> = begun.filter_map(|rest| Some(rest.split_once(':')?.0)).collect();
        assert_eq!(&begun, names, "{document}");
        for name in *names {
            assert_eq!(text.matches(&format!("<!-- end {name} -->")).count(), 1, "{document}");
        }
    }
}
