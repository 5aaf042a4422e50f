//! The state of the stream. The status shows it, and the log says why nothing is published, but not over and
//! over. This module takes what the delivery reports; it decides nothing.

use std::net::IpAddr;

use pgrx::PgSqlErrorCode;

use super::log_limit::LogLimit;
use super::standstill::{Cause, Standstill};
use super::state::State;
use super::writer;
use crate::delivery::Update;
use crate::pg::report::{self, Report};

/// The state of the stream.
#[derive(Debug, Default)]
pub struct Condition {
    /// Why nothing is published, if nothing is.
    standstill: Standstill,
    /// Whether the delivery has a connection.
    is_connected: bool,
    /// Which events were lost, until the consumers are told.
    lost: Option<String>,
    /// How many messages were confirmed, as far as is known.
    confirmed: u64,
    /// How many were confirmed when the delivery last reported a standstill.
    failed_after: u64,
    /// What the status shows.
    shown: Option<(State, Option<Cause>)>,
    /// Whether messages were returned and dropped.
    has_seen_returned: bool,
    /// Why no message can be made of the event that is held, if one is.
    unreadable: UnreadableKind,
    /// The notices of the delivery that were logged.
    notices: LogLimit,
}

/// Why no message can be made of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnreadableKind {
    /// Another version of the extension wrote it.
    #[default]
    Version,
    /// There is no memory for it.
    OutOfMemory,
}

impl Condition {
    /// Returns true if an event that commits now could be published at once.
    pub fn may_publish(&self) -> bool {
        self.is_connected && self.standstill.cause().is_none()
    }

    /// Notes that events are lost, and which.
    pub fn lose(&mut self, problem: String) {
        writer::set_last_error(&problem);
        self.lost = Some(problem);
        self.show();
    }

    /// Notes that nothing can be published, and why.
    pub fn fail(&mut self, cause: Cause) {
        self.standstill.fail(cause);
        self.show();
    }

    /// Notes that no message can be made of the next event, and why.
    pub fn hold(&mut self, cause: Cause, kind: UnreadableKind) {
        self.unreadable = kind;
        self.standstill.hold(Some(cause));
        self.show();
    }

    /// Notes that the event that was held is passed over.
    pub fn pass_over(&mut self, message: &str) {
        log_skipped(message);
        self.standstill.hold(None);
        self.show();
    }

    /// Notes why reading the WAL cannot go on, or that it goes on.
    pub fn be_stuck(&mut self, cause: Option<Cause>) {
        if self.standstill.be_stuck(cause) {
            self.show();
        }
    }

    /// Forgets what is known of the delivery: another one takes its place, and the backlog is given up.
    pub fn begin_anew(&mut self) {
        self.standstill.succeed();
        self.standstill.block(None);
        self.standstill.hold(None);
        self.standstill.be_stuck(None);
        self.standstill.await_standby(None);
        (self.is_connected, self.confirmed, self.failed_after) = (false, 0, 0);
        self.show();
    }

    /// Notes that a committed transaction waits for a synchronous standby, or that none does any more.
    pub fn await_standby(&mut self, cause: Option<Cause>) {
        if self.standstill.await_standby(cause) {
            self.show();
        }
    }

    /// Notes how many messages are confirmed now. If there is a gap, its announcement is the first of them.
    pub fn go_on(&mut self, confirmed: u64) {
        self.confirmed = confirmed;
        // A standstill that was reported since may have come after these confirms.
        if confirmed > self.failed_after {
            self.standstill.succeed();
        }
        self.lost = None;
        self.show();
    }

    /// Takes a report of the delivery. `has_unconfirmed`: the delivery has unconfirmed messages.
    pub fn take_update(&mut self, update: Update, has_unconfirmed: bool) {
        match update {
            Update::Connecting(broker) => {
                writer::set_broker(&broker);
                self.is_connected = false;
                // What blocked the last connection will block the next one, or not.
                self.standstill.block(None);
            }
            Update::Streaming { broker, security } => {
                writer::set_broker(&broker);
                self.is_connected = true;
                // What stopped the stream may do so again: only a confirm shows that it is over.
                if !has_unconfirmed {
                    self.standstill.succeed();
                }
                if self.standstill.cause().is_none() {
                    report::log(format!("connected to broker {broker} ({security})"));
                }
            }
            Update::StandingStill { reason, kind, held, confirmed } => {
                self.failed_after = confirmed;
                self.standstill.fail(Cause { reason, kind, held });
            }
            Update::Blocked(reason) => {
                let reason = format!("broker blocked the connection: {reason}");
                self.standstill.block(Some(Cause::new(reason)));
            }
            Update::Unblocked => self.standstill.block(None),
            Update::Skipped(message) => {
                log_skipped(&message);
                // The message counts as confirmed; that shows that the stream goes on.
                return;
            }
            Update::Notice(notice) => {
                if self.notices.is_news(&notice) {
                    report::log(notice);
                }
            }
            Update::Unsecured { host, peer, is_in_clear: true } => warn_of_clear_text(&host, peer),
            Update::Unsecured { host, peer, .. } => warn_of_unknown_broker(&host, peer),
            Update::PassedOver { exchange, count, reason, is_dead_letter } => {
                log_passed_over(&exchange, count, &reason, is_dead_letter);
                return;
            }
            Update::Refusing(exchanges) => {
                writer::set_refusing(&exchanges);
                return;
            }
            Update::Returned { count, example } => {
                let is_first = !std::mem::replace(&mut self.has_seen_returned, true);
                log_returned(count, &example, is_first);
            }
        }
        self.show();
    }

