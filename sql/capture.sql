-- ASCII only, as in every SQL file: a script is read in the encoding of the database.

-- The trigger function, in the schema the extension is created in, so that CREATE TRIGGER needs no
-- qualified name. Whoever may attach it decides what consumers are told: nobody may by default.
CREATE FUNCTION amqp_change_data_capture() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_change_data_capture';

COMMENT ON FUNCTION amqp_change_data_capture() IS
    'publishes row changes to RabbitMQ; use: CREATE TRIGGER ... AFTER INSERT OR UPDATE OR DELETE ... FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture([resource [, prefix [, option=value ...]]])';

REVOKE ALL ON FUNCTION amqp_change_data_capture() FROM PUBLIC;
