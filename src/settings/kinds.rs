//! Settings of a kind: how they are defined and read.

use std::ffi::{CStr, CString};
use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// Defines a setting that is a text.
pub fn define_text(
    name: &'static CStr,
    description: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
    context: GucContext,
    flags: GucFlags,
) {
    GucRegistry::define_string_guc(name, description, c"", setting, context, flags);
}

/// Defines a number that a reload changes.
pub fn define_number(
    name: &'static CStr,
    description: &'static CStr,
    setting: &'static GucSetting<i32>,
    range: std::ops::RangeInclusive<i32>,
    flags: GucFlags,
) {
    GucRegistry::define_int_guc(
        name,
        description,
        c"",
        setting,
        *range.start(),
        *range.end(),
        GucContext::Sighup,
        flags,
    );
}

/// A text as it stands now.
pub fn string(setting: &GucSetting<Option<CString>>) -> String {
    setting.get().map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A number of seconds as it stands now.
pub fn seconds(setting: &GucSetting<i32>) -> Duration {
    Duration::from_secs(setting.get() as u64)
}
