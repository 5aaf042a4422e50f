//! Functions of PostgreSQL's that make text of a value.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::plan_memory::PlanMemory;
use super::storage::Storage;
use super::sys;
use super::value::Value;

/// What an output function made is freed at once above this size, and else with the memory context
/// of the row.
const LARGE: usize = 8 * 1024;

/// The output function of a type, ready to be called.
pub struct OutputFunction {
    info: *mut pg_sys::FmgrInfo,
    /// Where `info` is.
    _memory: PlanMemory,
}

/// A function from a type to json.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonFunction(pub(super) pg_sys::Oid);

impl OutputFunction {
    /// # Errors
    ///
    /// Raises if there is no such function.
    pub(super) fn new(function: pg_sys::Oid, memory: &PlanMemory) -> OutputFunction {
        OutputFunction { info: memory.function(function), _memory: memory.clone() }
    }

    /// Calls `use_it` with the text of a value, which is one of the function's type.
    pub fn with_text(&self, value: Value<'_>, use_it: impl FnOnce(&[u8])) {
        // SAFETY: the memory of the function is there as long as this; the value is whole. That it is of the
        // function's type says whoever made the plan of its column, as PostgreSQL's executor relies on its
        // plans. The function returns a NUL-terminated string in the current context.
        unsafe {
            let made = sys::OutputFunctionCall(self.info, value.datum());
            let text = CStr::from_ptr(made).to_bytes();
            let is_large = text.len() > LARGE;
            use_it(text);
            if is_large {
                pg_sys::pfree(made.cast());
            }
        }
    }
}

impl JsonFunction {
    /// Of any array.
    pub fn of_arrays() -> JsonFunction {
        JsonFunction(pg_sys::Oid::from_u32(pg_sys::F_ARRAY_TO_JSON_ANYARRAY))
    }

    /// Of any row.
    pub fn of_rows() -> JsonFunction {
        JsonFunction(pg_sys::Oid::from_u32(pg_sys::F_ROW_TO_JSON_RECORD))
    }

    /// Calls `use_it` with the JSON of a value, which is one of the function's type. In a transaction.
    pub fn with_json(self, value: Value<'_>, use_it: impl FnOnce(&[u8])) {
        // SAFETY: the value is whole, and of the function's type, as for `OutputFunction::with_text`; the
        // result is a json, which is of variable length, in the current context.
        unsafe {
            let made = sys::OidFunctionCall1Coll(self.0, pg_sys::InvalidOid, value.datum());
            Value::new(made, Storage::VARLENA).with_content(use_it);
        }
    }
}
