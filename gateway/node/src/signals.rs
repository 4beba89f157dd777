//! SIGTERM and SIGINT: the first stops the gateway, the second ends the process at once.

use crate::pump::News;
use crate::stats::{Board, Phase};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals, caught from now on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches them; within a tokio runtime.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Passes the first signal on and ends the process at the second.
    pub async fn serve(mut self, board: Arc<Board>, news: Sender<News>) {
        self.next().await;
        if board.phase() == Phase::Starting {
            // Nobody was told anything, and a log is recovered from wherever it ends.
            tracing::info!("stopped before it was ready");
            std::process::exit(0);
        }
        let _ = news.send(News::Signal);
        self.next().await;
        tracing::warn!("stopped at once by a second signal");
        std::process::exit(1);
    }
}
