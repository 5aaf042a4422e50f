//! What a run prints, and docs/benchmarks.md has, of each subject: a table, what has a goal first.

use std::fmt::{self, Display, Formatter};

use crate::line::Line;

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    pub command: String,
    pub environment: String,
    pub lines: Vec<Line>,
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "`{}`: {}\n", self.command, self.environment)?;
        writeln!(f, "| from commit to queue | measured | goal |\n| --- | --- | --- |")?;
        let (with_goal, without): (Vec<_>, Vec<_>) =
            self.lines.iter().partition(|line| line.goal.is_some());
        for Line { name, figure, goal } in with_goal.into_iter().chain(without) {
            let goal = goal.map(|goal| goal.to_string()).unwrap_or_default();
            writeln!(f, "| {name} | {figure} | {goal} |")?;
        }
        Ok(())
    }
}
