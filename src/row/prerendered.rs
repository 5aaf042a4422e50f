//! Values that come as JSON: those that only the database of their row could render, for a process
//! that has none. Each stands behind its length, one after the other.

use super::json::Json;

/// Bytes of a length.
const LENGTH: usize = size_of::<u32>();

/// Appends what `render` appends, behind its length.
pub fn push(json: &mut Json, render: impl FnOnce(&mut Json)) {
    json.push(&[0; LENGTH]);
    let start = json.bytes().len();
    render(json);
    let out = json.bytes_mut();
    let length = (out.len() - start) as u32;
    out[start - LENGTH..start].copy_from_slice(&length.to_ne_bytes());
}

/// Takes the next off the front. Returns none if there is no further one.
pub fn take<'a>(pieces: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&length, rest) = pieces.split_first_chunk::<LENGTH>()?;
    let (piece, rest) = rest.split_at_checked(u32::from_ne_bytes(length) as usize)?;
    *pieces = rest;
    Some(piece)
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
            assert_eq!(take(&mut rest), Some(piece));
        }
        assert!(take(&mut rest).is_none());
        let mut cut = &json.bytes()[..LENGTH + 3];
        assert!(take(&mut cut).is_none());
    }
}
