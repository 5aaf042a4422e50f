//! The options that make a row be a message of a user's own. Pure.
//!
//! | option | meaning |
//! |---|---|
//! | `body=a` | the column that holds the body: as it is, a text in UTF-8; null is an empty body |
//! | `headers=a` | the one that holds the headers, a JSON object; null: none |
//! | `type=a` | the one that holds the AMQP property `type`; null: `message` |
//!
//! Columns are named as in other options.

use super::column_names::{quote_name, split_names};
use super::names::cut;
use super::problem::{Problem, find_column};
use crate::memory;
use crate::pg::worker_types::WorkerType;

pub const BODY: &str = "body";
pub const HEADERS: &str = "headers";
pub const TYPE: &str = "type";

/// What else can be said of a row that is a message.
const COMPANIONS: [&str; 4] = [HEADERS, TYPE, "exchange", "routing_key"];

/// What the options say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MessageOptions {
    body: Option<ColumnOption>,
    headers: Option<ColumnOption>,
    kind: Option<ColumnOption>,
}

/// The name of a column, and the argument that says it.
#[derive(Debug, PartialEq, Eq)]
struct ColumnOption {
    option: &'static str,
    argument: String,
    name: String,
}

/// The columns of a table that a message is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageColumns {
    pub body: MessageColumn,
    pub headers: Option<MessageColumn>,
    pub kind: Option<MessageColumn>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageColumn {
    pub number: usize,
    pub name: String,
    /// The type of its values; of a domain that which it is of.
    pub of: WorkerType,
}

impl MessageOptions {
    /// Takes one of the three options.
    ///
    /// # Errors
    ///
    /// A [`Problem`] unless it names one column.
    pub fn take(
        &mut self,
        option: &'static str,
        argument: &str,
        value: &str,
    ) -> Result<(), Problem> {
        let names = split_names(value).and_then(|names| <[String; 1]>::try_from(names).ok());
        let Some([name]) = names else {
            return Err(Problem::new(
                argument,
                format!("capture option \"{option}\" must be the name of a column"),
                "Put a name that holds a comma in double quotes.",
            ));
        };
        let argument = memory::text(argument);
        let place = match option {
            BODY => &mut self.body,
            HEADERS => &mut self.headers,
            _ => &mut self.kind,
        };
        *place = Some(ColumnOption { option, argument, name });
        Ok(())
    }

    /// Whether rows are messages.
    pub fn is_there(&self) -> bool {
        self.body.is_some()
    }

