//! Writes messages into the WAL. What the messages of a session have in common is looked up once: a message costs
//! its session little more than a captured row.

use std::cell::Cell;
use std::fmt::Write;
use std::mem::ManuallyDrop;

use super::draft::{Draft, Made};
use super::rights;
use crate::capture::emission;
use crate::event::{Codec, EncodedNames, HeadStart, MAX_SHORT_STRING, Operation, PropertiesStart};
use crate::lsn::Lsn;
use crate::memory;
use crate::pg::entry_points::When;
use crate::pg::rights::Role;
use crate::pg::{server, trigger, xact};
use crate::settings;

/// What the next message is likely to need again.
pub struct Sender {
    database: String,
    system_identifier: u64,
    /// Who sent the last message, when their transaction began, and their name.
    user: Option<(Role, i64)>,
    user_name: String,
    application: String,
    exchange: String,
    own_exchange: String,
    /// The routing key of the last message, and the names that it is written with.
    names: Option<(String, EncodedNames)>,
    /// The bytes of the message before its body.
    head: Vec<u8>,
    message_id: String,
}

thread_local! {
    /// Empty while a message is written. Never dropped (see [`crate::pg`]'s `plan_memory`).
    static SENDER: ManuallyDrop<Cell<Option<Box<Sender>>>> =
        const { ManuallyDrop::new(Cell::new(None)) };
}

/// Gives `work` the sender of this session.
pub fn with<T>(work: impl FnOnce(&mut Sender) -> T) -> T {
    SENDER.with(|place| {
        let mut sender = place.take().unwrap_or_else(|| Box::new(Sender::new()));
        let result = work(&mut sender);
        place.set(Some(sender));
        result
    })
}

impl Sender {
    fn new() -> Sender {
        Sender {
            // Nobody can rename it meanwhile.
            database: trigger::database(),
            system_identifier: server::system_identifier(),
            user: None,
            user_name: String::new(),
            application: String::new(),
            exchange: String::new(),
            own_exchange: String::new(),
            names: None,
            head: Vec::new(),
            message_id: String::new(),
        }
    }

    /// Sets where the next message goes: to the exchange that is named, or else to the session's.
    ///
    /// # Errors
    ///
    /// Raises one if the current role may not send there, or if it is no name of an exchange.
    pub fn choose_exchange(&mut self, named: Option<&str>) {
        settings::copy_exchange(&mut self.own_exchange);
        let exchange = named.unwrap_or(&self.own_exchange);
        if exchange.len() > MAX_SHORT_STRING {
            super::headers::too_long("exchange", exchange.len()).raise();
        }
        if named.is_some() {
            rights::require_right_to(exchange, &self.own_exchange);
        }
        self.exchange.clear();
        memory::append_text(&mut self.exchange, exchange);
    }

    /// Writes a message to the exchange that was chosen. Returns where it is in the WAL.
    pub fn write(&mut self, draft: &Draft<'_>, made: &Made, when: When) -> Lsn {
        let exchange = std::mem::take(&mut self.exchange);
        let (codec, operation) = (Codec::Message, Operation::Published);
        let lsn = match when {
            When::AtCommit => {
                let command_id = xact::next_command();
                let lossy = draft.is_lossy;
                let head = emission::head(operation, codec, command_id, || None, lossy, &exchange);
                self.write_behind(&head, draft, made)
            }
            When::AtOnce => {
                let head = HeadStart {
                    codec,
                    command_id: 0,
                    first_lsn: Lsn::INVALID,
                    place: None,
                    operation,
                    exchange: &exchange,
                    lossy: draft.is_lossy,
                    oversize: None,
                    key: None,
                    made: None,
                    second: None,
                };
                self.encode(&head, draft, made, Some(server::now()));
                emission::write_alone(&[&self.head, &draft.body])
            }
        };
        self.exchange = exchange;
        lsn
    }

    /// Writes a message with this head among the events of its transaction. Returns where it is in the WAL.
    pub fn write_behind(&mut self, head: &HeadStart<'_>, draft: &Draft<'_>, made: &Made) -> Lsn {
        self.encode(head, draft, made, None);
        emission::write(head, &[&self.head, &draft.body])
    }

    /// Sets the bytes of a message before its body.
    fn encode(&mut self, head: &HeadStart<'_>, draft: &Draft<'_>, made: &Made, time: Option<i64>) {
        self.look_up_user();
        server::copy_application_name(&mut self.application);
        let names = match self.names.take().filter(|(key, _)| *key == draft.routing_key) {
            Some(names) => names,
            None => {
                let names = EncodedNames::of_message(&draft.routing_key, &self.database);
                (memory::text(&draft.routing_key), names)
            }
        };
        let (_, names) = self.names.insert(names);
        self.head.clear();
        head.encode_into(names, &mut self.head);
        let said = PropertiesStart {
            user: &self.user_name,
            application: &self.application,
            time,
            ..draft.properties(made)
        };
        said.encode_into(&mut self.head);
    }

    /// The name is looked up once in a transaction.
    fn look_up_user(&mut self) {
        let now = (Role::current(), server::transaction_start());
        if self.user != Some(now) {
            self.user_name = now.0.name();
            self.user = Some(now);
        }
    }

    /// The message_id of the message that was written there.
    pub fn message_id(&mut self, lsn: Lsn) -> &str {
        self.message_id.clear();
        let timeline = server::insertion_timeline();
        // Writing to a String never fails.
        let _ = write!(self.message_id, "{}/{timeline}/{lsn}", self.system_identifier);
        &self.message_id
    }
}
