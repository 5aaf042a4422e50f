//! Arrays (utils/array.h): a header with the length of each dimension, where there are nulls a bitmap of
//! the others, and the elements in the order of the nested lists that they become in JSON.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::json::Json;
use super::kind::{Elements, Kind};
use super::plan_memory::PlanMemory;
use super::report::Report;
use super::storage::MAXIMUM_ALIGNMENT;
use super::sys;

/// Bytes of the header before the dimensions: the array's length, how many dimensions there are, where the
/// elements begin if there is a bitmap of nulls, and the type of the elements.
const HEADER: usize = size_of::<pg_sys::ArrayType>();

/// Bytes of the length, from which the places in the header are counted.
const LENGTH: usize = pg_sys::VARHDRSZ;

/// Of a number.
const WORD: usize = size_of::<i32>();

const _: () = assert!(HEADER == 4 * WORD && LENGTH == WORD);

const MAX_DIMENSIONS: usize = pg_sys::MAXDIM as usize;

/// What the header says.
struct Header {
    element_type: pg_sys::Oid,
    dimensions: usize,
    lengths: [i32; MAX_DIMENSIONS],
    /// Where a bit is set for each element that is not null; no bitmap if all are not.
    bitmap: Option<usize>,
    /// Where the elements are stored.
    elements: usize,
}

impl Header {
    /// Given what stands behind the array's length. None if it is not laid out as expected.
    fn of(content: &[u8]) -> Option<Header> {
        let word = |index| word(content, index);
        let dimensions = usize::try_from(word(0)?).ok().filter(|&n| n <= MAX_DIMENSIONS)?;
        let mut lengths = [0; MAX_DIMENSIONS];
        for (index, length) in lengths[..dimensions].iter_mut().enumerate() {
            *length = word((HEADER - LENGTH) / WORD + index)?;
        }
        // Each dimension has a lower bound, too.
        let after_bounds = HEADER + 2 * dimensions * WORD;
        let (bitmap, elements) = match word(1)? {
            0 => (None, after_bounds.next_multiple_of(MAXIMUM_ALIGNMENT)),
            offset => (Some(after_bounds), usize::try_from(offset).ok()?),
        };
        let element_type = pg_sys::Oid::from_u32(word(2)? as u32);
        Some(Header { element_type, dimensions, lengths, bitmap, elements })
    }

    /// The lengths of the dimensions; none if there is no element.
    fn lengths(&self) -> &[i32] {
        let lengths = &self.lengths[..self.dimensions];
        if lengths.contains(&0) { &[] } else { lengths }
    }

    /// How many elements there are, and bytes of the text beside them: brackets, commas and nulls. None if
    /// that is not how it is laid out.
    fn count(&self, content: &[u8]) -> Option<Count> {
        let (mut lists, mut commas, mut brackets) = (1u64, 0u64, 2u64);
        for (index, &length) in self.lengths().iter().enumerate() {
            let length = u64::try_from(length).ok()?;
            if index > 0 {
                brackets = brackets.checked_add(lists.checked_mul(2)?)?;
            }
            commas = commas.checked_add(lists.checked_mul(length - 1)?)?;
            lists = lists.checked_mul(length)?;
        }
        // The innermost lists hold the elements.
        let all = if self.lengths().is_empty() { 0 } else { usize::try_from(lists).ok()? };
        let nulls = match self.bitmap {
            Some(bitmap) if all > 0 => nulls(content.get(bitmap - LENGTH..)?, all)?,
            _ => 0,
        };
        let frame = usize::try_from(brackets.checked_add(commas)?).ok()? + nulls * b"null".len();
        let values = all - nulls;
        // Each takes a byte at least.
        (values <= content.len()).then_some(Count { values, frame })
    }
}

fn word(content: &[u8], index: usize) -> Option<i32> {
    content.get(index * WORD..)?.first_chunk().map(|&bytes| i32::from_ne_bytes(bytes))
}

/// The elements of an array, counted.
struct Count {
    /// Elements that are not null.
    values: usize,
    /// Bytes of the text beside them.
    frame: usize,
}

/// How many of so many bits are not set. None if there are fewer.
fn nulls(bitmap: &[u8], count: usize) -> Option<usize> {
    let whole = bitmap.get(..count / 8)?;
    let set: usize = whole.iter().map(|byte| byte.count_ones() as usize).sum();
    let rest = count % 8;
    let last = if rest > 0 { *bitmap.get(count / 8)? & ((1 << rest) - 1) } else { 0 };
    Some(count - set - last.count_ones() as usize)
}

/// Walks through the elements of an array in the order in which they are stored, which is that of
/// the nested lists.
struct Walk<'a> {
    elements: &'a Elements,
    /// The array from its header to its end.
    bytes: &'a [u8],
    /// Where the next element is stored, or what aligns it.
    at: usize,
    bitmap: Option<usize>,
    /// Index of the next element.
    index: usize,
}

