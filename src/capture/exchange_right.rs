//! Checks who may send a table's events to an exchange of their own choice. Option `exchange=` needs the right to
//! set `amqp.exchange`; it is no way round that right.

use pgrx::PgSqlErrorCode;

use crate::pg::report::Report;
use crate::pg::rights::Role;
use crate::settings;

/// Returns the error if this role, which owns the table or makes the trigger, may not have events sent to this exchange.
pub fn refusal(exchange: &str, role: Role) -> Option<Report> {
    let own = settings::exchange();
    if exchange == own || role.may_set(settings::EXCHANGE_NAME) {
        return None;
    }
    let role = role.name();
    let quoted = role.replace('"', "\"\"");
    Some(
        Report::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("role \"{role}\" may not have events sent to exchange \"{exchange}\""),
        )
        .detail(format!(
            "Capture option exchange= names another exchange than amqp.exchange, which is \"{own}\" here."
        ))
        .hint(format!(
            "Leave the option out, or, as a superuser: GRANT SET ON PARAMETER \"amqp.exchange\" TO \"{quoted}\"."
        )),
    )
}
