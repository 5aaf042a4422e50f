//! The words and signs of a source file, without its comments and its test modules.

/// A word or sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    pub text: &'a str,
    /// From 1.
    pub line: usize,
}

/// What a file says.
pub fn of(text: &str) -> Vec<Word<'_>> {
    without_tests(&all(text))
}

fn all(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let length = length(rest, first);
        let (word, behind) = rest.split_at(length);
        if !first.is_whitespace() && !word.starts_with("//") && !word.starts_with("/*") {
            words.push(Word { text: word, line });
        }
        line += word.matches('\n').count();
        rest = behind;
    }
    words
}

/// Bytes of the word, comment or blank that the text begins with.
fn length(text: &str, first: char) -> usize {
    let until = |end: &str| text.find(end).map_or(text.len(), |at| at + end.len());
    let is_in_word = |c: char| c.is_alphanumeric() || c == '_';
    match first {
        '/' if text.starts_with("//") => until("\n"),
        '/' if text.starts_with("/*") => until("*/"),
        ':' if text.starts_with("::") => 2,
        '"' => 1 + quoted(&text[1..], '"'),
        '\'' => {
            let mut behind = text[1..].chars();
            match (behind.next(), behind.next()) {
                (Some('\\'), _) | (Some(_), Some('\'')) => 1 + quoted(&text[1..], '\''),
                // A lifetime.
                _ => 1 + text[1..].find(|c| !is_in_word(c)).unwrap_or(text.len() - 1),
            }
        }
        c if is_in_word(c) => {
            let length = text.find(|c| !is_in_word(c)).unwrap_or(text.len());
            let behind = &text[length..];
            let marks = behind.len() - behind.trim_start_matches('#').len();
            let is_raw = matches!(&text[..length], "r" | "br" | "cr");
            if is_raw && behind[marks..].starts_with('"') {
                let end = format!("\"{}", "#".repeat(marks));
                let begin = length + marks + 1;
                text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len())
            } else {
                length
            }
        }
        c => c.len_utf8(),
    }
}

/// Bytes up to the end of a literal that ends with this sign.
fn quoted(text: &str, end: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        if !is_escaped && c == end {
            return at + c.len_utf8();
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    text.len()
}

/// Leaves out every item that is there for tests alone.
fn without_tests<'a>(words: &[Word<'a>]) -> Vec<Word<'a>> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if says(&words[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            at += item(&words[at + 7..]) + 7;
        } else {
            kept.push(words[at]);
            at += 1;
        }
    }
    kept
}

/// How many words an item has: up to its semicolon, or to the end of its braces.
fn item(words: &[Word<'_>]) -> usize {
    let mut depth = 0;
    for (at, word) in words.iter().enumerate() {
        match word.text {
            "{" | "[" | "(" => depth += 1,
            "}" | "]" | ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(word.text, ";" | "}") {
            return at + 1;
        }
    }
    words.len()
}

/// Whether the words begin so.
pub fn says(words: &[Word<'_>], beginning: &[&str]) -> bool {
    words.len() >= beginning.len()
        && words.iter().zip(beginning).all(|(word, &expected)| word.text == expected)
}
