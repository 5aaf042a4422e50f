//! What is captured: a table with a trigger, whose inserts make events with bodies of a given size.

use pg_test::DEADLINE;
use postgres::Client;

use crate::server::{Server, run};

/// Makes the table, and `write_captured(transactions, rows, bytes)`, a procedure: so many
/// transactions of so many rows each with a filler of so many bytes.
const SETUP: &str = "
    CREATE TABLE article (id bigserial, filler text);
    ALTER TABLE article ALTER COLUMN filler SET STORAGE EXTERNAL;
    -- All keys have the same number of digits, and so all bodies the same size.
    ALTER SEQUENCE article_id_seq RESTART 1000000000;
    CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON article
        FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('article');
    CREATE PROCEDURE write_captured(transactions int, rows int, bytes int) LANGUAGE plpgsql AS $$
    DECLARE
        value text := repeat('x', bytes);
    BEGIN
        FOR n IN 1..transactions LOOP
            INSERT INTO article (filler) SELECT value FROM generate_series(1, rows);
            COMMIT;
        END LOOP;
    END $$";

/// Makes the table in the database of this session.
pub fn make(client: &mut Client) {
    run(client, SETUP);
}

/// Commits `transactions` times `rows` events.
pub fn write(client: &mut Client, transactions: u64, rows: u64, filler: usize) {
    run(client, &format!("CALL write_captured({transactions}, {rows}, {filler})"));
}

/// The size of a body whose filler is empty, as it arrives. The table must be there.
pub fn smallest_body(server: &mut Server) -> usize {
    let queue = server.bind("classic");
    let broker = server.bed.rabbitmq.broker();
    let consumer = broker.consume(&queue);
    write(&mut server.client, 1, 1, 0);
    let event = consumer.next_within(DEADLINE).expect("the first event did not come");
    drop(consumer);
    server.unbind();
    event.body.len()
}
