//! The test harness of `amqp_cdc`: real servers, thrown away afterwards.
//!
//! A test asks for a [`Fixture`]: a database of its own with the extension in it, an exchange of its
//! own, and a consumer that already listens. Behind it stand one PostgreSQL and one RabbitMQ per
//! test binary, started on free ports and stopped whatever happens to the test process. Fault
//! tests start a private [`Testbed`], whose servers they may kill.
//!
//! ```no_run
//! let fixture = pg_test::testbed().scene("insert_is_published");
//! fixture.client().batch_execute("INSERT INTO …").unwrap();
//! let events = fixture.consumer.wait_for_events(1);
//! assert_eq!(events[0].json()["operation"], "insert");
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `testbed`, `fixture` | what tests share: both servers, and one test's database, exchange and consumer |
//! | `postgres`, `rabbitmq` | one throwaway server each; backups and standbys of the first |
//! | `network`, `rabbitmq_cluster`, `haproxy` | machines in network namespaces, a RabbitMQ cluster on them, and a load balancer before it |
//! | `certificates`, `tls_listener` | authorities and what they sign; how a RabbitMQ is to show it |
//! | `broker` | what a test asks of a broker over AMQP: declare, publish, count |
//! | `consumer`, `message` | a consumer on its own thread, and what it received |
//! | `proxy` | a bad network between two of them |
//! | `chaos` | the chaos test: random changes, random faults, and what must be true in the end |
//! | `order` | the order of changes inside a transaction, held against `test_decoding` |
//! | `dice`, `arguments`, `end_signal` | seeded randomness, what the test programs are told, the end of a run |
//! | `machine`, `installation` | what a measurement must know of the machine, and of its PostgreSQL |
//! | `c_library` | a few lines of C that a server loads |
//! | `numbers`, `record` | medians and percentiles, how figures are written, and into which document |
//! | `lsn`, `history` | places in the WAL, and what of an old timeline is no more |
//! | `wait` | waiting for something with a deadline |
//! | `janitor` | stops the servers of a test process that died |
//! | `last_panic` | what a test failed with, said once more after the logs |
//! | `process`, `folder`, `ports`, `ordinary_user` | what a server needs: a child, a place, ports, a user |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod arguments;
mod broker;
pub mod c_library;
mod certificates;
pub mod chaos;
mod consumer;
pub mod dice;
pub mod end_signal;
mod fixture;
mod folder;
mod haproxy;
pub mod history;
pub mod installation;
mod janitor;
mod last_panic;
pub mod lsn;
pub mod machine;
mod message;
pub mod network;
pub mod numbers;
pub mod order;
pub mod ordinary_user;
pub mod ports;
mod postgres;
mod process;
mod proxy;
mod rabbitmq;
pub mod rabbitmq_cluster;
pub mod record;
mod testbed;
mod tls_listener;
mod wait;

pub use broker::{Broker, Queue};
pub use certificates::{Authority, CertificateFiles, Identity, Subject};
pub use consumer::Consumer;
pub use fixture::{Fixture, wait_until_confirmed, wait_until_confirmed_within};
pub use folder::{Folder, Place};
pub use haproxy::HaProxy;
pub use janitor::StopSignal;
pub use message::Message;
pub use postgres::{Postgres, Shutdown, insert_lsn};
pub use process::{Process, send_signal, try_to_signal};
pub use proxy::{Direction, Proxy};
pub use rabbitmq::RabbitMq;
pub use testbed::{QUIET, Testbed, testbed};
pub use tls_listener::TlsListener;
pub use wait::{DEADLINE, poll, wait_until};
