//! The arguments of CREATE TRIGGER: resource, routing key prefix, then `key=value` options. Pure.

use super::options::{self, Options};
use super::problem::Problem;

/// Prefix of the routing key unless the trigger names another.
const DEFAULT_PREFIX: &str = "cdc";

/// What the trigger was defined with.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// First argument; `None`: the table's name.
    pub resource: Option<String>,
    /// Second argument or its default.
    pub prefix: String,
    /// The other arguments.
    pub options: Options,
}

impl Arguments {
    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// A [`Problem`] for anything after the second argument that is not a known option.
    pub fn parse(arguments: Vec<String>) -> Result<Arguments, Problem> {
        let mut arguments = arguments.into_iter();
        let resource = arguments.next().filter(|resource| !resource.is_empty());
        let prefix = arguments.next().filter(|prefix| !prefix.is_empty());
        Ok(Arguments {
            resource,
            prefix: prefix.unwrap_or_else(|| DEFAULT_PREFIX.to_owned()),
            options: Options::parse(arguments)?,
        })
    }
}

/// Returns the arguments of a trigger after columns were renamed or dropped. `new_name` returns what a column is
/// called now, or None if it is gone. Returns None if the trigger needs a column that is gone.
pub fn arguments_with(
    arguments: &[String],
    new_name: impl Fn(&str) -> Option<String>,
) -> Option<Vec<String>> {
    let mut rewritten: Vec<String> = arguments.iter().take(2).cloned().collect();
    for option in arguments.iter().skip(2) {
        rewritten.extend(options::with_names(option, &new_name)?);
    }
    Some(rewritten)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, Problem> {
        Arguments::parse(arguments.iter().map(|&a| a.to_owned()).collect())
    }

    #[test]
    fn everything_has_a_default() {
        let expected =
            Arguments { resource: None, prefix: "cdc".into(), options: Options::default() };
        assert_eq!(parse(&[]).unwrap(), expected);
        assert_eq!(parse(&["", ""]).unwrap(), expected);
    }

    #[test]
    fn resource_and_prefix_are_taken_in_this_order() {
        let arguments = parse(&["article", "blog"]).unwrap();
        assert_eq!(arguments.resource.as_deref(), Some("article"));
        assert_eq!(arguments.prefix, "blog");
    }

    #[test]
    fn an_unknown_option_is_named_with_the_valid_ones() {
        let problem = parse(&["a", "b", "colour=red"]).unwrap_err();
        assert_eq!(problem.message, "unknown capture option \"colour\"");
        assert!(problem.hint.contains("Valid options: exclude, only,"), "{}", problem.hint);
        let problem = parse(&["a", "b", "red"]).unwrap_err();
        assert!(problem.message.contains("key=value"), "{}", problem.message);
    }
}
