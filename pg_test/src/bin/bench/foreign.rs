//! WAL that is not ours: tables without a trigger, with two indexes each, on which small
//! transactions update, insert and delete rows.

use std::thread;
use std::time::{Duration, Instant};

use pg_test::insert_lsn;
use postgres::Client;

use crate::server::run;

/// As applications write: transactions of few small rows. Some hundred kilobytes.
const APPLICATIONS: &str = "CALL write_foreign(100, 3, 30)";

/// As imports write: more WAL for the CPU of the writer, and no two in each other's way.
const IMPORT: &str = "INSERT INTO entry (account, amount, note) \
     SELECT n, n, repeat('x', 300) FROM generate_series(1, 300) n";

/// Makes the tables, and `write_foreign(transactions, rows, bytes)`, a procedure.
const SETUP: &str = "
    CREATE TABLE account (id bigint PRIMARY KEY, owner text, balance bigint, note text);
    CREATE INDEX ON account (owner);
    CREATE TABLE entry (id bigserial PRIMARY KEY, account bigint, amount bigint, note text);
    CREATE INDEX ON entry (account);
    CREATE PROCEDURE write_foreign(transactions int, rows int, bytes int) LANGUAGE plpgsql AS $$
    DECLARE
        accounts bigint := (SELECT max(id) FROM account);
        first bigint;
        value text := repeat('x', bytes);
    BEGIN
        FOR n IN 1..transactions LOOP
            first := 1 + floor(random() * (accounts - rows));
            UPDATE account SET balance = balance + n, owner = md5(owner)
                WHERE id BETWEEN first AND first + rows - 1;
            INSERT INTO entry (account, amount, note)
                SELECT a, n, value FROM generate_series(first, first + rows - 1) a;
            DELETE FROM entry WHERE account BETWEEN first AND first + rows / 2;
            COMMIT;
        END LOOP;
    END $$";

/// Makes the tables, one of them with so many rows.
pub fn make(client: &mut Client, rows: u64) {
    run(client, SETUP);
    let fill = format!(
        "INSERT INTO account SELECT n, md5(n::text), 0, repeat('x', 80) FROM generate_series(1, {rows}) n"
    );
    run(client, &fill);
}

/// Makes the tables as small again as they were, and has the first change of each page write it
/// whole.
pub fn tidy(client: &mut Client) {
    for statement in ["TRUNCATE entry", "VACUUM FULL account", "CHECKPOINT"] {
        run(client, statement);
    }
}

/// Writes about this many bytes of WAL.
pub fn write(client: &mut Client, bytes: u64) {
    let began = insert_lsn(client);
    while insert_lsn(client) - began < bytes {
        run(client, APPLICATIONS);
    }
}

/// Writes WAL until so many bytes a second are written to the server, by whomever, and that for some
/// time; calls `between` after each step. Returns the bytes written and the time it took.
pub fn write_paced(
    client: &mut Client,
    rate: f64,
    time: Duration,
    mut between: impl FnMut(),
) -> (u64, Duration) {
    let (start, began) = (insert_lsn(client), Instant::now());
    loop {
        run(client, IMPORT);
        between();
        let written = insert_lsn(client) - start;
        if began.elapsed() >= time {
            return (written, began.elapsed());
        }
        let due = Duration::from_secs_f64(written as f64 / rate);
        thread::sleep(due.saturating_sub(began.elapsed()));
    }
}
