//! A row as JSON, byte for byte as PostgreSQL would write it: in the writing backend or in the worker. What is
//! read of a row through PostgreSQL's C is behind [`crate::pg::value`] and its neighbours.
//!
//! From the whole to its parts: a [`body`] is made of two rows by a [`shape`], which has [`columns`]; each
//! [`column`] renders its values by their [`kind`], which [`type_lookup`] finds in the catalogs and [`layout`] in
//! an event. [`measure`] says how long a value becomes before [`render`] renders it, [`growth`] how much longer
//! a whole row becomes. A [`made_key`] is a routing key with the row's values in it.

pub mod array;
pub mod body;
pub mod column;
pub mod columns;
pub mod entry;
pub mod escape;
pub mod growth;
pub mod json;
pub mod jsonb;
pub mod keys;
pub mod kind;
pub mod layout;
pub mod made_key;
pub mod measure;
pub mod moment;
pub mod numeric;
pub mod prerendered;
pub mod render;
pub mod shape;
pub mod timestamp;
pub mod type_lookup;
