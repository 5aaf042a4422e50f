//! The `key=value` options of a trigger. Pure.
//!
//! | option | meaning |
//! |---|---|
//! | `exclude=a,b` | these columns never leave the database: they are in no row and no `targets`, and an update of nothing else sends nothing |
//! | `only=a,b` | all other columns are excluded |
//! | `exchange=name` | the exchange of this trigger's events, whatever `amqp.exchange` is |
//! | `previous=off` | `previous` is null, but for a delete and a change of the key: then it holds the key's columns, or the row where there is no key (default: `on`) |
//! | `current=changed` | after an update, `current` holds the columns that changed, and the key; the whole row if the key changed (default: `row`) |
//! | `key=a,b` | the columns that identify a row (default: those of the primary key) |
//! | `routing_key=template` | what routing keys are made by ([`crate::routing_key`]) |
//! | `body=a`, `headers=a`, `type=a` | a row is a message of a user's own ([`message_columns`]) |
//!
//! Columns are named exactly as they are, without the folding of SQL, and separated by commas;
//! blanks around a name do not count. A name that holds a comma, or blanks at its ends, can be given
//! in double quotes, and a double quote in it is doubled.

use super::column_names::{quote_name, split_names};
use super::key_template::{self, KeyTemplate, ROUTING_KEY};
use super::message_columns::{self, BODY, HEADERS, MessageOptions, TYPE};
use super::names::cut;
use super::problem::{Problem, find_column};
use crate::memory;

const EXCLUDE: &str = "exclude";
const ONLY: &str = "only";
const EXCHANGE: &str = "exchange";
const PREVIOUS: &str = "previous";
const CURRENT: &str = "current";
const KEY: &str = "key";

const OPTIONS: [&str; 10] =
    [EXCLUDE, ONLY, EXCHANGE, PREVIOUS, CURRENT, KEY, ROUTING_KEY, BODY, HEADERS, TYPE];

/// What the options of a trigger say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    exclude: Option<ColumnList>,
    only: Option<ColumnList>,
    key: Option<ColumnList>,
    /// What the routing keys are made by; `None`: prefix, resource and operation.
    pub routing_key: Option<KeyTemplate>,
    /// Exchange of the events; `None`: that of the session.
    pub exchange: Option<String>,
    /// Whether `previous` holds only what identifies the row.
    pub without_previous: bool,
    /// Whether `current` holds only what an update changed, and the key, unless it changed that.
    pub only_changed: bool,
    /// What of a row that is a message goes where.
    pub message: MessageOptions,
}

/// Names of columns, and the argument that lists them.
#[derive(Debug, PartialEq, Eq)]
struct ColumnList {
    option: &'static str,
    argument: String,
    names: Vec<String>,
}

/// Numbers of columns.
#[derive(Debug, PartialEq, Eq)]
pub struct ChosenColumns {
    /// Those that are published.
    pub published: Vec<usize>,
    /// The others.
    pub excluded: Vec<usize>,
    /// Those that identify a row, if the trigger says so.
    pub key: Option<Vec<usize>>,
}

impl Options {
    /// Reads the options.
    ///
    /// # Errors
    ///
    /// A [`Problem`] for what is not an option, has no such value, or is given twice.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, Problem> {
        let mut options = Options::default();
        let mut seen = Vec::new();
        for argument in arguments {
            let option = options.take(&argument)?;
            if seen.contains(&option) {
                let message = format!("capture option \"{option}\" is given twice");
                return Err(Problem::new(&argument, message, "Give each option once."));
            }
            seen.push(option);
        }
        options.message.check(&seen)?;
        match &options {
            Options { exclude: Some(_), only: Some(only), .. } => Err(Problem::new(
                &only.argument,
                format!("capture options \"{EXCLUDE}\" and \"{ONLY}\" contradict each other"),
                "Use one of the two.",
            )),
            _ => Ok(options),
        }
    }

    fn take(&mut self, argument: &str) -> Result<&'static str, Problem> {
        let hint = || {
            format!(
                "Arguments are: resource, routing key prefix, then options. Valid options: {}.",
                OPTIONS.join(", ")
            )
        };
        let Some((name, value)) = argument.split_once('=') else {
            let message = "a capture option must have the form key=value".to_owned();
            return Err(Problem::new(argument, message, &hint()));
        };
        let (name, value) = (name.trim(), value.trim());
        let Some(&option) = OPTIONS.iter().find(|&&option| option == name) else {
            let message = format!("unknown capture option \"{}\"", cut(name));
            return Err(Problem::new(argument, message, &hint()));
        };
        match option {
            EXCLUDE => self.exclude = Some(ColumnList::parse(option, argument, value)?),
            ONLY => self.only = Some(ColumnList::parse(option, argument, value)?),
            KEY => self.key = Some(ColumnList::parse(option, argument, value)?),
            ROUTING_KEY => self.routing_key = Some(KeyTemplate::parse(argument, value)?),
            EXCHANGE => self.exchange = Some(memory::text(value)),
            BODY | HEADERS | TYPE => self.message.take(option, argument, value)?,
            PREVIOUS => {
                self.without_previous = second_of(option, argument, value, ["on", "off"])?;
            }
            _ => self.only_changed = second_of(option, argument, value, ["row", "changed"])?,
        }
        Ok(option)
    }

    /// Finds the columns that the options name among those of the table.
    ///
    /// # Errors
    ///
    /// A [`Problem`] for a column that the table does not have, or that cannot be in a key because it
    /// is not published.
    pub fn choose(&self, columns: &[(usize, String)]) -> Result<ChosenColumns, Problem> {
        let (published, excluded) = match (&self.exclude, &self.only) {
            (Some(list), _) => {
                let named = list.find(columns)?;
                split(columns, |number| !named.contains(number))
            }
            (None, Some(list)) => {
                let named = list.find(columns)?;
                split(columns, |number| named.contains(number))
            }
            (None, None) => split(columns, |_| true),
        };
        let key = match &self.key {
            Some(list) => Some(list.find(columns)?),
            None => None,
        };
        if let (Some(list), Some(key)) = (&self.key, &key)
            && let Some(at) = key.iter().position(|number| excluded.contains(number))
        {
            let message = format!("column \"{}\" is a key but is not published", list.names[at]);
            return Err(Problem::new(&list.argument, message, "What is excluded cannot be a key."));
        }
        if let Some(routing_key) = &self.routing_key {
            routing_key.check(columns, &excluded)?;
        }
        Ok(ChosenColumns { published, excluded, key })
    }
}

