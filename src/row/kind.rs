//! How the values of a type become JSON: the choices of PostgreSQL's `json_categorize_type` (json.c
//! in 15, jsonfuncs.c in 18), made once for a column. What is simple and frequent is rendered by
//! code of ours ([`super::render`]); for the rest PostgreSQL's functions are called.

use crate::pg::function::{JsonFunction, OutputFunction};
use crate::pg::plan_memory::PlanMemory;
use crate::pg::storage::Storage;
use crate::pg::types::TypeId;
use crate::pg::worker_types::WorkerType;

/// The rendering of one type.
pub enum Kind {
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
    Numeric(OutputFunction),
    /// With the output function, for what is laid out in an unexpected way.
    Jsonb(OutputFunction),
    /// An output function whose ASCII text is a number, or Infinity, NaN: float4, float8.
    Float(OutputFunction),
    /// An output function whose text is escaped.
    Quoted(OutputFunction),
    /// The same, whose text has a character for each bit: bit, varbit.
    Bits(OutputFunction),
    Array(Box<Elements>),
    /// A function from the type to json: of composites, of types with a cast, of arrays that are
    /// not known here.
    ToJson(JsonFunction),
}

/// The elements of an array type.
pub struct Elements {
    pub type_id: TypeId,
    pub kind: Kind,
    pub storage: Storage,
    /// Function from an array whose elements are of another type to json; none where there is no
    /// database to look that type up in.
    pub to_json: Option<JsonFunction>,
}

/// A type whose values the worker renders, too: one of PostgreSQL's own, or arrays of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portable {
    pub of: WorkerType,
    pub is_array: bool,
}

impl Kind {
    /// The rendering of a type that needs no database.
    pub fn of(of: WorkerType, memory: &PlanMemory) -> Kind {
        let function = || of.output_function(memory);
        match of {
            WorkerType::Bool => Kind::Bool,
            WorkerType::Int2 => Kind::Int2,
            WorkerType::Int4 => Kind::Int4,
            WorkerType::Int8 => Kind::Int8,
            WorkerType::Float4 | WorkerType::Float8 => Kind::Float(function()),
            WorkerType::Numeric => Kind::Numeric(function()),
            WorkerType::Text | WorkerType::Varchar | WorkerType::Bpchar => Kind::Text,
            WorkerType::Json => Kind::Json,
            WorkerType::Jsonb => Kind::Jsonb(function()),
            WorkerType::Bytea => Kind::Bytea,
            WorkerType::Name => Kind::Name,
            WorkerType::Uuid => Kind::Uuid,
            WorkerType::Date => Kind::Date,
            WorkerType::Timestamp => Kind::Timestamp,
            WorkerType::TimestampTz => Kind::TimestampTz,
            WorkerType::Bit | WorkerType::Varbit => Kind::Bits(function()),
            WorkerType::Time
            | WorkerType::TimeTz
            | WorkerType::Interval
            | WorkerType::Inet
            | WorkerType::Cidr
            | WorkerType::Macaddr
            | WorkerType::Macaddr8
            | WorkerType::Oid
            | WorkerType::Point => Kind::Quoted(function()),
        }
    }

    /// Returns whether one must look into a value to tell how long its text is.
    pub fn is_looked_into(&self) -> bool {
        self.is_walked() || matches!(self, Kind::Array(_))
    }

    /// Returns whether it may hold numbers with long texts.
    pub fn is_walked(&self) -> bool {
        matches!(self, Kind::Numeric(_) | Kind::Jsonb(_))
    }

    /// Bytes of the shortest text.
    pub fn shortest(&self) -> usize {
        match self {
            Kind::Bool => b"true".len(),
            Kind::Uuid => 38,
            // Infinity.
            Kind::Date | Kind::Timestamp | Kind::TimestampTz => 10,
            // Two quotes.
            Kind::Text | Kind::Bytea | Kind::Name | Kind::Quoted(_) | Kind::Bits(_) => 2,
            _ => 1,
        }
    }
}

impl Portable {
    /// How its values are rendered where there is no database.
    pub fn kind(self, memory: &PlanMemory) -> Kind {
        let kind = Kind::of(self.of, memory);
        if !self.is_array {
            return kind;
        }
        let (type_id, storage) = (self.of.type_id(), self.of.storage());
        Kind::Array(Box::new(Elements { type_id, kind, storage, to_json: None }))
    }

    /// How its values are stored.
    pub fn storage(self) -> Storage {
        let storage = self.of.storage();
        if !self.is_array {
            return storage;
        }
        let alignment = storage.alignment.max(align_of::<i32>() as u8);
        Storage { length: -1, by_value: false, alignment }
    }
}
