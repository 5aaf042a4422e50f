//! Tables, columns and triggers as the catalogs have them, for who is told that they changed and has no open
//! table. Read by scans of the catalogs, never by SQL, which a search_path of the caller's could bend. Each
//! function gives nothing for what is not there any more.

mod capture_trigger;
mod dependency;
mod extension;
mod ids;
mod relation;
mod scan;

pub use capture_trigger::{CaptureTrigger, all_capture_triggers, capture_trigger};
pub use extension::{Schema, creation_schema_with_function, schema, version_of_extension_of};
pub use ids::{FunctionId, RelationId, TriggerId};
pub use relation::{Relation, quoted, relation, with_inheritors};
