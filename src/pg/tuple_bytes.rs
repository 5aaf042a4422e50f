//! How a row is laid out (access/htup_details.h). An image of a row is its bytes from the bitmap of nulls on.

use pgrx::pg_sys;

use super::storage::MAXIMUM_ALIGNMENT;

/// Bytes of a row before its bitmap of nulls, of which an image has none (`SizeofHeapTupleHeader`).
pub(super) const HEADER: usize = std::mem::offset_of!(pg_sys::HeapTupleHeaderData, t_bits);

/// Where the values of an image begin.
#[inline]
pub fn data_offset(columns: usize, has_nulls: bool) -> usize {
    let bitmap = if has_nulls { columns.div_ceil(8) } else { 0 };
    (HEADER + bitmap).next_multiple_of(MAXIMUM_ALIGNMENT) - HEADER
}

/// Returns whether a value of an image is null that has a bitmap of nulls.
#[inline]
pub fn is_null(image: &[u8], number: usize) -> bool {
    // Bits are set for values that are there.
    image[number / 8] & (1 << (number % 8)) == 0
}
