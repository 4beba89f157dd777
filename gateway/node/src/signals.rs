//! SIGTERM and SIGINT: the first stops the gateway, the second ends the process at once. What follows the first within
//! [`SIGNALS_ARE_ONE`] is the first again.

use crate::limits::SIGNALS_ARE_ONE;
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

    /// Takes the echoes of a signal that has come.
    async fn settle(&mut self) {
        let quiet = tokio::time::sleep(SIGNALS_ARE_ONE);
        tokio::pin!(quiet);
        loop {
            tokio::select! {
                biased;
                () = self.next() => {}
                () = &mut quiet => return,
            }
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
        self.settle().await;
        self.next().await;
        tracing::warn!("stopped at once by a second signal");
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Number, getpid, kill_process};

    async fn has_come(signals: &mut Signals) -> bool {
        tokio::select! {
            biased;
            () = signals.next() => true,
            () = std::future::ready(()) => false,
        }
    }

    /// A supervisor that signals the whole group made of one stop two, and the second cut everybody off.
    #[tokio::test(flavor = "current_thread")]
    async fn two_signals_at_once_are_one_and_a_later_one_is_another() {
        let mut signals = Signals::catch().unwrap();
        let send = |number| kill_process(getpid(), number).unwrap();
        send(Number::TERM);
        signals.next().await;
        [Number::TERM, Number::INT].into_iter().for_each(send);
        signals.settle().await;
        assert!(!has_come(&mut signals).await);
        send(Number::INT);
        signals.next().await;
    }
}
