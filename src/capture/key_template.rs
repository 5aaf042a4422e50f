//! Option `routing_key=`: what the routing keys of a trigger's events are made by. Pure.

use super::problem::{Problem, find_column};
use crate::memory;
use crate::routing_key::{Mistake, Names, Pattern, Template};

pub const ROUTING_KEY: &str = "routing_key";

/// A template, and the argument that it stands in.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    argument: String,
    pub template: Template,
}

impl KeyTemplate {
    /// Reads the option's value.
    ///
    /// # Errors
    ///
    /// A [`Problem`] for what is no template.
    pub fn parse(argument: &str, value: &str) -> Result<KeyTemplate, Problem> {
        match Template::parse(value) {
            Ok(template) => Ok(KeyTemplate { argument: memory::text(argument), template }),
            Err(Mistake { message, hint }) => {
                let message = format!("capture option \"{ROUTING_KEY}\": {message}");
                Err(Problem::new(argument, message, &hint))
            }
        }
    }

    /// Checks the columns that it names, given the numbers and names of the table's, and those that are not published.
    ///
    /// # Errors
    ///
    /// A [`Problem`] for a column that the table does not have, or that is not published: its value would be.
    pub fn check(&self, columns: &[(usize, String)], excluded: &[usize]) -> Result<(), Problem> {
        for name in self.template.columns() {
            let number = find_column(&self.argument, ROUTING_KEY, name, columns)?;
            if excluded.contains(&number) {
                let message =
                    format!("column \"{name}\" is in the routing key but is not published");
                let hint = "What is excluded cannot be in the routing key.";
                return Err(Problem::new(&self.argument, message, hint));
            }
        }
        Ok(())
    }

    /// What the keys of the events with these names are made by, and the numbers of the columns that are in them. The
    /// columns were checked, `published` are the numbers of those that events hold.
    pub fn pattern(
        &self,
        names: &Names<'_>,
        columns: &[(usize, String)],
        published: &[usize],
    ) -> (Pattern, Vec<usize>) {
        let number_of = |name: &str| {
            let (number, _) = columns.iter().find(|(_, column)| column == name)?;
            Some(*number)
        };
        let place_of = |name: &str| {
            let number = number_of(name)?;
            published.iter().position(|&column| column == number)
        };
        let mut numbers = Vec::new();
        for number in self.template.columns().filter_map(number_of) {
            memory::push(&mut numbers, number);
        }
        (self.template.pattern(names, place_of), numbers)
    }
}

/// Returns the option after columns were renamed or dropped (see [`super::arguments_with`]). `None`: it needs a column
/// that is gone.
pub fn with_names(value: &str, new_name: impl Fn(&str) -> Option<String>) -> Option<String> {
    let template = Template::parse(value).ok()?.with_names(new_name)?;
    Some(format!("{ROUTING_KEY}={template}"))
}
