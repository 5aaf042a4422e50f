//! The captured tables: few hot rows that everybody changes, one into which much is copied, some
//! with triggers that write in the middle of a statement, some whose events go elsewhere, one with enormous
//! values, and the journal into which every transaction writes its tag, last of all. Their names, and no more.

/// Tables whose rows are changed again and again.
pub(super) const HOT: [&str; 3] = ["hot_a", "hot_b", TOLD];

/// One of them: after a row of it is changed, a trigger sends a message.
pub(super) const TOLD: &str = "hot_c";

/// The same, with triggers that write before a row is, or after it and before the capture trigger.
pub(super) const TRIGGERED: [&str; 3] = [CHILDREN, VERSIONS, TWICE];

/// Before a row of it is written, its parent is.
pub(super) const CHILDREN: &str = "children";

/// Written by a trigger alone.
pub(super) const PARENTS: &str = "parents";

/// Before a row is inserted, the one with the same key is deleted.
pub(super) const VERSIONS: &str = "versions";

/// After a row of it is changed, it is changed again.
pub(super) const TWICE: &str = "twice";

/// The same, whose events go to exchanges of their own, which may be gone: see [`super::exchanges`].
pub(super) const APART: [&str; 2] = [SKIPPED, LETTERED];

/// What its exchange refuses is passed over.
pub(super) const SKIPPED: &str = "skipped";

/// What its exchange refuses goes to the dead-letter exchange.
pub(super) const LETTERED: &str = "lettered";

/// Rows with values that are enormous as text, written by one client alone: see [`super::giants`].
pub(super) const ENORMOUS: &str = "enormous";

/// These values, not captured.
pub(super) const GIANTS: &str = "giants";

/// The one that is truncated, which keeps everybody else away from it.
pub(super) const SMALL: &str = "small";

/// What functions and triggers write down, never changed.
pub(super) const NOTES: &str = "notes";

/// In place of a table messages of a client's own have their routing key. Those that are sent if the transaction
/// commits, to the exchange of the session.
pub(super) const MESSAGE: &str = "message";

/// The same, to exchanges of their own, which may be gone: see [`super::exchanges`].
pub(super) const SKIPPED_MESSAGE: &str = "message.skipped";
pub(super) const LETTERED_MESSAGE: &str = "message.lettered";

/// Sent at once, whatever becomes of the transaction.
pub(super) const AUTONOMOUS: &str = "autonomous";
pub(super) const LETTERED_AUTONOMOUS: &str = "autonomous.lettered";

/// The keys that clients choose from are 1 to this.
pub(super) const HOT_KEYS: u64 = 60;

/// The table that is copied into.
pub(super) const BULK: &str = "bulk";

/// The table of tags.
pub(super) const JOURNAL: &str = "journal";

/// Where those sign that change no rows: their tags, not captured.
pub(super) const SIGNATURES: &str = "signatures";

/// The tables that are captured.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    let others = [PARENTS, SMALL, NOTES, BULK, ENORMOUS, JOURNAL];
    HOT.into_iter().chain(TRIGGERED).chain(APART).chain(others)
}
