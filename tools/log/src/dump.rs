//! `dump`: every record that recovery would give out, one a line.

use crate::cli::DumpOptions;
use crate::kinds;
use crate::preview::preview;
use anyhow::Context as _;
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};
use tidegate_ids::{LogId, WallMs};
use tidegate_storage_files::DirView;
use tidegate_storage_log::{RecordState, RecordView, recover};

/// The first year that RFC 3339 has no form for, in milliseconds since 1970.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

#[derive(Serialize)]
struct Line {
    log: String,
    location: String,
    stream: String,
    sequence: u64,
    kind: u16,
    kind_name: Option<&'static str>,
    /// Null for records of users and shards, which have no stamp.
    time: Option<String>,
    number: u64,
    state: &'static str,
    body_bytes: u32,
    preview: String,
}

pub(crate) fn run(options: &DumpOptions) -> anyhow::Result<ExitCode> {
    let view = DirView::open(&options.dir)?;
    view.problems().iter().for_each(|problem| eprintln!("tidegate-log: {problem}"));
    if let Some(pid) = view.holder() {
        eprintln!(
            "tidegate-log: process {pid} writes to {}: its newest records may be missing",
            options.dir.display()
        );
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let limit = options.limit.unwrap_or(u64::MAX);
    let mut left = limit;
    for listed in view.logs() {
        if left == 0 || options.log.is_some_and(|log| log != listed.log) {
            continue;
        }
        let mut written = Ok(());
        let recovered = recover(&mut view.reader(), &listed.segments, Some(view.directory()), |record| {
            let is_wanted = options.stream.is_none_or(|stream| stream == record.head.stream);
            if left > 0 && is_wanted && written.is_ok() {
                left -= 1;
                written = write(&mut out, listed.log, &record, options.json);
            }
        });
        written?;
        let recovered = recovered.with_context(|| format!("log {}", listed.log))?;
        out.flush()?;
        if recovered.damage_count > 0 {
            eprintln!("tidegate-log: log {} is damaged: see `tidegate-log verify`", listed.log);
        }
    }
    out.flush()?;
    if left == limit && limit > 0 {
        tell_none(options, &view);
    }
    Ok(ExitCode::SUCCESS)
}

/// Nothing was printed: whoever named a log or a stream may have mistaken its name.
fn tell_none(options: &DumpOptions, view: &DirView) {
    let place = match options.log {
        Some(log) if view.logs().iter().all(|listed| listed.log != log) => {
            return eprintln!("tidegate-log: there is no log {log} in {}", options.dir.display());
        }
        Some(log) => format!("log {log} of {}", options.dir.display()),
        None => options.dir.display().to_string(),
    };
    match options.stream {
        Some(stream) => eprintln!("tidegate-log: there is no record of {stream} in {place}"),
        None => eprintln!("tidegate-log: there is no record in {place}"),
    }
}

fn write(out: &mut impl Write, log: LogId, record: &RecordView<'_>, json: bool) -> io::Result<()> {
    let head = &record.head;
    let line = Line {
        log: log.to_string(),
        location: record.location.to_string(),
        stream: head.stream.to_string(),
        sequence: head.sequence.0,
        kind: head.kind,
        kind_name: kinds::name(head.kind),
        time: (head.time.0 > 0).then(|| time(head.time)),
        number: head.number.0,
        state: match record.placement.state {
            RecordState::Live => "live",
            RecordState::Expired => "expired",
            RecordState::Erased => "erased",
            RecordState::Lost => "lost",
        },
        body_bytes: head.body_len,
        preview: preview(record.body),
    };
    if json {
        serde_json::to_writer(&mut *out, &line)?;
        return out.write_all(b"\n");
    }
    let kind = line.kind_name.map_or_else(|| format!("kind-{}", line.kind), String::from);
    let time = line.time.as_deref().unwrap_or("-");
    write!(out, "{} {} {time} {} {kind} {}", line.log, line.location, line.stream, line.sequence)?;
    if line.number > 0 {
        write!(out, " number {}", line.number)?;
    }
    if line.state != "live" {
        write!(out, " {}", line.state)?;
    }
    writeln!(out, " {} B {:?}", line.body_bytes, line.preview)
}

fn time(ms: WallMs) -> String {
    if ms.0 >= YEAR_10000_MS {
        return ms.to_string();
    }
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms.0)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_has_a_form() {
        assert_eq!(time(WallMs(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert_eq!(time(WallMs(YEAR_10000_MS - 1)), "9999-12-31T23:59:59.999Z");
        assert_eq!(time(WallMs(u64::MAX)), u64::MAX.to_string());
    }
}