impl Elements {
    /// Appends an array.
    ///
    /// # Safety
    ///
    /// `value` is an array.
    pub(super) unsafe fn render(&self, value: pg_sys::Datum, json: &mut Json) {
        // SAFETY: the caller's. The copy of a toasted or short array is freed with the memory context of
        // the row.
        unsafe {
            let bytes = whole(value);
            let header = header_or_refuse(bytes);
            if header.element_type != self.type_oid {
                let array = pg_sys::Datum::from(bytes.as_ptr());
                return self.render_others(header.element_type, array, json);
            }
            if self.render_list(&header, bytes, json).is_none() {
                refuse_damaged_array();
            }
        }
    }

    /// None if the array is not laid out as its header says.
    fn render_list(&self, header: &Header, bytes: &[u8], json: &mut Json) -> Option<()> {
        if header.lengths().is_empty() {
            json.push(b"[]");
            return Some(());
        }
        self.walk(header, bytes).render(header.lengths(), json)
    }

    fn walk<'a>(&'a self, header: &Header, bytes: &'a [u8]) -> Walk<'a> {
        Walk { elements: self, bytes, at: header.elements, bitmap: header.bitmap, index: 0 }
    }

    /// Renders an array whose elements are not of the type that its column has, as functions in C and
    /// casts that somebody put into the catalogs may make them.
    ///
    /// # Safety
    ///
    /// It is an array of such elements, in a transaction unless this is done without a database.
    unsafe fn render_others(&self, type_oid: pg_sys::Oid, array: pg_sys::Datum, json: &mut Json) {
        // SAFETY: the caller's.
        unsafe {
            if let Some(function) = self.to_json {
                return Kind::ToJson(function).render(array, json);
            }
            match Kind::of_builtin(type_oid, true, &PlanMemory::new()) {
                Some((kind, _)) => kind.render(array, json),
                None => Report::new(
                    PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                    "elements of an array are not of the type that its column has",
                )
                .detail(format!("Their type has oid {}.", type_oid.to_u32()))
                .raise(),
            }
        }
    }

    /// Bytes that an array takes at least as text; beyond `most` no more than to know that. None if it is not
    /// laid out as it says.
    ///
    /// # Safety
    ///
    /// `value` is an array that is stored plain, `content` what stands behind its length.
    pub(super) unsafe fn size(
        &self,
        value: pg_sys::Datum,
        content: &[u8],
        most: usize,
    ) -> Option<usize> {
        let header = Header::of(content)?;
        let Count { values, frame } = header.count(content)?;
        if !self.kind.is_walked() || header.element_type != self.type_oid {
            return Some(frame.saturating_add(values.saturating_mul(self.kind.shortest())));
        }
        // SAFETY: the caller's.
        let (mut walk, mut size) = (self.walk(&header, unsafe { whole(value) }), frame);
        for _ in 0..values {
            size += walk.next_size(most.saturating_sub(size))?;
            if size > most {
                break;
            }
        }
        Some(size)
    }

    /// Bytes of an array's text, at least, if they may be many more than those that are stored; beyond `most`
    /// no more than to know that. Zero for what is damaged. None if its elements are not of the type that its
    /// column has, or if our own code does not render them.
    ///
    /// # Safety
    ///
    /// `value` is an array that is stored plain, `content` what stands behind its length.
    pub(super) unsafe fn growth(
        &self,
        value: pg_sys::Datum,
        content: &[u8],
        most: usize,
    ) -> Option<usize> {
        let word = |index| word(content, index);
        let (Some(dimensions), Some(offset), Some(type_oid)) = (word(0), word(1), word(2)) else {
            return Some(0);
        };
        if type_oid as u32 != self.type_oid.to_u32() {
            return None;
        }
        let size = match self.kind {
            // SAFETY: the caller's.
            Kind::Jsonb(_) => return unsafe { self.size(value, content, most) },
            // SAFETY: as above.
            Kind::Numeric(_) => unsafe { self.size(value, content, most) },
            // Of a plain list no element's text is much longer than the element.
            _ if dimensions <= 1 && offset == 0 => None,
            _ => Header::of(content)
                .and_then(|header| header.count(content))
                .map(|count| count.frame),
        };
        Some(size.unwrap_or(0))
    }
}

