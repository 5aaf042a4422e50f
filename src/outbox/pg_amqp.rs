//! The functions of the extension pg_amqp, by their names and with their arguments: triggers and functions that
//! were written for it go on unchanged. They send as `amqp.publish` does, to the one broker that there is.

use std::borrow::Cow;

use pgrx::PgSqlErrorCode;

use super::draft::Draft;
use super::{headers, require_a_session_that_may_send, send};
use crate::event::MAX_SHORT_STRING;
use crate::pg::entry_points::When;
use crate::pg::function_call::{Answer, FunctionCall};
use crate::pg::report::Report;
use crate::settings;

/// The first argument of each of them: which broker. Any number is the one of postgresql.conf.
const BROKER_ID: usize = 0;
/// The second argument of all but `disconnect`.
const EXCHANGE: usize = 1;

// The others of `publish` and `autonomous_publish`.
const ROUTING_KEY: usize = 2;
const MESSAGE: usize = 3;
const DELIVERY_MODE: usize = 4;
const CONTENT_TYPE: usize = 5;
const REPLY_TO: usize = 6;
const CORRELATION_ID: usize = 7;

// The others of `exchange_declare`.
const EXCHANGE_TYPE: usize = 2;
const PASSIVE: usize = 3;
const DURABLE: usize = 4;
const AUTO_DELETE: usize = 5;

/// Where a message goes that names no exchange.
const DEFAULT_EXCHANGE: &str = "amq.direct";

/// `delivery_mode` of a message that outlives a restart of the broker.
const PERSISTENT: i32 = 2;

/// How the names of exchanges begin that are the broker's own, and those that every broker has, with their types.
const RESERVED: &str = "amq.";
const PREDECLARED: [(&str, &str); 5] = [
    ("amq.direct", "direct"),
    ("amq.fanout", "fanout"),
    ("amq.headers", "headers"),
    ("amq.match", "headers"),
    ("amq.topic", "topic"),
];

/// `publish` and `autonomous_publish`: sends a message. Answers whether it will be sent, which is true unless no broker
/// is named.
pub fn publish(call: FunctionCall<'_>, when: When) -> Answer {
    if call.integer(BROKER_ID).is_none() {
        return Answer::boolean(false);
    }
    require_a_session_that_may_send(when);
    send(&draft(call), when);
    Answer::boolean(true)
}

/// What the caller wants to send.
fn draft(call: FunctionCall<'_>) -> Draft<'_> {
    let mut is_lossy = false;
    let mut text = |number| call.text(number, &mut is_lossy);
    let draft = Draft {
        exchange: Some(text(EXCHANGE).unwrap_or(DEFAULT_EXCHANGE.into())),
        routing_key: text(ROUTING_KEY).unwrap_or_default(),
        body: match text(MESSAGE).unwrap_or_default() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        },
        content_type: text(CONTENT_TYPE),
        reply_to: text(REPLY_TO),
        correlation_id: text(CORRELATION_ID),
        delivery_mode: Some(delivery_mode(call.integer(DELIVERY_MODE))),
        ..Draft::default()
    };
    Draft { is_lossy, ..draft }
}

fn delivery_mode(asked: Option<i32>) -> i32 {
    match asked {
        Some(mode @ (1 | 2)) => mode,
        None => PERSISTENT,
        Some(mode) => {
            Report::new(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("delivery_mode {mode} is ignored"),
            )
            .detail("It is 1 (transient) or 2 (persistent). The message is sent as persistent.")
            .warn();
            PERSISTENT
        }
    }
}

/// `exchange_declare`: asks nobody, and so answers whether the exchange will be there when a message is sent to it:
/// because the worker declares it then, or because every broker has it.
pub fn exchange_declare(call: FunctionCall<'_>) -> Answer {
    if call.integer(BROKER_ID).is_none() {
        return Answer::boolean(false);
    }
    let text = |number| call.text(number, &mut false);
    let Some(name) = text(EXCHANGE) else {
        Report::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "exchange must not be null")
            .raise();
    };
    if name.len() > MAX_SHORT_STRING {
        headers::too_long("exchange", name.len()).raise();
    }
    let kind = text(EXCHANGE_TYPE).unwrap_or_default();
    if kind.len() > MAX_SHORT_STRING {
        headers::too_long("exchange_type", kind.len()).raise();
    }
    let is = |number| call.boolean(number).unwrap_or(false);
    let wanted = Wanted {
        name: &name,
        kind: &kind,
        is_durable: is(DURABLE),
        is_auto_delete: is(AUTO_DELETE),
    };
    if is(PASSIVE) {
        Report::new(
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("nobody was asked whether exchange \"{name}\" is there"),
        )
        .hint("If it is not there when a message is sent to it, amqp.status says so.")
        .notice();
        return Answer::boolean(true);
    }
    match wanted.problem(&settings::exchange_type(), &settings::vhost()) {
        None => Answer::boolean(true),
        Some(problem) => {
            problem.warn();
            Answer::boolean(false)
        }
    }
}

