//! Arrays (utils/array.h): a header with the length of each dimension, where there are nulls a bitmap of
//! the others, and the elements in the order of the nested lists that they become in JSON. Pure.

use super::json::Json;
use crate::pg::storage::{ARRAY_HEADER, MAX_DIMENSIONS, MAXIMUM_ALIGNMENT, Storage, Stored};

/// Bytes of the header before the dimensions: the array's length, how many dimensions there are, where the
/// elements begin if there is a bitmap of nulls, and the type of the elements.
const HEADER: usize = ARRAY_HEADER;

const _: () = assert!(HEADER == 4 * WORD);

/// Bytes of the length, from which the places in the header are counted.
pub const LENGTH: usize = WORD;

/// Of a number.
const WORD: usize = size_of::<i32>();

/// What the header of an array says.
pub struct Array {
    /// The oid of the elements' type.
    pub element_type: u32,
    dimensions: usize,
    lengths: [i32; MAX_DIMENSIONS],
    /// Where a bit is set for each element that is not null; no bitmap if all are not.
    bitmap: Option<usize>,
    /// Where the elements are stored.
    elements: usize,
}

impl Array {
    /// Given what stands behind the array's length. Returns none if it is not laid out as expected.
    pub fn of(content: &[u8]) -> Option<Array> {
        let word = |index| word(content, index);
        let dimensions = usize::try_from(word(0)?).ok().filter(|&n| n <= MAX_DIMENSIONS)?;
        let mut lengths = [0; MAX_DIMENSIONS];
        for (index, length) in lengths[..dimensions].iter_mut().enumerate() {
            *length = word((HEADER - LENGTH) / WORD + index).filter(|&length| length >= 0)?;
        }
        // Each dimension has a lower bound, too.
        let after_bounds = HEADER + 2 * dimensions * WORD;
        let (bitmap, elements) = match word(1)? {
            0 => (None, after_bounds.next_multiple_of(MAXIMUM_ALIGNMENT)),
            offset => (Some(after_bounds), usize::try_from(offset).ok()?),
        };
        let element_type = word(2)? as u32;
        Some(Array { element_type, dimensions, lengths, bitmap, elements })
    }

    /// The lengths of the dimensions; none if there is no element.
    pub fn lengths(&self) -> &[i32] {
        let lengths = &self.lengths[..self.dimensions];
        if lengths.contains(&0) { &[] } else { lengths }
    }

    /// How many elements there are, and bytes of the text beside them: brackets, commas and nulls. Returns none
    /// if that is not how it is laid out.
    pub fn count(&self, content: &[u8]) -> Option<Count> {
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

    /// The oid of the elements' type, and whether it is a list without nulls, given what stands behind the
    /// array's length. Returns none if that is not there.
    #[inline]
    pub fn glance(content: &[u8]) -> Option<(u32, bool)> {
        let (dimensions, offset) = (word(content, 0)?, word(content, 1)?);
        Some((word(content, 2)? as u32, dimensions <= 1 && offset == 0))
    }

    /// Appends the array whose bytes, from its length on, these are, and whose elements are so stored. `render`
    /// appends an element that is not null. Once the text is full, what comes is not looked at any more. Returns
    /// none if so many elements as the lengths say do not follow; something may have been appended then.
    pub fn push(
        &self,
        json: &mut Json,
        storage: Storage,
        bytes: &[u8],
        render: impl Fn(Stored<'_>, &mut Json),
    ) -> Option<()> {
        if self.lengths().is_empty() {
            json.push(b"[]");
            return Some(());
        }
        push_list(json, &mut self.walk(storage, bytes), self.lengths(), &render)
    }

    /// Walks through the elements, which are so stored, of the array whose bytes, from its length on, these are.
    pub fn walk<'a>(&self, storage: Storage, bytes: &'a [u8]) -> Walk<'a> {
        Walk { storage, bytes, at: self.elements, bitmap: self.bitmap, index: 0 }
    }
}

fn push_list(
    json: &mut Json,
    walk: &mut Walk<'_>,
    lengths: &[i32],
    render: &impl Fn(Stored<'_>, &mut Json),
) -> Option<()> {
    let (&length, inner) = lengths.split_first()?;
    for n in 0..length {
        json.push(if n == 0 { b"[" } else { b"," });
        if !inner.is_empty() {
            push_list(json, walk, inner, render)?;
        } else if let Some(element) = walk.next_element()? {
            render(element, json);
        } else {
            json.push(b"null");
        }
        if json.is_full() {
            return Some(());
        }
    }
    json.push(b"]");
    Some(())
}

fn word(content: &[u8], index: usize) -> Option<i32> {
    content.get(index * WORD..)?.first_chunk().map(|&bytes| i32::from_ne_bytes(bytes))
}

/// The elements of an array, counted.
pub struct Count {
    /// Elements that are not null.
    pub values: usize,
    /// Bytes of the text beside them.
    pub frame: usize,
}

/// How many of so many bits are not set. Returns none if there are fewer.
fn nulls(bitmap: &[u8], count: usize) -> Option<usize> {
    let whole = bitmap.get(..count / 8)?;
    let set: usize = whole.iter().map(|byte| byte.count_ones() as usize).sum();
    let rest = count % 8;
    let last = if rest > 0 { *bitmap.get(count / 8)? & ((1 << rest) - 1) } else { 0 };
    Some(count - set - last.count_ones() as usize)
}

/// Walks through the elements of an array in the order in which they are stored, which is that of
/// the nested lists.
pub struct Walk<'a> {
    storage: Storage,
    /// The array from its header to its end.
    bytes: &'a [u8],
    /// Where the next element is stored, or what aligns it.
    at: usize,
    bitmap: Option<usize>,
    /// Index of the next element.
    index: usize,
}

