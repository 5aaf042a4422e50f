//! What exchanges are owed: to be told that events which were for them did not go there. Pure.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::message::{HeaderValue, Message};
use crate::memory;
use crate::stream::gap::{self, OwedGap};

/// Exchanges that are remembered at most.
const MOST: usize = 64;

/// Shortest time between two announcements to the same exchange.
const INTERVAL: Duration = Duration::from_secs(1);

/// What one exchange is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debt {
    pub owed: OwedGap,
    /// Name, time of commit in seconds since 1970 and as text, of the last event that is missing.
    pub message_id: String,
    pub timestamp: u64,
    pub commit_ts: Rc<str>,
}

impl Debt {
    /// What its exchange is owed if this message does not go there.
    pub fn of(message: &Message, exchange: &Rc<str>) -> Debt {
        let commit_ts = message.headers.iter().find_map(|(name, value)| match value {
            HeaderValue::Text(text) if *name == "commit_ts" => Some(Rc::clone(text)),
            _ => None,
        });
        let owed =
            OwedGap { exchange: Rc::clone(exchange), gap: message.without_it, last: message.lsn };
        Debt {
            owed,
            message_id: message.message_id.clone(),
            timestamp: message.timestamp,
            commit_ts: commit_ts.unwrap_or_default(),
        }
    }

    /// The message that pays it.
    pub fn announcement(&self) -> Message {
        let OwedGap { exchange, gap, last } = &self.owed;
        let headers = vec![
            ("commit_lsn", HeaderValue::Text(gap.to.to_string().into())),
            ("commit_ts", HeaderValue::Text(Rc::clone(&self.commit_ts))),
            ("tx_seq", HeaderValue::Number(1)),
            ("tx_size", HeaderValue::Number(1)),
        ];
        Message {
            exchange: Rc::clone(exchange),
            routing_key: gap::ROUTING_KEY.into(),
            body: gap.body().into_bytes(),
            message_id: self.announcement_id(),
            timestamp: self.timestamp,
            kind: "gap",
            headers,
            resent: None,
            lsn: *last,
            without_it: *gap,
            key: None,
            properties: None,
        }
    }

    /// The same for as long as it names the same events: no event is named so, and no gap of lost WAL. Of two messages
    /// that an event makes, the second is not told apart: what is remembered over a restart is the event.
    fn announcement_id(&self) -> String {
        // Server, timeline and the two parts of an LSN.
        const PARTS: usize = 4;
        let end = self.message_id.match_indices('/').nth(PARTS - 1).map(|(end, _)| end);
        let event = &self.message_id[..end.unwrap_or(self.message_id.len())];
        format!("{event}/passed/gap")
    }

    fn add(&mut self, other: Debt) {
        let gap = self.owed.gap.and(other.owed.gap);
        if other.owed.last >= self.owed.last {
            *self = other;
        }
        self.owed.gap = gap;
    }
}

/// All that is owed, that to which something was added last at the end.
#[derive(Debug)]
pub struct Debts {
    /// Has room for one more than are remembered: that an event did not go to its exchange is never forgotten for
    /// want of memory.
    entries: Vec<Entry>,
    /// What was paid a moment ago, and when. As many at most.
    paid: Vec<(Rc<str>, Instant)>,
}

impl Default for Debts {
    fn default() -> Debts {
        Debts { entries: memory::with_room(MOST + 1), paid: memory::with_room(MOST) }
    }
}

#[derive(Debug)]
struct Entry {
    debt: Debt,
    /// When to try to pay it.
    due: Instant,
    /// Whether that may be done as soon as the exchange takes another message.
    awaits_exchange: bool,
}

impl Debts {
    /// Adds a debt. If the exchange was owed nothing yet it is due soon, or, where the exchange is known to
    /// take nothing, then. What is not remembered any more, since too many exchanges are owed something.
    pub fn add(&mut self, debt: Debt, refuses_until: Option<Instant>) -> Option<Debt> {
        let exchange = &debt.owed.exchange;
        if let Some(at) = self.position(exchange) {
            self.entries[at].debt.add(debt);
            self.entries[at..].rotate_left(1);
            return None;
        }
        let paid = self.paid.iter().find(|(one, _)| one == exchange).map(|&(_, at)| at + INTERVAL);
        let due = refuses_until.or(paid).unwrap_or_else(Instant::now);
        self.entries.push(Entry { debt, due, awaits_exchange: refuses_until.is_some() });
        (self.entries.len() > MOST).then(|| self.entries.remove(0).debt)
    }

