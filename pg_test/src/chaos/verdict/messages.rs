//! What is checked of messages of a client's own alone: their ids, and those that were sent at once.

use std::collections::{BTreeSet, HashMap};

use super::{Verdict, tag};
use crate::chaos::delivery::{Delivery, Place};
use crate::chaos::ledger::{Change, Ledger};
use crate::chaos::messages::is_message;

impl Verdict {
    /// Each message came under the message_id that its client was told.
    pub(super) fn check_message_ids(&mut self, events: &[&Delivery], ledger: &Ledger) {
        for event in events.iter().filter(|event| is_message(&event.change)) {
            let told = ledger.message_id(&event.change);
            if told.is_some_and(|told| told != event.message_id) {
                let (change, came) = (&event.change, &event.message_id);
                self.altered.push(format!("{change} came as {came}, and is {told:?}"));
            }
        }
    }

    /// Each message that was sent at once came, once, ahead of its transaction if that came, too, and in the order in
    /// which its client sent them. Of one whose client was not told so it is open whether it came. `events` are in the
    /// order of the stream.
    pub(super) fn check_autonomous(
        &mut self,
        events: &[&Delivery],
        transactions: &HashMap<String, Place>,
        ledger: &Ledger,
    ) {
        let mut came: BTreeSet<&Change> = BTreeSet::new();
        let mut last: HashMap<String, (u64, u64, u64)> = HashMap::new();
        for event in events {
            let Delivery { change, place, .. } = event;
            if ledger.must_be_sent(change).is_none() {
                self.invented.push(format!("{change} at {place}, which nobody sent"));
            }
            if !came.insert(change) {
                self.invented.push(format!("{change} came again at {place}"));
            }
            let tag = tag(&[event]);
            if let Some(other) = transactions.get(&tag).filter(|&other| other < place) {
                self.out_of_order
                    .push(format!("{change} at {place} came behind its transaction at {other}"));
            }
            let (client, number) = sent_by(change);
            if let Some(before) = last.insert(client, number).filter(|&before| before >= number) {
                self.out_of_order.push(format!("{change} at {place} came behind {before:?}"));
            }
        }
        let lost = ledger.autonomous().filter(|&(message, must)| must && !came.contains(message));
        self.lost.extend(lost.map(|(message, _)| message.to_string()));
    }
}

