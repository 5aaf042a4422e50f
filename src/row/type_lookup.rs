//! Looks up in the catalogs how the values of a type become JSON. Only in a transaction.

use super::kind::{Elements, Kind, Portable};
use crate::pg::function::JsonFunction;
use crate::pg::invalidation::Dependencies;
use crate::pg::plan_memory::PlanMemory;
use crate::pg::types::{Made, TypeId};
use crate::pg::worker_types::WorkerType;

/// Looks up types.
pub struct TypeLookup<'a> {
    pub memory: &'a PlanMemory,
    pub dependencies: &'a mut Dependencies,
    /// Whether a type was asked for whose values look different under other string settings.
    pub depend_on_settings: bool,
}

impl TypeLookup<'_> {
    /// Returns how values of a type are rendered.
    pub fn kind(&mut self, type_id: TypeId) -> Kind {
        type_id.note(self.dependencies);
        let base = type_id.base();
        base.note(self.dependencies);
        match WorkerType::of(base) {
            Some(known) => Kind::of(known, self.memory),
            None => self.of_the_rest(base),
        }
    }

    /// Returns the type as one that needs no database to be rendered, if it is one.
    pub fn portable(&self, type_id: TypeId) -> Option<Portable> {
        let base = type_id.base();
        if let Some(of) = WorkerType::of(base) {
            return Some(Portable { of, is_array: false });
        }
        let of = WorkerType::of(base.element()?)?;
        Some(Portable { of, is_array: true })
    }

    fn of_the_rest(&mut self, base: TypeId) -> Kind {
        if let Some(element) = base.element() {
            return Kind::Array(Box::new(self.elements(element)));
        }
        if base.is_array_of_anything() {
            self.depend_on_settings = true;
            return Kind::ToJson(JsonFunction::of_arrays());
        }
        if base.is_row() {
            self.look_into(base);
            return Kind::ToJson(JsonFunction::of_rows());
        }
        if let Some(cast) = base.cast_to_json() {
            self.depend_on_settings = true;
            return Kind::ToJson(cast);
        }
        self.look_into(base);
        Kind::Quoted(base.output_function(self.memory, self.dependencies))
    }

    fn elements(&mut self, type_id: TypeId) -> Elements {
        Elements {
            type_id,
            kind: self.kind(type_id),
            storage: type_id.storage(),
            to_json: Some(JsonFunction::of_arrays()),
        }
    }

    /// Notes whether values of a type look different under other string settings, or what it is made of.
    fn look_into(&mut self, type_id: TypeId) {
        let base = type_id.base();
        match base.made_of(self.dependencies) {
            Made::Enum => self.depend_on_settings |= base.cast_to_json().is_some(),
            Made::Of(part) | Made::Elements(part) => self.look_into(part),
            Made::Fields(fields) => fields.into_iter().for_each(|field| self.look_into(field)),
            Made::Itself => self.depend_on_settings |= base.depends_on_settings(),
        }
    }
}
