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
