//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::str::FromStr;
use tidegate_ids::{ConversationId, LogId, ShardIndex, StreamId, UserId};

const EXAMPLES: &str = "\
Examples:
  tidegate-log dump data --limit 20
  tidegate-log dump data --stream user:7
  tidegate-log dump data --stream 7:12 --json
  tidegate-log dump data --log 2/0
  tidegate-log verify data
  tidegate-log backup data /backups/monday
  tidegate-log mark-restored data

dump, verify and backup only read the data directory, and work beside a running gateway; its newest records are then in
motion.";

/// Looks into a tidegate data directory, copies it, and says that it was put back.
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
    /// Check every batch, record, link, sequence and footer.
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
    /// Say that a directory was put back by other means than from a backup of this tool.
    ///
    /// Needed before the first start on a file-system snapshot, an rsync or a disk image that was put back: it may be older
    /// than what clients have seen. The next start then takes a new incarnation. A copy made by `backup` is marked already;
    /// a directory that only lost power must not be marked.
    MarkRestored(MarkRestoredOptions),
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
pub(crate) struct MarkRestoredOptions {
    /// The data directory; no gateway may run on it.
    pub(crate) dir: PathBuf,
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
    fn streams_are_named_as_dump_prints_them() {
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
        assert_eq!(parse_log("3/1").ok(), Some(LogId { epoch: 3, shard: ShardIndex(1) }));
        assert!(parse_log("3").is_err());
    }
}
