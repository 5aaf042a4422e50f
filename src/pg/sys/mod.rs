//! PostgreSQL's C as it is declared here by hand: what pgrx lacks, and what it wraps in a way that does not
//! suit. What raises an ERROR is [`guarded`]; what raises none is [`plain`]; what is not the same in all
//! versions of PostgreSQL is in [`versions`].

mod guarded;
pub(super) mod plain;
pub(super) mod versions;

pub(super) use guarded::*;
