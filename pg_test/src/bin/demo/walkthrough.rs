//! What the story runs on: both servers, one session, one consumer; and the count of what was done
//! and what came.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pg_test::{Consumer, DEADLINE, Message, Queue, Testbed, wait_until};
use postgres::Client;

use crate::failure::Failure;
use crate::page::{Page, Pen, duration};
use crate::story::{SCHEMA, STATUS, Step};
use crate::{message_view, tally};

const DATABASE: &str = "blog";

/// The extension's default.
const EXCHANGE: &str = "pg-messaging";

/// How long a message may take: the extension tries to reach the broker every 5 seconds at least.
const PATIENCE: Duration = Duration::from_secs(15);

/// What nobody expects has this long to come after the last message.
const AFTERMATH: Duration = Duration::from_millis(300);

/// Servers, session and consumer.
pub struct Walkthrough<'page> {
    page: &'page Page,
    // Dropped in this order: the servers last.
    client: Client,
    consumer: Consumer,
    bed: Testbed,
    /// Delivery is at least once; the message id tells what came before.
    seen: BTreeSet<String>,
    statements: usize,
    messages: usize,
    complaints: Vec<String>,
}

impl<'page> Walkthrough<'page> {
    /// Starts the servers and makes the blog.
    pub fn start(page: &'page Page) -> Result<Walkthrough<'page>, Failure> {
        let version = find_postgres_with_extension()?;
        page.line("amqp_cdc: what commits in PostgreSQL arrives in RabbitMQ\n");
        let what = format!("starting {version} and RabbitMQ");
        let bed = page.progress(&what, || Testbed::private(&[]));
        bed.rabbitmq.broker().declare_exchange(EXCHANGE, "topic");
        run(&mut bed.postgres.connect("postgres"), &format!("CREATE DATABASE {DATABASE}"))?;
        let client = bed.postgres.connect(DATABASE);
        let consumer = consume(&bed);
        let mut walkthrough = Walkthrough {
            page,
            client,
            consumer,
            bed,
            seen: BTreeSet::new(),
            statements: 0,
            messages: 0,
            complaints: Vec::new(),
        };
        page.remark(&format!(
            "PostgreSQL is on port {}, {} on port {}",
            walkthrough.bed.postgres.port(),
            broker_version(&walkthrough.bed.rabbitmq.log()),
            walkthrough.bed.rabbitmq.port(),
        ));
        page.remark(&format!("a consumer gets whatever is published to exchange {EXCHANGE}"));
        page.title("The extension, a small blog, and one trigger for each of its tables");
        walkthrough.run(SCHEMA)?;
        Ok(walkthrough)
    }

    /// Runs a step and shows the messages that come of it.
    pub fn perform(&mut self, step: &Step) -> Result<(), Failure> {
        self.page.title(step.title);
        let committed = self.run(step.statements)?;
        self.receive(step, committed);
        Ok(())
    }

    /// Like [`Walkthrough::perform`], but the broker is down while the statements run.
    pub fn perform_without_broker(&mut self, step: &Step) -> Result<(), Failure> {
        let page = self.page;
        page.title(step.title);
        page.progress("stopping RabbitMQ", || self.bed.rabbitmq.stop());
        let committed = self.run(step.statements)?;
        self.show_standstill()?;
        page.progress("starting RabbitMQ again", || self.bed.rabbitmq.start());
        self.consumer = consume(&self.bed);
        page.remark("the extension tries again by itself, at least every 5 seconds");
        self.receive(step, committed);
        self.receive_aftermath(step);
        Ok(())
    }

    /// Tells how it went.
    pub fn sum_up(&self) {
        let count = format!("{} statements, {} messages", self.statements, self.messages);
        self.page.line("");
        if self.is_as_expected() {
            self.page.line(&self.page.paint(Pen::Green, &format!("{count}, as expected.")));
            return;
        }
        self.page.line(&self.page.paint(Pen::Red, &format!("{count}, NOT as expected:")));
        for complaint in &self.complaints {
            self.page.line(&format!("  {complaint}"));
        }
    }

    /// Whether there is nothing to complain about.
    pub fn is_as_expected(&self) -> bool {
        self.complaints.is_empty()
    }

    /// The command that opens the blog.
    pub fn psql_line(&self) -> String {
        self.bed.postgres.psql_line(DATABASE)
    }

    /// Shows the next message, whenever it comes.
    pub fn show_next(&self) {
        const A_WHILE: Duration = Duration::from_secs(3600);
        if let Some(message) = self.consumer.next_within(A_WHILE) {
            self.show(&message);
        }
    }

    /// Shows and runs statements, and returns when the last was done.
    fn run(&mut self, statements: &[&str]) -> Result<Instant, Failure> {
        let begin = Instant::now();
        for statement in statements {
            self.page.statement(statement);
            run(&mut self.client, statement)?;
            self.statements += 1;
        }
        self.page.remark(&format!("done in {}", duration(begin.elapsed())));
        Ok(Instant::now())
    }

    /// Shows what comes until all messages of the step are there, or it is too late.
    fn receive(&mut self, step: &Step, committed: Instant) {
        self.page.line("");
        if step.messages.is_empty() {
            self.page.remark("no message: if there were one, the next step would begin with it");
            return;
        }
        let end = Instant::now() + PATIENCE;
        let mut received = Vec::new();
        while !tally::missing(step.messages, &received).is_empty() {
            let Some(message) = self.next_new(end) else {
                break;
            };
            self.show(&message);
            received.push(message.routing_key);
        }
        let after = duration(committed.elapsed());
        match tally::complaint(step.messages, &received) {
            None => self.page.remark(&format!("{} {after} after the commit", count(&received))),
            Some(complaint) => self.complain(step, &complaint),
        }
        self.messages += received.len();
    }

    /// Shows what comes after all messages have come: nothing, if all is well.
    fn receive_aftermath(&mut self, step: &Step) {
        let mut surplus = Vec::new();
        while let Some(message) = self.next_new(Instant::now() + AFTERMATH) {
            self.show(&message);
            surplus.push(message.routing_key);
        }
        if let Some(complaint) = tally::complaint(&[], &surplus) {
            self.complain(step, &complaint);
        }
        self.messages += surplus.len();
    }

    /// The next message that did not come before.
    fn next_new(&mut self, end: Instant) -> Option<Message> {
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            let message = self.consumer.next_within(rest)?;
            let id = message.message_id.clone();
            if id.is_none_or(|id| self.seen.insert(id)) {
                return Some(message);
            }
            self.page.remark(&format!("{} came again (same message_id)", message.routing_key));
        }
    }

