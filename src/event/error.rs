//! Why bytes are not an event. Pure.

use std::fmt;

/// Why a payload is not an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Written by another version of the extension.
    Version(u8),
    /// Content in an encoding this version does not know.
    Codec(u8),
    /// Operation this version does not know.
    Operation(u8),
    /// A field that this version does not know and must not pass over.
    Field(u8),
    /// The payload ends too early.
    Truncated,
    /// A name is not UTF-8.
    NotUtf8,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Version(v) => write!(f, "event version {v} is unknown"),
            DecodeError::Codec(c) => write!(f, "codec {c} is unknown"),
            DecodeError::Operation(o) => write!(f, "operation code {o} is unknown"),
            DecodeError::Field(tag) => write!(f, "field {tag} is unknown"),
            DecodeError::Truncated => write!(f, "event ends too early"),
            DecodeError::NotUtf8 => write!(f, "event holds a name that is not UTF-8"),
        }
    }
}

impl std::error::Error for DecodeError {}
