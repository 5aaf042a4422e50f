//! Routing keys that are made of a template (`routing_key=` of a trigger). Pure: the writing backend and the worker
//! both make keys.
//!
//! A [`Template`] is what somebody wrote. Once all but the row's values is known it is a [`Pattern`], which stands
//! in the events; filled with the values of a row it is a routing key.
//!
//! | file | owns |
//! |---|---|
//! | [`template`] | what may be written, and what it means |
//! | [`pattern`] | a template for one operation of one trigger, as bytes |
//! | [`filling`] | a key being made: its words, what of them a broker or a consumer could misread, its length |
//! | [`word`] | a value's JSON as a word |
//! | [`sha256`] | the hash at the end of a key that was cut |

mod filling;
mod pattern;
mod sha256;
mod template;
mod word;

pub use filling::{Filling, harmless};
pub use pattern::{Pattern, Side};
pub use template::{Mistake, Names, Template};
