-- Sends each row change as a message, by pg_amqp. Arguments: the resource, and the exchange.
CREATE FUNCTION send_row_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    resource text := TG_ARGV[0];
    operation text := lower(TG_OP);
    key text := 'cdc.' || resource || '.' || operation;
    before hstore;
    after hstore;
    previous json;
    current json;
    is_sent boolean;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        before := hstore(OLD);
        previous := row_to_json(OLD);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        after := hstore(NEW);
        current := row_to_json(NEW);
    END IF;
    is_sent := amqp.publish(
        1, TG_ARGV[1], key,
        json_build_object(
            'previous', previous,
            'current', current,
            'targets', CASE TG_OP
                WHEN 'INSERT' THEN akeys(after)
                WHEN 'DELETE' THEN akeys(before)
                ELSE akeys(after - before)
            END,
            'timestamp', CURRENT_TIMESTAMP,
            'operation', operation,
            'resource', resource,
            'tablename', TG_TABLE_NAME,
            'routing_key', key
        )::text,
        2, 'application/json'
    );
    IF NOT is_sent THEN
        RAISE WARNING 'change of % was not sent', TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;
