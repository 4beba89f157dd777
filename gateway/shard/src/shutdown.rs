//! A clean stop: `GoAway`, close, commit, a last checkpoint, seal.

use crate::event::ConnectionId;
use crate::output::Output;
use crate::shard::{Shard, Turn};
use tidegate_ids::MonotonicNs;
use tidegate_schema::{CloseCode, GoAway, GoAwayReason};

/// How clients spread their return.
const RETURN_DELAY_MS: (u32, u32) = (0, 2000);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Running,
    /// Clients were told; they may go by themselves until this moment.
    Draining(MonotonicNs),
    /// They were closed; what is left of them is cut at this moment.
    Closing(MonotonicNs),
    /// The last checkpoint is written; without room for it the log ends without at this moment.
    Checkpointing(MonotonicNs),
    /// Nothing is taken in any more; the last batches are written.
    Sealing,
    Stopped,
}

/// The stop of a shard.
#[derive(Debug, Default)]
pub(crate) struct Shutdown {
    stage: Stage,
}

impl Shutdown {
    pub(crate) fn is_begun(&self) -> bool {
        self.stage != Stage::Running
    }

    /// Whether the log takes nothing more.
    pub(crate) fn is_sealing(&self) -> bool {
        matches!(self.stage, Stage::Sealing | Stage::Stopped)
    }
}

impl Shard {
    pub(crate) fn on_shutdown(&mut self, turn: &mut Turn<'_>) {
        if self.shutdown.is_begun() {
            return;
        }
        self.shutdown.stage = Stage::Draining(turn.now.monotonic.after(self.limits.shutdown_grace_ns));
        let body = GoAway {
            reason: GoAwayReason::Shutdown,
            delay_min_ms: RETURN_DELAY_MS.0,
            delay_max_ms: RETURN_DELAY_MS.1,
            come_back: true,
        };
        let mut frame = Vec::new();
        self.encoder.frame(&mut frame, 0, 0, &body);
        for id in self.all_connections() {
            if self.connections.get(id).is_some_and(|connection| connection.session().is_some()) {
                self.write_frame(id, &frame);
            }
        }
    }

    fn all_connections(&self) -> Vec<ConnectionId> {
        let all = (0..self.connections.places() as u32).map(ConnectionId);
        all.filter(|id| self.connections.get(*id).is_some()).collect()
    }

    /// Goes on with the stop.
    pub(crate) fn run_shutdown(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        match self.shutdown.stage {
            Stage::Running | Stage::Stopped => {}
            Stage::Draining(until) => {
                if now >= until || self.connections.count() == 0 {
                    for id in self.all_connections() {
                        self.close(id, CloseCode::GOING_AWAY, "the gateway stops");
                    }
                    self.shutdown.stage = Stage::Closing(now.after(self.limits.shutdown_grace_ns));
                }
            }
            Stage::Closing(until) => {
                if now >= until {
                    self.all_connections().into_iter().for_each(|id| self.close_now(id, turn));
                }
                let settled =
                    self.commits.is_empty() && self.owed.is_empty() && self.cursors.are_done(&self.log);
                let late = now >= until.after(self.limits.shutdown_grace_ns);
                if self.connections.count() == 0 && (settled || late) {
                    if self.checkpoint.is_due() && self.boot.is_ready() && !self.latched {
                        self.begin_checkpoint(turn);
                    }
                    self.shutdown.stage = Stage::Checkpointing(now.after(self.limits.shutdown_grace_ns));
                }
            }
            Stage::Checkpointing(until) => {
                let done = !self.checkpoint.is_under_way() && self.owed.is_empty();
                // What finds no room is fed again at the next start.
                let given_up = self.log.spare_segments() == 0 && now >= until;
                if self.latched || done || given_up {
                    self.owed.take();
                    self.log.seal();
                    self.shutdown.stage = Stage::Sealing;
                }
            }
            Stage::Sealing => {
                if !self.log.has_batch() && !self.commits.is_flying() {
                    self.shutdown.stage = Stage::Stopped;
                    self.outputs.push_back(Output::Stopped);
                }
            }
        }
    }
}
