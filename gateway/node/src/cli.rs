//! What the command line takes.

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Tidegate, a chat gateway.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, max_term_width = 110)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the gateway until SIGTERM or SIGINT
    Serve(Serve),
    /// Prints a token for a user
    Token(Token),
    /// Chats with another user in the terminal
    Chat(Chat),
}

/// Flags of `serve`. Each is over the environment, which is over the configuration file.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct Serve {
    /// Directory of logs, manifest and token secret [default: ./data]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Address of the WebSockets; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Address of /healthz, /readyz, /metrics and /stats [default: 127.0.0.1:8081]
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    /// Pinned threads [default: as many as cores]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<u16>,
    /// Configuration file, TOML (docs/configuration.md)
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Serves /echo, which returns every message: for conformance tests and benchmarks
    #[arg(long)]
    #[serde(skip_serializing_if = "is_unset")]
    pub echo: bool,
    /// How log lines look on stderr [default: text]
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip)]
    pub log_format: Option<LogFormat>,
}

/// An address to listen on: never a name, which may be several addresses, or another one tomorrow.
///
/// # Errors
/// It is none; the text says how one looks.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not IP:PORT, such as 127.0.0.1:8080 or [::1]:8080"))
}

/// An absent switch says nothing, so that environment and file may still say yes.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_unset(switch: &bool) -> bool {
    !*switch
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags of `token`.
#[derive(Clone, Debug, Args)]
pub struct Token {
    /// Directory whose secret signs, where none is configured [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Configuration file that may name a secret
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// For whom
    #[arg(long, value_name = "ID")]
    pub user: u64,
    /// The only device it is for [default: any]
    #[arg(long, value_name = "ID")]
    pub device: Option<u64>,
    /// How long it is valid
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
    /// Class of limits: default or unlimited
    #[arg(long, value_name = "CLASS")]
    pub rate: Option<String>,
}

/// Flags of `chat`.
#[derive(Clone, Debug, Args)]
pub struct Chat {
    /// Directory whose secret signs the token [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Configuration file that may name a secret
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Who you are
    #[arg(long, value_name = "ID")]
    pub user: u64,
    /// Whom you write to
    #[arg(long, value_name = "ID")]
    pub to: u64,
    /// Where the gateway is
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080/ws")]
    pub url: String,
}