    /// Brings the status up to date, and writes to the log what the log does not say yet.
    pub fn show(&mut self) {
        let cause = self.standstill.cause().cloned();
        let state = match (&self.lost, &cause, self.is_connected) {
            (_, Some(_), _) if self.standstill.is_stuck() => State::Stuck,
            (Some(_), ..) => State::Lost,
            (None, Some(_), _) => State::StandingStill,
            (None, None, true) => State::Streaming,
            (None, None, false) => State::Connecting,
        };
        let now = Some((state, cause.clone()));
        if now != self.shown {
            let reason = cause.as_ref().map(|cause| &cause.reason).or(self.lost.as_ref());
            let held = cause.as_ref().and_then(|cause| cause.held.as_deref());
            writer::set_state(state, reason.map(String::as_str), held);
            if let Some(cause) = &cause {
                writer::set_last_error(&cause.reason);
            }
            self.shown = now;
        }
        if self.standstill.is_news_that_it_is_over() {
            report::log("stream goes on".to_owned());
        }
        if let Some(cause) = cause
            && self.standstill.is_news()
        {
            let hint = match &cause.held {
                _ if self.standstill.is_stuck() => {
                    "See in the documentation what to do about damaged WAL.".to_owned()
                }
                Some(id)
                    if self.standstill.is_unreadable()
                        && self.unreadable == UnreadableKind::OutOfMemory =>
                {
                    format!(
                        "It is tried again every half minute. Give the server more memory, or pass over it with SELECT amqp.skip('{id}')."
                    )
                }
                Some(id) if self.standstill.is_unreadable() => format!(
                    "Install the version of amqp_cdc that wrote the event, or pass over it with SELECT amqp.skip('{id}')."
                ),
                Some(id) => format!(
                    "Mend the broker and reload the configuration, or pass over this message with SELECT amqp.skip('{id}')."
                ),
                None if self.lost.is_some() => {
                    "Nothing more is lost; the events that are there stay in the WAL.".to_owned()
                }
                None => "Nothing is lost; the events stay in the WAL until the broker takes them."
                    .to_owned(),
            };
            log_standstill(&cause, hint);
        }
    }
}

fn warn_of_clear_text(host: &str, peer: IpAddr) {
    Report::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("amqp password goes unencrypted to broker host \"{host}\""),
    )
    .detail(format!(
        "Its address {peer} is not a loopback one: who can listen on the way can read the password and the events."
    ))
    .hint("Set amqp.sslmode = 'verify-full' and amqp.sslrootcert, see docs/tls.md.")
    .warn();
}

fn warn_of_unknown_broker(host: &str, peer: IpAddr) {
    Report::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("it is not checked whether broker host \"{host}\" is who it says"),
    )
    .detail(format!(
        "With amqp.sslmode = require whoever answers at {peer} gets the password and the events."
    ))
    .hint("Set amqp.sslmode = 'verify-full' and amqp.sslrootcert, see docs/tls.md.")
    .warn();
}

/// Logs that messages were returned and dropped: as a warning the first time, as a note later. With
/// `amqp.unroutable = hold` nothing is dropped, and the log warns that the stream stands still.
fn log_returned(count: u64, routing_key: &str, is_first: bool) {
    let messages = if count == 1 { "message" } else { "messages" };
    let text = format!(
        "broker returned {count} {messages} because no queue is bound, last routing key \"{routing_key}\""
    );
    if is_first {
        Report::new(PgSqlErrorCode::ERRCODE_WARNING, text)
            .detail("RabbitMQ has dropped what it returned. It counts as delivered, and is not sent again.")
            .hint("Bind a queue to the exchange; set amqp.unroutable = hold to have the stream wait for one.")
            .warn();
    } else {
        report::log(text);
    }
}

fn log_skipped(message: &str) {
    Report::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("{message} is skipped by order of an operator"),
    )
    .detail("It was not published and will not be.")
    .warn();
}

fn log_passed_over(exchange: &str, count: u64, reason: &str, is_dead_letter: bool) {
    let fate = if is_dead_letter { "sent to the dead-letter exchange" } else { "passed over" };
    Report::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("{count} events for exchange \"{exchange}\" were {fate}: {reason}"),
    )
    .detail("amqp.exchange_policy says so. The exchange is told by a gap event once it takes messages again.")
    .hint("Mend the exchange; it is asked every 30 seconds, and after a reload of the configuration at once.")
    .warn();
}

fn log_standstill(cause: &Cause, hint: String) {
    Report::new(
        PgSqlErrorCode::ERRCODE_CONNECTION_EXCEPTION,
        format!("stream stands still: {}", cause.reason),
    )
    .hint(hint)
    .warn();
}