    fn show(&self, message: &Message) {
        for line in message_view::lines(self.page, message) {
            self.page.line(&line);
        }
    }

    fn complain(&mut self, step: &Step, complaint: &str) {
        self.page.line(&self.page.paint(Pen::Red, &format!("  ✗ {complaint}")));
        self.complaints.push(format!("{complaint} (\"{}\")", step.title));
    }

    /// Shows the status as soon as it tells of the outage.
    fn show_standstill(&mut self) -> Result<(), Failure> {
        self.page.statement(STATUS);
        self.statements += 1;
        let client = &mut self.client;
        let ask = || match client.query_one(STATUS, &[]) {
            Ok(row) if row.get::<_, &str>("state") != "standing still" => None,
            answer => Some(answer.map_err(|error| refused(STATUS, &error))),
        };
        let status = wait_until("amqp.status says that the stream stands still", DEADLINE, ask)?;
        let reason: Option<&str> = status.get("reason");
        let lag: i64 = status.get("lag_bytes");
        self.page.line(&format!("    state      {}", status.get::<_, &str>("state")));
        self.page.line(&format!("    reason     {}", reason.unwrap_or("(null)")));
        self.page.line(&format!("    lag_bytes  {lag}"));
        Ok(())
    }
}

/// PostgreSQL's name and version, if the extension is installed in it.
fn find_postgres_with_extension() -> Result<String, Failure> {
    const SETUP: &str = "`make setup` installs PostgreSQL; PG_CONFIG names another pg_config.";
    let pg_config = env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".to_owned());
    let output = Command::new(&pg_config)
        .args(["--version", "--sharedir"])
        .output()
        .map_err(|error| Failure::new(format!("{pg_config} does not run: {error}"), SETUP))?;
    let output = String::from_utf8_lossy(&output.stdout);
    let mut lines = output.lines();
    let (Some(version), Some(sharedir)) = (lines.next(), lines.next()) else {
        return Err(Failure::new(format!("{pg_config} does not tell its version"), SETUP));
    };
    let control = Path::new(sharedir).join("extension/amqp_cdc.control");
    if !control.exists() {
        return Err(Failure::new(
            format!("the extension is not installed: there is no {}", control.display()),
            "`make install` installs it; `make demo` does that first.",
        ));
    }
    // Without what the distribution adds in brackets.
    Ok(version.split(" (").next().unwrap_or(version).to_owned())
}

/// RabbitMQ's name and version, from the line of its log that begins with them.
fn broker_version(log: &str) -> String {
    let told = log.lines().find_map(|line| line.split_once("Starting RabbitMQ "));
    let version = told.and_then(|(_, rest)| rest.split(' ').next());
    version.map_or("RabbitMQ".to_owned(), |version| format!("RabbitMQ {version}"))
}

fn consume(bed: &Testbed) -> Consumer {
    bed.rabbitmq.broker().consume(&Queue::durable("blog-queue").bound_to(EXCHANGE, "#"))
}

fn run(client: &mut Client, statement: &str) -> Result<(), Failure> {
    client.batch_execute(statement).map_err(|error| refused(statement, &error))
}

fn refused(statement: &str, error: &postgres::Error) -> Failure {
    let told = match error.as_db_error() {
        Some(error) => {
            let lines = [Some(error.message()), error.detail(), error.hint()];
            lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
        }
        None => error.to_string(),
    };
    Failure::new(
        format!("PostgreSQL refused {statement}\n{told}"),
        "If the installed extension is not of this source tree: `make install`.",
    )
}

fn count(messages: &[String]) -> String {
    match messages.len() {
        1 => "1 message,".to_owned(),
        count => format!("{count} messages, the last"),
    }
}
