//! What a log holds after a crash, after damage, after both.

mod harness;

use harness::{Log, recover_all, small};

#[test]
fn everything_synced_is_recovered_over_many_segments() {
    let mut log = Log::new(small());
    log.fill(1000, 17, 5);
    let (recovered, kept) = recover_all(&log.medium);
    assert_eq!(kept, log.kept);
    assert_eq!(recovered.damage, []);
    assert_eq!(recovered.cut, None);
    assert!(recovered.unclean);
    assert!(recovered.extents.len() > 3, "{}", recovered.extents.len());
    assert_eq!(recovered.last_synced(), log.appender.last_synced());
    assert_eq!(recovered.end(), log.appender.committed_end());

    log.appender.seal();
    log.flush();
    let (recovered, kept) = recover_all(&log.medium);
    assert_eq!(kept, log.kept);
    assert!(!recovered.unclean);
    assert_eq!(recovered.last_synced(), log.appender.last_synced());
}
