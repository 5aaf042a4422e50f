//! An event's bytes as version 0.1.0 wrote them. Such events may wait in the WAL when the library is
//! upgraded, so this layout stays readable for ever. Nothing writes it any more.
//!
//! The bytes: version (1), codec, operation, flags; command id (u32), LSN of the transaction's first event
//! (u64); where a flag says so, the bytes of the whole body (u64); exchange, routing key, database, schema
//! and table, each with its length (u16) ahead; the content.

use super::error::DecodeError;
use super::head::{ChangeKey, Codec, Decoded, EventHead};
use super::names::Names;
use super::operation::{Operation, trace_of};
use crate::bytes::Reader;
use crate::lsn::Lsn;

/// Version of this layout.
pub(super) const VERSION: u8 = 1;

const FLAG_LOSSY: u8 = 1;
const FLAG_OVERSIZE: u8 = 2;

/// Decodes everything up to the content, of a payload of this version.
pub(super) fn decode(payload: &[u8], names: &mut Names) -> Result<Decoded, DecodeError> {
    let mut reader = Reader::new(payload);
    let [_, codec, operation, flags] = reader.array().ok_or(DecodeError::Truncated)?;
    let command_id = reader.u32().ok_or(DecodeError::Truncated)?;
    let first_lsn = Lsn(reader.u64().ok_or(DecodeError::Truncated)?);
    let codec = match codec {
        0 => Codec::Body,
        1 => Codec::Images,
        other => return Err(DecodeError::Codec(other)),
    };
    // No event of this layout makes two messages.
    let operation = Operation::from_code(operation)
        .filter(|&known| known != Operation::Split)
        .ok_or(DecodeError::Operation(operation))?;
    let oversize = match flags & FLAG_OVERSIZE {
        0 => None,
        _ => Some(reader.u64().ok_or(DecodeError::Truncated)?),
    };
    let mut name = || {
        let length = reader.u16().ok_or(DecodeError::Truncated)?;
        names.name(reader.bytes(usize::from(length)).ok_or(DecodeError::Truncated)?)
    };
    let head = EventHead {
        command_id,
        first_lsn,
        place: None,
        operation,
        exchange: name()?,
        routing_key: name()?,
        database: name()?,
        schema: name()?,
        table: name()?,
        lossy: flags & FLAG_LOSSY != 0,
        oversize,
        key: None,
        second: None,
    };
    Ok(Decoded { head, codec, content_at: payload.len() - reader.rest().len() })
}

/// Returns the event's key, or None if the bytes end too early.
pub(super) fn change_key(payload: &[u8]) -> Option<ChangeKey> {
    let mut reader = Reader::new(payload);
    let [_, _, operation, _] = reader.array()?;
    let command_id = reader.u32()?;
    let trace = trace_of(operation);
    Some(ChangeKey { command_id, trace, place: None, is_of_layout_1: true, is_split: false })
}
