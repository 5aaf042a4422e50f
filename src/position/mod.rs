//! Keeps how far the stream is confirmed; nothing else writes that. The position is in the replication
//! slot and, for standbys and for a slot that was lost, in position records in the WAL.
//!
//! A position is saved before the WAL that it no longer needs is released, so that a crash never asks
//! for WAL that is gone. A crash between two saves loses only the knowledge of some confirms: those
//! events are sent again. [`schedule`] says when to save.
//!
//! | file | owns |
//! |---|---|
//! | [`pair`] | the position itself, and how the slot stores it |
//! | [`keeper`], [`schedule`] | saving it, and when |
//! | [`taking`] | the slot as it is found |
//! | [`record`] | the position record in the WAL |
//! | [`removal`] | the end of it, when the extension is removed |
//! | [`search`], [`origin`], [`wal_files`] | where to go on if the slot does not say |
//! | [`beginning`] | whether anything was ever captured, if nothing else says |

pub mod beginning;
mod keeper;
mod origin;
mod pair;
mod record;
mod removal;
mod schedule;
mod search;
mod taking;
mod wal_files;

pub use keeper::{PositionKeeper, is_usable};
pub use origin::Origin;
pub use pair::Position;
pub use record::{Notes, POSITION_PREFIX, decode};
pub use removal::{
    finish as finish_removal, is_over as is_removal_over, note as note_removal, remove,
    take_back as take_removal_back,
};
pub use search::{first_record_after, retain_everything, survey};
pub use taking::take_slot;