impl<'a> Walk<'a> {
    /// The next element, which may be null. Returns none if there is none.
    pub fn next_element(&mut self) -> Option<Option<Stored<'a>>> {
        if self.next_is_null()? {
            return Some(None);
        }
        Stored::take(self.storage, self.bytes, &mut self.at).map(Some)
    }

    /// The next element that is not null, of variable length, with what stands behind its header if it is
    /// stored plain. Returns none if there is none.
    #[inline]
    pub fn next_varlena(&mut self) -> Option<(Stored<'a>, Option<&'a [u8]>)> {
        while self.next_is_null()? {}
        Stored::take_varlena(self.storage, self.bytes, &mut self.at)
    }

    /// Returns whether the next element is null, and passes it then. Returns none if the bitmap ends before.
    fn next_is_null(&mut self) -> Option<bool> {
        let index = self.index;
        self.index += 1;
        let Some(bitmap) = self.bitmap else { return Some(false) };
        Some(self.bytes.get(bitmap + index / 8)? & (1 << (index % 8)) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The oid of int4.
    const INT4: i32 = 23;

    /// What stands behind the length of an array with such dimensions, all of whose elements are null.
    fn all_null(lengths: &[i32]) -> Vec<u8> {
        let count: i32 = lengths.iter().product();
        let offset = HEADER + 2 * WORD * lengths.len() + (count as usize).div_ceil(8);
        let offset = offset.next_multiple_of(MAXIMUM_ALIGNMENT);
        let mut words = vec![lengths.len() as i32, offset as i32, INT4];
        words.extend(lengths);
        words.extend(lengths.iter().map(|_| 1));
        let mut content: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        content.resize(offset - LENGTH, 0);
        content
    }

    fn frame(lengths: &[i32]) -> usize {
        let content = all_null(lengths);
        let count = Array::of(&content).unwrap().count(&content).unwrap();
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
        let count = Array::of(&content).unwrap().count(&content).unwrap();
        assert_eq!((count.values, count.frame), (3, 11 + 7 * 4));
    }

    /// An array of one element that says that it has such lengths.
    fn with_lengths(lengths: &[i32]) -> Vec<u8> {
        let mut content = all_null(&lengths.iter().map(|_| 1).collect::<Vec<_>>());
        for (index, length) in lengths.iter().enumerate() {
            let at = HEADER - LENGTH + index * WORD;
            content[at..at + WORD].copy_from_slice(&length.to_ne_bytes());
        }
        content
    }

    /// The array with these lengths and elements, from its length on.
    fn of_int4(lengths: &[i32], elements: &[i32]) -> Vec<u8> {
        let words = [lengths.len() as i32, 0, INT4];
        let words = words.iter().chain(lengths).chain(lengths.iter().map(|_| &1)).copied();
        let mut content: Vec<u8> =
            [0].into_iter().chain(words).flat_map(i32::to_ne_bytes).collect();
        content.resize(content.len().next_multiple_of(MAXIMUM_ALIGNMENT), 0);
        content.extend(elements.iter().flat_map(|element| element.to_ne_bytes()));
        content
    }

    fn text(bytes: &[u8], limit: usize) -> Option<String> {
        let mut json = Json::for_test(limit);
        let storage = Storage { length: 4, by_value: true, alignment: 4 };
        let render = |element: Stored<'_>, json: &mut Json| {
            json.push(element.number().unwrap().to_string().as_bytes());
        };
        Array::of(&bytes[LENGTH..])?.push(&mut json, storage, bytes, render)?;
        Some(String::from_utf8(json.into_bytes()).unwrap())
    }

    #[test]
    fn elements_stand_in_lists_of_their_lengths() {
        let numbers = [1, -2, 3, 4, 5, 6];
        for (lengths, expected) in [
            (&[][..], "[]"),
            (&[3, 0], "[]"),
            (&[6], "[1,-2,3,4,5,6]"),
            (&[2, 3], "[[1,-2,3],[4,5,6]]"),
            (&[2, 1, 2], "[[[1,-2]],[[3,4]]]"),
        ] {
            assert_eq!(text(&of_int4(lengths, &numbers), usize::MAX).as_deref(), Some(expected));
        }
        assert_eq!(text(&of_int4(&[7], &numbers), usize::MAX), None);
        assert_eq!(text(&of_int4(&[i32::MAX, i32::MAX], &numbers), 4).as_deref(), Some("[[1,-2"));
        let nulls = [&[0; LENGTH][..], &all_null(&[1, 2])].concat();
        assert_eq!(text(&nulls, usize::MAX).as_deref(), Some("[[null,null]]"));
    }

    #[test]
    fn what_is_not_there_is_not_counted() {
        for lengths in [&[100_000][..], &[i32::MAX; 6], &[i32::MAX, i32::MAX]] {
            let content = with_lengths(lengths);
            assert!(Array::of(&content).unwrap().count(&content).is_none(), "{lengths:?}");
        }
        assert!(Array::of(&with_lengths(&[-1])).is_none());
        assert!(Array::of(&with_lengths(&[1, i32::MIN])).is_none());
        assert!(Array::of(&all_null(&[1])[..HEADER - LENGTH]).is_none());
        assert!(Array::of(&[7, 0, 0, 0].repeat(20)).is_none());
    }
}
