//! `make demo`: throwaway servers, a blog, changes to it, and the messages that a real consumer
//! received for them. On a terminal it then stays open for the reader's own changes; elsewhere it
//! ends, with exit code 1 if a message was missing or was not expected.
//!
//! | module | owns |
//! |---|---|
//! | `story` | what is done and which messages it has to make |
//! | `walkthrough` | the servers, the session and the consumer that the story runs on |
//! | `tally` | comparing the messages that came with those that had to |
//! | `failure` | why the demo cannot go on, and what the reader can do about it |
//! | `page`, `message_view` | what it looks like: lines and colours, one message |

#![forbid(unsafe_code)]

mod failure;
mod message_view;
mod page;
mod story;
mod tally;
mod walkthrough;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::OnceLock;

use failure::Failure;
use page::{Page, Pen};
use walkthrough::Walkthrough;

fn main() -> ExitCode {
    let page = Page::new();
    match telling_panics(|| run(&page)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            page::complain(&format!("The demo cannot go on: {}", failure.what));
            page::complain(&failure.mend);
            ExitCode::FAILURE
        }
    }
}

/// Runs the story, and returns whether every message came as expected.
fn run(page: &Page) -> Result<bool, Failure> {
    let mut walkthrough = Walkthrough::start(page)?;
    for step in story::STEPS {
        walkthrough.perform(step)?;
    }
    walkthrough.perform_without_broker(&story::OUTAGE)?;
    walkthrough.sum_up();
    if page.is_terminal() {
        stay_open(page, &walkthrough);
    }
    Ok(walkthrough.is_as_expected())
}

/// Shows what the reader's own changes publish, until Ctrl-C.
fn stay_open(page: &Page, walkthrough: &Walkthrough) -> ! {
    page.line("");
    page.line("Your turn. The servers stay up; in another terminal:");
    page.line("");
    page.line(&format!("    {}", page.paint(Pen::Bold, &walkthrough.psql_line())));
    page.line("");
    page.line("and there, for example:");
    page.line("");
    for hint in story::HINTS {
        page.statement(hint);
    }
    page.line("");
    page.line("Messages appear here as they come. Ctrl-C stops and removes both servers.");
    page.line("");
    loop {
        walkthrough.show_next();
    }
}

/// The harness panics when a server does not do what a test needs of it. Here that is told in its
/// own words, like any other failure, without a backtrace.
fn telling_panics<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // Later ones follow from the first.
    static FIRST: OnceLock<String> = OnceLock::new();
    panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("something unnamed");
        let place = panic.location().map(|place| format!("\n(at {place})")).unwrap_or_default();
        let _ = FIRST.set(format!("{what}{place}"));
    }));
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let what = FIRST.get().map_or("something went wrong", String::as_str);
        Err(Failure::new(what, "If something is not installed: `make setup install`."))
    })
}
