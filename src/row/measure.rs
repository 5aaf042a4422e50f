//! How long a value becomes as text, found without rendering it: what is too long for a body is not rendered
//! at all, and what grows far beyond its row is not the worker's.

use super::array::{Array, Count};
use super::kind::{Elements, Kind};
use super::{jsonb, numeric};
use crate::pg::value::Value;

/// Values above this size are not rendered, whatever the limit: a quarter of the longest text that
/// PostgreSQL's functions can make (memutils.h: `MaxAllocSize`), since text is longer than what it is
/// made of.
const UNSAFE_SIZE: usize = 0x3FFF_FFFF / 4;

/// A jsonb takes at most so many times its text, as numbers of one digit and arrays in arrays do, and this
/// much in addition.
const SPARSEST: usize = 4;
const SCALAR: usize = 16;

impl Kind {
    /// Bytes that a value takes at least, found without fetching or rendering it. Zero where that
    /// cannot be told, but for values so large that PostgreSQL's functions may fail to render them:
    /// their text would not fit into a gigabyte.
    pub fn least_size(&self, value: Value<'_>) -> usize {
        match self {
            Kind::Text | Kind::Json => value.content_size(),
            // Two hexadecimal digits.
            Kind::Bytea => 2 * value.content_size(),
            // How many bits there are comes first; of the last byte one may count.
            Kind::Bits(_) => (8 * value.content_size()).saturating_sub(8 * 4 + 7),
            Kind::Numeric(_) => value.content_size().saturating_sub(SCALAR) / SPARSEST,
            Kind::Jsonb(_) => {
                let size = value.content_size();
                if size > UNSAFE_SIZE { size } else { size.saturating_sub(SCALAR) / SPARSEST }
            }
            Kind::Array(_) | Kind::Quoted(_) | Kind::ToJson(_) if value.is_varlena() => {
                Some(value.content_size()).filter(|&size| size > UNSAFE_SIZE).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Bytes that a numeric, a jsonb or an array takes at least, which may have a far longer text than what
    /// they are made of; beyond `most` no more than to know that. `value` is stored plain. Returns none if that
    /// cannot be told.
    pub fn size(&self, value: Value<'_>, most: usize) -> Option<usize> {
        let stored = value.plain()?;
        match self {
            Kind::Numeric(_) => numeric::size(stored),
            Kind::Jsonb(_) => jsonb::size(stored, most),
            Kind::Array(elements) => elements.size(value, stored, most),
            _ => None,
        }
    }

    /// Bytes of the text of a value of variable length, if they may be many more than those that are stored in
    /// its row: of the part that may be, at least, and beyond `most` no more than to know that. Zero for what
    /// is damaged. Returns none for what our own code does not render. `stored` is what stands behind the
    /// value's header, if it is plain.
    #[inline]
    pub fn growth(&self, value: Value<'_>, stored: Option<&[u8]>, most: usize) -> Option<usize> {
        match (self, stored) {
            (_, None) => self.growth_of_packed(value, most),
            (Kind::Numeric(_), Some(stored)) => Some(numeric::size(stored).unwrap_or(0)),
            (Kind::Jsonb(_), Some(stored)) => jsonb::numbers(stored, most),
            (Kind::Array(elements), Some(stored)) => elements.growth(value, stored, most),
            _ => Some(0),
        }
    }

    fn growth_of_packed(&self, value: Value<'_>, most: usize) -> Option<usize> {
        let size = value.content_size().max(self.least_size(value));
        if size > most || !self.is_looked_into() {
            return Some(size);
        }
        let growth = value.look_into(|fetched| self.growth(fetched, fetched.plain(), most));
        match growth {
            Some(growth) => growth.map(|growth| growth.max(size)),
            // It is damaged.
            None => Some(0),
        }
    }
}

impl Elements {
    /// Bytes that an array takes at least as text; beyond `most` no more than to know that. Returns none if it
    /// is not laid out as it says. `content` is what stands behind its length.
    fn size(&self, value: Value<'_>, content: &[u8], most: usize) -> Option<usize> {
        let array = Array::of(content)?;
        let Count { values, frame } = array.count(content)?;
        if !self.kind.is_walked() || array.element_type != self.type_id.number() {
            return Some(frame.saturating_add(values.saturating_mul(self.kind.shortest())));
        }
        let (mut walk, mut size) = (array.walk(self.storage, value.whole()), frame);
        for _ in 0..values {
            let (element, content) = walk.next_varlena()?;
            let left = most.saturating_sub(size);
            size += self.kind.growth(Value::of(element), content, left)?;
            if size > most {
                break;
            }
        }
        Some(size)
    }

    /// Bytes of an array's text, at least, if they may be many more than those that are stored; beyond `most`
    /// no more than to know that. Zero for what is damaged. Returns none if its elements are not of the type
    /// that its column has, or if our own code does not render them. `content` is what stands behind its
    /// length.
    fn growth(&self, value: Value<'_>, content: &[u8], most: usize) -> Option<usize> {
        let Some((type_id, is_plain_list)) = Array::glance(content) else { return Some(0) };
        if type_id != self.type_id.number() {
            return None;
        }
        let size = match self.kind {
            Kind::Jsonb(_) => return self.size(value, content, most),
            Kind::Numeric(_) => self.size(value, content, most),
            // No element's text is much longer than the element.
            _ if is_plain_list => None,
            _ => Array::of(content).and_then(|array| array.count(content)).map(|count| count.frame),
        };
        Some(size.unwrap_or(0))
    }
}
