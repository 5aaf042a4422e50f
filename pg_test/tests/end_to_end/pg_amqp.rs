//! Who comes from the extension pg_amqp: its four functions, triggers that call them, the migration. Where pg_amqp
//! is installed, the tests hold what it does itself against what they expect of ours; elsewhere an extension of its
//! name with functions of its names stands in for it, which sends nothing.

mod calls;
mod exchanges;
mod messages;
mod migration;
mod rights;
mod trigger;

use pg_test::{Fixture, Shutdown, Testbed, installation};
use postgres::Client;

use crate::helpers::run;

/// The trigger that sends each row change, as people wrote it for pg_amqp.
const TRIGGER: &str = include_str!("pg_amqp/trigger.sql");

const STAND_IN_CONTROL: &str = "default_version = 'stand-in'\nrelocatable = false\nschema = amqp\n";
const STAND_IN: &str = include_str!("pg_amqp/stand_in.sql");

/// Whether it is pg_amqp itself that the tests install.
fn is_installed() -> bool {
    installation::has_extension("amqp")
}

/// Servers that can install pg_amqp, or what stands in for it.
fn testbed_with_pg_amqp(conf: &[&str]) -> Testbed {
    let bed = Testbed::private(conf);
    if is_installed() {
        return bed;
    }
    println!("pg_amqp is not installed: something else stands in for it, and sends nothing");
    bed.postgres.stop(Shutdown::Fast);
    let folder = bed.postgres.folder().join("installation");
    let files = [("amqp.control", STAND_IN_CONTROL), ("amqp--stand-in.sql", STAND_IN)];
    bed.postgres.start_from(&installation::with_extension_files(&folder, &files));
    bed
}

/// Puts pg_amqp into the place of our extension.
#[track_caller]
fn use_pg_amqp(client: &mut Client, fixture: &Fixture<'_>) {
    let port = fixture.testbed.rabbitmq.port();
    run(
        client,
        &format!(
            "DROP EXTENSION amqp_cdc; CREATE EXTENSION amqp;
             INSERT INTO amqp.broker (host, port) VALUES ('127.0.0.1', {port})"
        ),
    );
}
