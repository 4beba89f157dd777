//! What follows from an attempt to write.

use super::*;

const EIO: i32 = Errno::IO.raw_os_error();

/// A write of 2000 bytes of which 512 are taken, whose attempt ended like this.
#[track_caller]
fn check(
    mode: SyncMode,
    write_result: i32,
    sync_result: i32,
    taken: usize,
    expected: Option<Result<(), i32>>,
) {
    let file = LogFile::from(File::open("/dev/null").expect("a file"));
    let bytes = vec![0; 2000];
    let mut write = LogWrite {
        token: 1,
        bytes,
        file,
        offset: 0,
        mode,
        taken: 512,
        pending: 0,
        write_result,
        sync_result,
    };
    let next = match write.settle() {
        Next::Again => None,
        Next::Done(result) => Some(result.map_err(|error| error.raw_os_error().unwrap_or(0))),
    };
    assert_eq!((write.taken, next), (taken, expected));
}

#[test]
fn a_linked_write_counts_when_all_of_it_is_synced() {
    use SyncMode::LinkedFdatasync as Linked;
    let canceled = -Errno::CANCELED.raw_os_error();
    check(Linked, 1488, 0, 2000, Some(Ok(())));
    check(Linked, 1488, -EIO, 2000, Some(Err(EIO)));
    check(Linked, -EIO, canceled, 512, Some(Err(EIO)));
    check(Linked, -Errno::NOSPC.raw_os_error(), canceled, 512, Some(Err(Errno::NOSPC.raw_os_error())));
    check(Linked, -Errno::INTR.raw_os_error(), canceled, 512, None);
    // A short write: the rest follows, whatever the sync behind it said.
    check(Linked, 100, canceled, 612, None);
    check(Linked, 100, 0, 612, None);
    check(Linked, 0, canceled, 512, Some(Err(0)));
}

#[test]
fn a_direct_write_goes_on_at_a_block() {
    use SyncMode::DirectDsync as Direct;
    check(Direct, 1488, 0, 2000, Some(Ok(())));
    check(Direct, 1024, 0, 1536, None);
    check(Direct, 700, 0, 1024, None);
    check(Direct, 100, 0, 512, Some(Err(0)));
    check(Direct, -EIO, 0, 512, Some(Err(EIO)));
}