impl Options {
    /// The columns that the options name, each with its option.
    pub fn named_columns(&self) -> Vec<(&'static str, &str)> {
        let Options {
            exclude,
            only,
            key,
            routing_key,
            message,
            exchange: _,
            without_previous: _,
            only_changed: _,
        } = self;
        let lists = [exclude, only, key].into_iter().flatten();
        let mut columns = Vec::new();
        for list in lists {
            memory::reserve(&mut columns, list.names.len());
            columns.extend(list.names.iter().map(|name| (list.option, name.as_str())));
        }
        for name in routing_key.iter().flat_map(|key| key.template.columns()) {
            memory::push(&mut columns, (ROUTING_KEY, name));
        }
        message.named_columns().for_each(|column| memory::push(&mut columns, column));
        columns
    }
}

/// Returns an option after columns were renamed or dropped (see [`super::arguments_with`]). `Some(None)`: no column
/// is left, and the option goes. `None`: the option must not go, because without `only` all columns would be
/// published, without `routing_key` events would go elsewhere, and without `body` other messages would go.
pub fn with_names(
    argument: &str,
    new_name: &impl Fn(&str) -> Option<String>,
) -> Option<Option<String>> {
    let Some((option, list)) = argument.split_once('=') else {
        return Some(Some(argument.to_owned()));
    };
    let option = option.trim();
    if option == ROUTING_KEY {
        return key_template::with_names(list.trim(), new_name).map(Some);
    }
    if [BODY, HEADERS, TYPE].contains(&option) {
        return message_columns::with_names(option, list, new_name);
    }
    if ![EXCLUDE, ONLY, KEY].contains(&option) {
        return Some(Some(argument.to_owned()));
    }
    let names: Vec<String> = split_names(list)?
        .iter()
        .filter_map(|name| new_name(name))
        .map(|name| quote_name(&name))
        .collect();
    match (names.is_empty(), option) {
        (true, ONLY) => None,
        (true, _) => Some(None),
        (false, _) => Some(Some(format!("{option}={}", names.join(",")))),
    }
}

impl ColumnList {
    fn parse(option: &'static str, argument: &str, list: &str) -> Result<ColumnList, Problem> {
        match split_names(list) {
            Some(names) => Ok(ColumnList { option, argument: memory::text(argument), names }),
            None => Err(Problem::new(
                argument,
                format!("capture option \"{option}\" must be a list of columns"),
                "Separate the names by commas; put a name that holds one in double quotes.",
            )),
        }
    }

    /// The columns' numbers, in the order of the list.
    fn find(&self, columns: &[(usize, String)]) -> Result<Vec<usize>, Problem> {
        let mut numbers = memory::with_room(self.names.len());
        for name in &self.names {
            numbers.push(find_column(&self.argument, self.option, name, columns)?);
        }
        Ok(numbers)
    }
}

/// Splits the numbers of the columns into those that are wanted and the others.
fn split(
    columns: &[(usize, String)],
    is_wanted: impl Fn(&usize) -> bool,
) -> (Vec<usize>, Vec<usize>) {
    let (mut wanted, mut others) = (Vec::new(), Vec::new());
    for (number, _) in columns {
        memory::push(if is_wanted(number) { &mut wanted } else { &mut others }, *number);
    }
    (wanted, others)
}

