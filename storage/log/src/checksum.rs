//! CRC-32C, the only checksum of the format.

/// CRC-32C (Castagnoli, reflected, inverted: "CRC-32/ISCSI") of `bytes`.
///
/// `crc32_iscsi` is the entry without a digest object, which for a hundred bytes costs as much as the sum itself.
#[inline]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    /// One bit at a time, straight from the polynomial.
    fn slow(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |sum, byte| {
            (0..8)
                .fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
        })
    }

    #[test]
    fn it_is_castagnoli_at_every_length() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let bytes: Vec<u8> = (0..5000_u32).map(|i| (i * 31 + (i >> 8)) as u8).collect();
        for len in (0..700).chain([1024, 4095, 4096, 5000]) {
            assert_eq!(crc32c(&bytes[..len]), slow(&bytes[..len]), "length {len}");
        }
    }
}
