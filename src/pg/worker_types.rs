//! Types of PostgreSQL's own whose values can be rendered without a look into the catalogs, and so
//! also by the worker, which has no database. Facts of pg_type.dat and pg_proc.dat, the same in 15 to 18.
//! [`crate::row::kind`] has how they are rendered.

use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid as B;

use super::function::OutputFunction;
use super::plan_memory::PlanMemory;
use super::storage::Storage;
use super::type_id::TypeId;

/// Such a type. Events in the WAL name it by its number: a new one comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Varchar,
    Bpchar,
    Json,
    Jsonb,
    Bytea,
    Name,
    Uuid,
    Date,
    Timestamp,
    TimestampTz,
    Time,
    TimeTz,
    Interval,
    Inet,
    Cidr,
    Macaddr,
    Macaddr8,
    Bit,
    Varbit,
    Oid,
    Point,
}

use WorkerType as T;

/// A type, its oid, its output function, and its typlen, typbyval and typalign.
type Facts = (WorkerType, B, u32, (i16, bool, u8));

#[rustfmt::skip]
const FACTS: [Facts; 29] = [
    (T::Bool, B::BOOLOID, pg_sys::F_BOOLOUT, (1, true, 1)),
    (T::Int2, B::INT2OID, pg_sys::F_INT2OUT, (2, true, 2)),
    (T::Int4, B::INT4OID, pg_sys::F_INT4OUT, (4, true, 4)),
    (T::Int8, B::INT8OID, pg_sys::F_INT8OUT, (8, true, 8)),
    (T::Float4, B::FLOAT4OID, pg_sys::F_FLOAT4OUT, (4, true, 4)),
    (T::Float8, B::FLOAT8OID, pg_sys::F_FLOAT8OUT, (8, true, 8)),
    (T::Numeric, B::NUMERICOID, pg_sys::F_NUMERIC_OUT, (-1, false, 4)),
    (T::Text, B::TEXTOID, pg_sys::F_TEXTOUT, (-1, false, 4)),
    (T::Varchar, B::VARCHAROID, pg_sys::F_VARCHAROUT, (-1, false, 4)),
    (T::Bpchar, B::BPCHAROID, pg_sys::F_BPCHAROUT, (-1, false, 4)),
    (T::Json, B::JSONOID, pg_sys::F_JSON_OUT, (-1, false, 4)),
    (T::Jsonb, B::JSONBOID, pg_sys::F_JSONB_OUT, (-1, false, 4)),
    (T::Bytea, B::BYTEAOID, pg_sys::F_BYTEAOUT, (-1, false, 4)),
    (T::Name, B::NAMEOID, pg_sys::F_NAMEOUT, (64, false, 1)),
    (T::Uuid, B::UUIDOID, pg_sys::F_UUID_OUT, (16, false, 1)),
    (T::Date, B::DATEOID, pg_sys::F_DATE_OUT, (4, true, 4)),
    (T::Timestamp, B::TIMESTAMPOID, pg_sys::F_TIMESTAMP_OUT, (8, true, 8)),
    (T::TimestampTz, B::TIMESTAMPTZOID, pg_sys::F_TIMESTAMPTZ_OUT, (8, true, 8)),
    (T::Time, B::TIMEOID, pg_sys::F_TIME_OUT, (8, true, 8)),
    (T::TimeTz, B::TIMETZOID, pg_sys::F_TIMETZ_OUT, (12, false, 8)),
    (T::Interval, B::INTERVALOID, pg_sys::F_INTERVAL_OUT, (16, false, 8)),
    (T::Inet, B::INETOID, pg_sys::F_INET_OUT, (-1, false, 4)),
    (T::Cidr, B::CIDROID, pg_sys::F_CIDR_OUT, (-1, false, 4)),
    (T::Macaddr, B::MACADDROID, pg_sys::F_MACADDR_OUT, (6, false, 4)),
    (T::Macaddr8, B::MACADDR8OID, pg_sys::F_MACADDR8_OUT, (8, false, 4)),
    (T::Bit, B::BITOID, pg_sys::F_BIT_OUT, (-1, false, 4)),
    (T::Varbit, B::VARBITOID, pg_sys::F_VARBIT_OUT, (-1, false, 4)),
    (T::Oid, B::OIDOID, pg_sys::F_OIDOUT, (4, true, 4)),
    (T::Point, B::POINTOID, pg_sys::F_POINT_OUT, (16, false, 8)),
];

const _: () = {
    let mut number = 0;
    while number < FACTS.len() {
        assert!(FACTS[number].0 as usize == number, "a type is at its number's place");
        number += 1;
    }
};

impl WorkerType {
    /// How many there are.
    pub const COUNT: usize = FACTS.len();

    /// The type that has this oid, if it is one of these.
    pub fn of(type_id: TypeId) -> Option<WorkerType> {
        let facts = FACTS.iter().find(|facts| facts.1 as u32 == type_id.number())?;
        Some(facts.0)
    }

    /// The type that has this number.
    pub fn at(number: u8) -> Option<WorkerType> {
        FACTS.get(usize::from(number)).map(|facts| facts.0)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self as u8
    }

    fn facts(self) -> &'static Facts {
        &FACTS[usize::from(self.number())]
    }

    /// Its oid.
    pub fn type_id(self) -> TypeId {
        TypeId::of_number(self.facts().1 as u32)
    }

    /// The function that makes text of its values.
    pub fn output_function(self, memory: &PlanMemory) -> OutputFunction {
        OutputFunction::new(pg_sys::Oid::from_u32(self.facts().2), memory)
    }

    /// How its values are stored.
    pub fn storage(self) -> Storage {
        let (length, by_value, alignment) = self.facts().3;
        Storage { length, by_value, alignment }
    }
}
