//! The only writer of progress: how far the stream is confirmed, kept in the replication slot and,
//! for standbys and for a slot that was lost, in position records in the WAL.
//!
//! A position is saved before the WAL it no longer needs is released, so that a crash never asks
//! for WAL that is gone. What is lost by a crash between two saves is only knowledge of confirms:
//! those events are sent again. When to save, [`schedule`] tells.
//!
//! | file | owns |
//! |---|---|
//! | [`pair`] | the position itself, and how it stands in the slot |
//! | [`keeper`], [`schedule`] | saving it, and when |
//! | [`taking`] | the slot as it is found |
//! | [`record`] | the position record in the WAL |
//! | [`search`], [`origin`], [`wal_files`] | where to go on where the slot does not say |
//! | [`beginning`] | whether something was captured once, where nothing else tells |

pub mod beginning;
mod keeper;
mod origin;
mod pair;
mod record;
mod schedule;
mod search;
mod taking;
mod wal_files;

pub use keeper::{PositionKeeper, is_usable};
pub use origin::Origin;
pub use pair::Position;
pub use record::{Notes, POSITION_PREFIX, decode};
pub use search::{retain_everything, survey};
pub use taking::take_slot;
