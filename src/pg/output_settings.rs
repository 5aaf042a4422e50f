//! The output settings under which rows are rendered, whatever the writing session has set, so that
//! equal rows give equal bytes.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicPtr, Ordering};

use pgrx::pg_sys;

use super::sys::plain::{bytea_output, locale_monetary};
use super::{moment, sys};
use crate::memory;

/// `BYTEA_OUTPUT_HEX` (utils/bytea.h).
const BYTEA_OUTPUT_HEX: i32 = 1;

/// While this value lives: TimeZone UTC, DateStyle ISO, IntervalStyle postgres, extra_float_digits
/// 1, bytea_output hex. These are plain variables, so dropping it, on errors too, sets them back
/// without calling PostgreSQL.
pub struct FixedOutput {
    timezone: *mut pg_sys::pg_tz,
    date_style: i32,
    interval_style: i32,
    float_digits: i32,
    bytea: i32,
}

impl FixedOutput {
    /// Sets the variables.
    pub fn set() -> FixedOutput {
        static UTC: AtomicPtr<pg_sys::pg_tz> = AtomicPtr::new(std::ptr::null_mut());
        let mut utc = UTC.load(Ordering::Relaxed);
        // SAFETY: main thread; pg_tzset caches what it returns for ever (pgtz.c).
        unsafe {
            if utc.is_null() {
                utc = sys::pg_tzset(c"UTC".as_ptr());
                UTC.store(utc, Ordering::Relaxed);
            }
            let before = FixedOutput {
                timezone: pg_sys::session_timezone,
                date_style: pg_sys::DateStyle,
                interval_style: pg_sys::IntervalStyle,
                float_digits: pg_sys::extra_float_digits,
                bytea: bytea_output,
            };
            if !utc.is_null() {
                pg_sys::session_timezone = utc;
            }
            pg_sys::DateStyle = pg_sys::USE_ISO_DATES as i32;
            pg_sys::IntervalStyle = pg_sys::INTSTYLE_POSTGRES as i32;
            pg_sys::extra_float_digits = 1;
            bytea_output = BYTEA_OUTPUT_HEX;
            before
        }
    }
}

impl Drop for FixedOutput {
    fn drop(&mut self) {
        // SAFETY: main thread; plain stores.
        unsafe {
            pg_sys::session_timezone = self.timezone;
            pg_sys::DateStyle = self.date_style;
            pg_sys::IntervalStyle = self.interval_style;
            pg_sys::extra_float_digits = self.float_digits;
            bytea_output = self.bytea;
        }
    }
}

/// search_path pg_catalog, quote_all_identifiers off and lc_monetary C, for tables whose rendering
/// depends on them. Undone by [`FixedSettings::undo`]; after an error PostgreSQL undoes it itself,
/// with the (sub)transaction (guc.c: `AtEOXact_GUC`).
pub struct FixedSettings {
    nesting: i32,
}

impl FixedSettings {
    /// Sets those that are different; none if none is.
    pub fn set() -> Option<FixedSettings> {
        // SAFETY: main thread; the texts of settings are null or NUL-terminated.
        let is = |text: *const c_char, wanted: &CStr| unsafe {
            !text.is_null() && CStr::from_ptr(text) == wanted
        };
        // SAFETY: plain reads of settings.
        let settings = unsafe {
            [
                (c"search_path", c"pg_catalog", is(pg_sys::namespace_search_path, c"pg_catalog")),
                (c"quote_all_identifiers", c"off", !pg_sys::quote_all_identifiers),
                (c"lc_monetary", c"C", is(locale_monetary, c"C")),
            ]
        };
        if settings.iter().all(|&(.., is_set)| is_set) {
            return None;
        }
        // SAFETY: main thread, in a transaction.
        unsafe {
            let nesting = pg_sys::NewGUCNestLevel();
            for (name, value, _) in settings.into_iter().filter(|&(.., is_set)| !is_set) {
                sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
            Some(FixedSettings { nesting })
        }
    }

    /// Sets them back.
    pub fn undo(self) {
        // SAFETY: the nesting level that `set` opened.
        unsafe { sys::AtEOXact_GUC(true, self.nesting) }
    }
}

/// Appends a date or a timestamp as PostgreSQL writes it into JSON under the fixed settings.
pub(super) fn push_date_time(out: &mut Vec<u8>, value: pg_sys::Datum, type_oid: pg_sys::Oid) {
    let mut buffer = [0 as c_char; pg_sys::MAXDATELEN as usize + 1];
    // SAFETY: the buffer is as large as the function demands (utils/datetime.h: MAXDATELEN); it
    // needs no database.
    unsafe {
        sys::JsonEncodeDateTime(buffer.as_mut_ptr(), value, type_oid, std::ptr::null());
        memory::append(out, CStr::from_ptr(buffer.as_ptr()).to_bytes());
    }
}

/// A timestamp and its text, for many that are the same in turn.
pub struct TimestampText {
    timestamp: i64,
    text: String,
}

impl Default for TimestampText {
    fn default() -> TimestampText {
        TimestampText { timestamp: i64::MIN, text: String::new() }
    }
}

impl TimestampText {
    /// The text of a timestamp, as [`json_timestamp`] makes it.
    pub fn of(&mut self, timestamp: i64) -> &str {
        if self.text.is_empty() || self.timestamp != timestamp {
            *self = TimestampText { timestamp, text: json_timestamp(timestamp) };
        }
        &self.text
    }
}

/// A timestamp, in microseconds since 2000, as PostgreSQL writes a timestamptz into JSON, in UTC.
pub fn json_timestamp(timestamp: i64) -> String {
    let mut text = Vec::with_capacity("2000-01-01T00:00:00.000000+00:00".len());
    if !moment::push_timestamptz(&mut text, timestamp) {
        let _utc = FixedOutput::set();
        push_date_time(&mut text, pg_sys::Datum::from(timestamp), pg_sys::TIMESTAMPTZOID);
    }
    String::from_utf8_lossy(&text).into_owned()
}
