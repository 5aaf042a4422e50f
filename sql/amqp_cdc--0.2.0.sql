-- What CREATE EXTENSION amqp_cdc makes. A change here goes into the upgrade from the version before, too; a test
-- compares the two. Another test holds the functions against the library's. ASCII only: a script is read in the
-- encoding of the database.
\echo Use "CREATE EXTENSION amqp_cdc" to load this file. \quit

-- First: names that somebody else has taken, with what to do about them.
CREATE FUNCTION amqp_cdc_check_names() RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_check_names';
SELECT amqp_cdc_check_names();
DROP FUNCTION amqp_cdc_check_names();

-- The trigger function, in the schema the extension is created in, so that CREATE TRIGGER needs no qualified name.
-- Whoever may attach it decides what consumers are told: nobody may by default.
CREATE FUNCTION amqp_change_data_capture() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_change_data_capture';

COMMENT ON FUNCTION amqp_change_data_capture() IS
    'publishes row changes to RabbitMQ; use: CREATE TRIGGER ... AFTER INSERT OR UPDATE OR DELETE ... FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture([resource [, prefix [, option=value ...]]])';

REVOKE ALL ON FUNCTION amqp_change_data_capture() FROM PUBLIC;

-- An empty one may be left over from the extension pg_amqp.
DROP SCHEMA IF EXISTS amqp;
CREATE SCHEMA amqp;

-- The worker's state, for operators and monitoring. Columns are only ever added, at the end: views that users have
-- built on this one stay as they are.
CREATE FUNCTION amqp.worker_status() RETURNS TABLE (
    worker_pid INT,
    state TEXT,
    reason TEXT,
    broker TEXT,
    held_message TEXT,
    last_error TEXT,
    last_error_at timestamp with time zone,
    events_published bigint,
    events_confirmed bigint,
    events_returned bigint,
    events_resent bigint,
    events_skipped bigint,
    current_lsn TEXT,
    read_lsn TEXT,
    confirmed_lsn TEXT,
    restart_lsn TEXT,
    lag_bytes bigint,
    lag_seconds double precision,
    catch_up_seconds double precision,
    gap_from TEXT,
    gap_to TEXT,
    gap_at timestamp with time zone,
    password_source TEXT,
    events_passed_over bigint,
    events_dead_lettered bigint,
    refusing_exchanges TEXT,
    gaps_owed bigint
)
    STRICT VOLATILE PARALLEL RESTRICTED
    LANGUAGE c AS 'MODULE_PATHNAME', 'worker_status_0_2_wrapper';

CREATE VIEW amqp.status AS
SELECT
    worker_pid,
    state,
    reason,
    held_message,
    broker,
    last_error,
    last_error_at,
    events_published,
    events_confirmed,
    events_returned,
    events_resent,
    events_skipped,
    current_lsn::pg_lsn AS current_lsn,
    read_lsn::pg_lsn AS read_lsn,
    confirmed_lsn::pg_lsn AS confirmed_lsn,
    restart_lsn::pg_lsn AS restart_lsn,
    lag_bytes,
    lag_seconds,
    catch_up_seconds,
    gap_from::pg_lsn AS gap_from,
    gap_to::pg_lsn AS gap_to,
    gap_at,
    password_source,
    events_passed_over,
    events_dead_lettered,
    refusing_exchanges,
    gaps_owed
FROM amqp.worker_status();

COMMENT ON VIEW amqp.status IS 'state of the worker that publishes captured changes; one row';

-- What an operator may order the worker to do.
CREATE FUNCTION amqp.skip(message_id TEXT) RETURNS void
    STRICT VOLATILE PARALLEL RESTRICTED
    LANGUAGE c AS 'MODULE_PATHNAME', 'skip_wrapper';

CREATE FUNCTION amqp.give_up_backlog(current_lsn pg_lsn) RETURNS void
    STRICT VOLATILE PARALLEL RESTRICTED
    LANGUAGE c AS 'MODULE_PATHNAME', 'give_up_backlog_wrapper';

CREATE FUNCTION amqp.uninstall(discard_unconfirmed boolean DEFAULT false) RETURNS void
    STRICT VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'uninstall_wrapper';

-- Messages of a user's own, in their transaction or whatever becomes of it. Four of each, which differ in the type of
-- the body. Their order of arguments matters beside pg_amqp's functions: a call with literals finds the right one.
CREATE FUNCTION amqp.publish(
    routing_key text,
    body jsonb,
    exchange text DEFAULT NULL,
    content_type text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    reply_to text DEFAULT NULL,
    type text DEFAULT NULL,
    expiration interval DEFAULT NULL,
    priority smallint DEFAULT NULL,
    delivery_mode smallint DEFAULT 2,
    content_encoding text DEFAULT NULL
) RETURNS text
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_publish_jsonb';