/// An exchange, as it is to be.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    name: &'a str,
    kind: &'a str,
    is_durable: bool,
    is_auto_delete: bool,
}

impl Wanted<'_> {
    /// Why it will not be there by itself, where the worker declares exchanges of this type.
    fn problem(&self, declared: &str, vhost: &str) -> Option<Report> {
        let lasts = self.is_durable && !self.is_auto_delete;
        let is_reserved = self.name.is_empty() || self.name.starts_with(RESERVED);
        let is_there = match is_reserved {
            true => PREDECLARED.contains(&(self.name, self.kind)),
            false => !declared.is_empty() && self.kind == declared,
        };
        if lasts && is_there {
            return None;
        }
        let problem = Report::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("exchange \"{}\" is not declared", self.name),
        );
        Some(match (is_reserved, declared) {
            (true, _) => problem
                .detail("The exchanges whose names begin with amq., or are empty, are the broker's own.")
                .hint("Give it another name."),
            (false, "") => problem
                .detail("amqp.exchange_type is empty: no exchange is declared from here.")
                .hint(format!("Declare it at the broker: {}", self.command(vhost))),
            (false, declared) => problem
                .detail(format!(
                    "An exchange that is missing when a message is sent to it is declared as durable, not auto-delete, \
                     and of type {declared} (amqp.exchange_type)."
                ))
                .hint(format!("Declare it at the broker: {}", self.command(vhost))),
        })
    }

    /// The command that declares it.
    fn command(&self, vhost: &str) -> String {
        let Wanted { name, kind, is_durable, is_auto_delete } = self;
        let vhost = match vhost {
            "/" => String::new(),
            vhost => format!(" --vhost={}", word(vhost)),
        };
        let (name, kind) = (word(name), word(kind));
        format!(
            "rabbitmqadmin{vhost} declare exchange name={name} type={kind} durable={is_durable} \
             auto_delete={is_auto_delete}"
        )
    }
}

/// A text as a shell takes it for one word.
fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(name: &'a str, kind: &'a str) -> Wanted<'a> {
        Wanted { name, kind, is_durable: true, is_auto_delete: false }
    }

    #[test]
    fn an_exchange_will_be_there_if_the_worker_declares_it_so_or_every_broker_has_it() {
        let is_there = |wanted: Wanted<'_>, declared| wanted.problem(declared, "/").is_none();
        assert!(is_there(wanted("x", "topic"), "topic"));
        assert!(is_there(wanted("amq.fanout", "fanout"), "topic"));
        assert!(is_there(wanted("amq.direct", "direct"), ""));
        for (exchange, declared) in [
            (wanted("x", "topic"), "direct"),
            (wanted("x", "Topic"), "topic"),
            (wanted("x", "topic"), ""),
            (wanted("x", ""), ""),
            (wanted("", "topic"), "topic"),
            (wanted("amq.mine", "topic"), "topic"),
            (wanted("amq.direct", "topic"), "topic"),
            (Wanted { is_durable: false, ..wanted("x", "topic") }, "topic"),
            (Wanted { is_auto_delete: true, ..wanted("x", "topic") }, "topic"),
            (Wanted { is_durable: false, ..wanted("amq.topic", "topic") }, "topic"),
        ] {
            assert!(!is_there(exchange, declared), "{exchange:?} {declared}");
        }
    }

    #[test]
    fn what_declares_another_one_is_a_command_that_a_shell_takes_as_it_stands() {
        let odd =
            Wanted { is_durable: false, is_auto_delete: true, ..wanted("it's; rm", "x-delayed") };
        let hint = odd.problem("topic", "/").unwrap().hint.unwrap();
        let command = r"rabbitmqadmin declare exchange name='it'\''s; rm' type=x-delayed durable=false auto_delete=true";
        assert_eq!(hint, format!("Declare it at the broker: {command}"));
        let command = wanted("x", "").command("shop one");
        assert!(command.starts_with("rabbitmqadmin --vhost='shop one' declare"), "{command}");
        assert!(command.contains(" type='' "), "{command}");
        let own = wanted("amq.x", "topic").problem("topic", "/").unwrap();
        assert!(!own.hint.unwrap().contains("rabbitmqadmin"));
    }
}
