//! A call of a function from SQL: its arguments, and what it answers.

use std::borrow::Cow;
use std::ffi::CStr;
use std::marker::PhantomData;

use pgrx::pg_sys;

use super::{sys, text, varlena};

/// A call of the function manager's.
#[derive(Clone, Copy)]
pub struct FunctionCall<'a> {
    info: pg_sys::FunctionCallInfo,
    lasts: PhantomData<&'a ()>,
}

/// A length of time, as PostgreSQL has it (datatype/timestamp.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub microseconds: i64,
}

/// What a function answers.
pub struct Answer(pub(super) pg_sys::Datum);

impl<'a> FunctionCall<'a> {
    /// A call of the function manager's.
    ///
    /// # Safety
    ///
    /// `info` is what the function manager passed, in the call that lasts for `'a`. The arguments are of the types
    /// that they are asked for as.
    pub(super) unsafe fn of(info: pg_sys::FunctionCallInfo) -> FunctionCall<'a> {
        FunctionCall { info, lasts: PhantomData }
    }

    /// The value of an argument, from 0; none if it is null.
    fn value(&self, number: usize) -> Option<pg_sys::Datum> {
        // SAFETY: a valid call with that many arguments (fmgr.h: `FunctionCallInfoBaseData`), which nobody changes
        // meanwhile.
        let argument = unsafe {
            let info = &*self.info;
            info.args.as_slice(info.nargs.max(0) as usize).get(number)?
        };
        (!argument.isnull).then_some(argument.value)
    }

    /// The bytes of an argument of type bytea, or of a text in the database's encoding.
    pub fn bytes(&self, number: usize) -> Option<&'a [u8]> {
        let value = self.value(number)?;
        // SAFETY: of variable length; a copy, if one must be made, is in the context of the call.
        unsafe { varlena::plain(varlena::fetch(value)) }
    }

    /// An argument of type text, varchar or json. Sets `lossy` if something in it has no meaning in UTF-8.
    pub fn text(&self, number: usize, lossy: &mut bool) -> Option<Cow<'a, str>> {
        Some(text::to_utf8_noting_loss(self.bytes(number)?, lossy))
    }

    /// An argument of type jsonb, as its text.
    pub fn jsonb(&self, number: usize, lossy: &mut bool) -> Option<Cow<'a, str>> {
        let value = self.value(number)?;
        let output = pg_sys::Oid::from_u32(pg_sys::F_JSONB_OUT);
        // SAFETY: a jsonb; its output function makes a NUL-terminated string in the context of the call.
        let json = unsafe {
            let made = sys::OidFunctionCall1Coll(output, pg_sys::InvalidOid, value);
            CStr::from_ptr(made.cast_mut_ptr())
        };
        Some(text::to_utf8_noting_loss(json.to_bytes(), lossy))
    }

    /// An argument of type smallint.
    pub fn small_integer(&self, number: usize) -> Option<i32> {
        self.value(number).map(|value| i32::from(value.value() as i16))
    }

    /// An argument of type integer.
    pub fn integer(&self, number: usize) -> Option<i32> {
        self.value(number).map(|value| value.value() as i32)
    }

    /// An argument of type boolean.
    pub fn boolean(&self, number: usize) -> Option<bool> {
        // Of the value one byte counts (postgres.h: `DatumGetBool`).
        self.value(number).map(|value| value.value() as u8 != 0)
    }

    /// An argument of type interval.
    pub fn interval(&self, number: usize) -> Option<Interval> {
        let value = self.value(number)?;
        // SAFETY: an interval is passed by reference, and aligned.
        let interval = unsafe { *value.cast_mut_ptr::<pg_sys::Interval>() };
        Some(Interval { months: interval.month, days: interval.day, microseconds: interval.time })
    }
}

impl Answer {
    /// A boolean.
    pub fn boolean(answer: bool) -> Answer {
        Answer(pg_sys::Datum::from(answer))
    }

    /// A text of ASCII.
    pub fn text(text: &str) -> Answer {
        debug_assert!(text.is_ascii());
        // SAFETY: so many bytes are there, which are copied.
        let made =
            unsafe { sys::cstring_to_text_with_len(text.as_ptr().cast(), text.len() as i32) };
        Answer(pg_sys::Datum::from(made))
    }
}
