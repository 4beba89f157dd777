//! `tidegate-load`: replay of real chat, and verification.
//!
//! `replay` plays chat logs through a gateway, one device for each nickname, all in one thread over the SDK's machines, and
//! checks what every device stored. `verify` reads back what was acknowledged. There is no way around the SDK: what a
//! device has, it has from pushes, acknowledgements and the fetches that the SDK makes by itself.
#![forbid(unsafe_code)]

mod ack_log;
mod chat;
mod cli;
mod fleet;
mod gateway;
mod limits;
mod replay;
mod script;
mod token;
mod verify;

use clap::Parser;
use cli::{Arguments, Command};
use std::process::ExitCode;

/// It could not be tried, as opposed to found wanting.
const EXIT_FAILED: u8 = 2;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Replay(options) => replay::run(&options),
        Command::Verify(options) => verify::run(&options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tidegate-load: {error:#}");
        ExitCode::from(EXIT_FAILED)
    })
}