/// Which client sent a message at once, and as the how manieth of its transactions, statements and messages in one.
fn sent_by(message: &Change) -> (String, (u64, u64, u64)) {
    let mut numbers = message.stamp.split(['-', '#']);
    let client = numbers.next().unwrap_or_default().to_owned();
    let mut number = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or_default();
    let (transaction, statement) = (number(), number());
    let in_one = message.key.rsplit(' ').next().and_then(|number| number.parse().ok());
    (client, (transaction, statement, in_one.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use super::super::tests::{event, receive};
    use super::*;
    use crate::chaos::deaths::Commit;
    use crate::chaos::ledger::{Autonomous, Outcome, Transaction};
    use crate::chaos::messages::change;
    use crate::chaos::tables::{AUTONOMOUS, MESSAGE};
    use crate::chaos::timelines::Switches;
    use crate::history::Switch;

    fn message(commit_lsn: u64, tx_seq: u64, tx_size: u64, change: Change) -> Delivery {
        Delivery { change, ..event(commit_lsn, tx_seq, tx_size, "send k s", None, None) }
    }

    fn autonomous(commit_lsn: u64, stamp: &str, key: &str) -> Delivery {
        message(commit_lsn, 1, 1, change(AUTONOMOUS, key.to_owned(), stamp))
    }

    /// Transaction `c1-1` sends a message at once, which its client was told of, one more, which it was not told of,
    /// and one with its commit; transaction `c1-2` sends one at once and is rolled back.
    fn story() -> (Ledger, Vec<Delivery>) {
        let deliveries = vec![
            autonomous(10, "c1-1#1", "sent 1"),
            autonomous(20, "c1-1#2", "sent 1"),
            message(30, 1, 1, change(MESSAGE, "sent 1".to_owned(), "c1-1#3")),
            autonomous(40, "c1-2#4", "sent 1"),
        ];
        let mut ledger = Ledger::default();
        let now = Instant::now();
        let told = Some(Commit { asked: now, told: now });
        for (at, sent) in [(0, told), (1, None), (3, told)] {
            ledger.enter_autonomous(Autonomous { change: deliveries[at].change.clone(), sent });
        }
        for (tag, changes, outcome) in [
            ("c1-1", vec![deliveries[2].change.clone()], Outcome::Committed),
            ("c1-2", vec![], Outcome::RolledBack),
        ] {
            let (tag, commit) = (tag.to_owned(), None);
            ledger.enter(Transaction { tag, changes, midway: 0, outcome, commit });
        }
        (ledger, deliveries)
    }

    /// The kinds of findings if these messages come instead.
    fn findings(change: impl FnOnce(&mut Vec<Delivery>)) -> Vec<&'static str> {
        let (ledger, mut deliveries) = story();
        change(&mut deliveries);
        kinds(&Verdict::on(&receive(deliveries), &ledger, &BTreeMap::new()))
    }

    fn kinds(verdict: &Verdict) -> Vec<&'static str> {
        let found = verdict.findings();
        found.iter().filter(|(_, list)| !list.is_empty()).map(|(name, _)| *name).collect()
    }

    #[test]
    fn what_was_sent_at_once_comes_whatever_became_of_its_transaction() {
        assert_eq!(findings(|_| ()), [""; 0]);
        assert_eq!(findings(|d| drop(d.remove(0))), ["lost"]);
        assert_eq!(findings(|d| drop(d.remove(3))), ["lost"]);
        assert_eq!(findings(|d| drop(d.remove(2))), ["lost"]);
    }

    #[test]
    fn what_nobody_was_told_of_may_be_missing() {
        assert_eq!(findings(|d| drop(d.remove(1))), [""; 0]);
    }

    #[test]
    fn what_nobody_sent_and_what_comes_twice_is_found() {
        assert_eq!(findings(|d| d.push(autonomous(50, "c1-2#5", "sent 1"))), ["invented"]);
        let again = |d: &mut Vec<Delivery>| d.push(autonomous(50, "c1-2#4", "sent 1"));
        assert_eq!(findings(again), ["invented", "out of order"]);
        // One that was to be sent at once came with a transaction, and the other way round.
        let with_it = |d: &mut Vec<Delivery>| d[2].change.table = AUTONOMOUS.to_owned();
        assert_eq!(findings(with_it), ["lost", "invented"]);
        let at_once = |d: &mut Vec<Delivery>| d[3].change.table = MESSAGE.to_owned();
        assert_eq!(findings(at_once), ["lost", "invented"]);
    }

    #[test]
    fn what_was_sent_at_once_comes_ahead_of_its_transaction_and_in_order() {
        let behind = |d: &mut Vec<Delivery>| {
            d[1].place.commit_lsn = 35;
            d.swap(1, 2);
        };
        assert_eq!(findings(behind), ["out of order"]);
        let swapped = |d: &mut Vec<Delivery>| {
            (d[0].place, d[1].place) = (d[1].place, d[0].place);
            d.swap(0, 1);
        };
        assert_eq!(findings(swapped), ["out of order"]);
    }

    #[test]
    fn a_message_has_the_id_that_its_client_was_told() {
        let (mut ledger, deliveries) = story();
        let sent = deliveries[2].clone();
        let mut told = |message_id: &str| {
            ledger.enter_message_id(sent.change.clone(), message_id.to_owned());
            kinds(&Verdict::on(&receive(deliveries.clone()), &ledger, &BTreeMap::new()))
        };
        assert_eq!(told(&sent.message_id), [""; 0]);
        assert_eq!(told("another"), ["altered"]);
    }

    #[test]
    fn of_a_history_that_is_no_more_only_what_was_sent_may_come() {
        let (ledger, mut deliveries) = story();
        deliveries.push(autonomous(60, "c1-2#9", "sent 1"));
        let mut received = receive(deliveries);
        received.switches = Switches::from(vec![Switch { from: 1, to: 2, at: 50 }]);
        let verdict = Verdict::on(&received, &ledger, &BTreeMap::new());
        assert_eq!((kinds(&verdict), verdict.undone), (vec!["invented"], 1));
    }
}
