//! The arguments of CREATE TRIGGER: resource, routing key prefix, then `key=value` options. Pure.

/// Prefix of the routing key unless the trigger names another.
const DEFAULT_PREFIX: &str = "cdc";

/// Names of the options there are. None yet.
const OPTIONS: [&str; 0] = [];

/// What the trigger was defined with.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// First argument; `None`: the table's name.
    pub resource: Option<String>,
    /// Second argument or its default.
    pub prefix: String,
}

/// Why the arguments make no sense.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    pub argument: String,
    pub message: String,
    pub hint: String,
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
        if let Some(argument) = arguments.next() {
            return Err(unknown(argument));
        }
        Ok(Arguments { resource, prefix: prefix.unwrap_or_else(|| DEFAULT_PREFIX.to_owned()) })
    }
}

fn unknown(argument: String) -> Problem {
    let message = match argument.split_once('=') {
        Some((name, _)) => format!("unknown capture option \"{}\"", name.trim()),
        None => "a capture option must have the form key=value".to_owned(),
    };
    let valid = if OPTIONS.is_empty() { "none".to_owned() } else { OPTIONS.join(", ") };
    Problem {
        argument,
        message,
        hint: format!(
            "Arguments are: resource, routing key prefix, then options. Valid options: {valid}."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, Problem> {
        Arguments::parse(arguments.iter().map(|&a| a.to_owned()).collect())
    }

    #[test]
    fn everything_has_a_default() {
        let expected = Arguments { resource: None, prefix: "cdc".into() };
        assert_eq!(parse(&[]).unwrap(), expected);
        assert_eq!(parse(&["", ""]).unwrap(), expected);
    }

    #[test]
    fn resource_and_prefix_are_taken_in_this_order() {
        assert_eq!(
            parse(&["article", "blog"]).unwrap(),
            Arguments { resource: Some("article".into()), prefix: "blog".into() }
        );
    }

    #[test]
    fn an_unknown_option_is_named_with_the_valid_ones() {
        let problem = parse(&["a", "b", "colour=red"]).unwrap_err();
        assert_eq!(problem.message, "unknown capture option \"colour\"");
        assert!(problem.hint.contains("Valid options: none."), "{}", problem.hint);
        let problem = parse(&["a", "b", "red"]).unwrap_err();
        assert!(problem.message.contains("key=value"), "{}", problem.message);
    }
}
