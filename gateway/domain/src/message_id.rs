//! Message ids: UUIDv7 (RFC 9562, 5.7) from a generator that is handed in.

use tidegate_ids::{MessageId, WallMs};

/// A seeded generator (SplitMix64, Steele et al. 2014): the same seed gives the same ids, so a simulated run repeats.
#[derive(Clone, Debug)]
pub struct Generator {
    state: u64,
}

impl Generator {
    /// A generator from a seed; the shell takes the seed from the kernel's entropy.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// A UUIDv7 of this time: 48 bits of milliseconds, version 7, variant 10, 74 random bits.
pub fn message_id(time: WallMs, random: &mut Generator) -> MessageId {
    let (a, b) = (random.next_u64(), random.next_u64());
    let high = time.0 << 16 | 0x7000 | (a & 0x0FFF);
    let low = 0x8000_0000_0000_0000 | (b >> 2);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    MessageId(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_variant_and_time_stand_where_the_rfc_says() {
        let mut random = Generator::new(7);
        let one = message_id(WallMs(0x0123_4567_89AB), &mut random);
        assert_eq!(one.0[..6], [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB]);
        assert_eq!(one.0[6] >> 4, 7);
        assert_eq!(one.0[8] >> 6, 0b10);
        assert_ne!(one, message_id(WallMs(0x0123_4567_89AB), &mut random));
        let mut again = Generator::new(7);
        assert_eq!(one, message_id(WallMs(0x0123_4567_89AB), &mut again));
    }
}
