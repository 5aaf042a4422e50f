//! A setting that nobody is shown. What PostgreSQL does with a setting's value (guc.c, guc_funcs.c of 15 to
//! 18):
//!
//! | by | goes through | here |
//! |---|---|---|
//! | SHOW, current_setting(), SET … FROM CURRENT | `GetConfigOptionByName`, which asks the show hook | [`SHOWN`], and that to pg_read_all_settings only |
//! | pg_settings, whose `boot_val` and `reset_val` pass by the hook; SHOW ALL; EXPLAIN (SETTINGS) | leave out what is `GUC_NO_SHOW_ALL` | no row |
//! | parallel workers, the file for EXEC_BACKEND's children | the variable itself (`serialize_variable`, `write_one_nondefault_variable`) | whole, between processes of the server |
//! | ALTER SYSTEM, reload, pg_file_settings, `postgres -C` | the configuration file's text | shown: to superusers, to the log, and to who can read the file |
//!
//! While the library is not loaded the setting is a placeholder without flags: SHOW tells it to anybody.

use std::ffi::{CStr, CString, c_char};

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// What stands for it, whatever it is.
const SHOWN: &CStr = c"********";

/// Defines the setting, which takes effect on reload.
pub fn define(
    name: &'static CStr,
    description: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
) {
    // SAFETY: the hook neither panics nor raises, and what it returns lives for ever.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            description,
            c"",
            setting,
            GucContext::Sighup,
            GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL,
            None,
            None,
            Some(show),
        );
    }
}

unsafe extern "C-unwind" fn show() -> *const c_char {
    SHOWN.as_ptr()
}
