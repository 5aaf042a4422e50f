//! What a transaction is to do, rolled with the dice before it begins: the same seed gives the
//! same plans, whatever the servers do. Pure.

use std::time::Duration;

use super::giants;
use super::messages::Sending;
use super::tables::{APART, BULK, ENORMOUS, HOT, HOT_KEYS, SMALL, TRIGGERED, VERSIONS};
use crate::dice::Dice;

/// A transaction, before it begins.
#[derive(Debug, PartialEq)]
pub(super) struct PlannedTransaction {
    pub isolation: &'static str,
    pub steps: Vec<Step>,
    pub ending: Ending,
}

/// One statement, or several in a savepoint.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Inserts rows, or updates those that are there. `call`: what is called for each row before it is.
    Upsert { table: &'static str, keys: Vec<u64>, bytes: u64, call: Call, returning: Returning },
    /// Updates the rows that are there.
    Update { table: &'static str, keys: Vec<u64>, bytes: u64, returning: Returning },
    /// Deletes the rows that are there.
    Delete { table: &'static str, keys: Vec<u64>, returning: Returning },
    /// Sends so many messages, in one statement.
    Send { sending: Sending, count: u64 },
    /// Inserts rows with enormous values, or updates those that are there.
    Giants { keys: Vec<u64> },
    /// Copies rows: new ones into the bulk table, or new versions of the client's own.
    Copy { table: &'static str, rows: u64, bytes: u64 },
    /// Deletes the oldest of the client's rows in the bulk table.
    Trim { rows: u64 },
    /// Empties the small table.
    Truncate,
    /// Steps in a savepoint, which is released or rolled back.
    Savepoint { steps: Vec<Step>, released: bool },
    /// A statement that fails: outside of a savepoint it takes the transaction along.
    Fail,
    /// Time passes with the transaction open.
    Hold(Duration),
}

/// What a statement calls for each row that it inserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Nothing,
    /// A function that writes a note.
    Note,
    Send(Sending),
}

/// A message that a statement sends for each row, behind it.
pub(super) type Returning = Option<Sending>;

/// What becomes of a transaction that has got so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Commit,
    Rollback,
    /// The session ends right before or right after it committed: its client cannot know which.
    CutOff {
        commit: bool,
    },
    /// Two-phase commit, ended by another session after some time.
    Prepare {
        commit: bool,
        after: Duration,
    },
}

impl PlannedTransaction {
    /// Rolls a transaction. `is_patient`: for one of the clients that hold transactions open for long.
    pub fn roll(dice: &mut Dice, is_patient: bool) -> PlannedTransaction {
        let isolation = match dice.between(1, 10) {
            1 => "SERIALIZABLE",
            2 => "REPEATABLE READ",
            _ => "READ COMMITTED",
        };
        let mut steps: Vec<Step> = (0..dice.between(1, 4)).map(|_| step(dice)).collect();
        if dice.chance(30) {
            steps.push(savepoint(dice, 2));
        }
        if is_patient && dice.chance(50) {
            // It mostly holds rows that nobody else wants: others are to go on meanwhile.
            if dice.chance(90) {
                let rows = dice.between(1, 20);
                steps.insert(0, Step::Copy { table: BULK, rows, bytes: 100 });
            }
            steps.insert(1, Step::Hold(dice.time(2_000, 10_000)));
        } else if dice.chance(5) {
            steps.insert(1, Step::Hold(dice.time(50, 500)));
        }
        if dice.chance(3) {
            steps.push(Step::Fail);
        }
        PlannedTransaction { isolation, steps, ending: ending(dice) }
    }

    /// Rolls a transaction for the client that writes enormous values.
    pub fn roll_giants(dice: &mut Dice) -> PlannedTransaction {
        let step = |dice: &mut Dice| {
            let keys = giants::keys(dice);
            let is_delete = dice.chance(20);
            match is_delete {
                true => Step::Delete { table: ENORMOUS, keys, returning: None },
                false => Step::Giants { keys },
            }
        };
        let steps = (0..dice.between(1, 2)).map(|_| step(dice)).collect();
        PlannedTransaction { isolation: "READ COMMITTED", steps, ending: ending(dice) }
    }

    /// Rolls a transaction for the client that only sends messages.
    pub fn roll_messages(dice: &mut Dice) -> PlannedTransaction {
        let mut steps: Vec<Step> = (0..dice.between(1, 4)).map(|_| send(dice)).collect();
        if dice.chance(40) {
            let mut undone: Vec<Step> = (0..dice.between(1, 3)).map(|_| send(dice)).collect();
            if dice.chance(20) {
                undone.push(Step::Fail);
            }
            steps.push(Step::Savepoint { steps: undone, released: dice.chance(50) });
            steps.push(send(dice));
        }
        if dice.chance(5) {
            steps.push(Step::Hold(dice.time(50, 2_000)));
        }
        if dice.chance(3) {
            steps.push(Step::Fail);
        }
        PlannedTransaction { isolation: "READ COMMITTED", steps, ending: ending(dice) }
    }
}

/// Some messages of a client's own, a third of them at once.
fn send(dice: &mut Dice) -> Step {
    let count = match dice.between(1, 40) {
        1 => dice.between(100, 1_000),
        2..=8 => dice.between(2, 20),
        _ => 1,
    };
    let padding = if count == 1 { bytes(dice) } else { dice.between(0, 100) };
    let sending = match dice.between(1, 3) {
        1 => Sending::roll_autonomous(dice, padding),
        _ => Sending::roll(dice, padding),
    };
    Step::Send { sending, count }
}

fn call(dice: &mut Dice) -> Call {
    match dice.between(1, 10) {
        1 | 2 => Call::Note,
        3 | 4 => Call::Send(small(dice)),
        _ => Call::Nothing,
    }
}

fn returning(dice: &mut Dice) -> Returning {
    dice.chance(15).then(|| small(dice))
}

fn small(dice: &mut Dice) -> Sending {
    let padding = dice.between(0, 100);
    Sending::roll(dice, padding)
}

fn ending(dice: &mut Dice) -> Ending {
    match dice.between(1, 100) {
        1..=76 => Ending::Commit,
        77..=80 => Ending::CutOff { commit: dice.chance(50) },
        81..=90 => Ending::Rollback,
        _ => Ending::Prepare { commit: dice.chance(70), after: dice.time(0, 800) },
    }
}

fn step(dice: &mut Dice) -> Step {
    let table = match dice.between(1, 100) {
        1..=60 => dice.pick(&HOT),
        61..=85 => dice.pick(&TRIGGERED),
        _ => dice.pick(&APART),
    };
    match dice.between(1, 100) {
        1..=29 => {
            let (keys, bytes) = (keys(dice), bytes(dice));
            Step::Upsert { table, keys, bytes, call: call(dice), returning: returning(dice) }
        }
        30..=60 => {
            let (keys, bytes) = (keys(dice), bytes(dice));
            Step::Update { table, keys, bytes, returning: returning(dice) }
        }
        61..=76 => Step::Delete { table, keys: keys(dice), returning: returning(dice) },
        77..=85 => send(dice),
        86 => {
            let (keys, bytes) = (keys(dice), bytes(dice));
            Step::Upsert { table: SMALL, keys, bytes, call: call(dice), returning: returning(dice) }
        }
        87 => Step::Truncate,
        88..=93 => Step::Copy {
            table: if dice.chance(70) { BULK } else { VERSIONS },
            rows: dice.between(1, 200),
            bytes: dice.between(10, 500),
        },
        94..=96 => Step::Trim { rows: dice.between(1, 200) },
        // One huge row: nothing else is in such a statement.
        97 if dice.chance(8) => Step::Upsert {
            table,
            keys: vec![dice.between(1, HOT_KEYS)],
            bytes: dice.between(2_000_000, 5_000_000),
            call: Call::Nothing,
            returning: None,
        },
        _ => savepoint(dice, 1),
    }
}

fn savepoint(dice: &mut Dice, depth: u32) -> Step {
    let mut steps: Vec<Step> = (0..dice.between(1, 3))
        .map(|_| if depth > 1 && dice.chance(30) { savepoint(dice, depth - 1) } else { step(dice) })
        .collect();
    if dice.chance(10) {
        steps.push(Step::Fail);
    }
    Step::Savepoint { steps, released: dice.chance(60) }
}

/// Some different keys in any order: who locks the same ones in another order meets in a deadlock.
fn keys(dice: &mut Dice) -> Vec<u64> {
    let mut keys: Vec<u64> = (1..=HOT_KEYS).collect();
    dice.shuffle(&mut keys);
    let count = if dice.chance(90) { dice.between(1, 3) } else { dice.between(4, 20) };
    keys.truncate(count as usize);
    keys
}

/// Sizes of payloads: mostly small, from 10 B on, now and then 100 kB.
fn bytes(dice: &mut Dice) -> u64 {
    match dice.between(1, 200) {
        1 => dice.between(10_000, 100_000),
        2..=20 => dice.between(500, 10_000),
        _ => dice.between(10, 300),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_dice_roll_the_same_transaction() {
        let planned = |number| PlannedTransaction::roll(&mut Dice::new(1, number), true);
        assert!((0..50).all(|number| planned(number) == planned(number)));
        assert!((0..50).any(|number| planned(number) != planned(number + 1)));
    }
}
