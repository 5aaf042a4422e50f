//! Who may send what where.

use pg_test::Fixture;
use postgres::Client;
use postgres::error::SqlState;

use super::bodies;
use crate::helpers::{ask, blog, published_so_far, refusal, run};

/// A fixture, and a role that is named after it.
fn with_role(name: &str) -> (Fixture<'static>, Client, String) {
    let (fixture, mut client) = blog(name);
    let role = format!("{}_role", fixture.database);
    run(&mut client, &format!("CREATE ROLE {role}"));
    (fixture, client, role)
}

fn forget(client: &mut Client, role: &str) {
    run(client, &format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn nobody_may_send_until_it_is_granted() {
    let (fixture, mut client, role) = with_role("publish_granted");
    run(&mut client, &format!("SET ROLE {role}"));
    assert_eq!(
        refusal(&mut client, "SELECT amqp.publish('k', 'b')").code(),
        &SqlState::INSUFFICIENT_PRIVILEGE
    );
    let granted: i64 = ask(
        &mut client,
        "SELECT count(*) FROM pg_proc WHERE pronamespace = 'amqp'::regnamespace AND proname ~ 'publish'
            AND has_function_privilege(oid, 'EXECUTE')",
    );
    assert_eq!(granted, 0);
    // As docs/outbox.md has it.
    run(
        &mut client,
        &format!(
            "RESET ROLE; GRANT USAGE ON SCHEMA amqp TO {role};
             GRANT EXECUTE ON FUNCTION
               amqp.publish(text, text, text, text, jsonb, text, text, text, interval, smallint, smallint, text)
             TO {role}; SET ROLE {role}"
        ),
    );
    run(&mut client, "SELECT amqp.publish('k', 'granted')");
    for other in ["amqp.publish('k', '{}'::jsonb)", "amqp.autonomous_publish('k', 'b')"] {
        let error = refusal(&mut client, &format!("SELECT {other}"));
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    }
    forget(&mut client, &role);
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["granted"]);
}

#[test]
fn to_another_exchange_only_who_may_set_amqp_exchange() {
    let (fixture, mut client, role) = with_role("publish_exchange");
    let other = format!("{}-other", fixture.database);
    fixture.broker().declare_exchange(&other, "fanout");
    fixture.broker().declare_queue(&fixture.queue().bound_to(&other, ""));
    let own = &fixture.exchange;
    run(
        &mut client,
        &format!(
            "GRANT USAGE ON SCHEMA amqp TO {role}; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA amqp TO {role};
             CREATE FUNCTION trusted() RETURNS text SECURITY DEFINER LANGUAGE sql AS
               $$ SELECT amqp.publish('k', 'definer', exchange => '{other}') $$;
             SET ROLE {role}; SELECT amqp.publish('k', 'own', exchange => '{own}')"
        ),
    );
    for function in ["publish", "autonomous_publish"] {
        for exchange in [other.as_str(), "", "amq.topic"] {
            let send = format!("SELECT amqp.{function}('k', 'b', exchange => '{exchange}')");
            let error = refusal(&mut client, &send);
            assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
            let message =
                format!("permission denied for role \"{role}\" to send to exchange \"{exchange}\"");
            assert_eq!(error.message(), message);
            let hint = error.hint().unwrap_or_default();
            assert!(
                hint.ends_with(&format!("GRANT SET ON PARAMETER \"amqp.exchange\" TO \"{role}\".")),
                "{hint}"
            );
        }
    }
    run(&mut client, "SELECT trusted()");
    run(
        &mut client,
        &format!(
            "RESET ROLE; GRANT SET ON PARAMETER \"amqp.exchange\" TO {role}; SET ROLE {role};
             SELECT amqp.publish('k', 'granted', exchange => '{other}')"
        ),
    );
    forget(&mut client, &role);
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(bodies(&messages), ["own", "definer", "granted"]);
    let exchanges: Vec<_> = messages.iter().map(|message| &message.exchange).collect();
    assert_eq!(exchanges, [own, &other, &other]);
}

#[test]
fn a_role_has_the_exchange_that_a_superuser_gave_it() {
    let (fixture, mut client, role) = with_role("publish_role_exchange");
    let other = format!("{}-other", fixture.database);
    fixture.broker().declare_exchange(&other, "fanout");
    fixture.broker().declare_queue(&fixture.queue().bound_to(&other, ""));
    run(
        &mut client,
        &format!(
            "GRANT USAGE ON SCHEMA amqp TO {role}; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA amqp TO {role};
             ALTER ROLE {role} LOGIN; ALTER ROLE {role} SET amqp.exchange = '{other}'"
        ),
    );
    let line = fixture.testbed.postgres.connection_string(&fixture.database);
    let mut session = line.parse::<postgres::Config>().unwrap();
    let mut session = session.user(&role).connect(postgres::NoTls).unwrap();
    run(&mut session, "SELECT amqp.publish('k', 'x')");
    drop(session);
    forget(&mut client, &role);
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!((bodies(&messages), messages[0].exchange.as_str()), (vec!["x"], other.as_str()));
}
