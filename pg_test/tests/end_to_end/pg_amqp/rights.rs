//! pg_amqp's functions are granted to nobody, and go where publish goes.

use postgres::error::SqlState;

use crate::helpers::{ask, blog, refusal, run};

#[test]
fn nobody_may_call_them_until_it_is_granted_and_only_the_sessions_exchange_is_free() {
    let (fixture, mut client) = blog("rights_of_pg_amqp");
    let role = format!("{}_role", fixture.database);
    let own = &fixture.exchange;
    run(
        &mut client,
        &format!("CREATE ROLE {role}; GRANT USAGE ON SCHEMA amqp TO {role}; SET ROLE {role}"),
    );
    let send = format!("amqp.publish(1, '{own}', 'rk', 'm')");
    for call in [
        send.as_str(),
        &send.replace("publish", "autonomous_publish"),
        "amqp.exchange_declare(1, 'ex', 'topic', false, true)",
        "amqp.disconnect(1)",
    ] {
        let error = refusal(&mut client, &format!("SELECT {call}"));
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{call}");
    }
    // As docs/coming-from-pg_amqp.md has it.
    run(
        &mut client,
        &format!(
            "RESET ROLE; GRANT EXECUTE ON FUNCTION
               amqp.publish(integer, varchar, varchar, varchar, integer, varchar, varchar, varchar) TO {role};
             SET ROLE {role}"
        ),
    );
    assert!(ask::<bool>(&mut client, &format!("SELECT {send}")));
    for exchange in ["NULL", "''", "'amq.direct'", "'other'"] {
        let error = refusal(&mut client, &format!("SELECT amqp.publish(1, {exchange}, 'rk', 'm')"));
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{exchange}");
        assert!(error.message().contains("to send to exchange"), "{error:?}");
    }
    run(
        &mut client,
        &format!("RESET ROLE; GRANT SET ON PARAMETER \"amqp.exchange\" TO {role}; SET ROLE {role}"),
    );
    assert!(ask::<bool>(&mut client, "SELECT amqp.publish(1, NULL, 'rk', 'm')"));
    run(&mut client, &format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"));
}
