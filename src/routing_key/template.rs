//! What a user may write as a template.
//!
//! | written | in the key |
//! |---|---|
//! | `{prefix}`, `{resource}` | the trigger's arguments as they are; a resource that is not given is the table's name |
//! | `{operation}` | insert, update, delete, truncate |
//! | `{database}`, `{schema}`, `{table}` | where the row lives |
//! | `{new.column}` | the value after the change; on a delete the one before |
//! | `{old.column}` | the value before the change |
//! | `{{`, `}}` | a brace |
//! | anything else | itself |
//!
//! Columns are named exactly as they are. A name that holds a brace or a double quote, or begins or ends with a
//! blank, stands in double quotes, and a double quote in it is doubled.

use super::filling::Filling;
use super::pattern::{Part, Pattern, Side};
use crate::{memory, quoted_name};

/// Bytes that a template may have: many times a routing key, but events hold it.
const LONGEST: usize = 2048;

/// Placeholders that a template may have: each may stand for hundreds of bytes.
const MOST: usize = 16;

/// Bytes of what somebody wrote that an error shows.
const SHOWN: usize = 100;

/// A template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// A piece of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Prefix,
    Resource,
    Operation,
    Database,
    Schema,
    Table,
    Value(Side, String),
}

/// What there is to know about an event but for its row.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    pub prefix: &'a str,
    pub resource: &'a str,
    /// Whether the trigger's author wrote the resource; otherwise it is the name of a table.
    pub is_resource_written: bool,
    pub database: &'a str,
    pub schema: &'a str,
    pub table: &'a str,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub message: String,
    pub hint: String,
}

const HINT: &str = "Placeholders: {prefix}, {resource}, {operation}, {database}, {schema}, {table}, {new.column}, \
                    {old.column}. A brace that is none of a placeholder's is written twice.";

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// A [`Mistake`] if it is none.
    pub fn parse(text: &str) -> Result<Template, Mistake> {
        if text.is_empty() {
            return Err(Mistake::new("a routing key cannot be made of nothing".to_owned()));
        }
        if text.len() > LONGEST {
            return Err(Mistake {
                message: format!("the template of a routing key is longer than {LONGEST} bytes"),
                hint: "AMQP allows routing keys of 255 bytes.".to_owned(),
            });
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(at);
            memory::append_text(&mut plain, before);
            let (brace, after) = from_brace.split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                memory::append_text(&mut plain, brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                let message = format!("a brace closes nothing in \"{}\"", cut(text));
                return Err(Mistake::new(message));
            }
            push_text(&mut pieces, &mut plain);
            let (piece, after) = placeholder(after)?;
            memory::push(&mut pieces, piece);
            rest = after;
        }
        memory::append_text(&mut plain, rest);
        push_text(&mut pieces, &mut plain);
        if pieces.iter().filter(|piece| !matches!(piece, Piece::Text(_))).count() > MOST {
            return Err(Mistake {
                message: format!("the template of a routing key has more than {MOST} placeholders"),
                hint: "AMQP allows routing keys of 255 bytes.".to_owned(),
            });
        }
        Ok(Template(pieces))
    }

    /// The columns that it names, in order; one may come more than once.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(_, column) => Some(column.as_str()),
            _ => None,
        })
    }

    /// Returns the pattern of the events with these names. `number_of` returns the number of a column; one that has
    /// none is always null.
    pub fn pattern(&self, names: &Names<'_>, number_of: impl Fn(&str) -> Option<usize>) -> Pattern {
        let is_alone = matches!(&self.0[..], [piece] if !matches!(piece, Piece::Text(_)));
        // What comes between the texts, one less than those.
        let mut others = Vec::new();
        let mut texts = Vec::new();
        let mut text = Filling::new(is_alone);
        for piece in &self.0 {
            match piece {
                Piece::Text(written) => text.add_text(written),
                Piece::Prefix => text.add_text(names.prefix),
                Piece::Resource if names.is_resource_written => text.add_text(names.resource),
                Piece::Resource => text.add_name(names.resource),
                Piece::Operation => {
                    memory::push(&mut texts, std::mem::take(&mut text));
                    memory::push(&mut others, Part::Operation);
                }
                Piece::Database => text.add_name(names.database),
                Piece::Schema => text.add_name(names.schema),
                Piece::Table => text.add_name(names.table),
                Piece::Value(side, column) => {
                    let number = number_of(column).unwrap_or(usize::MAX);
                    memory::push(&mut texts, std::mem::take(&mut text));
                    memory::push(&mut others, Part::Value(*side, number));
                }
            }
        }
        memory::push(&mut texts, text);
        let texts = memory::collect(texts.into_iter().map(Filling::into_key));
        let mut others = others.into_iter();
        let parts = texts.iter().flat_map(|text| {
            let text = Some(Part::Text(text.as_str())).filter(|_| !text.is_empty());
            text.into_iter().chain(others.next())
        });
        Pattern::new(is_alone, parts)
    }

    /// Returns the template after columns were renamed, as it would be written. `new_name` returns what a column is
    /// called now, or None if it is gone: then there is no such template.
    pub fn with_names(&self, new_name: impl Fn(&str) -> Option<String>) -> Option<String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out += &text.replace('{', "{{").replace('}', "}}"),
                Piece::Prefix => out += "{prefix}",
                Piece::Resource => out += "{resource}",
                Piece::Operation => out += "{operation}",
                Piece::Database => out += "{database}",
                Piece::Schema => out += "{schema}",
                Piece::Table => out += "{table}",
                Piece::Value(side, column) => {
                    let side = if *side == Side::New { "new" } else { "old" };
                    out += &format!("{{{side}.{}}}", quoted(&new_name(column)?));
                }
            }
        }
        Some(out)
    }
}

