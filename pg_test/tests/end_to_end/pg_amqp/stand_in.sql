-- An extension with the names and types of pg_amqp's, where that is not installed. It sends nothing.
CREATE TABLE broker (
    broker_id serial,
    host text NOT NULL,
    port integer NOT NULL DEFAULT 5672,
    vhost text,
    username text,
    password text,
    PRIMARY KEY (broker_id, host, port)
);
SELECT pg_catalog.pg_extension_config_dump('broker', '');

CREATE FUNCTION publish(
    broker_id integer, exchange varchar, routing_key varchar, message varchar, delivery_mode integer DEFAULT NULL,
    content_type varchar DEFAULT NULL, reply_to varchar DEFAULT NULL, correlation_id varchar DEFAULT NULL
) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT broker_id IS NOT NULL';

CREATE FUNCTION autonomous_publish(
    broker_id integer, exchange varchar, routing_key varchar, message varchar, delivery_mode integer DEFAULT NULL,
    content_type varchar DEFAULT NULL, reply_to varchar DEFAULT NULL, correlation_id varchar DEFAULT NULL
) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT broker_id IS NOT NULL';

CREATE FUNCTION exchange_declare(
    broker_id integer, exchange varchar, exchange_type varchar, passive boolean, durable boolean,
    auto_delete boolean DEFAULT false
) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT broker_id IS NOT NULL';

CREATE FUNCTION disconnect(broker_id integer) RETURNS void IMMUTABLE STRICT LANGUAGE sql AS '';