    /// A debt that is due.
    pub fn due(&self, now: Instant) -> Option<&Debt> {
        self.entries.iter().find(|entry| entry.due <= now).map(|entry| &entry.debt)
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.due).min()
    }

    /// The exchange did not take it: it is due then, or as soon as the exchange takes another message.
    pub fn postpone(&mut self, exchange: &str, due: Instant, awaits_exchange: bool) {
        if let Some(at) = self.position(exchange) {
            let entry = &mut self.entries[at];
            (entry.due, entry.awaits_exchange) = (due, awaits_exchange);
        }
    }

    /// The exchange took a message.
    pub fn hasten(&mut self, exchange: &str) {
        if let Some(at) = self.position(exchange)
            && self.entries[at].awaits_exchange
        {
            self.entries[at].due = Instant::now();
        }
    }

    /// Somebody may have mended something.
    pub fn hasten_all(&mut self) {
        let now = Instant::now();
        self.entries.iter_mut().for_each(|entry| entry.due = now);
    }

    /// The exchange has the announcement with this message_id.
    pub fn pay(&mut self, exchange: &str, message_id: &str) {
        let now = Instant::now();
        self.paid.retain(|&(_, at)| now.duration_since(at) < INTERVAL);
        let is_it =
            |debt: &Debt| &*debt.owed.exchange == exchange && debt.announcement_id() == message_id;
        if let Some(at) = self.entries.iter().position(|entry| is_it(&entry.debt)) {
            let Entry { debt, .. } = self.entries.remove(at);
            if self.paid.len() == MOST {
                self.paid.remove(0);
            }
            self.paid.push((debt.owed.exchange, now));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is owed, for a later life of the worker.
    pub fn owed(&self) -> Vec<OwedGap> {
        self.entries.iter().map(|entry| entry.debt.owed.clone()).collect()
    }

    fn position(&self, exchange: &str) -> Option<usize> {
        self.entries.iter().rposition(|entry| &*entry.debt.owed.exchange == exchange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;
    use crate::stream::gap::Gap;

    fn debt(exchange: &str, lsn: u64) -> Debt {
        let message = Message {
            message_id: format!("7/1/{lsn}"),
            headers: vec![("commit_ts", HeaderValue::Text("then".into()))],
            lsn: Lsn(lsn),
            without_it: Gap { from: Some(Lsn(lsn)), to: Lsn(lsn + 5) },
            ..Message::default()
        };
        Debt::of(&message, &exchange.into())
    }

    #[test]
    fn what_an_exchange_is_owed_is_one_gap_until_that_is_paid() {
        let mut debts = Debts::default();
        for (exchange, lsn) in [("a", 10), ("b", 11), ("a", 20), ("a", 15)] {
            assert_eq!(debts.add(debt(exchange, lsn), None), None);
        }
        let owed = debts.owed();
        let seen: Vec<_> = owed.iter().map(|owed| (&*owed.exchange, owed.gap.to)).collect();
        assert_eq!(seen, [("b", Lsn(16)), ("a", Lsn(25))]);
        assert_eq!((owed[1].gap.from, owed[1].last), (Some(Lsn(10)), Lsn(20)));

        let announcement = debts.entries[1].debt.announcement();
        assert_eq!(announcement.message_id, "7/1/20/passed/gap");
        assert_eq!(&*announcement.exchange, "a");
        assert!(announcement.headers.contains(&("commit_ts", HeaderValue::Text("then".into()))));
        // One that says less than is owed by now pays nothing.
        debts.pay("a", "7/1/10/passed/gap");
        debts.pay("b", "7/1/20/passed/gap");
        assert_eq!(debts.owed().len(), 2);
        debts.pay("a", "7/1/20/passed/gap");
        assert_eq!(debts.owed().len(), 1);
        // What is owed next is not announced at once.
        debts.add(debt("a", 30), None);
        let at = debts.position("a").expect("it was added");
        assert!(debts.entries[at].due > Instant::now());
    }

    #[test]
    fn a_debt_is_due_when_its_exchange_may_take_it() {
        let now = Instant::now();
        let later = now + Duration::from_secs(30);
        let mut debts = Debts::default();
        debts.add(debt("a", 10), Some(later));
        // What comes on top of it does not make it due earlier.
        debts.add(debt("a", 20), None);
        assert_eq!((debts.due(now), debts.next_due()), (None, Some(later)));
        assert!(debts.due(later).is_some());
        debts.hasten("a");
        assert!(debts.due(Instant::now()).is_some());
        debts.postpone("a", later, false);
        assert_eq!(debts.due(now), None);
        debts.hasten("a");
        assert_eq!(debts.due(Instant::now()), None);
        debts.hasten_all();
        assert!(debts.due(Instant::now()).is_some());
    }

    #[test]
    fn no_more_are_remembered_than_a_position_record_holds() {
        let mut debts = Debts::default();
        for number in 0..MOST {
            assert_eq!(debts.add(debt(&number.to_string(), 1), None), None);
        }
        debts.add(debt("0", 2), None);
        let forgotten = debts.add(debt("new", 1), None).expect("one too many");
        assert_eq!(&*forgotten.owed.exchange, "1");
        assert_eq!(debts.owed().len(), MOST);
    }
}
