//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::str::FromStr;
use tidegate_ids::{ConversationId, LogId, Sequence, ShardIndex, StreamId, StreamKind, UserId};
use tidegate_storage_log::SequenceRange;

const EXAMPLES: &str = "\
Examples:
  tidegate-log dump data --limit 20
  tidegate-log dump data --stream user:7
  tidegate-log dump data --stream 7:12 --json
  tidegate-log dump data --log 2/0
  tidegate-log verify data
  tidegate-log backup data /backups/monday
  tidegate-log repair data --to data.repaired
  tidegate-log mark-restored data
  tidegate-log erase data --conversation 7:12 --sequences 3..9 --reason 'case 4711'
  tidegate-log erase data --list

dump, verify and backup only read the data directory, and work beside a running gateway; its newest records are then in
motion. repair only reads it, too, and needs the gateway to be stopped.";

/// Looks into a tidegate data directory, copies it, repairs it, and says that it was put back.
#[derive(Debug, Parser)]
#[command(name = "tidegate-log", version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print records, one a line, in the order of epochs, shards and appends.
    Dump(DumpOptions),
    /// Check every batch, record, link, sequence and footer, the snapshots and the list of erasures.
    ///
    /// Exits with 0 if the log is whole (a tail that was never acknowledged may be cut: it is reported), with 1 if
    /// anything is damaged, with 2 if the directory cannot be looked at.
    Verify(VerifyOptions),
    /// Copy the directory of a running or stopped gateway to another one, which is empty or not there yet.
    ///
    /// Everything acknowledged before it began is in the copy. Segments that are no longer written to are hard links where
    /// both directories are on one file system: then copy the backup to another disk. To restore, put a copy of the backup
    /// in the place of the data directory; its first start takes a new incarnation, so that clients drop what the backup
    /// does not have.
    Backup(BackupOptions),
    /// Write a sound copy of a damaged directory to another one, which is empty or not there yet.
    ///
    /// Every record that its checksums prove is in the copy, identical, under the same location; what is lost keeps its place
    /// and its sequence, and clients are told so. The damaged directory is not changed: keep it until the gateway runs well
    /// on the copy. The copy is verified, and its first start takes a new incarnation, so that clients drop what it does not
    /// have. Files that hold are hard links where both directories are on one file system: on a disk that fails, name another.
    ///
    /// Prints a line for every loss. Exits with 0 if the copy is sound, whatever was lost, with 1 if there can be none.
    Repair(RepairOptions),
    /// Say that a directory was put back by other means than from a backup of this tool.
    ///
    /// Needed before the first start on a file-system snapshot, an rsync or a disk image that was put back: it may be older
    /// than what clients have seen. The next start then takes a new incarnation. A copy made by `backup` is marked already;
    /// a directory that only lost power must not be marked.
    MarkRestored(MarkRestoredOptions),
    /// Have records of a conversation erased, or list what was asked and how far it is.
    ///
    /// Works beside a running gateway, which takes the request up within seconds: from then on nobody is given these records any
    /// more, members get a hole in their place. Then it rewrites the files that hold them; `--list` says `done` once no file of
    /// the data directory does. Without a gateway the request waits for the next one. What was delivered before stays with
    /// whoever has it, and backups made before keep their copies.
    ///
    /// Who wrote in which conversation when, and how much, stays in the log. There is no way back.
    Erase(EraseOptions),
}

