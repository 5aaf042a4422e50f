//! Bytes that were right once.

/// Inverts bits: at each place, of the bytes in turn, those that are set in the number.
pub fn damage(bytes: &mut [u8], flips: &[(u16, u8)]) {
    let length = bytes.len();
    for &(at, bits) in flips.iter().filter(|_| length > 0) {
        bytes[usize::from(at) % length] ^= bits;
    }
}
