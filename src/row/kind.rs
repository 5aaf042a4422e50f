//! How the values of a type become JSON: the choices of PostgreSQL's `json_categorize_type` (json.c
//! in 15, jsonfuncs.c in 18), made once for a column. What is simple and frequent is rendered by
//! code of ours ([`super::value`]); for the rest PostgreSQL's functions are called.

use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid as B;

use super::builtin;
use super::invalidation::Dependencies;
use super::plan_memory::PlanMemory;
use super::storage::Storage;
use super::sys;

/// The rendering of one type.
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    /// text, varchar, character(n): content that is escaped.
    Text,
    /// json: content that stands as it is.
    Json,
    Bytea,
    Name,
    Uuid,
    Date,
    Timestamp,
    TimestampTz,
    /// With the output function, for what is no number.
    Numeric(Function),
    /// With the output function, for what is laid out in an unexpected way.
    Jsonb(Function),
    /// An output function whose ASCII text is a number, or Infinity, NaN: float4, float8.
    Float(Function),
    /// An output function whose text is escaped.
    Quoted(Function),
    /// The same, whose text has a character for each bit: bit, varbit.
    Bits(Function),
    Array(Box<Elements>),
    /// A function from the type to json: of composites, of types with a cast, of arrays that are
    /// not known here.
    ToJson(pg_sys::Oid),
    /// None: the value is JSON already ([`super::given`]).
    Given,
}

/// A function in the memory of the plan.
pub(super) type Function = *mut pg_sys::FmgrInfo;

/// The elements of an array type.
pub(super) struct Elements {
    pub type_oid: pg_sys::Oid,
    pub kind: Kind,
    pub storage: Storage,
    /// Function from an array whose elements are of another type to json; none where there is no
    /// database to look that type up in.
    pub to_json: Option<pg_sys::Oid>,
}

impl Kind {
    /// The rendering of a type of PostgreSQL's own, or of arrays of it, where there is no database.
    pub fn of_builtin(
        type_oid: pg_sys::Oid,
        is_array: bool,
        memory: &PlanMemory,
    ) -> Option<(Kind, Storage)> {
        let (kind, storage) = (builtin::kind(type_oid, memory)?, builtin::storage(type_oid)?);
        if !is_array {
            return Some((kind, storage));
        }
        let alignment = storage.alignment.max(align_of::<i32>());
        let array = Storage { length: -1, by_value: false, alignment };
        let elements = Elements { type_oid, kind, storage, to_json: None };
        Some((Kind::Array(Box::new(elements)), array))
    }
}

/// Finds the rendering of types.
pub(super) struct Kinds<'a> {
    pub memory: &'a PlanMemory,
    pub dependencies: &'a mut Dependencies,
    /// Whether a type was asked for whose values look different under other string settings.
    pub depend_on_settings: bool,
}

