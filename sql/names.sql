-- First: names that somebody else has taken, with what to do about them.
CREATE FUNCTION amqp_cdc_check_names() RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'amqp_cdc_check_names';
SELECT amqp_cdc_check_names();
DROP FUNCTION amqp_cdc_check_names();
