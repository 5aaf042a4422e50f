//! A value of a row or of an array: PostgreSQL's Datum, with how it is stored.

use std::cell::Cell;
use std::marker::PhantomData;

use pgrx::pg_sys;

use super::storage::{ARRAY_HEADER, MAX_DIMENSIONS, Storage, Stored};
use super::{guard, sys, varlena};

const _: () = assert!(ARRAY_HEADER == size_of::<pg_sys::ArrayType>());
const _: () = assert!(MAX_DIMENSIONS == pg_sys::MAXDIM as usize);

/// A value that is not null. What it is made of is there for `'a`; so is what is fetched to look into it, in
/// the memory context that is emptied when the row is done with.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    datum: pg_sys::Datum,
    storage: Storage,
    /// Not for other threads, on which nothing of PostgreSQL's may be called.
    lives: PhantomData<&'a Cell<()>>,
}

impl<'a> Value<'a> {
    /// # Safety
    ///
    /// Main thread. `datum` is a value that is so stored, whole and not null, and is there for `'a`.
    pub(super) unsafe fn new(datum: pg_sys::Datum, storage: Storage) -> Value<'a> {
        Value { datum, storage, lives: PhantomData }
    }

    /// The value that these bytes hold.
    #[inline]
    pub fn of(stored: Stored<'a>) -> Value<'a> {
        let datum = match stored.number() {
            Some(number) => pg_sys::Datum::from(number),
            None => pg_sys::Datum::from(stored.bytes().as_ptr()),
        };
        Value { datum, storage: stored.storage(), lives: PhantomData }
    }

    /// Takes a value off: see [`Stored::take`].
    #[inline]
    pub fn take(storage: Storage, bytes: &'a [u8], at: &mut usize) -> Option<Value<'a>> {
        Stored::take(storage, bytes, at).map(Value::of)
    }

    /// Takes a value of variable length off: see [`Stored::take_varlena`].
    #[inline]
    pub fn take_varlena(
        storage: Storage,
        bytes: &'a [u8],
        at: &mut usize,
    ) -> Option<(Value<'a>, Option<&'a [u8]>)> {
        let (stored, content) = Stored::take_varlena(storage, bytes, at)?;
        Some((Value::of(stored), content))
    }

    #[inline]
    pub(super) fn datum(self) -> pg_sys::Datum {
        self.datum
    }

    /// The value itself, if it is a number that is passed by value.
    #[inline]
    pub fn number(self) -> i64 {
        self.datum.value() as i64
    }

    /// Returns whether it has a length of its own.
    #[inline]
    pub fn is_varlena(self) -> bool {
        self.storage.is_varlena()
    }

    /// The bytes of a value that has as many as all of its type, and is passed by reference; else none.
    pub fn fixed_bytes(self) -> &'a [u8] {
        match self.storage.fixed_length() {
            Some(length) if !self.storage.by_value => {
                // SAFETY: the value has so many bytes, which are there for 'a.
                unsafe { std::slice::from_raw_parts(self.datum.cast_mut_ptr(), length) }
            }
            _ => &[],
        }
    }

    /// The bytes of a value of variable length, if it is stored plain.
    #[inline]
    pub fn plain(self) -> Option<&'a [u8]> {
        // SAFETY: the value is there for 'a, and is of variable length if it says so.
        self.is_varlena().then(|| unsafe { varlena::plain(self.datum) })?
    }

    /// Bytes of the content of a value of variable length, found without fetching it.
    pub fn content_size(self) -> usize {
        if !self.is_varlena() {
            return 0;
        }
        // SAFETY: the value is of variable length, whole, and there for 'a.
        unsafe { varlena::content_size(self.datum) }
    }

    /// Calls `use_it` with the content of a value of variable length, however it is stored.
    pub fn with_content<T>(self, use_it: impl FnOnce(&[u8]) -> T) -> T {
        if !self.is_varlena() {
            return use_it(self.fixed_bytes());
        }
        // SAFETY: the value is of variable length, whole, and there for 'a.
        unsafe { varlena::with_content(self.datum, use_it) }
    }

    /// The value itself, or, if it is of variable length and not stored plain, a copy that is.
    pub fn fetch(self) -> Value<'a> {
        if !self.is_varlena() {
            return self;
        }
        // SAFETY: a whole value of variable length; the copy lives as long as the row is dealt with.
        Value { datum: unsafe { varlena::fetch(self.datum) }, ..self }
    }

    /// Fetches a value of variable length that is not stored plain, calls `look` with the copy, and frees that.
    /// Returns none if the value is damaged.
    pub fn look_into<T>(self, look: impl FnOnce(Value<'_>) -> T) -> Option<T> {
        if self.plain().is_some() || !self.is_varlena() {
            return Some(look(self));
        }
        // SAFETY: a whole value of variable length. Decompressing takes no lock and pins nothing, so that
        // nothing is left behind by an error.
        let fetched = match unsafe { guard::catch(|| varlena::fetch(self.datum)) } {
            Ok(fetched) => fetched,
            Err(failure) if failure.is_for_memory() => failure.rethrow(),
            Err(_) => return None,
        };
        let result = look(Value { datum: fetched, ..self });
        // SAFETY: a copy, since the value is not plain; `look` cannot keep it.
        unsafe { pg_sys::pfree(fetched.cast_mut_ptr()) };
        Some(result)
    }

    /// An array from its length on, in memory that is aligned.
    pub fn whole(self) -> &'a [u8] {
        if !self.is_varlena() {
            return &[];
        }
        // SAFETY: a whole value of variable length. It, or the copy that is made if its header is short or it
        // is not plain, has as many bytes as it says, and lives as long as the row is dealt with.
        unsafe {
            let array = sys::pg_detoast_datum(self.datum.cast_mut_ptr());
            std::slice::from_raw_parts(array.cast::<u8>().cast_const(), pgrx::varsize_any(array))
        }
    }
}