impl Kinds<'_> {
    /// The rendering of a type.
    pub fn of(&mut self, type_oid: pg_sys::Oid) -> Kind {
        self.dependencies.on_type(type_oid);
        // SAFETY: a syscache look-up in a transaction.
        let base = unsafe { sys::getBaseType(type_oid) };
        self.dependencies.on_type(base);
        match builtin::kind(base, self.memory) {
            Some(kind) => kind,
            None => self.of_the_rest(base),
        }
    }

    /// A type of PostgreSQL's own that this type is, or whose array it is, by its place in the list of
    /// those that need no database.
    pub fn builtin(&self, type_oid: pg_sys::Oid) -> Option<(u8, bool)> {
        // SAFETY: syscache look-ups in a transaction.
        let (base, element) = unsafe {
            let base = sys::getBaseType(type_oid);
            (base, sys::get_element_type(base))
        };
        let alone = builtin::place(base).map(|place| (place, false));
        alone.or_else(|| builtin::place(element).map(|place| (place, true)))
    }

    fn of_the_rest(&mut self, base: pg_sys::Oid) -> Kind {
        // SAFETY: syscache look-ups in a transaction.
        let (element, is_row) =
            unsafe { (sys::get_element_type(base), sys::type_is_rowtype(base)) };
        if element != pg_sys::InvalidOid {
            return Kind::Array(Box::new(self.elements(element)));
        }
        if base == pg_sys::RECORDARRAYOID || base == pg_sys::ANYARRAYOID {
            self.depend_on_settings = true;
            return Kind::ToJson(pg_sys::Oid::from_u32(pg_sys::F_ARRAY_TO_JSON_ANYARRAY));
        }
        if is_row {
            self.look_into(base);
            return Kind::ToJson(pg_sys::Oid::from_u32(pg_sys::F_ROW_TO_JSON_RECORD));
        }
        if let Some(cast) = cast_to_json(base) {
            self.depend_on_settings = true;
            return Kind::ToJson(cast);
        }
        self.look_into(base);
        Kind::Quoted(self.output_function(base))
    }

    fn elements(&mut self, type_oid: pg_sys::Oid) -> Elements {
        let (mut length, mut by_value, mut alignment) = (0, false, 0);
        // SAFETY: a syscache look-up that fills the three.
        unsafe {
            sys::get_typlenbyvalalign(type_oid, &mut length, &mut by_value, &mut alignment);
        }
        Elements {
            type_oid,
            kind: self.of(type_oid),
            storage: Storage::new(length, by_value, alignment),
            to_json: Some(pg_sys::Oid::from_u32(pg_sys::F_ARRAY_TO_JSON_ANYARRAY)),
        }
    }

    fn output_function(&mut self, type_oid: pg_sys::Oid) -> Function {
        let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
        // SAFETY: a syscache look-up that fills both, or raises an error.
        unsafe { sys::getTypeOutputInfo(type_oid, &mut function, &mut is_varlena) };
        self.dependencies.on_function(function);
        self.memory.function(function)
    }

    /// Notes whether values of a type look different under other string settings: names of catalog
    /// objects (search_path, quote_all_identifiers), money (lc_monetary), whatever a type that is
    /// not PostgreSQL's own may do; and what is made of these.
    fn look_into(&mut self, type_oid: pg_sys::Oid) {
        // SAFETY: a syscache look-up in a transaction.
        let base = unsafe { sys::getBaseType(type_oid) };
        // SAFETY: as above.
        let class = unsafe { sys::get_typtype(base) } as u8;
        match class {
            pg_sys::TYPTYPE_ENUM => self.depend_on_settings |= cast_to_json(base).is_some(),
            // SAFETY: syscache look-ups, of types of these classes.
            pg_sys::TYPTYPE_RANGE => self.look_into(unsafe { sys::get_range_subtype(base) }),
            pg_sys::TYPTYPE_MULTIRANGE => {
                // SAFETY: as above.
                self.look_into(unsafe { sys::get_multirange_range(base) });
            }
            pg_sys::TYPTYPE_COMPOSITE => self.look_into_fields(base),
            _ => {
                // SAFETY: as above.
                let element = unsafe { sys::get_element_type(base) };
                if element != pg_sys::InvalidOid {
                    self.look_into(element);
                } else {
                    self.depend_on_settings |= is_foreign(base) || is_sensitive(base);
                }
            }
        }
    }

    fn look_into_fields(&mut self, composite: pg_sys::Oid) {
        // SAFETY: the type is composite; its descriptor is pinned until it is released.
        let (descriptor, relation) = unsafe {
            (sys::lookup_rowtype_tupdesc(composite, -1), sys::get_typ_typrelid(composite))
        };
        self.dependencies.on_relation(relation);
        // SAFETY: a live descriptor.
        let types: Vec<pg_sys::Oid> = unsafe { super::columns::attributes(descriptor) }
            .filter(|attribute| !attribute.attisdropped)
            .map(|attribute| attribute.atttypid)
            .collect();
        // SAFETY: pinned above. One that is not counted needs no release (tupdesc.h:
        // ReleaseTupleDesc).
        unsafe {
            if (*descriptor).tdrefcount >= 0 {
                pg_sys::DecrTupleDescRefCount(descriptor);
            }
        }
        for field in types {
            self.look_into(field);
        }
    }
}

/// The function of an explicit cast to json, which only counts for types that are not PostgreSQL's
/// own.
fn cast_to_json(type_oid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    if !is_foreign(type_oid) {
        return None;
    }
    let mut function = pg_sys::InvalidOid;
    // SAFETY: syscache look-ups in a transaction.
    let path = unsafe {
        sys::find_coercion_pathway(
            pg_sys::JSONOID,
            type_oid,
            pg_sys::CoercionContext::COERCION_EXPLICIT,
            &mut function,
        )
    };
    let is_function = path == pg_sys::CoercionPathType::COERCION_PATH_FUNC;
    (is_function && function != pg_sys::InvalidOid).then_some(function)
}

fn is_foreign(type_oid: pg_sys::Oid) -> bool {
    type_oid.to_u32() >= pg_sys::FirstNormalObjectId
}

fn is_sensitive(type_oid: pg_sys::Oid) -> bool {
    [
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
    ]
    .into_iter()
    .any(|builtin| builtin as u32 == type_oid.to_u32())
}