impl Mistake {
    fn new(message: String) -> Mistake {
        Mistake { message, hint: HINT.to_owned() }
    }
}

/// Adds what was gathered, if there is something.
fn push_text(pieces: &mut Vec<Piece>, text: &mut String) {
    if !text.is_empty() {
        memory::push(pieces, Piece::Text(std::mem::take(text)));
    }
}

/// Reads a placeholder behind its opening brace. Returns what comes after the closing one, too.
fn placeholder(text: &str) -> Result<(Piece, &str), Mistake> {
    let unclosed = || {
        let message = format!("a placeholder is not closed: \"{{{}\"", cut(text));
        Mistake::new(message)
    };
    let start = text.trim_start();
    for (opening, side) in [("new.", Side::New), ("old.", Side::Old)] {
        if let Some(column) = start.strip_prefix(opening) {
            let (name, after) = column_name(column.trim_start()).ok_or_else(unclosed)?;
            if name.is_empty() {
                return Err(Mistake::new("a placeholder names no column".to_owned()));
            }
            return Ok((Piece::Value(side, name), after));
        }
    }
    let (name, after) = up_to_brace(text).ok_or_else(unclosed)?;
    let piece = match name {
        "prefix" => Piece::Prefix,
        "resource" => Piece::Resource,
        "operation" => Piece::Operation,
        "database" => Piece::Database,
        "schema" => Piece::Schema,
        "table" => Piece::Table,
        _ => return Err(Mistake::new(format!("unknown placeholder \"{{{}}}\"", cut(name)))),
    };
    Ok((piece, after))
}

/// Reads the name of a column, and the brace behind it. Returns none if that is not there.
fn column_name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (name, after) = up_to_brace(text)?;
        return Some((memory::text(name), after));
    };
    let (name, after) = quoted_name::take(quoted)?;
    Some((name, after.trim_start().strip_prefix('}')?))
}

/// Returns what stands before the closing brace, and what comes after that.
fn up_to_brace(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_at(text.find(['{', '}'])?);
    Some((name.trim(), rest.strip_prefix('}')?))
}

/// Writes a column's name so that it is read again.
fn quoted(name: &str) -> String {
    quoted_name::write(name, &['{', '}'])
}

