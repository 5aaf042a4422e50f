//! Extensions, and the schemas that their objects are in.

use std::ffi::CString;

use pgrx::pg_sys;

use super::dependency::rows_of_dependents;
use super::ids::FunctionId;
use super::scan::{Rows, attribute, scan};
use crate::pg::rights::Role;
use crate::pg::text::take_name;
use crate::pg::{sys, text, varlena};

/// The version of the extension that a function is a member of; none if it is of none.
pub fn version_of_extension_of(function: FunctionId) -> Option<String> {
    // SAFETY: a trigger asks this, in the transaction of its statement.
    let extension = unsafe { sys::getExtensionOfObject(pg_sys::ProcedureRelationId, function.0) };
    let rows = Rows {
        catalog: pg_sys::ExtensionRelationId,
        index: pg_sys::ExtensionOidIndexId,
        keys: [(pg_sys::Anum_pg_extension_oid, extension)],
    };
    let mut version = None;
    // SAFETY: in a transaction; extversion is a text.
    unsafe {
        scan(rows, std::ptr::null_mut(), |tuple, descriptor| {
            let value = attribute(tuple, descriptor, pg_sys::Anum_pg_extension_extversion);
            version = value.map(|value| {
                varlena::with_content(value, |bytes| text::owned(text::to_utf8(bytes)))
            });
        });
    }
    version
}

/// A schema.
pub struct Schema {
    pub owner: Role,
    /// An extension whose objects are in it.
    pub extension: Option<String>,
    pub is_empty: bool,
}

/// The schema of this name; none if there is no such schema.
pub fn schema(name: &str) -> Option<Schema> {
    let name = CString::new(name).ok()?;
    // SAFETY: look-ups in a transaction; the tuple is released after its last use.
    unsafe {
        let schema = sys::get_namespace_oid(name.as_ptr(), true);
        let cache = pg_sys::SysCacheIdentifier::NAMESPACEOID as i32;
        let tuple = sys::SearchSysCache1(cache, pg_sys::Datum::from(schema));
        if tuple.is_null() {
            return None;
        }
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_namespace>();
        let owner = Role(form.nspowner);
        pg_sys::ReleaseSysCache(tuple);
        Some(Schema { owner, extension: extension_in(schema), is_empty: is_empty(schema) })
    }
}

/// Whether nothing is in this schema, nor needs it.
fn is_empty(schema: pg_sys::Oid) -> bool {
    let mut is_empty = true;
    // SAFETY: in a transaction; nothing is kept of the rows.
    unsafe {
        let rows = rows_of_dependents(pg_sys::NamespaceRelationId, schema);
        scan(rows, std::ptr::null_mut(), |_, _| is_empty = false);
    }
    is_empty
}

/// An extension whose objects are in this schema.
fn extension_in(schema: pg_sys::Oid) -> Option<String> {
    let rows = Rows { catalog: pg_sys::ExtensionRelationId, index: 0, keys: [] };
    let mut found = None;
    // SAFETY: in a transaction; a row of pg_extension begins with its fixed part.
    unsafe {
        scan(rows, std::ptr::null_mut(), |tuple, _| {
            let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_extension>();
            if form.extnamespace == schema {
                found = Some(text::c_to_utf8(form.extname.data.as_ptr()));
            }
        });
    }
    found
}

/// The schema that what a script creates without one is created in, and whether it has a function of this name
/// and no arguments.
pub fn creation_schema_with_function(name: &str) -> Option<(String, bool)> {
    let name = CString::new(name).ok()?;
    // SAFETY: look-ups in a transaction; the list and the vector are palloc'd.
    unsafe {
        let path = sys::fetch_search_path(false);
        let schema = pgrx::PgList::<pg_sys::Oid>::from_pg(path).iter_oid().next()?;
        let function = sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(sys::buildoidvector(std::ptr::null(), 0)),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::from(0),
        );
        let schema = take_name(sys::get_namespace_name(schema));
        Some((schema, function != pg_sys::InvalidOid))
    }
}