    /// Checks that the options that were given go with each other.
    ///
    /// # Errors
    ///
    /// A [`Problem`] if they do not.
    pub fn check(&self, given: &[&'static str]) -> Result<(), Problem> {
        let Some(body) = &self.body else {
            let Some(other) = self.headers.as_ref().or(self.kind.as_ref()) else { return Ok(()) };
            return Err(Problem::new(
                &other.argument,
                format!("capture option \"{}\" is for rows that are messages", other.option),
                "Say with option \"body\" which column holds their body.",
            ));
        };
        let is_stranger = |option: &&&str| **option != BODY && !COMPANIONS.contains(*option);
        let Some(stranger) = given.iter().find(is_stranger) else { return Ok(()) };
        Err(Problem::new(
            &body.argument,
            format!("capture options \"{BODY}\" and \"{stranger}\" contradict each other"),
            &format!(
                "A row that is a message is not sent as a row. With \"{BODY}\" go: {}.",
                COMPANIONS.join(", ")
            ),
        ))
    }

    fn all(&self) -> impl Iterator<Item = &ColumnOption> {
        [&self.body, &self.headers, &self.kind].into_iter().flatten()
    }

    /// The columns that are named, each with its option.
    pub fn named_columns(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.all().map(|column| (column.option, column.name.as_str()))
    }

    /// Finds the columns among those of the table. `type_of` returns the type of the one with a number, if it is one
    /// that the worker knows. Returns none if rows are no messages.
    ///
    /// # Errors
    ///
    /// A [`Problem`] for a column that the table does not have, or whose type cannot be what it is to be.
    pub fn find(
        &self,
        columns: &[(usize, String)],
        type_of: impl Fn(usize) -> Option<WorkerType>,
    ) -> Result<Option<MessageColumns>, Problem> {
        let Some(body) = &self.body else { return Ok(None) };
        let find = |option: &ColumnOption| option.find(columns, &type_of);
        Ok(Some(MessageColumns {
            body: find(body)?,
            headers: self.headers.as_ref().map(find).transpose()?,
            kind: self.kind.as_ref().map(find).transpose()?,
        }))
    }
}

impl ColumnOption {
    fn find(
        &self,
        columns: &[(usize, String)],
        type_of: impl Fn(usize) -> Option<WorkerType>,
    ) -> Result<MessageColumn, Problem> {
        let number = find_column(&self.argument, self.option, &self.name, columns)?;
        let found = type_of(number).filter(|&found| is_taken(self.option, found));
        let of = found.ok_or_else(|| {
            let (column, option) = (cut(&self.name), self.option);
            Problem::new(
                &self.argument,
                format!("column \"{column}\" of capture option \"{option}\" is of another type"),
                &taken_types(option),
            )
        })?;
        Ok(MessageColumn { number, name: memory::text(&self.name), of })
    }
}

/// Whether the column that an option names may be of this type.
pub fn is_taken(option: &str, of: WorkerType) -> bool {
    use WorkerType::{Bytea, Json, Jsonb, Text, Varchar};
    match option {
        BODY => matches!(of, Text | Varchar | Json | Jsonb | Bytea),
        HEADERS => matches!(of, Json | Jsonb),
        _ => matches!(of, Text | Varchar),
    }
}

/// The types of which the column that an option names may be, for a hint.
pub fn taken_types(option: &str) -> String {
    let types = match option {
        BODY => "text, varchar, json, jsonb or bytea",
        HEADERS => "jsonb or json",
        _ => "text or varchar",
    };
    format!("It must be of type {types}, or of a domain over it.")
}

/// Returns one of the three options after its column was renamed or dropped (see [`super::arguments_with`]).
/// `Some(None)`: the column is gone, and the option goes. `None`: it must not go, because without a body a row would
/// be sent as a row.
pub fn with_names(
    option: &str,
    value: &str,
    new_name: &impl Fn(&str) -> Option<String>,
) -> Option<Option<String>> {
    let [name] = <[String; 1]>::try_from(split_names(value)?).ok()?;
    match new_name(&name) {
        Some(name) => Some(Some(format!("{option}={}", quote_name(&name)))),
        None if option == BODY => None,
        None => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[(&'static str, &str)]) -> MessageOptions {
        let mut options = MessageOptions::default();
        for (option, value) in arguments {
            options.take(option, &format!("{option}={value}"), value).unwrap();
        }
        options
    }

    fn find(arguments: &[(&'static str, &str)]) -> Result<Option<MessageColumns>, Problem> {
        let columns = [
            (0, "id".to_owned(), None),
            (2, "a, \"b\"".to_owned(), Some(WorkerType::Text)),
            (3, "h".to_owned(), Some(WorkerType::Json)),
            (4, "n".to_owned(), Some(WorkerType::Int4)),
            (5, "b".to_owned(), Some(WorkerType::Bytea)),
        ];
        let names = columns.clone().map(|(number, name, _)| (number, name));
        options(arguments).find(&names, |wanted| {
            columns.iter().find(|(number, ..)| *number == wanted).and_then(|column| column.2)
        })
    }

    #[test]
    fn each_option_names_one_column_of_a_type_that_suits_it() {
        let quoted = r#" "a, ""b""" "#;
        let found = find(&[(BODY, quoted), (HEADERS, "h"), (TYPE, quoted)]).unwrap().unwrap();
        let text = MessageColumn { number: 2, name: "a, \"b\"".to_owned(), of: WorkerType::Text };
        let json = MessageColumn { number: 3, name: "h".to_owned(), of: WorkerType::Json };
        assert_eq!((found.body, found.headers, found.kind), (text.clone(), Some(json), Some(text)));
        assert_eq!(find(&[]), Ok(None));
        for (arguments, named) in [
            ([(BODY, "id"), (TYPE, quoted)], "body=id"),
            ([(BODY, "n"), (TYPE, quoted)], "body=n"),
            ([(BODY, "h"), (HEADERS, quoted)], "headers= \"a, \"\"b\"\"\" "),
            ([(BODY, "h"), (HEADERS, "b")], "headers=b"),
            ([(BODY, "h"), (TYPE, "b")], "type=b"),
            ([(BODY, "h"), (TYPE, "h")], "type=h"),
        ] {
            let problem = find(&arguments).unwrap_err();
            assert!(problem.message.ends_with("is of another type"), "{problem:?}");
            assert_eq!(problem.argument, named);
        }
        let problem = find(&[(BODY, "h"), (TYPE, "H")]).unwrap_err();
        assert_eq!(problem.message, "column \"H\" of capture option \"type\" does not exist");
    }

    #[test]
    fn an_option_that_does_not_name_one_column_is_refused() {
        for value in ["", " ", "a,b", "\"a", "a,"] {
            let problem = MessageOptions::default().take(BODY, "body=?", value).expect_err(value);
            assert_eq!(problem.message, "capture option \"body\" must be the name of a column");
        }
    }

    #[test]
    fn options_go_with_each_other_or_are_refused() {
        let body = options(&[(BODY, "b")]);
        assert_eq!(body.check(&["exchange", BODY, "routing_key", TYPE, HEADERS]), Ok(()));
        assert_eq!(MessageOptions::default().check(&["exclude"]), Ok(()));
        for stranger in ["exclude", "only", "previous", "current", "key", "news"] {
            let problem = body.check(&[BODY, stranger]).unwrap_err();
            assert_eq!(
                problem.message,
                format!("capture options \"body\" and \"{stranger}\" contradict each other")
            );
        }
        for alone in [HEADERS, TYPE] {
            let problem = options(&[(alone, "h")]).check(&[alone]).unwrap_err();
            assert_eq!(
                problem.message,
                format!("capture option \"{alone}\" is for rows that are messages")
            );
        }
    }

    #[test]
    fn an_option_follows_its_column_and_goes_with_it_unless_it_is_the_body() {
        let renamed = |_: &str| Some("a, b".to_owned());
        let dropped = |_: &str| None;
        assert_eq!(with_names(BODY, "x", &renamed), Some(Some("body=\"a, b\"".to_owned())));
        assert_eq!(with_names(TYPE, "x", &dropped), Some(None));
        assert_eq!(with_names(HEADERS, "x", &dropped), Some(None));
        assert_eq!(with_names(BODY, "x", &dropped), None);
    }
}