/// Shortens a user's text for an error message.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: Names<'_> = Names {
        prefix: "My.cdc",
        resource: "shop.order",
        is_resource_written: true,
        database: "d b",
        schema: "acme.eu",
        table: "orders#1",
    };

    fn number_of(column: &str) -> Option<usize> {
        ["id", "tenant", "a}b", " \"x\" ", "ü.", "new.id"].iter().position(|&name| name == column)
    }

    /// The key with the names of columns for values.
    fn key(template: &str) -> String {
        key_with(template, &NAMES)
    }

    fn key_with(template: &str, names: &Names<'_>) -> String {
        let template = Template::parse(template).unwrap();
        let pattern = template.pattern(names, number_of);
        let value = |side, column, filling: &mut Filling| {
            filling.add_value(Some(format!("\"{side:?}:{column}.\"").as_bytes()));
        };
        pattern.fill("update", value).fit()
    }

    #[track_caller]
    fn mistake(template: &str) -> String {
        let mistake = Template::parse(template).expect_err(template);
        assert!(!mistake.hint.is_empty());
        mistake.message
    }

    #[test]
    fn placeholders_are_what_they_say() {
        assert_eq!(key("{prefix}.{resource}.{operation}"), "My.cdc.shop.order.update");
        assert_eq!(key("{database}/{schema}/{table}"), "d%20b/acme%2Eeu/orders%231");
        assert_eq!(key("{new.id}.{old.tenant}"), "New:0%2E.Old:1%2E");
        assert_eq!(key("x.{ new.id }{ table }"), "x.New:0%2Eorders%231");
        let by_name = Names { is_resource_written: false, ..NAMES };
        assert_eq!(key_with("{prefix}.{resource}", &by_name), "My.cdc.shop%2Eorder");
    }

    #[test]
    fn one_placeholder_alone_is_the_key_into_key() {
        assert_eq!(key("{new.id}"), "New:0.");
        assert_eq!(key("{schema}"), "acme.eu");
        assert_eq!(key("{new.id}{schema}"), "New:0%2Eacme%2Eeu");
        let by_name = Names { is_resource_written: false, ..NAMES };
        assert_eq!(key_with("{resource}", &by_name), "shop.order");
    }

    #[test]
    fn braces_are_doubled_and_all_else_stands_into_key() {
        assert_eq!(key("a.*.#.%2E {{b}}.{{{{"), "a.*.#.%2E {b}.{{");
        assert_eq!(key("{{{new.id}}}"), "{New:0%2E}");
        assert_eq!(key("{{new.id}}"), "{new.id}");
    }

    #[test]
    fn any_name_of_a_column_can_be_written() {
        assert_eq!(key("{new.\"a}b\"}}}"), "New:2%2E}");
        assert_eq!(key("{old.\" \"\"x\"\" \" }.x"), "Old:3%2E.x");
        assert_eq!(key("x{new.ü.}{new.new.id}"), "xNew:4%2ENew:5%2E");
        let template = Template::parse("{new.id}{old.\"a}b\"}{schema}{new.id}").unwrap();
        assert_eq!(template.columns().collect::<Vec<_>>(), ["id", "a}b", "id"]);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        assert_eq!(mistake(""), "a routing key cannot be made of nothing");
        assert_eq!(mistake("{tenant}"), "unknown placeholder \"{tenant}\"");
        assert_eq!(mistake("{}"), "unknown placeholder \"{}\"");
        assert_eq!(mistake("{Schema}"), "unknown placeholder \"{Schema}\"");
        for unclosed in
            ["x{", "{new.id", "{new.id.{schema}", "{schema{", "{new.\"id\"x}", "{new.\"id\""]
        {
            assert!(
                mistake(unclosed).starts_with("a placeholder is not closed: \"{"),
                "{unclosed}"
            );
        }
        assert_eq!(mistake("{new.\"id}"), "a placeholder is not closed: \"{new.\"id}\"");
        for nameless in ["{new.}", "{old. }", "{new.\"\"}"] {
            assert_eq!(mistake(nameless), "a placeholder names no column");
        }
        assert_eq!(mistake("a}b"), "a brace closes nothing in \"a}b\"");
        assert_eq!(mistake("{new.id}}"), "a brace closes nothing in \"{new.id}}\"");
        assert!(mistake(&"x".repeat(LONGEST + 1)).contains("longer than 2048 bytes"));
        assert!(Template::parse(&"x".repeat(LONGEST)).is_ok());
        assert!(mistake(&"{schema}".repeat(MOST + 1)).contains("more than 16 placeholders"));
        assert!(Template::parse(&"{schema}".repeat(MOST)).is_ok());
    }

    #[test]
    fn a_renamed_column_is_found_under_its_new_name() {
        let template = Template::parse(
            "{{a}}.{prefix}{resource}{operation}{database}{schema}{table}.{new.id}.{old.x}",
        );
        let renamed = template.unwrap().with_names(|name| match name {
            "id" => Some("a \"}".to_owned()),
            name => Some(name.to_owned()),
        });
        let expected = "{{a}}.{prefix}{resource}{operation}{database}{schema}{table}.{new.\"a \"\"}\"}.{old.x}";
        assert_eq!(renamed.as_deref(), Some(expected));
        assert_eq!(Template::parse("{new.id}").unwrap().with_names(|_| None), None);
    }

    fn piece() -> impl Strategy<Value = Piece> {
        let name = "[a-c \"{}.ü]{1,4}";
        prop_oneof![
            "[a-c.{} ]{1,4}".prop_map(Piece::Text),
            Just(Piece::Prefix),
            Just(Piece::Operation),
            Just(Piece::Table),
            (any::<bool>(), name).prop_map(|(is_new, name)| {
                Piece::Value(if is_new { Side::New } else { Side::Old }, name)
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_template_is_read_as_it_was_written(pieces in proptest::collection::vec(piece(), 1..8)) {
            // Texts side by side are one.
            let side_by_side = |pair: &[Piece]| matches!(pair, [Piece::Text(_), Piece::Text(_)]);
            prop_assume!(!pieces.windows(2).any(side_by_side));
            let template = Template(pieces);
            let written = template.with_names(|name| Some(name.to_owned())).unwrap();
            prop_assert_eq!(Template::parse(&written), Ok(template));
        }

        #[test]
        fn no_text_is_too_much(text in "[{}\".a newold]{0,20}") {
            let _ = Template::parse(&text);
        }
    }
}
