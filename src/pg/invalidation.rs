//! Which of the things that a plan was made from have changed since. PostgreSQL tells each session
//! about changes of the catalogs, its own and others' (inval.c); the callbacks here count them, and
//! do nothing else: they may run in the middle of anything, and may neither allocate nor fail.
//!
//! Changes are counted by a hash of what changed. Two things with the same hash cost a plan that is
//! made anew for nothing.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use pgrx::pg_sys;

use super::sys;

const BUCKETS: usize = 1024;

/// Changes of the things with each hash. Of this process, as are the others.
static CHANGES: [AtomicU32; BUCKETS] = [const { AtomicU32::new(0) }; BUCKETS];

/// Changes that concern everything.
static SWEEPING: AtomicU32 = AtomicU32::new(0);

/// Changes of anything.
static ANY: AtomicU32 = AtomicU32::new(0);

static REGISTERED: AtomicBool = AtomicBool::new(false);

use pg_sys::SysCacheIdentifier::{CASTSOURCETARGET, NAMESPACEOID, PROCOID, TYPEOID};

/// What is being read for a plan.
pub struct Dependencies {
    buckets: Vec<u16>,
    begun: u32,
}

/// Tells whether anything that was read has changed since.
pub struct Stamp {
    buckets: Box<[u16]>,
    sum: Option<u32>,
    /// [`ANY`] when the stamp was last found to be current.
    verified: Cell<u32>,
}

impl Dependencies {
    /// To be called before anything is read.
    pub fn begin() -> Dependencies {
        if !REGISTERED.swap(true, Ordering::Relaxed) {
            let none = pg_sys::Datum::from(0);
            // SAFETY: the callbacks have the C ABI and no way to unwind. If there were no room for
            // them PostgreSQL would end the session (FATAL).
            unsafe {
                pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), none);
                for cache in [CASTSOURCETARGET, NAMESPACEOID, PROCOID, TYPEOID] {
                    pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(row_changed), none);
                }
            }
        }
        Dependencies { buckets: Vec::new(), begun: ANY.load(Ordering::Relaxed) }
    }

    /// The plan depends on this relation: its name, columns, triggers, keys, parents.
    pub(super) fn on_relation(&mut self, relation: pg_sys::Oid) {
        self.add(bucket(RELATION, relation.to_u32()));
    }

    /// It depends on this type.
    pub(super) fn on_type(&mut self, type_oid: pg_sys::Oid) {
        self.on_row(TYPEOID, type_oid);
    }

    /// It depends on this function.
    pub(super) fn on_function(&mut self, function: pg_sys::Oid) {
        self.on_row(PROCOID, function);
    }

    /// It depends on the name of this schema.
    pub(super) fn on_schema(&mut self, schema: pg_sys::Oid) {
        self.on_row(NAMESPACEOID, schema);
    }

    fn on_row(&mut self, cache: pg_sys::SysCacheIdentifier::Type, row: pg_sys::Oid) {
        let none = pg_sys::Datum::from(0);
        // SAFETY: these caches have one key, an oid.
        let hash = unsafe {
            sys::GetSysCacheHashValue(cache as i32, pg_sys::Datum::from(row), none, none, none)
        };
        self.add(bucket(cache, hash));
    }

    fn add(&mut self, bucket: usize) {
        let bucket = bucket as u16;
        if !self.buckets.contains(&bucket) {
            self.buckets.push(bucket);
        }
    }

    /// To be called when everything is read. Was something changed meanwhile, the stamp is never
    /// current.
    pub fn seal(self) -> Stamp {
        let buckets = self.buckets.into_boxed_slice();
        let unchanged = self.begun == ANY.load(Ordering::Relaxed);
        let sum = unchanged.then(|| sum(&buckets));
        Stamp { sum, buckets, verified: Cell::new(self.begun) }
    }
}

impl Stamp {
    /// Returns whether nothing has changed.
    pub fn is_current(&self) -> bool {
        let any = ANY.load(Ordering::Relaxed);
        if any != self.verified.get() {
            if self.sum != Some(sum(&self.buckets)) {
                return false;
            }
            self.verified.set(any);
        }
        true
    }
}

fn sum(buckets: &[u16]) -> u32 {
    let count = |&bucket: &u16| CHANGES[usize::from(bucket)].load(Ordering::Relaxed);
    buckets.iter().map(count).fold(SWEEPING.load(Ordering::Relaxed), u32::wrapping_add)
}

/// Stands for relations, which are no system cache.
const RELATION: u32 = u32::MAX;

fn bucket(kind: u32, hash: u32) -> usize {
    let mixed = (hash ^ kind.wrapping_mul(0x85EB_CA6B)).wrapping_mul(0x9E37_79B9);
    (mixed >> 16) as usize % BUCKETS
}

fn count(counter: &AtomicU32) {
    counter.fetch_add(1, Ordering::Relaxed);
    ANY.fetch_add(1, Ordering::Relaxed);
}

unsafe extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    if relation == pg_sys::InvalidOid {
        count(&SWEEPING);
    } else {
        count(&CHANGES[bucket(RELATION, relation.to_u32())]);
    }
}

unsafe extern "C-unwind" fn row_changed(_argument: pg_sys::Datum, cache: i32, hash: u32) {
    let cache = cache as pg_sys::SysCacheIdentifier::Type;
    // A zero says that the whole cache was reset. Which casts a type has is asked for types in many
    // ways, and changes hardly ever.
    if hash == 0 || cache == CASTSOURCETARGET {
        count(&SWEEPING);
    } else {
        count(&CHANGES[bucket(cache, hash)]);
    }
}
