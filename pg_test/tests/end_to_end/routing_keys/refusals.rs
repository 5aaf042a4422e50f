//! What is no template is refused by CREATE TRIGGER; what would break one, by the command that would.

use super::{captured, keys};
use crate::helpers::{blog, get_past_ddl, published_so_far, refusal, run};

fn create(template: &str, further: &str) -> String {
    let template = template.replace('\'', "''");
    format!(
        "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON things FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('thing', 'cdc', 'routing_key={template}'{further})"
    )
}

#[test]
fn what_makes_no_sense_is_refused_by_create_trigger() {
    let (fixture, mut client) = blog("template_refusals");
    run(&mut client, "CREATE TABLE things (id int PRIMARY KEY, tenant text, secret text)");
    for (template, message) in [
        ("", "a routing key cannot be made of nothing"),
        ("{tenant}", "unknown placeholder \"{tenant}\""),
        ("x.{new.tenant", "a placeholder is not closed: \"{new.tenant\""),
        ("x}", "a brace closes nothing in \"x}\""),
        ("{new.}", "a placeholder names no column"),
        (&"{table}".repeat(17), "the template of a routing key has more than 16 placeholders"),
        (&"x".repeat(2049), "the template of a routing key is longer than 2048 bytes"),
    ] {
        let error = refusal(&mut client, &create(template, ""));
        let expected = format!("capture option \"routing_key\": {message}");
        assert_eq!(error.message(), expected);
        assert_eq!(error.code().code(), "22023");
        assert!(error.hint().is_some());
    }
    let error = refusal(&mut client, &create("{new.Tenant}", ""));
    let unknown = "column \"Tenant\" of capture option \"routing_key\" does not exist";
    assert_eq!(error.message(), unknown);
    assert_eq!(error.hint(), Some("Columns of the table: id, tenant, secret."));
    for further in [", 'exclude=secret'", ", 'only=id,tenant'"] {
        let error = refusal(&mut client, &create("{new.tenant}.{old.secret}", further));
        let message = "column \"secret\" is in the routing key but is not published";
        assert_eq!(error.message(), message);
    }
    let error = refusal(&mut client, &create("a", ", 'routing_key=b'"));
    assert_eq!(error.message(), "capture option \"routing_key\" is given twice");
    let exchange = format!(", 'exchange={}'", "x".repeat(256));
    let error = refusal(&mut client, &create("a", &exchange));
    assert_eq!(error.message(), "exchange is longer than 255 bytes");
    // One that got past this check fails each write, and no value goes where it was not to go.
    get_past_ddl(&mut client);
    run(&mut client, &create("{old.secret}", ", 'exclude=secret'"));
    let error = refusal(&mut client, "INSERT INTO things VALUES (1)");
    assert_eq!(error.message(), "column \"secret\" is in the routing key but is not published");
    assert_eq!(published_so_far(&fixture, &mut client), []);
}

#[test]
fn any_column_can_be_named_and_any_brace_written() {
    let (fixture, mut client) = blog("template_names");
    let columns = r#""a}b" int, " c ""d"" " int, "é.x" int"#;
    let template = r#"{{{new."a}b"}}}.{new." c ""d"" "}.{new.é.x}.{ new.é.x }"#;
    let arguments = format!("'t', 'cdc', 'routing_key={template}'");
    captured(&mut client, "odd", columns, &arguments);
    run(&mut client, "INSERT INTO odd VALUES (1, 2, 3)");
    assert_eq!(keys(&published_so_far(&fixture, &mut client)), ["{1}.2.3.3"]);
}

#[test]
fn a_column_of_a_template_is_neither_dropped_nor_renamed_without_it() {
    let (fixture, mut client) = blog("template_columns");
    run(&mut client, "CREATE TABLE things (id int PRIMARY KEY, tenant text, secret text)");
    run(&mut client, &create("{new.tenant}.{{x}}.{operation}", ""));
    let error = refusal(&mut client, "ALTER TABLE things DROP COLUMN tenant");
    assert!(error.message().starts_with("cannot drop column \"tenant\""), "{error:?}");
    assert!(error.detail().unwrap().contains("Option \"routing_key\""), "{error:?}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("replace the trigger by one whose option \"routing_key\""), "{hint}");
    let error = refusal(&mut client, "ALTER TABLE things RENAME COLUMN tenant TO \"te}nant\"");
    let hint = error.hint().unwrap_or_default().to_owned();
    assert!(hint.contains(r#"'routing_key={new."te}nant"}.{{x}}.{operation}'"#), "{hint}");
    let statements = hint.split_once(": BEGIN").map(|(_, rest)| format!("BEGIN{rest}")).unwrap();
    run(&mut client, &statements);
    run(
        &mut client,
        "INSERT INTO things VALUES (1, 'acme'); ALTER TABLE things DROP COLUMN secret",
    );
    assert_eq!(keys(&published_so_far(&fixture, &mut client)), ["acme.{x}.insert"]);
}
