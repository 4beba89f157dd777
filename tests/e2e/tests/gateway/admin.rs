//! What operators see.

use tidegate_ids::{ConversationId, DeviceId, UserId};
use tidegate_tests_e2e::{Gateway, Wire, get};

#[test]
fn the_admin_endpoint_tells_health_readiness_and_figures() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(dir.path(), 2);
    assert_eq!(get(gateway.admin, "/healthz").status, 200);
    assert_eq!(get(gateway.admin, "/readyz").status, 200);
    assert_eq!(get(gateway.admin, "/nothing").status, 404);
    let mut wire = Wire::greeted(gateway.ws, &gateway.token(UserId(1)), DeviceId(1), 1);
    for number in 1..=10 {
        wire.send(ConversationId::direct(UserId(1), UserId(2)), number, "counted");
    }
    // Each shard publishes for itself: the conversation's home and the user's may be a tenth of a second apart.
    gateway.wait_for_count("events.commands_appended", 10);
    gateway.wait_for_gauge("sockets", 1);
    gateway.wait_for_gauge("sessions", 1);
    let stats = gateway.stats();
    assert_eq!(stats.total("events.commands_appended"), 10);
    assert_eq!((stats.total("sockets"), stats.total("sessions")), (1, 1));
    assert!(stats.total("commits.count") > 0 && stats.total("bytes.received") > 0);
    assert_eq!(stats.0["phase"], "ready");
    assert_eq!(stats.0["shards"].as_array().map(Vec::len), Some(2));
    let of_shards: u64 =
        stats.0["shards"].as_array().unwrap().iter().filter_map(|shard| shard["sockets"].as_u64()).sum();
    assert_eq!(of_shards, 1);
    let metrics = get(gateway.admin, "/metrics");
    assert_eq!(metrics.status, 200);
    let appended: u64 = metrics
        .body
        .lines()
        .filter(|line| line.starts_with("tidegate_events_total{") && line.contains("\"commands_appended\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(appended, 10, "{}", metrics.body);
    assert!(metrics.body.contains("tidegate_commit_latency_seconds_bucket"), "{}", metrics.body);
    assert!(metrics.body.trim_end().ends_with("# EOF"));
    drop(wire);
    gateway.wait_for_count("events.sessions_ended", 1);
    gateway.wait_for_gauge("sockets", 0);
    gateway.stop();
}
