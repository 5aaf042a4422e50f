//! The output settings under which rows are rendered, whatever the writing session has set, so that
//! equal rows give equal bytes.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicPtr, Ordering};

use pgrx::pg_sys;

use super::sys;
use super::sys::plain::{bytea_output, locale_monetary};
use crate::memory;

/// `BYTEA_OUTPUT_HEX` (utils/bytea.h).
const BYTEA_OUTPUT_HEX: i32 = 1;

/// While this value lives, values are rendered in the same way whatever the session has set. After
/// an error PostgreSQL itself undoes what dropping it does not.
pub struct Output {
    _globals: FixedOutput,
    settings: Option<FixedSettings>,
}

impl Output {
    /// Sets the settings; [`Output::undo`] sets them back.
    pub fn fix(with_string_settings: bool) -> Output {
        Output {
            _globals: FixedOutput::set(),
            settings: with_string_settings.then(FixedSettings::set).flatten(),
        }
    }

    /// Sets everything back.
    pub fn undo(self) {
        if let Some(settings) = self.settings {
            settings.undo();
        }
    }
}

/// While this value lives: TimeZone UTC, DateStyle ISO, IntervalStyle postgres, extra_float_digits
/// 1, bytea_output hex. These are plain variables, so dropping it, on errors too, sets them back
/// without calling PostgreSQL.
struct FixedOutput {
    timezone: *mut pg_sys::pg_tz,
    date_style: i32,
    interval_style: i32,
    float_digits: i32,
    bytea: i32,
}

impl FixedOutput {
    /// Sets the variables.
    fn set() -> FixedOutput {
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
struct FixedSettings {
    nesting: i32,
}

impl FixedSettings {
    /// Sets those that are different; none if none is.
    fn set() -> Option<FixedSettings> {
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
    fn undo(self) {
        // SAFETY: the nesting level that `set` opened.
        unsafe { sys::AtEOXact_GUC(true, self.nesting) }
    }
}

/// A date or a timestamp, in days or microseconds since 2000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Date(i32),
    Timestamp(i64),
    TimestampTz(i64),
}

/// Appends a date or a timestamp as PostgreSQL writes it into JSON under the fixed settings.
pub fn push_moment(out: &mut Vec<u8>, moment: Moment) {
    let (value, type_oid) = match moment {
        Moment::Date(days) => (pg_sys::Datum::from(days), pg_sys::DATEOID),
        Moment::Timestamp(time) => (pg_sys::Datum::from(time), pg_sys::TIMESTAMPOID),
        Moment::TimestampTz(time) => (pg_sys::Datum::from(time), pg_sys::TIMESTAMPTZOID),
    };
    let mut buffer = [0 as c_char; pg_sys::MAXDATELEN as usize + 1];
    // SAFETY: the buffer is as large as the function demands (utils/datetime.h: MAXDATELEN); it
    // needs no database.
    unsafe {
        sys::JsonEncodeDateTime(buffer.as_mut_ptr(), value, type_oid, std::ptr::null());
        memory::append(out, CStr::from_ptr(buffer.as_ptr()).to_bytes());
    }
}