#[derive(Args, Debug)]
pub(crate) struct BackupOptions {
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// Where the copy goes.
    pub(crate) to: PathBuf,
    /// Leave out `token.secret`; then all tokens have to be made anew after a restore.
    #[arg(long)]
    pub(crate) without_secret: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RepairOptions {
    /// The damaged data directory; no gateway may run on it.
    pub(crate) dir: PathBuf,
    /// Where the copy goes.
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    pub(crate) to: Option<PathBuf>,
    /// Say what would be lost, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct MarkRestoredOptions {
    /// The data directory; no gateway may run on it.
    pub(crate) dir: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct EraseOptions {
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// Which: `7:12` (a direct conversation) or 32 hex digits (a group), as `dump` prints them.
    #[arg(long, value_name = "ID", value_parser = parse_conversation, required_unless_present = "list")]
    pub(crate) conversation: Option<ConversationId>,
    /// Records A to B, both included, or only one. They must have been written already.
    #[arg(long, value_name = "A..B", value_parser = parse_sequences)]
    #[arg(required_unless_present_any = ["all", "list"], conflicts_with = "all")]
    pub(crate) sequences: Option<SequenceRange>,
    /// All records written up to now; what is said later is not meant.
    #[arg(long)]
    pub(crate) all: bool,
    /// Why, for whoever reads the list: one line.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// What was asked, and how far it is.
    #[arg(long, conflicts_with_all = ["conversation", "sequences", "all", "reason"])]
    pub(crate) list: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DumpOptions {
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// Only this stream: `user:7`, `7:12` (a direct conversation), `shard`, or 32 hex digits (a group).
    #[arg(long, value_name = "STREAM", value_parser = parse_stream)]
    pub(crate) stream: Option<StreamId>,
    /// Only this log.
    #[arg(long, value_name = "EPOCH/SHARD", value_parser = parse_log)]
    pub(crate) log: Option<LogId>,
    /// At most so many records.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyOptions {
    /// The data directory.
    pub(crate) dir: PathBuf,
}

fn parse_stream(text: &str) -> Result<StreamId, String> {
    let wrong = || format!("{text:?} is not user:N, N:M, shard, or 32 hex digits");
    if text == "shard" {
        return Ok(StreamId::SHARD);
    }
    if let Some((left, right)) = text.split_once(':') {
        let user = |text: &str| u64::from_str(text).map(UserId).map_err(|_| wrong());
        return match left {
            "user" => Ok(StreamId::user(user(right)?)),
            _ => Ok(StreamId::conversation(ConversationId::direct(user(left)?, user(right)?))),
        };
    }
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    u128::from_str_radix(text, 16).map(|bits| StreamId(bits.to_be_bytes())).map_err(|_| wrong())
}

fn parse_conversation(text: &str) -> Result<ConversationId, String> {
    let stream = parse_stream(text).ok().and_then(|stream| stream.kind());
    match stream {
        Some(StreamKind::Conversation(id)) => Ok(id),
        _ => Err(format!("{text:?} is not N:M, nor the 32 hex digits of a group")),
    }
}

fn parse_sequences(text: &str) -> Result<SequenceRange, String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let both = from.parse().ok().zip(to.parse().ok()).map(|(from, to)| (Sequence(from), Sequence(to)));
    let range = both.and_then(|(from, to)| SequenceRange::new(from, to));
    range.ok_or_else(|| format!("{text:?} is not A..B, with A from 1 and not above B"))
}

fn parse_log(text: &str) -> Result<LogId, String> {
    let parts =
        text.split_once('/').and_then(|(epoch, shard)| Some((epoch.parse().ok()?, shard.parse().ok()?)));
    let (epoch, shard) = parts.ok_or_else(|| format!("{text:?} is not EPOCH/SHARD"))?;
    Ok(LogId { epoch, shard: ShardIndex(shard) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_its_help_has_examples() {
        Cli::command().debug_assert();
        assert!(Cli::command().render_help().to_string().contains("dump data --limit 20"));
    }

    #[test]
    fn streams_and_sequences_are_named_as_dump_prints_them() {
        let check =
            |text: &str, expected: Option<StreamId>| assert_eq!(parse_stream(text).ok(), expected, "{text}");
        check("user:7", Some(StreamId::user(UserId(7))));
        check("12:7", Some(StreamId::conversation(ConversationId::direct(UserId(7), UserId(12)))));
        check("shard", Some(StreamId::SHARD));
        let group = ConversationId::group([0x8a; 16]);
        check(&group.to_string(), Some(StreamId::conversation(group)));
        for wrong in ["", "user", "user:", "user:x", "1:2:3", "8a8a", "+a8a8a8a8a8a8a8a8a8a8a8a8a8a8a8a"] {
            check(wrong, None);
        }
        let conversation = ConversationId::direct(UserId(7), UserId(12));
        assert_eq!(parse_conversation("12:7"), Ok(conversation));
        assert_eq!(parse_conversation(&group.to_string()), Ok(group));
        for wrong in ["user:7", "shard", "", "40000000000000000000000000000007"] {
            assert!(parse_conversation(wrong).is_err(), "{wrong}");
        }
        let sequences = |text: &str| parse_sequences(text).ok().map(|range| (range.from().0, range.to().0));
        assert_eq!(sequences("3..9"), Some((3, 9)));
        assert_eq!(sequences("3"), Some((3, 3)));
        for wrong in ["0..9", "9..3", "..3", "3..", "a..b", "", "1..2..3", "-1"] {
            assert_eq!(sequences(wrong), None, "{wrong}");
        }
        assert_eq!(parse_log("3/1").ok(), Some(LogId { epoch: 3, shard: ShardIndex(1) }));
        assert!(parse_log("3").is_err());
    }
}
