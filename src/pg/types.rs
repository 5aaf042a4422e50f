//! Types as the catalogs have them. Only in a transaction.

use std::ffi::c_char;

use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid as B;

use super::descriptor::Descriptor;
use super::function::{JsonFunction, OutputFunction};
use super::invalidation::Dependencies;
use super::plan_memory::PlanMemory;
use super::storage::Storage;
use super::sys;
pub use super::type_id::TypeId;

/// What a type is made of.
pub enum Made {
    /// Labels.
    Enum,
    /// A range, or ranges, of another type's values.
    Of(TypeId),
    /// The fields of a row.
    Fields(Vec<TypeId>),
    /// An array of elements.
    Elements(TypeId),
    /// Nothing that is a type.
    Itself,
}

impl Storage {
    /// The storage of a type, given what pg_type has.
    pub(super) fn new(length: i16, by_value: bool, alignment: c_char) -> Storage {
        let alignment = match alignment as u8 {
            pg_sys::TYPALIGN_CHAR => 1,
            pg_sys::TYPALIGN_SHORT => align_of::<i16>(),
            pg_sys::TYPALIGN_INT => align_of::<i32>(),
            _ => align_of::<f64>(),
        };
        Storage { length, by_value, alignment: alignment as u8 }
    }
}

impl TypeId {
    /// Notes that a plan depends on the type.
    pub fn note(self, dependencies: &mut Dependencies) {
        dependencies.on_type(self.0);
    }

    /// What a domain is of; the type itself if it is none.
    pub fn base(self) -> TypeId {
        // SAFETY: a look-up in a system cache, in a transaction.
        TypeId(unsafe { sys::getBaseType(self.0) })
    }

    /// The type of the elements, if it is an array.
    pub fn element(self) -> Option<TypeId> {
        // SAFETY: a look-up in a system cache, in a transaction.
        let element = unsafe { sys::get_element_type(self.0) };
        (element != pg_sys::InvalidOid).then_some(TypeId(element))
    }

    /// Returns whether its values are rows.
    pub fn is_row(self) -> bool {
        // SAFETY: a look-up in a system cache, in a transaction.
        unsafe { sys::type_is_rowtype(self.0) }
    }

    /// Returns whether its values are arrays of which the type does not say of what.
    pub fn is_array_of_anything(self) -> bool {
        self.0 == pg_sys::RECORDARRAYOID || self.0 == pg_sys::ANYARRAYOID
    }

    /// How its values are stored.
    pub fn storage(self) -> Storage {
        let (mut length, mut by_value, mut alignment) = (0, false, 0);
        // SAFETY: a look-up in a system cache, in a transaction, that fills the three.
        unsafe {
            sys::get_typlenbyvalalign(self.0, &mut length, &mut by_value, &mut alignment);
        }
        Storage::new(length, by_value, alignment)
    }

    /// The function that makes text of its values.
    pub fn output_function(
        self,
        memory: &PlanMemory,
        dependencies: &mut Dependencies,
    ) -> OutputFunction {
        let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
        // SAFETY: a look-up in a system cache, in a transaction, that fills both, or raises an error.
        unsafe { sys::getTypeOutputInfo(self.0, &mut function, &mut is_varlena) };
        dependencies.on_function(function);
        OutputFunction::new(function, memory)
    }

    /// The function of an explicit cast to json, which only counts for types that are not PostgreSQL's
    /// own.
    pub fn cast_to_json(self) -> Option<JsonFunction> {
        if !self.is_foreign() {
            return None;
        }
        let mut function = pg_sys::InvalidOid;
        // SAFETY: look-ups in system caches, in a transaction.
        let path = unsafe {
            sys::find_coercion_pathway(
                pg_sys::JSONOID,
                self.0,
                pg_sys::CoercionContext::COERCION_EXPLICIT,
                &mut function,
            )
        };
        let is_function = path == pg_sys::CoercionPathType::COERCION_PATH_FUNC;
        (is_function && function != pg_sys::InvalidOid).then_some(JsonFunction(function))
    }

    /// What it is made of.
    pub fn made_of(self, dependencies: &mut Dependencies) -> Made {
        // SAFETY: a look-up in a system cache, in a transaction.
        let class = unsafe { sys::get_typtype(self.0) } as u8;
        match class {
            pg_sys::TYPTYPE_ENUM => Made::Enum,
            // SAFETY: a look-up in a system cache, in a transaction, of a range.
            pg_sys::TYPTYPE_RANGE => Made::Of(TypeId(unsafe { sys::get_range_subtype(self.0) })),
            pg_sys::TYPTYPE_MULTIRANGE => {
                // SAFETY: a look-up in a system cache, in a transaction, of a multirange.
                Made::Of(TypeId(unsafe { sys::get_multirange_range(self.0) }))
            }
            pg_sys::TYPTYPE_COMPOSITE => Made::Fields(self.fields(dependencies)),
            _ => self.element().map_or(Made::Itself, Made::Elements),
        }
    }

    fn fields(self, dependencies: &mut Dependencies) -> Vec<TypeId> {
        // SAFETY: the type is composite; its descriptor is pinned until it is released.
        let (descriptor, relation) =
            unsafe { (sys::lookup_rowtype_tupdesc(self.0, -1), sys::get_typ_typrelid(self.0)) };
        dependencies.on_relation(relation);
        // SAFETY: the descriptor is pinned, and not used after this.
        let fields = unsafe { Descriptor::new(descriptor) }
            .attributes()
            .filter(|attribute| !attribute.is_dropped())
            .map(|attribute| attribute.type_id())
            .collect();
        // SAFETY: it was pinned above. One that is not counted needs no release (tupdesc.h:
        // ReleaseTupleDesc).
        unsafe {
            if (*descriptor).tdrefcount >= 0 {
                pg_sys::DecrTupleDescRefCount(descriptor);
            }
        }
        fields
    }

    /// Returns whether values look different under other string settings: names of catalog objects
    /// (search_path, quote_all_identifiers), money (lc_monetary), and whatever a type that is not PostgreSQL's
    /// own may do.
    pub fn depends_on_settings(self) -> bool {
        self.is_foreign() || SENSITIVE.into_iter().any(|builtin| builtin as u32 == self.number())
    }

    /// Returns whether it is not PostgreSQL's own.
    fn is_foreign(self) -> bool {
        self.number() >= pg_sys::FirstNormalObjectId
    }
}

const SENSITIVE: [B; 12] = [
    B::MONEYOID,
    B::REGPROCOID,
    B::REGPROCEDUREOID,
    B::REGOPEROID,
    B::REGOPERATOROID,
    B::REGCLASSOID,
    B::REGCOLLATIONOID,
    B::REGTYPEOID,
    B::REGROLEOID,
    B::REGNAMESPACEOID,
    B::REGCONFIGOID,
    B::REGDICTIONARYOID,
];
