//! The floor of every echo: a ring with the gateway's set-up and no rule about what bytes mean.

use super::outbox::Outbox;
use super::{any_port, say_ready, shard_ring};
use anyhow::{Context, Result};
use tidegate_reactor::{Completion, Ops, Reactor, listeners};

/// Returns what comes, until the process ends.
pub(super) fn serve(core: usize) -> Result<()> {
    let config = shard_ring(core)?;
    let mut reactor: Reactor = Reactor::new(&config).context("no ring")?;
    let (sockets, address) = listeners(any_port(), 1).context("cannot listen")?;
    sockets.into_iter().for_each(|socket| reactor.ops().listen(socket));
    let mut outbox = Outbox::new(config.slots);
    say_ready(address)?;
    loop {
        reactor.submit_and_wait(None).context("the ring failed")?;
        reactor.completions(usize::MAX, |ops, completion| complete(ops, &mut outbox, completion));
        outbox.send_all(reactor.ops());
    }
}

fn complete(ops: &mut Ops, outbox: &mut Outbox, completion: Completion<'_>) {
    match completion {
        Completion::Accepted { slot } => ops.receive_multishot(slot),
        Completion::Received { slot, bytes } => outbox.push(slot, bytes),
        Completion::Sent { slot, buffer, result } => {
            outbox.sent(slot, buffer);
            if result.is_err() {
                outbox.forget(slot);
                ops.close(slot);
            }
        }
        Completion::ReceiveEnded { slot, .. } => {
            outbox.forget(slot);
            ops.close(slot);
        }
        _ => {}
    }
}
