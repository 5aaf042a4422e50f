//! Types of PostgreSQL's own whose values can be rendered without a look into the catalogs, and so
//! also where there is no database. Facts of pg_type.dat and pg_proc.dat, the same in 15 to 18.

use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid as B;

use super::kind::Kind;
use super::plan_memory::PlanMemory;
use super::storage::Storage;

/// How many there are.
pub(super) const COUNT: usize = 29;

/// The types. Events in the WAL name a type by its place in this list: it may grow at its end.
const TYPES: [B; COUNT] = [
    B::BOOLOID,
    B::INT2OID,
    B::INT4OID,
    B::INT8OID,
    B::FLOAT4OID,
    B::FLOAT8OID,
    B::NUMERICOID,
    B::TEXTOID,
    B::VARCHAROID,
    B::BPCHAROID,
    B::JSONOID,
    B::JSONBOID,
    B::BYTEAOID,
    B::NAMEOID,
    B::UUIDOID,
    B::DATEOID,
    B::TIMESTAMPOID,
    B::TIMESTAMPTZOID,
    B::TIMEOID,
    B::TIMETZOID,
    B::INTERVALOID,
    B::INETOID,
    B::CIDROID,
    B::MACADDROID,
    B::MACADDR8OID,
    B::BITOID,
    B::VARBITOID,
    B::OIDOID,
    B::POINTOID,
];

/// A type's place in the list.
pub(super) fn place(type_oid: pg_sys::Oid) -> Option<u8> {
    TYPES.iter().position(|&builtin| builtin as u32 == type_oid.to_u32()).map(|place| place as u8)
}

/// The type at a place in the list.
pub(super) fn at(place: u8) -> Option<pg_sys::Oid> {
    TYPES.get(usize::from(place)).map(|&builtin| pg_sys::Oid::from_u32(builtin as u32))
}

/// How values of a type are rendered.
pub(super) fn kind(type_oid: pg_sys::Oid, memory: &PlanMemory) -> Option<Kind> {
    let function = |output: u32| memory.function(pg_sys::Oid::from_u32(output));
    let quoted = |output: u32| Kind::Quoted(function(output));
    let place = place(type_oid)?;
    Some(match TYPES[usize::from(place)] {
        B::BOOLOID => Kind::Bool,
        B::INT2OID => Kind::Int2,
        B::INT4OID => Kind::Int4,
        B::INT8OID => Kind::Int8,
        B::FLOAT4OID => Kind::Float(function(pg_sys::F_FLOAT4OUT)),
        B::FLOAT8OID => Kind::Float(function(pg_sys::F_FLOAT8OUT)),
        B::NUMERICOID => Kind::Numeric(function(pg_sys::F_NUMERIC_OUT)),
        B::TEXTOID | B::VARCHAROID | B::BPCHAROID => Kind::Text,
        B::JSONOID => Kind::Json,
        B::JSONBOID => Kind::Jsonb(function(pg_sys::F_JSONB_OUT)),
        B::BYTEAOID => Kind::Bytea,
        B::NAMEOID => Kind::Name,
        B::UUIDOID => Kind::Uuid,
        B::DATEOID => Kind::Date,
        B::TIMESTAMPOID => Kind::Timestamp,
        B::TIMESTAMPTZOID => Kind::TimestampTz,
        B::TIMEOID => quoted(pg_sys::F_TIME_OUT),
        B::TIMETZOID => quoted(pg_sys::F_TIMETZ_OUT),
        B::INTERVALOID => quoted(pg_sys::F_INTERVAL_OUT),
        B::INETOID => quoted(pg_sys::F_INET_OUT),
        B::CIDROID => quoted(pg_sys::F_CIDR_OUT),
        B::MACADDROID => quoted(pg_sys::F_MACADDR_OUT),
        B::MACADDR8OID => quoted(pg_sys::F_MACADDR8_OUT),
        B::BITOID => Kind::Bits(function(pg_sys::F_BIT_OUT)),
        B::VARBITOID => Kind::Bits(function(pg_sys::F_VARBIT_OUT)),
        B::OIDOID => quoted(pg_sys::F_OIDOUT),
        B::POINTOID => quoted(pg_sys::F_POINT_OUT),
        _ => return None,
    })
}

/// How values of a type are stored (typlen, typbyval, typalign).
pub(super) fn storage(type_oid: pg_sys::Oid) -> Option<Storage> {
    let place = place(type_oid)?;
    let (length, by_value, alignment) = match TYPES[usize::from(place)] {
        B::BOOLOID => (1, true, 1),
        B::INT2OID => (2, true, 2),
        B::INT4OID | B::FLOAT4OID | B::DATEOID | B::OIDOID => (4, true, 4),
        B::INT8OID | B::FLOAT8OID | B::TIMESTAMPOID | B::TIMESTAMPTZOID | B::TIMEOID => {
            (8, true, 8)
        }
        B::NAMEOID => (64, false, 1),
        B::UUIDOID => (16, false, 1),
        B::TIMETZOID => (12, false, 8),
        B::INTERVALOID | B::POINTOID => (16, false, 8),
        B::MACADDROID => (6, false, 4),
        B::MACADDR8OID => (8, false, 4),
        _ => (-1, false, 4),
    };
    Some(Storage { length, by_value, alignment })
}
