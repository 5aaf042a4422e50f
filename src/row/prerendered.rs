//! Values that come as JSON: those that only the database of their row could render, for a process
//! that has none. Each stands behind its length, one after the other.

use pgrx::pg_sys;

use super::json::Json;

/// Bytes of a length.
const LENGTH: usize = size_of::<u32>();

/// Appends what `render` appends, behind its length.
pub(super) fn push(json: &mut Json, render: impl FnOnce(&mut Json)) {
    json.push(&[0; LENGTH]);
    let start = json.bytes().len();
    render(json);
    let out = json.bytes_mut();
    let length = (out.len() - start) as u32;
    out[start - LENGTH..start].copy_from_slice(&length.to_ne_bytes());
}

/// Takes the next off the front. What is returned stands for it as long as the bytes are there. None
/// if there is no further one.
pub(super) fn take(pieces: &mut &[u8]) -> Option<pg_sys::Datum> {
    let (&length, rest) = pieces.split_first_chunk::<LENGTH>()?;
    let rest = rest.get(u32::from_ne_bytes(length) as usize..)?;
    let value = pg_sys::Datum::from(pieces.as_ptr());
    *pieces = rest;
    Some(value)
}

/// The JSON that a value stands for.
///
/// # Safety
///
/// [`take`] returned the value, of bytes that live for `'a`.
pub(super) unsafe fn piece<'a>(value: pg_sys::Datum) -> &'a [u8] {
    let at = value.cast_mut_ptr::<u8>().cast_const();
    // SAFETY: the caller's.
    unsafe {
        let length = at.cast::<[u8; LENGTH]>().read();
        std::slice::from_raw_parts(at.add(LENGTH), u32::from_ne_bytes(length) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_in_their_order() {
        let mut json = Json::for_test(usize::MAX);
        for piece in [b"\"red\"".as_slice(), b"", b"[1]"] {
            push(&mut json, |json| json.push(piece));
        }
        let mut rest = json.bytes();
        for piece in [b"\"red\"".as_slice(), b"", b"[1]"] {
            let value = take(&mut rest).unwrap();
            // SAFETY: just taken, and the bytes are still there.
            assert_eq!(unsafe { super::piece(value) }, piece);
        }
        assert!(take(&mut rest).is_none());
        let mut cut = &json.bytes()[..LENGTH + 3];
        assert!(take(&mut cut).is_none());
    }
}
