//! The tidegate binary.
#![forbid(unsafe_code)]

use clap::Parser;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use tidegate_node::cli::{Arguments, Command, Serve, Token};
use tidegate_node::config::{Config, Environment};
use tidegate_node::token::{Secret, SecretOrigin, TokenRequest, issue};
use tidegate_node::{boot, chat, clock, logging};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(flags) => serve(&flags),
        Command::Token(flags) => token(&flags),
        Command::Chat(flags) => chat::run(&flags, &mut std::io::stdout()).map_err(Into::into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed standard error changes nothing about the failure.
            let _ = writeln!(std::io::stderr(), "tidegate: {error}{}", way_out(&*error));
            ExitCode::FAILURE
        }
    }
}

/// What an operator can do about a file that may not be touched.
fn way_out(error: &(dyn std::error::Error + 'static)) -> String {
    // Of an address it says so itself.
    if matches!(error.downcast_ref(), Some(boot::BootError::Listen { .. })) {
        return String::new();
    }
    let mut causes = std::iter::successors(error.source(), |cause| cause.source());
    let denied = causes.any(|cause| {
        let cause = cause.downcast_ref::<std::io::Error>();
        cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied)
    });
    if !denied {
        return String::new();
    }
    let user = rustix::process::geteuid().as_raw();
    format!(
        ": this runs as user {user}; run it as the owner of that, or give it to that user (chown -R {user})"
    )
}

fn serve(flags: &Serve) -> Result<(), Failure> {
    let environment = Environment::of_process();
    let config = Config::of_serve(flags, &environment)?;
    logging::start(&config.log)?;
    for name in environment.unknown() {
        tracing::warn!("the environment variable {name} sets nothing");
    }
    stop_at_a_panic();
    let gateway = boot::start(&config)?;
    let secret = gateway.secret.clone();
    gateway.serve(|listen, admin| {
        // A closed standard output is no reason to stop serving.
        let _ = greet(&config, &secret, listen, admin);
    });
    Ok(())
}

/// A bug in one thread must not leave the others running: the process ends, and recovers from its log.
fn stop_at_a_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

/// What is printed whatever is logged. A secret that nobody configured is told of at every start: the one that made it may have
/// ended before it was ready.
fn greet(
    config: &Config,
    secret: &SecretOrigin,
    listen: SocketAddr,
    admin: SocketAddr,
) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let data = config.data.display();
    if let SecretOrigin::Directory { made } = secret {
        let made = if *made { "made a token secret" } else { "tokens are signed with the secret" };
        writeln!(out, "secret: {made} in {data}; listening on loopback only")?;
    }
    // As this process was called: it may not be in the PATH of whoever reads this.
    let program = std::env::args_os().next().unwrap_or_else(|| "tidegate".into());
    let program = program.display();
    writeln!(out, "chat: {program} chat --data {data} --user 1 --to 2 --url ws://{listen}/ws")?;
    writeln!(out, "ready ws={listen} admin={admin}")?;
    out.flush()
}

fn token(flags: &Token) -> Result<(), Failure> {
    let environment = Environment::of_process();
    let config = Config::of_data(flags.config.as_deref(), flags.data.as_deref(), &environment)?;
    let secret = Secret::find(&config.token, &config.data)?;
    let request = TokenRequest {
        user: flags.user,
        device: flags.device,
        rate: flags.rate.as_deref(),
        ttl: flags.ttl,
        now: clock::wall(),
    };
    writeln!(std::io::stdout(), "{}", issue(&secret, &request)?)?;
    Ok(())
}
