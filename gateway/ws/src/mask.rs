//! Masking (RFC 6455, 5.3): exclusive-or with a four-byte key, its own inverse.

/// Masks or unmasks `payload`, whose first byte meets `mask[0]`.
///
/// Eight bytes at a time; the compiler widens that to vectors. No alignment is needed, because words are built from byte
/// arrays and not read through a cast pointer.
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// The key for the byte that follows `taken` bytes masked with `mask`.
pub(crate) fn advance_mask(mask: [u8; 4], taken: usize) -> [u8; 4] {
    u32::from_be_bytes(mask).rotate_left((taken % 4) as u32 * 8).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(payload: &mut [u8], mask: [u8; 4]) {
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[index % 4];
        }
    }

    #[test]
    fn every_length_and_alignment_equals_the_definition() {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        let source: Vec<u8> = (0..200u8).collect();
        for start in 0..16 {
            for end in start..source.len() {
                let mut fast = source.clone();
                let mut plain = source.clone();
                apply_mask(&mut fast[start..end], mask);
                slow(&mut plain[start..end], mask);
                assert_eq!(fast, plain, "start {start} end {end}");
            }
        }
    }

    #[test]
    fn a_cut_anywhere_masks_the_same() {
        let mask = [1, 2, 4, 8];
        let source: Vec<u8> = (0..67u8).collect();
        let mut whole = source.clone();
        apply_mask(&mut whole, mask);
        for cut in 0..=source.len() {
            let mut parts = source.clone();
            let (left, right) = parts.split_at_mut(cut);
            apply_mask(left, mask);
            apply_mask(right, advance_mask(mask, cut));
            assert_eq!(parts, whole, "cut {cut}");
        }
    }
}
