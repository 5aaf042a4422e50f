-- The worker's state, for operators and monitoring.
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
