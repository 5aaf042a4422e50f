//! Checks who may send a table's events to an exchange of their own choice. Option `exchange=` needs the right to
//! set `amqp.exchange`; it is no way round that right.

use pgrx::PgSqlErrorCode;

use crate::pg::report::Report;
use crate::pg::rights::Role;
use crate::settings;

/// Returns the error if tables of this owner may not send events to this exchange.
pub fn refusal(exchange: &str, owner: Role) -> Option<Report> {
    let own = settings::exchange();
    if exchange == own || owner.may_set(settings::EXCHANGE_NAME) {
        return None;
    }
    let owner = owner.name();
    let quoted = owner.replace('"', "\"\"");
    Some(
        Report::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("tables of role \"{owner}\" may not send events to exchange \"{exchange}\""),
        )
        .detail(format!(
            "Capture option exchange= names another exchange than amqp.exchange, which is \"{own}\" here."
        ))
        .hint(format!(
            "Leave the option out, or, as a superuser: GRANT SET ON PARAMETER \"amqp.exchange\" TO \"{quoted}\"."
        )),
    )
}
