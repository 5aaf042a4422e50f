//! What our messages say: transactions, as they were delivered, with what every message promises of
//! its place among them checked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::change::{Change, Operation, Transaction, row, schema_of};
use crate::Message;

/// The end of the routing keys of messages that the function `told` sends, behind the session's schema.
pub(super) const TOLD: &str = ".told";

/// The transactions that were delivered.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// In order of their first messages.
    pub transactions: Vec<Transaction>,
    /// Events that do not stand where their triggers fired: the order that was put right.
    pub out_of_firing_order: usize,
    /// Broken promises.
    pub findings: Vec<String>,
}

impl Published {
    /// Of these messages, in order of delivery.
    pub fn of(messages: &[Message]) -> Published {
        let mut published = Published::default();
        let mut known = BTreeSet::new();
        let mut places: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for message in messages {
            // What comes again after a lost connection says nothing new.
            if known.insert(message.message_id.clone()) {
                published.enter(message, &mut places);
            }
        }
        published.check_sizes(messages);
        for lsns in places.values() {
            let mut fired = lsns.clone();
            fired.sort_unstable();
            published.out_of_firing_order +=
                lsns.iter().zip(&fired).filter(|(here, there)| here != there).count();
        }
        published
    }

    fn enter(&mut self, message: &Message, places: &mut BTreeMap<u32, Vec<u64>>) {
        let (xid, seq) = (number(message, "xid") as u32, number(message, "tx_seq") as usize);
        let Some(change) = change(message) else {
            self.findings.push(format!("not understood: {}", message.text()));
            return;
        };
        if self.transactions.last().is_none_or(|last| last.xid != xid) {
            if self.transactions.iter().any(|transaction| transaction.xid == xid) {
                self.findings.push(format!("transaction {xid} was interrupted by another one"));
            }
            let schema = schema_of(&change.table).to_owned();
            self.transactions.push(Transaction { xid, schema, changes: Vec::new() });
        }
        let Some(transaction) = self.transactions.last_mut() else { return };
        transaction.changes.push(change);
        if transaction.changes.len() != seq {
            let place = transaction.changes.len();
            self.findings.push(format!("transaction {xid}: tx_seq {seq} came at place {place}"));
        }
        places.entry(xid).or_default().push(lsn(message));
    }

    fn check_sizes(&mut self, messages: &[Message]) {
        let sizes: BTreeMap<u32, usize> = self
            .transactions
            .iter()
            .map(|transaction| (transaction.xid, transaction.changes.len()))
            .collect();
        for message in messages {
            let (xid, size) = (number(message, "xid") as u32, number(message, "tx_size") as usize);
            if sizes.get(&xid) != Some(&size) {
                self.findings.push(format!(
                    "transaction {xid}: tx_size {size}, but {:?} messages",
                    sizes.get(&xid)
                ));
            }
        }
    }
}

fn change(message: &Message) -> Option<Change> {
    if message.headers.contains_key("published") {
        let schema = message.routing_key.strip_suffix(TOLD)?;
        return Some(Change::message(schema, message.text()));
    }
    let body = message.json();
    Some(Change {
        table: format!("{}.{}", text(message, "schema"), text(message, "table")),
        resource: body["resource"].as_str()?.to_owned(),
        operation: Operation::named(body["operation"].as_str()?)?,
        old: row(&body["previous"]),
        new: row(&body["current"]),
    })
}

/// The LSN in a message's id: system identifier, timeline, LSN, and a `/2` if it is the second of its event.
fn lsn(message: &Message) -> u64 {
    let id = message.message_id.as_deref().unwrap_or_default();
    let parts = id.split('/').skip(2);
    let mut parts = parts.map(|part| u64::from_str_radix(part, 16).unwrap_or_default());
    let (high, low) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    high << 32 | low
}

fn text<'a>(message: &'a Message, header: &str) -> &'a str {
    message.headers.get(header).and_then(Value::as_str).unwrap_or_default()
}

fn number(message: &Message, header: &str) -> u64 {
    let value = message.headers.get(header);
    let text = || value.and_then(Value::as_str).and_then(|text| text.parse().ok());
    value.and_then(Value::as_u64).or_else(text).unwrap_or_default()
}
