//! Log lines: on stderr, for people or as JSON. Standard output carries only what scripts wait for.

use crate::cli::LogFormat;
use crate::config::LogConfig;
use tracing_subscriber::EnvFilter;

/// Starts logging for the process.
///
/// # Errors
/// The filter is not one; the text says where.
pub fn start(config: &LogConfig) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| format!("log.filter is `{}`: {error}", config.filter))?;
    // A line that cannot be written is lost. Telling so on the same stream would end the process instead.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let started = match config.format {
        LogFormat::Text => lines.with_ansi(false).with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
