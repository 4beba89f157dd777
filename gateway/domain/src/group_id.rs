//! A group's id, derived so that a retried creation is the same group (DESIGN 2).

use sha2::{Digest, Sha256};
use tidegate_ids::{ClientId, ConversationId, DeviceId, UserId};

/// Keeps these hashes apart from any other use of SHA-256 over the same fields.
const DOMAIN_TAG: &[u8] = b"tidegate group id v1\0";

/// 127 bits of SHA-256(domain tag, creator, device, client id) under a top bit of 1.
#[must_use]
pub fn group_id(creator: UserId, device: DeviceId, client: &ClientId) -> ConversationId {
    let mut hash = Sha256::new();
    hash.update(DOMAIN_TAG);
    hash.update(creator.0.to_le_bytes());
    hash.update(device.0.to_le_bytes());
    hash.update(client.0);
    let digest = hash.finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    ConversationId::group(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_matters_and_a_retry_is_the_same() {
        let id = group_id(UserId(1), DeviceId(2), &ClientId([3; 16]));
        assert!(id.is_group());
        assert_eq!(id, group_id(UserId(1), DeviceId(2), &ClientId([3; 16])));
        assert_ne!(id, group_id(UserId(2), DeviceId(2), &ClientId([3; 16])));
        assert_ne!(id, group_id(UserId(1), DeviceId(3), &ClientId([3; 16])));
        assert_ne!(id, group_id(UserId(1), DeviceId(2), &ClientId([4; 16])));
    }
}
