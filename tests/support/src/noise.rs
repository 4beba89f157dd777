//! Bytes that nothing makes smaller.

/// So many bytes that follow from a seed and cannot be compressed, every sixteen of them unlike any others: found wherever
/// they lie (xorshift64, Marsaglia 2003).
#[must_use]
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}
