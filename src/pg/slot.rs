//! The physical replication slot that retains the WAL of unconfirmed events.
//!
//! Three fields of a physical slot that PostgreSQL leaves alone hold the position, so that one
//! atomic rename saves all of it (slot.c: `SaveSlotToPath`): `confirmed_flush`, `restart_lsn` and
//! `two_phase_at`. pg_replication_slots shows the first two; the third only where `two_phase` is
//! set, which it never is here.

use std::ffi::CStr;
use std::sync::atomic::Ordering;

use pgrx::pg_sys;
use pgrx::pg_sys::{SpinLockAcquire, SpinLockRelease};

use super::shared;
use super::sys::versions;
use crate::lsn::Lsn;

/// The name of the slot. Fixed: one worker per cluster, one slot per worker.
pub const NAME: &str = "amqp_cdc";
const C_NAME: &CStr = c"amqp_cdc";

/// What the slot stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotData {
    /// `restart_lsn`; invalid in a slot that was never saved.
    pub restart: Lsn,
    /// `confirmed_flush`.
    pub confirmed_flush: Lsn,
    /// `two_phase_at`, here a plain number.
    pub number: u64,
}

impl SlotData {
    fn of(data: &pg_sys::ReplicationSlotPersistentData) -> SlotData {
        SlotData {
            restart: Lsn(data.restart_lsn),
            confirmed_flush: Lsn(data.confirmed_flush),
            number: data.two_phase_at,
        }
    }
}

/// What there is under our name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No slot.
    Nothing,
    /// A logical slot, which is somebody else's.
    Logical,
    /// A physical slot that lost its WAL (max_slot_wal_keep_size), and what it still stores.
    Invalidated(SlotData),
    /// A physical slot.
    Usable,
}

/// The slot, held by this process until it is dropped or the process ends.
pub struct Slot {
    _held: (),
}

/// Looks for the slot.
pub fn find() -> Found {
    // SAFETY: a lookup under ReplicationSlotControlLock; slots are never freed, and what is read
    // changes only while the slot is acquired or invalidated, which taking it later detects.
    unsafe {
        let slot = pg_sys::SearchNamedReplicationSlot(C_NAME.as_ptr(), true);
        if slot.is_null() {
            Found::Nothing
        } else if (*slot).data.database != pg_sys::InvalidOid {
            Found::Logical
        } else if versions::is_invalidated(&(*slot).data) {
            Found::Invalidated(SlotData::of(&(*slot).data))
        } else {
            Found::Usable
        }
    }
}

/// Makes triggers refuse: no slot of ours can be had.
pub fn say_missing() {
    shared::numbers().missing.slot.store(true, Ordering::Relaxed);
}

/// Removes the slot.
///
/// # Errors
///
/// Raises if another process holds it.
pub fn drop_it() {
    // SAFETY: must not be called while this process holds the slot.
    unsafe { pg_sys::ReplicationSlotDrop(C_NAME.as_ptr(), true) }
}

impl Slot {
    /// Takes the slot that exists.
    ///
    /// # Errors
    ///
    /// Raises if another process holds it, or if it is gone.
    pub fn acquire() -> Slot {
        // SAFETY: on the main thread; this process holds no slot yet.
        unsafe { versions::acquire_slot(C_NAME) };
        Slot::is_there()
    }

    /// Makes the slot, without a position: it retains nothing until [`Slot::reserve`] or
    /// [`Slot::save`].
    ///
    /// # Errors
    ///
    /// Raises if max_replication_slots is exhausted; triggers refuse then until it succeeds.
    pub fn create() -> Slot {
        let failing = Failing;
        // SAFETY: on the main thread; this process holds no slot yet.
        unsafe { versions::create_slot(C_NAME) };
        std::mem::forget(failing);
        Slot::is_there()
    }

    fn is_there() -> Slot {
        shared::numbers().missing.slot.store(false, Ordering::Relaxed);
        Slot { _held: () }
    }

    /// What the slot stores now.
    pub fn stored(&self) -> SlotData {
        // SAFETY: held by this process, so nobody else changes it.
        unsafe { SlotData::of(&(*pg_sys::MyReplicationSlot).data) }
    }

    /// Stores the position durably, and only then lets go of WAL that it no longer needs: were the
    /// WAL released first, a crash could bring back a position whose WAL is gone.
    ///
    /// # Errors
    ///
    /// Raises if the slot's file cannot be written. The position stays the one before then, in memory, too:
    /// a checkpoint goes by that.
    pub fn save(&self, stored: SlotData) {
        let unsaved = Unsaved { slot: self, before: self.stored() };
        self.set(stored);
        // SAFETY: this process holds the slot, as these functions assert.
        unsafe {
            pg_sys::ReplicationSlotMarkDirty();
            pg_sys::ReplicationSlotSave();
            std::mem::forget(unsaved);
            pg_sys::ReplicationSlotsComputeRequiredLSN();
        }
    }

    /// Retains WAL from `restart` on at once, without writing the slot to disk: for a slot that is
    /// being made and has no position yet.
    pub fn reserve(&self, restart: Lsn) {
        self.set(SlotData { restart, ..self.stored() });
        // SAFETY: it takes the locks that it needs, and this process holds none of them.
        unsafe { pg_sys::ReplicationSlotsComputeRequiredLSN() }
    }

    fn set(&self, stored: SlotData) {
        // SAFETY: this process holds the slot; the spinlock covers four plain stores.
        unsafe {
            let slot = pg_sys::MyReplicationSlot;
            SpinLockAcquire(&raw mut (*slot).mutex);
            (*slot).data.restart_lsn = stored.restart.0;
            (*slot).data.confirmed_flush = stored.confirmed_flush.0;
            (*slot).data.two_phase_at = stored.number;
            SpinLockRelease(&raw mut (*slot).mutex);
        }
    }

    /// Lets another process take the slot.
    pub fn release(self) {
        // SAFETY: this process holds the slot.
        unsafe { pg_sys::ReplicationSlotRelease() }
    }
}

/// Dropped by the error that saving the slot raised.
struct Unsaved<'a> {
    slot: &'a Slot,
    before: SlotData,
}

impl Drop for Unsaved<'_> {
    fn drop(&mut self) {
        self.slot.set(self.before);
    }
}

/// Dropped by the error that making the slot raised.
struct Failing;

impl Drop for Failing {
    fn drop(&mut self) {
        say_missing();
    }
}

/// Number of the newest WAL segment that was removed since the server started; 0 if none was.
pub fn last_removed_segment() -> u64 {
    // SAFETY: reads a variable under a spinlock.
    unsafe { pg_sys::XLogGetLastRemovedSegno() }
}
