//! What the demo prints: titles, statements, remarks, progress. In colour on a terminal, unless
//! NO_COLOR says otherwise.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{env, io, panic, thread};

/// How wide it gets if it can.
pub const WIDTH: usize = 96;

/// How often a terminal sees that something is still going on.
const TICK: Duration = Duration::from_millis(500);

/// How a text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pen {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Pen {
    /// The ECMA-48 "select graphic rendition" parameter.
    fn code(self) -> &'static str {
        match self {
            Pen::Bold => "1",
            Pen::Dim => "2",
            Pen::Red => "1;31",
            Pen::Green => "32",
            Pen::Yellow => "33",
            Pen::Cyan => "36",
        }
    }
}

/// Standard output.
#[derive(Debug)]
pub struct Page {
    is_terminal: bool,
    has_colour: bool,
}

impl Page {
    /// Standard output as it is.
    pub fn new() -> Page {
        let is_terminal = io::stdout().is_terminal();
        Page { is_terminal, has_colour: is_terminal && colour_is_wanted() }
    }

    /// A page without colours.
    #[cfg(test)]
    pub fn plain() -> Page {
        Page { is_terminal: false, has_colour: false }
    }

    /// Whether somebody watches.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// The text in colour, where there is colour.
    pub fn paint(&self, pen: Pen, text: &str) -> String {
        if self.has_colour { painted(pen, text) } else { text.to_owned() }
    }

    /// One line as it is.
    pub fn line(&self, text: &str) {
        println!("{text}");
    }

    /// Begins a step.
    pub fn title(&self, text: &str) {
        let rule = "─".repeat(WIDTH.saturating_sub(text.chars().count() + 4));
        let title = format!("── {} {}", self.paint(Pen::Bold, text), self.paint(Pen::Dim, &rule));
        println!("\n{title}\n");
    }

    /// An SQL statement, of one or more lines.
    pub fn statement(&self, statement: &str) {
        for line in statement.lines() {
            println!("    {}", self.paint(Pen::Bold, line));
        }
    }

    /// Something that is told between statements and messages.
    pub fn remark(&self, text: &str) {
        println!("  {}", self.paint(Pen::Dim, text));
    }

    /// Says what is being done, does it, and says how long it took.
    pub fn progress<T: Send>(&self, what: &str, work: impl FnOnce() -> T + Send) -> T {
        let begin = Instant::now();
        self.show(&format!("  {what} ..."));
        let done = thread::scope(|scope| {
            let (working, has_ended) = mpsc::channel::<()>();
            let worker = scope.spawn(move || {
                // Dropped at the end, of whatever kind it is.
                let _working = working;
                work()
            });
            while has_ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if self.is_terminal {
                    self.show(".");
                }
            }
            worker.join()
        });
        match done {
            Ok(done) => {
                println!(" {}", self.paint(Pen::Dim, &duration(begin.elapsed())));
                done
            }
            Err(panic) => {
                println!();
                panic::resume_unwind(panic)
            }
        }
    }

    /// Prints without ending the line.
    fn show(&self, text: &str) {
        print!("{text}");
        // It appears later, then.
        let _ = io::stdout().flush();
    }
}

/// Tells what is wrong, on standard error.
pub fn complain(text: &str) {
    if io::stderr().is_terminal() && colour_is_wanted() {
        eprintln!("{}", painted(Pen::Red, text));
    } else {
        eprintln!("{text}");
    }
}

/// A duration with the unit that suits it.
pub fn duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{:.1} ms", duration.as_secs_f64() * 1e3)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// See <https://no-color.org>.
fn colour_is_wanted() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

fn painted(pen: Pen, text: &str) -> String {
    format!("\x1b[{}m{text}\x1b[0m", pen.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_the_unit_that_suits_them() {
        assert_eq!(duration(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(duration(Duration::from_millis(1250)), "1.2 s");
    }
}
