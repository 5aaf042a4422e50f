-- Last: nothing is granted to PUBLIC, monitoring may look, and a server that cannot capture is told
-- so at once.
REVOKE ALL ON SCHEMA amqp FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA amqp FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA amqp FROM PUBLIC;

GRANT USAGE ON SCHEMA amqp TO pg_monitor;
GRANT SELECT ON amqp.status TO pg_monitor;
GRANT EXECUTE ON FUNCTION amqp.worker_status() TO pg_monitor;

SELECT amqp.check_server();