/// Returns true if an option has the second of its two values.
fn second_of(
    option: &str,
    argument: &str,
    value: &str,
    values: [&str; 2],
) -> Result<bool, Problem> {
    match values.iter().position(|&valid| valid == value) {
        Some(at) => Ok(at == 1),
        None => Err(Problem::new(
            argument,
            format!("capture option \"{option}\" cannot be \"{}\"", cut(value)),
            &format!("Valid values: {}.", values.join(", ")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, Problem> {
        Options::parse(arguments.iter().map(|&a| a.to_owned()))
    }

    fn columns() -> Vec<(usize, String)> {
        vec![(0, "id".into()), (2, "title".into()), (3, "a, \"b\"".into()), (4, "secret".into())]
    }

    fn chosen(arguments: &[&str]) -> ChosenColumns {
        parse(arguments).unwrap().choose(&columns()).unwrap()
    }

    #[test]
    fn columns_are_published_unless_they_are_excluded() {
        let all = chosen(&[]);
        assert_eq!((all.published, all.excluded, all.key), (vec![0, 2, 3, 4], vec![], None));
        let some = chosen(&["exclude=secret, title"]);
        assert_eq!((some.published, some.excluded), (vec![0, 3], vec![2, 4]));
        let some = chosen(&["only = secret ,id"]);
        assert_eq!((some.published, some.excluded), (vec![0, 4], vec![2, 3]));
        assert_eq!(chosen(&["key=title,id"]).key, Some(vec![2, 0]));
    }

    #[test]
    fn names_with_commas_stand_in_quotes() {
        assert_eq!(chosen(&[r#"exclude="a, ""b""" , id"#]).excluded, [0, 3]);
        for wrong in ["", " ", ",", "id,", "id,,title", r#""id"#, r#""id"x"#] {
            let problem = parse(&[&format!("exclude={wrong}")]).unwrap_err();
            assert!(problem.message.contains("must be a list of columns"), "{wrong}");
        }
    }

    #[test]
    fn options_name_columns_and_can_name_others() {
        let options = parse(&["exclude=a,\"b, c\"", "key=id", "exchange=x"]).unwrap();
        let named = [("exclude", "a"), ("exclude", "b, c"), ("key", "id")];
        assert_eq!(options.named_columns(), named);
        let renamed = |argument: &str| {
            with_names(argument, &|name: &str| match name {
                "gone" => None,
                "old" => Some("n\"ew, ".to_owned()),
                name => Some(name.to_owned()),
            })
        };
        let some = |argument: &str| Some(Some(argument.to_owned()));
        assert_eq!(renamed("exclude= old ,gone,\"x,y\""), some("exclude=\"n\"\"ew, \",\"x,y\""));
        assert_eq!(renamed("exchange=gone"), some("exchange=gone"));
        assert_eq!((renamed("exclude=gone"), renamed("key=gone")), (Some(None), Some(None)));
        assert_eq!(renamed("only=gone"), None);
        assert_eq!(renamed("only=gone,id"), some("only=id"));
    }

    #[test]
    fn other_options_have_their_values() {
        let options = parse(&["previous=off", "current=changed", "exchange=a=b"]).unwrap();
        assert!(options.without_previous && options.only_changed);
        assert_eq!(options.exchange.as_deref(), Some("a=b"));
        assert_eq!(parse(&["previous=on", "current=row"]).unwrap(), Options::default());
        let problem = parse(&["previous=never"]).unwrap_err();
        assert_eq!(problem.message, "capture option \"previous\" cannot be \"never\"");
        assert_eq!(problem.hint, "Valid values: on, off.");
    }

    #[test]
    fn contradictions_are_refused() {
        let problem = parse(&["exclude=a", "exclude=b"]).unwrap_err();
        assert_eq!(problem.argument, "exclude=b");
        assert!(problem.message.contains("twice"), "{}", problem.message);
        let problem = parse(&["exclude=a", "only=b"]).unwrap_err();
        assert!(problem.message.contains("contradict"), "{}", problem.message);
        let problem =
            parse(&["exclude=id", "key=title,id"]).unwrap().choose(&columns()).unwrap_err();
        assert_eq!(problem.message, "column \"id\" is a key but is not published");
    }

    #[test]
    fn an_unknown_column_is_named_with_those_there_are() {
        let problem = parse(&["only=id,Title"]).unwrap().choose(&columns()).unwrap_err();
        assert_eq!(problem.message, "column \"Title\" of capture option \"only\" does not exist");
        assert_eq!(problem.hint, "Columns of the table: id, title, a, \"b\", secret.");
        assert_eq!(problem.argument, "only=id,Title");
    }
}