CREATE FUNCTION amqp.publish(
    routing_key text,
    body json,
    exchange text DEFAULT NULL,
    content_type text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    reply_to text DEFAULT NULL,
    type text DEFAULT NULL,
    expiration interval DEFAULT NULL,
    priority smallint DEFAULT NULL,
    delivery_mode smallint DEFAULT 2,
    content_encoding text DEFAULT NULL
) RETURNS text
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_publish_json';

CREATE FUNCTION amqp.publish(
    routing_key text,
    body text,
    exchange text DEFAULT NULL,
    content_type text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    reply_to text DEFAULT NULL,
    type text DEFAULT NULL,
    expiration interval DEFAULT NULL,
    priority smallint DEFAULT NULL,
    delivery_mode smallint DEFAULT 2,
    content_encoding text DEFAULT NULL
) RETURNS text
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_publish_text';

CREATE FUNCTION amqp.publish(
    routing_key text,
    body bytea,
    exchange text DEFAULT NULL,
    content_type text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    reply_to text DEFAULT NULL,
    type text DEFAULT NULL,
    expiration interval DEFAULT NULL,
    priority smallint DEFAULT NULL,
    delivery_mode smallint DEFAULT 2,
    content_encoding text DEFAULT NULL
) RETURNS text
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_publish_bytea';

CREATE FUNCTION amqp.autonomous_publish(
    routing_key text,
    body jsonb,
    exchange text DEFAULT NULL,
    content_type text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    reply_to text DEFAULT NULL,
    type text DEFAULT NULL,
    expiration interval DEFAULT NULL,
    priority smallint DEFAULT NULL,
    delivery_mode smallint DEFAULT 2,
    content_encoding text DEFAULT NULL
) RETURNS text
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_autonomous_publish_jsonb';

CREATE FUNCTION amqp.autonomous_publish(
    routing_key text,
    body json,
    exchange text DEFAULT NULL,
    content_type text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    reply_to text DEFAULT NULL,
    type text DEFAULT NULL,
    expiration interval DEFAULT NULL,
    priority smallint DEFAULT NULL,
    delivery_mode smallint DEFAULT 2,
    content_encoding text DEFAULT NULL
) RETURNS text
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_autonomous_publish_json';

CREATE FUNCTION amqp.autonomous_publish(
    routing_key text,
    body text,
    exchange text DEFAULT NULL,
    content_type text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    reply_to text DEFAULT NULL,
    type text DEFAULT NULL,
    expiration interval DEFAULT NULL,
    priority smallint DEFAULT NULL,
    delivery_mode smallint DEFAULT 2,
    content_encoding text DEFAULT NULL
) RETURNS text
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_autonomous_publish_text';

CREATE FUNCTION amqp.autonomous_publish(
    routing_key text,
    body bytea,
    exchange text DEFAULT NULL,
    content_type text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    reply_to text DEFAULT NULL,
    type text DEFAULT NULL,
    expiration interval DEFAULT NULL,
    priority smallint DEFAULT NULL,
    delivery_mode smallint DEFAULT 2,
    content_encoding text DEFAULT NULL
) RETURNS text
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_autonomous_publish_bytea';

COMMENT ON FUNCTION amqp.publish(text, jsonb, text, text, jsonb, text, text, text, interval, smallint, smallint, text) IS
    'sends a message if the transaction commits, at its place among the row changes; returns its message_id';
COMMENT ON FUNCTION amqp.publish(text, json, text, text, jsonb, text, text, text, interval, smallint, smallint, text) IS
    'sends a message if the transaction commits, at its place among the row changes; returns its message_id';
COMMENT ON FUNCTION amqp.publish(text, text, text, text, jsonb, text, text, text, interval, smallint, smallint, text) IS
    'sends a message if the transaction commits, at its place among the row changes; returns its message_id';
COMMENT ON FUNCTION amqp.publish(text, bytea, text, text, jsonb, text, text, text, interval, smallint, smallint, text) IS
    'sends a message if the transaction commits, at its place among the row changes; returns its message_id';
COMMENT ON FUNCTION amqp.autonomous_publish(text, jsonb, text, text, jsonb, text, text, text, interval, smallint, smallint, text) IS
    'sends a message at once, whatever becomes of the transaction; returns its message_id';
