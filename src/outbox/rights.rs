//! Who may send messages of their own where: with EXECUTE on the function to the exchange of the session; to any
//! other only who may set `amqp.exchange`.

use pgrx::PgSqlErrorCode;

use crate::pg::report::Report;
use crate::pg::rights::Role;
use crate::settings;

/// Raises an error if the current role may not send to this exchange. `own` is the session's.
pub fn require_right_to(exchange: &str, own: &str) {
    let role = Role::current();
    if exchange == own || role.may_set(settings::EXCHANGE_NAME) {
        return;
    }
    let name = role.name();
    let quoted = name.replace('"', "\"\"");
    Report::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("permission denied for role \"{name}\" to send to exchange \"{exchange}\""),
    )
    .detail(format!("Messages go to amqp.exchange, which is \"{own}\" in this session."))
    .hint(format!(
        "Leave the exchange out, or, as a superuser: GRANT SET ON PARAMETER \"amqp.exchange\" TO \"{quoted}\"."
    ))
    .raise();
}
