//! What tests run on: one PostgreSQL that knows the way to one RabbitMQ. The tests of a binary
//! share one testbed and get a [`Fixture`](crate::Fixture) each; a test that breaks servers starts a private one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;

use ::postgres::Client;

use crate::folder::tail;
use crate::last_panic;
use crate::postgres::Postgres;
use crate::rabbitmq::RabbitMq;

/// Lines of postgresql.conf for a server that is measured: no checkpoint, no vacuum and no compilation
/// that nobody asked for.
pub const QUIET: &[&str] = &[
    "min_wal_size = '2GB'",
    "max_wal_size = '64GB'",
    "checkpoint_timeout = '1d'",
    "autovacuum = off",
    "jit = off",
];

/// What a server with the extension has in its postgresql.conf.
const PRELOAD: &[&str] = &["shared_preload_libraries = 'amqp_cdc'"];

/// A pair of servers.
#[derive(Debug)]
pub struct Testbed {
    /// The database server, with the extension preloaded.
    pub postgres: Postgres,
    /// The broker that the extension publishes to.
    pub rabbitmq: Arc<RabbitMq>,
    has_extension: bool,
    logs_printed: AtomicBool,
}

/// The testbed that the tests of this binary share, started by the first that asks.
pub fn testbed() -> &'static Testbed {
    static SHARED: LazyLock<Testbed> = LazyLock::new(|| Testbed::private(&[]));
    &SHARED
}

impl Testbed {
    /// A testbed for one test, which may break it. Its broker may be one of which an earlier test has left nothing
    /// but the node: that starts in four seconds. `conf` holds further lines of postgresql.conf.
    #[track_caller]
    pub fn private(conf: &[&str]) -> Testbed {
        Testbed::private_with(&[], conf)
    }

    /// Like [`Testbed::private`], with further arguments to initdb, such as `--wal-segsize=1`.
    #[track_caller]
    pub fn private_with(initdb: &[&str], conf: &[&str]) -> Testbed {
        Testbed::start(spare_broker(), initdb, PRELOAD, conf, true)
    }

    /// A testbed with the broker of another one, for measurements one after the other, or for several servers at
    /// once: a broker takes seconds to start.
    #[track_caller]
    pub fn beside(rabbitmq: &Arc<RabbitMq>, conf: &[&str]) -> Testbed {
        Testbed::beside_with(rabbitmq, &[], conf)
    }

    /// Like [`Testbed::beside`], with further arguments to initdb.
    #[track_caller]
    pub fn beside_with(rabbitmq: &Arc<RabbitMq>, initdb: &[&str], conf: &[&str]) -> Testbed {
        Testbed::start(Arc::clone(rabbitmq), initdb, PRELOAD, conf, true)
    }

    /// A testbed whose PostgreSQL does not have the extension: the harness's own tests, and what
    /// measurements compare with.
    #[track_caller]
    pub fn without_extension(conf: &[&str]) -> Testbed {
        Testbed::start(Arc::new(RabbitMq::create()), &[], &[], conf, false)
    }

    /// Makes a database, with the extension if this testbed has it, and a session in it.
    #[track_caller]
    pub fn make_database(&self, name: &str) -> Client {
        let run = |client: &mut Client, statement: &str| {
            let done = client.batch_execute(statement);
            done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        };
        run(&mut self.postgres.connect("postgres"), &format!("CREATE DATABASE \"{name}\""));
        let mut client = self.postgres.connect(name);
        if self.has_extension {
            run(&mut client, "CREATE EXTENSION amqp_cdc");
        }
        client
    }

    /// Prints the ends of both servers' logs to stderr, the first time it is called.
    pub fn print_logs_once(&self) {
        if self.logs_printed.swap(true, Ordering::Relaxed) {
            return;
        }
        eprintln!("--- PostgreSQL's log ---\n{}", tail(&self.postgres.log()));
        eprintln!("--- RabbitMQ's log ---\n{}", tail(&self.rabbitmq.log()));
        eprintln!("--- end of the logs ---\n{}", last_panic::last());
    }

    #[track_caller]
    fn start(
        // It runs already: a worker that finds none waits longer from attempt to attempt.
        rabbitmq: Arc<RabbitMq>,
        initdb: &[&str],
        preload: &[&str],
        conf: &[&str],
        has_extension: bool,
    ) -> Testbed {
        last_panic::remember();
        let port = format!("amqp.port = {}", rabbitmq.port());
        let own = [
            "amqp.host = '127.0.0.1'",
            port.as_str(),
            "max_connections = 100",
            "max_prepared_transactions = 20",
            "log_min_messages = info",
            "log_line_prefix = '%m [%p] %b '",
        ];
        let postgres = Postgres::create_with(initdb, &[preload, &own, conf].concat());
        Testbed { postgres, rabbitmq, has_extension, logs_printed: AtomicBool::new(false) }
    }
}

/// Brokers of testbeds, to be used again once their testbeds are gone.
static BROKERS: Mutex<Vec<Arc<RabbitMq>>> = Mutex::new(Vec::new());

/// A broker that nobody else has.
#[track_caller]
fn spare_broker() -> Arc<RabbitMq> {
    let take = || {
        let mut brokers = BROKERS.lock().unwrap_or_else(PoisonError::into_inner);
        let is_spare = |broker: &Arc<RabbitMq>| Arc::strong_count(broker) == 1;
        let at = brokers.iter().position(is_spare)?;
        Some(brokers.swap_remove(at))
    };
    while let Some(broker) = take() {
        if broker.begin_anew() {
            return broker;
        }
    }
    Arc::new(RabbitMq::create())
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if !thread::panicking() {
            let mut brokers = BROKERS.lock().unwrap_or_else(PoisonError::into_inner);
            if !brokers.iter().any(|broker| Arc::ptr_eq(broker, &self.rabbitmq)) {
                brokers.push(Arc::clone(&self.rabbitmq));
            }
        }
    }
}
