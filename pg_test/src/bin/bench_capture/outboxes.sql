-- Triggers as people write them in PL/pgSQL: each row change becomes a row of an outbox table.

CREATE TABLE outbox (
    id bigserial PRIMARY KEY,
    changed timestamptz NOT NULL,
    tablename text NOT NULL,
    operation text NOT NULL,
    previous jsonb,
    current jsonb
);

CREATE FUNCTION write_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outbox (changed, tablename, operation, previous, current)
    VALUES (
        now(), TG_TABLE_NAME, TG_OP,
        CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END,
        CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END
    );
    RETURN NULL;
END
$$;

-- The eight members of our message.
CREATE EXTENSION hstore;

CREATE TABLE message_outbox (
    id bigserial PRIMARY KEY,
    routing_key text NOT NULL,
    body json NOT NULL
);

CREATE FUNCTION write_message() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    operation text := lower(TG_OP);
    routing_key text := 'cdc.' || TG_ARGV[0] || '.' || operation;
    previous json;
    current json;
    targets text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        current := row_to_json(NEW);
        targets := akeys(hstore(NEW));
    ELSIF TG_OP = 'UPDATE' THEN
        previous := row_to_json(OLD);
        current := row_to_json(NEW);
        targets := akeys(hstore(NEW) - hstore(OLD));
    ELSE
        previous := row_to_json(OLD);
        targets := akeys(hstore(OLD));
    END IF;
    INSERT INTO message_outbox (routing_key, body)
    VALUES (
        routing_key,
        json_build_object(
            'previous', previous,
            'current', current,
            'targets', targets,
            'timestamp', now(),
            'operation', operation,
            'resource', TG_ARGV[0],
            'tablename', TG_TABLE_NAME,
            'routing_key', routing_key
        )
    );
    RETURN NULL;
END
$$;
