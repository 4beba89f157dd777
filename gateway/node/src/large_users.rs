//! Says whose states were too large for a snapshot, and what they gave up for it (decision 0021).

use tidegate_domain::GivenUp;
use tidegate_ids::DeviceId;
use tidegate_shard::LargeUsers;

/// Names them, once for a snapshot that is made; a fold names 100 at most.
pub(crate) fn tell_large(snapshot: u64, large: &LargeUsers) {
    for (user, given_up) in &large.named {
        let GivenUp { devices, ranges, conversations, conversations_left } = given_up;
        tracing::warn!(
            snapshot,
            user = user.0,
            devices = list(devices),
            ranges,
            conversations,
            conversations_left,
            "a user is in too many conversations for a snapshot: these devices have to synchronise when they connect after \
             a restart, and that many conversations are not listed any more; see `Users in too many conversations` in \
             docs/operations.md"
        );
    }
    let more = large.users - large.named.len() as u64;
    if more > 0 {
        let LargeUsers { devices, conversations, .. } = large;
        tracing::warn!(
            snapshot,
            more,
            devices,
            conversations,
            "more users than are named are in too many conversations; these are the sums of all"
        );
    }
}

fn list(devices: &[DeviceId]) -> String {
    devices.iter().map(|device| device.0.to_string()).collect::<Vec<_>>().join(",")
}
