//! The consumers of docs/messages.md: what is delivered again, each applies once, in whatever language it is written.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::{env, fs};

use pg_test::{
    DEADLINE, Direction, Fixture, Postgres, Proxy, Queue, Testbed, wait_until, wait_until_confirmed,
};
use postgres::Client;

use crate::helpers::{ask, make_blog, run};

/// Its changes are the last ones, so that who has them has handled all others.
const LAST: i64 = 1_000_000;

/// Where Debian's packages put what the Java consumer needs.
const JARS: &str =
    "/usr/share/java/amqp-client.jar:/usr/share/java/slf4j-api.jar:/usr/share/java/postgresql.jar";

/// The folder with the consumers.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/consumers")
}

/// The programs by the language they are written in, but for their three arguments.
fn consumers() -> [(&'static str, Command); 3] {
    let program = |name: &str, arguments: &[&str], file: &str| {
        let mut command = Command::new(name);
        command.args(arguments).arg(folder().join(file));
        command
    };
    let python = env::var("PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
    [
        ("python", program(&python, &[], "python/consumer.py")),
        ("javascript", program("node", &[], "javascript/consumer.js")),
        ("java", program("java", &["-cp", JARS], "java/Consumer.java")),
    ]
}

/// A consumer, its queue, and the database that it keeps its tables in.
struct Running {
    name: &'static str,
    command: Command,
    log: PathBuf,
    child: Child,
    database: Client,
}

impl Running {
    fn start(fixture: &Fixture<'_>, name: &'static str, mut command: Command) -> Running {
        let postgres: &Postgres = &fixture.testbed.postgres;
        let queue = Queue::durable(&format!("{}-{name}", fixture.database));
        fixture.broker().declare_queue(&queue.clone().bound_to(&fixture.exchange, "#"));
        run(&mut postgres.connect("postgres"), &format!("CREATE DATABASE {name}"));
        let url = format!("postgresql://127.0.0.1:{}/{name}?user=postgres", postgres.port());
        command.args([&fixture.testbed.rabbitmq.url("/"), queue.name(), &url]);
        let log = postgres.folder().join(format!("{name}.log"));
        let child = spawn(&mut command, &log);
        Running { name, command, log, child, database: postgres.connect(name) }
    }

    /// Ends it without a chance to finish anything, and starts it again.
    fn replace(&mut self) {
        self.end();
        self.child = spawn(&mut self.command, &self.log);
    }

    fn end(&mut self) {
        // Fails only if it has ended, of which its log tells.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How often this row was changed, as far as the consumer knows.
    fn count(&mut self, id: i64) -> i64 {
        let has_table =
            ask::<bool>(&mut self.database, "SELECT to_regclass('changes') IS NOT NULL");
        if !has_table {
            return 0;
        }
        let query = format!("SELECT coalesce((SELECT count FROM changes WHERE id = {id}), 0)");
        ask(&mut self.database, &query)
    }

    #[track_caller]
    fn wait_for(&mut self, id: i64) {
        let log = self.log.clone();
        wait_until(&format!("{} has row {id}", self.name), 2 * DEADLINE, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended, {status}: {}", self.name, fs::read_to_string(&log).unwrap());
            }
            (self.count(id) > 0).then_some(())
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

#[track_caller]
fn spawn(command: &mut Command, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).expect("the log can be made");
    let both = log.try_clone().expect("a descriptor can be duplicated");
    let child = command.stdout(both).stderr(log).spawn();
    child.unwrap_or_else(|error| panic!("{command:?}: {error}; run `make setup`"))
}

#[test]
fn the_consumers_of_the_documentation_apply_each_event_once() {
    const ROWS: i64 = 200;
    let bed = Testbed::private(&[]);
    let proxy = Proxy::start(bed.rabbitmq.port());
    let fixture = bed.scene("consumers");
    let mut client = fixture.client();
    make_blog(&mut client);
    let mut consumers = consumers().map(|(name, command)| Running::start(&fixture, name, command));

    bed.postgres.set("amqp.port", &proxy.port().to_string());
    let connected = format!("connected to broker 127.0.0.1:{}", proxy.port());
    wait_until("the stream goes through the proxy", DEADLINE, || {
        bed.postgres.log().contains(&connected).then_some(())
    });
    run(&mut client, "INSERT INTO blog_articles VALUES (0)");
    wait_until_confirmed(&mut client);
    fixture.consumer.wait_for_events(1);
    consumers.iter_mut().for_each(|consumer| consumer.wait_for(0));

    // The broker gets all of these, and the worker hears of none of its confirms.
    proxy.half_open(Direction::ToClient);
    run(
        &mut client,
        &format!("INSERT INTO blog_articles SELECT g FROM generate_series(1, {ROWS}) g"),
    );
    for id in 1..=ROWS {
        run(&mut client, &format!("UPDATE blog_articles SET title = 'second' WHERE id = {id}"));
    }
    run(&mut client, "DELETE FROM blog_articles WHERE id > 0");
    let count = 3 * ROWS as usize;
    let first: BTreeSet<_> =
        fixture.consumer.wait_for_events(count).into_iter().map(|event| event.message_id).collect();
    assert_eq!(first.len(), count);
    // Whatever each was doing.
    consumers.iter_mut().for_each(Running::replace);
    proxy.cut();
    for event in fixture.consumer.wait_for_events(count) {
        assert!(first.contains(&event.message_id), "{event:?}");
        assert_eq!(event.headers["resent"], "reconnect");
    }
    run(&mut client, &format!("INSERT INTO blog_articles VALUES ({LAST})"));

    for consumer in &mut consumers {
        consumer.wait_for(LAST);
        let applied: i64 = ask(&mut consumer.database, "SELECT count(*) FROM applied");
        let sum: i64 = ask(&mut consumer.database, "SELECT sum(count)::bigint FROM changes");
        assert_eq!((applied, sum), (count as i64 + 2, count as i64 + 2), "{}", consumer.name);
        for id in 1..=ROWS {
            assert_eq!(consumer.count(id), 3, "{}: row {id}", consumer.name);
        }
    }
}
