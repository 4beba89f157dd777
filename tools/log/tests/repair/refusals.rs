//! What is refused, and what is left behind then: nothing of others' is named for removal, and nothing erased is given out.

use super::journal::{Journal, sums};
use super::{files, make, rot, run};
use std::path::Path;
use std::process::{Command, Output};
use tidegate_ids::StreamKind;

#[test]
fn what_cannot_be_repaired_is_said() {
    let made = make(true, false);
    let to = made.copy.to_str().unwrap();
    std::fs::create_dir(&made.copy).unwrap();
    std::fs::write(made.copy.join("something"), b"").unwrap();
    let (code, _, err) = run("repair", &made.dir, &["--to", to]);
    assert_eq!((code, err), (Some(1), format!("tidegate-log: {to} is not empty: name another directory\n")));
    std::fs::remove_dir_all(&made.copy).unwrap();
    let within = made.dir.join("within");
    let (code, _, err) = run("repair", &made.dir, &["--to", within.to_str().unwrap()]);
    assert!(code == Some(1) && err.contains("lies within"), "{err}");
    let _ = std::fs::remove_dir(within);

    let journal = Journal::open(&made.dir, 3);
    let (code, _, err) = run("repair", &made.dir, &["--to", to]);
    let holder = format!("is in use by process {}: stop it first", std::process::id());
    assert!(code == Some(1) && err.contains(&holder), "{err}");
    drop(journal);

    let (code, _, err) = run("repair", made.dir.parent().unwrap(), &["--to", to]);
    assert!(code == Some(1) && err.contains("not a data directory of tidegate"), "{err}");
    // A newer version wrote it.
    let manifest = made.dir.join("MANIFEST");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("tidegate-manifest 1", "tidegate-manifest 3")).unwrap();
    let (code, _, err) = run("repair", &made.dir, &["--to", to]);
    assert!(
        code == Some(1) && err.contains("newer than 2") && err.contains("the version that wrote it"),
        "{err}"
    );
    assert!(!made.copy.join("MANIFEST").exists());
    let (code, _, err) = run("repair", &made.dir, &[]);
    assert!(code == Some(2) && err.contains("--to"), "{err}");
}

/// `--to` named a directory with somebody's files, or the damaged one itself, or one that could not be made: the refusal said that
/// "the copy in it is not whole" and to remove it.
#[test]
fn only_what_a_repair_made_is_named_for_removal() {
    let made = make(true, false);
    let before = files(&made.dir);
    let own = made.dir.to_str().unwrap();
    let beside = made.dir.parent().unwrap();
    std::fs::write(beside.join("file"), b"").unwrap();
    for (to, expected) in [
        (own.to_owned(), "lies within"),
        (beside.to_str().unwrap().to_owned(), "is not empty: name another directory"),
        (beside.join("file").to_str().unwrap().to_owned(), "cannot "),
        (beside.join("file/below").to_str().unwrap().to_owned(), "cannot create directory"),
    ] {
        let (code, _, err) = run("repair", &made.dir, &["--to", &to]);
        assert!(code == Some(1) && err.starts_with("tidegate-log: ") && err.contains(expected), "{err}");
        assert!(!err.contains("not whole") && !err.contains("remove"), "{err}");
    }
    assert_eq!(files(&made.dir), before);
}

/// Runs the tool where no file may grow, as on a disk that is full.
fn run_on_full_disk(action: &str, dir: &Path, more: &[&str]) -> (Option<i32>, String) {
    // Ignored signals stay ignored in what the shell becomes, so that the system refuses the write instead.
    let script = r#"trap '' XFSZ; ulimit -f 0; exec "$0" "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_tidegate-log"), action]).arg(dir).args(more);
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// What the tool calls a conversation of the directories here.
fn conversation(number: u64) -> String {
    match sums::stream(number).kind() {
        Some(StreamKind::Conversation(id)) => id.to_string(),
        other => panic!("no conversation: {other:?}"),
    }
}

/// A disk that was full left the beginning of the new list behind.
#[test]
fn a_request_to_erase_that_found_no_room_leaves_nothing() {
    let made = make(true, false);
    let ask = |of: u64| [String::from("--conversation"), conversation(of), String::from("--all")];
    let (first, second) = (ask(1), ask(2));
    let (code, _, err) = run("erase", &made.dir, &first.each_ref().map(String::as_str));
    assert_eq!(code, Some(0), "{err}");
    let before = files(&made.dir);
    let (code, err) = run_on_full_disk("erase", &made.dir, &second.each_ref().map(String::as_str));
    assert!(code != Some(0) && err.contains("cannot write ") && err.contains("ERASURES.tmp"), "{err}");
    assert!(!made.dir.join("ERASURES.tmp").exists());
    assert!(files(&made.dir) == before, "the list is as it was");
}

/// What is left of a copy that could not be written is to be removed, but not an operator's directory around it.
#[test]
fn of_a_directory_that_was_there_only_what_is_in_it_is_to_be_removed() {
    let made = make(true, false);
    rot(100)(&made);
    let to = made.copy.to_str().unwrap();
    let (code, err) = run_on_full_disk("repair", &made.dir, &["--to", to]);
    assert!(code == Some(1) && err.contains(&format!("the copy in {to} is not whole, remove it: ")), "{err}");
    assert!(!made.copy.join("MANIFEST").exists());
    std::fs::remove_dir_all(&made.copy).unwrap();
    std::fs::create_dir(&made.copy).unwrap();
    let (code, err) = run_on_full_disk("repair", &made.dir, &["--to", to]);
    let expected = format!("the copy in {to} is not whole, remove what is in it: ");
    assert!(code == Some(1) && err.contains(&expected), "{err}");
}

/// A list of erasures that could not be read was left out of the copy, and the gateway on it gave erased messages out; one that
/// was damaged failed only the copy's verification, after the dry run had said that all was well.
#[test]
fn what_was_erased_is_known_or_there_is_no_copy() {
    let made = make(true, false);
    let list = made.dir.join("ERASURES");
    let to = made.copy.to_str().unwrap();
    let refused = |expected: &str| {
        for more in [&["--dry-run"][..], &["--to", to]] {
            let (code, out, err) = run("repair", &made.dir, more);
            assert!(code == Some(1) && out.is_empty() && !made.copy.exists(), "{out}{err}");
            let way_out = "put it back from a backup, or move it away and ask again for what was not done";
            assert!(err.contains(list.to_str().unwrap()) && err.contains(expected), "{err}");
            assert!(err.contains(way_out) && !err.contains("put a backup back"), "{err}");
        }
    };
    std::fs::create_dir(&list).unwrap();
    refused("without it nobody knows what may be given out: let this user read it");
    std::fs::remove_dir(&list).unwrap();
    // As one that this user may not follow: root may read everything else.
    std::os::unix::fs::symlink("ERASURES", &list).unwrap();
    refused("without it nobody knows what may be given out: let this user read it");
    std::fs::remove_file(&list).unwrap();
    std::fs::write(&list, b"").unwrap();
    refused("line 1: not a tidegate list of erasures");
    std::fs::write(&list, b"tidegate-erasures 1\ncrc32c 00000000\n").unwrap();
    refused("the checksum does not match");
    std::fs::remove_file(&list).unwrap();
    let (code, _, err) =
        run("erase", &made.dir, &["--conversation", &conversation(1), "--sequences", "1..2"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, out, err) = run("repair", &made.dir, &["--to", to]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(std::fs::read(made.copy.join("ERASURES")).unwrap(), std::fs::read(&list).unwrap());
}