COMMENT ON FUNCTION amqp.autonomous_publish(text, json, text, text, jsonb, text, text, text, interval, smallint, smallint, text) IS
    'sends a message at once, whatever becomes of the transaction; returns its message_id';
COMMENT ON FUNCTION amqp.autonomous_publish(text, text, text, text, jsonb, text, text, text, interval, smallint, smallint, text) IS
    'sends a message at once, whatever becomes of the transaction; returns its message_id';
COMMENT ON FUNCTION amqp.autonomous_publish(text, bytea, text, text, jsonb, text, text, text, interval, smallint, smallint, text) IS
    'sends a message at once, whatever becomes of the transaction; returns its message_id';

-- The four functions of the extension pg_amqp, for who comes from there. Any broker_id is the broker of postgresql.conf.
CREATE FUNCTION amqp.publish(
    broker_id integer,
    exchange varchar,
    routing_key varchar,
    message varchar,
    delivery_mode integer DEFAULT NULL,
    content_type varchar DEFAULT NULL,
    reply_to varchar DEFAULT NULL,
    correlation_id varchar DEFAULT NULL
) RETURNS boolean
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_publish_to_broker';

CREATE FUNCTION amqp.autonomous_publish(
    broker_id integer,
    exchange varchar,
    routing_key varchar,
    message varchar,
    delivery_mode integer DEFAULT NULL,
    content_type varchar DEFAULT NULL,
    reply_to varchar DEFAULT NULL,
    correlation_id varchar DEFAULT NULL
) RETURNS boolean
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_autonomous_publish_to_broker';

CREATE FUNCTION amqp.exchange_declare(
    broker_id integer,
    exchange varchar,
    exchange_type varchar,
    passive boolean,
    durable boolean,
    auto_delete boolean DEFAULT false
) RETURNS boolean
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_exchange_declare';

CREATE FUNCTION amqp.disconnect(broker_id integer) RETURNS void
    STRICT VOLATILE PARALLEL SAFE
    LANGUAGE sql AS '';

COMMENT ON FUNCTION amqp.publish(integer, varchar, varchar, varchar, integer, varchar, varchar, varchar) IS
    'as pg_amqp has it: sends a message if the transaction commits; true: it will be sent then';
COMMENT ON FUNCTION amqp.autonomous_publish(integer, varchar, varchar, varchar, integer, varchar, varchar, varchar) IS
    'as pg_amqp has it: sends a message at once, whatever becomes of the transaction; true: it will be sent';
COMMENT ON FUNCTION amqp.exchange_declare(integer, varchar, varchar, boolean, boolean, boolean) IS
    'as pg_amqp has it, but asks nobody: whether the exchange will be there when a message is sent to it';
COMMENT ON FUNCTION amqp.disconnect(integer) IS
    'as pg_amqp has it, but does nothing: no session has a connection to the broker';

-- What is refused at DDL. ALWAYS: where a replica applies DDL, tables lose their columns all the same. Who may
-- execute these functions does not matter: event triggers run for everybody.
CREATE FUNCTION amqp.on_sql_drop() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_sql_drop';
CREATE FUNCTION amqp.on_ddl_command_end() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_ddl_command_end';

CREATE EVENT TRIGGER amqp_cdc_sql_drop ON sql_drop
    EXECUTE FUNCTION amqp.on_sql_drop();
CREATE EVENT TRIGGER amqp_cdc_ddl_command_end ON ddl_command_end
    EXECUTE FUNCTION amqp.on_ddl_command_end();
ALTER EVENT TRIGGER amqp_cdc_sql_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER amqp_cdc_ddl_command_end ENABLE ALWAYS;

COMMENT ON EVENT TRIGGER amqp_cdc_sql_drop IS
    'notes which columns a command drops, for amqp_cdc_ddl_command_end';
COMMENT ON EVENT TRIGGER amqp_cdc_ddl_command_end IS
    'refuses to drop or rename a column that a capture trigger names, and capture triggers that make no sense';

-- Last: nothing is granted to PUBLIC, monitoring may look, and a server that cannot capture is told so at once.
CREATE FUNCTION amqp.check_server() RETURNS void
    STRICT VOLATILE PARALLEL RESTRICTED
    LANGUAGE c AS 'MODULE_PATHNAME', 'check_server_wrapper';

REVOKE ALL ON SCHEMA amqp FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA amqp FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA amqp FROM PUBLIC;

GRANT USAGE ON SCHEMA amqp TO pg_monitor;
GRANT SELECT ON amqp.status TO pg_monitor;
GRANT EXECUTE ON FUNCTION amqp.worker_status() TO pg_monitor;

SELECT amqp.check_server();