impl Walk<'_> {
    /// None if so many elements as the lengths say do not follow.
    fn render(&mut self, lengths: &[i32], json: &mut Json) -> Option<()> {
        let (&length, inner) = lengths.split_first()?;
        for n in 0..length {
            json.push(if n == 0 { b"[" } else { b"," });
            if inner.is_empty() {
                self.render_next(json)?;
            } else {
                self.render(inner, json)?;
            }
            if json.is_full() {
                // What comes now is not looked at any more.
                return Some(());
            }
        }
        json.push(b"]");
        Some(())
    }

    /// None if there is no next element.
    fn render_next(&mut self, json: &mut Json) -> Option<()> {
        if self.next_is_null()? {
            json.push(b"null");
            return Some(());
        }
        let value = self.elements.storage.take(self.bytes, &mut self.at)?;
        // SAFETY: a value of the elements' type, that ends within the array.
        unsafe { self.elements.kind.render(value, json) };
        Some(())
    }

    /// Bytes that the next element which is not null takes at least as text. None if there is none, or if it
    /// cannot be told.
    fn next_size(&mut self, most: usize) -> Option<usize> {
        while self.next_is_null()? {}
        let (value, stored) = self.elements.storage.take_varlena(self.bytes, &mut self.at)?;
        // SAFETY: as above; numbers and documents are of variable length.
        unsafe { self.elements.kind.growth(value, stored, most) }
    }

    /// Whether the next element is null, and passes it then. None if the bitmap ends before.
    fn next_is_null(&mut self) -> Option<bool> {
        let index = self.index;
        self.index += 1;
        let Some(bitmap) = self.bitmap else { return Some(false) };
        Some(self.bytes.get(bitmap + index / 8)? & (1 << (index % 8)) == 0)
    }
}

/// An array from its header on, in memory that is aligned.
///
/// # Safety
///
/// `value` is an array. It, or its copy, lives for `'a`: until the memory context of the row is emptied.
unsafe fn whole<'a>(value: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: the caller's; so many bytes are there.
    unsafe {
        let array = sys::pg_detoast_datum(value.cast_mut_ptr());
        std::slice::from_raw_parts(array.cast::<u8>().cast_const(), pgrx::varsize_any(array))
    }
}

fn header_or_refuse(bytes: &[u8]) -> Header {
    bytes.get(LENGTH..).and_then(Header::of).unwrap_or_else(|| refuse_damaged_array())
}

fn refuse_damaged_array() -> ! {
    Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "an array is not laid out as it says")
        .raise()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands behind the length of an array with such dimensions, all of whose elements are null.
    fn all_null(lengths: &[i32]) -> Vec<u8> {
        let count: i32 = lengths.iter().product();
        let offset = HEADER + 2 * WORD * lengths.len() + (count as usize).div_ceil(8);
        let offset = offset.next_multiple_of(MAXIMUM_ALIGNMENT);
        let mut words = vec![lengths.len() as i32, offset as i32, pg_sys::INT4OID.to_u32() as i32];
        words.extend(lengths);
        words.extend(lengths.iter().map(|_| 1));
        let mut content: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        content.resize(offset - LENGTH, 0);
        content
    }

    fn frame(lengths: &[i32]) -> usize {
        let content = all_null(lengths);
        let count = Header::of(&content).unwrap().count(&content).unwrap();
        assert_eq!(count.values, 0);
        count.frame
    }

    #[test]
    fn brackets_commas_and_nulls_are_counted_without_the_elements() {
        for (lengths, text) in [
            (&[][..], "[]"),
            (&[3], "[null,null,null]"),
            (&[9], "[null,null,null,null,null,null,null,null,null]"),
            (&[2, 1, 1, 1, 1, 1], "[[[[[[null]]]]],[[[[[null]]]]]]"),
            (&[1, 2, 2], "[[[null,null],[null,null]]]"),
        ] {
            assert_eq!(frame(lengths), text.len(), "{text}");
        }
        let mut content = all_null(&[10]);
        let bitmap = HEADER - LENGTH + 2 * WORD;
        // Bits behind the last element mean nothing.
        content[bitmap..bitmap + 2].copy_from_slice(&[0b0000_0011, 0b1111_1101]);
        let count = Header::of(&content).unwrap().count(&content).unwrap();
        assert_eq!((count.values, count.frame), (3, 11 + 7 * 4));
    }

    #[test]
    fn what_is_not_there_is_not_counted() {
        for lengths in [&[100_000][..], &[i32::MAX; 6], &[i32::MAX, i32::MAX], &[-1]] {
            let mut content = all_null(&lengths.iter().map(|_| 1).collect::<Vec<_>>());
            for (index, length) in lengths.iter().enumerate() {
                let at = HEADER - LENGTH + index * WORD;
                content[at..at + WORD].copy_from_slice(&length.to_ne_bytes());
            }
            assert!(Header::of(&content).unwrap().count(&content).is_none(), "{lengths:?}");
        }
        assert!(Header::of(&all_null(&[1])[..HEADER - LENGTH]).is_none());
        assert!(Header::of(&[7, 0, 0, 0].repeat(20)).is_none());
    }
}
