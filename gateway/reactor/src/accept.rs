//! Accepting: one multishot request per listener, connections straight into slots that the kernel picks.

use crate::completion::Completion;
use crate::limits::ACCEPT_REST_MS;
use crate::ops::Ops;
use crate::token::{Operation, Token};
use io_uring::opcode;
use io_uring::types::Fd;
use rustix::io::Errno;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// A listening socket.
pub(crate) struct Listener {
    descriptor: OwnedFd,
    /// The multishot accept is in flight.
    armed: bool,
    /// The owner wants connections.
    wanted: bool,
}

impl<B: Deref<Target = [u8]>> Ops<B> {
    /// Accepts from a listening socket until [`Ops::stop_accepting`]. Options such as TCP_NODELAY are set on the listener
    /// and inherited.
    pub fn listen(&mut self, listener: OwnedFd) {
        self.listeners.push(Listener { descriptor: listener, armed: false, wanted: true });
        self.arm_accepts();
    }

    /// Takes no more connections: they wait in the listeners' backlogs. Some may still come.
    pub fn stop_accepting(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            listener.wanted = false;
            if listener.armed {
                self.queue.cancel(Token::new(Operation::Accept, 0, index as u32));
            }
        }
    }

    /// Goes on after [`Ops::stop_accepting`].
    pub fn resume_accepting(&mut self) {
        self.listeners.iter_mut().for_each(|listener| listener.wanted = true);
        self.arm_accepts();
    }

    /// Arms every listener that should be and is not, unless accepting rests.
    pub(crate) fn arm_accepts(&mut self) {
        if self.accept_after.is_some_and(|after| Instant::now() < after) {
            return;
        }
        self.accept_after = None;
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.wanted && !listener.armed {
                listener.armed = true;
                let accept =
                    opcode::AcceptMulti::new(Fd(listener.descriptor.as_raw_fd())).allocate_file_index(true);
                self.queue.push(accept.build(), Token::new(Operation::Accept, 0, index as u32));
            }
        }
    }

    /// An accept has completed.
    pub(crate) fn accepted(&mut self, token: Token, result: i32, more: bool) -> Option<Completion<'static>> {
        let listener = &mut self.listeners[token.index() as usize];
        listener.armed = more;
        let wanted = listener.wanted;
        let completion = match u32::try_from(result) {
            Ok(index) => {
                self.queue.counters.accepts += 1;
                self.queue.counters.rearms += u64::from(!more && wanted);
                Some(Completion::Accepted { slot: self.slots.occupy(index) })
            }
            Err(_) => self.accept_failed(result),
        };
        self.arm_accepts();
        completion
    }

    /// Errors of one connection go on at once. What the process or the machine lacks would be lacking again at once:
    /// accepting rests.
    fn accept_failed(&mut self, result: i32) -> Option<Completion<'static>> {
        let errno = Errno::from_raw_os_error(-result);
        if matches!(errno, Errno::CANCELED | Errno::INTR | Errno::AGAIN) {
            return None;
        }
        if would_repeat(errno, self.slots.open() == self.slots.len()) {
            self.accept_after = Some(Instant::now() + Duration::from_millis(ACCEPT_REST_MS));
        }
        self.queue.counters.accept_failures += 1;
        Some(Completion::AcceptFailed { error: io::Error::from_raw_os_error(-result) })
    }
}

/// Whether the next accept would fail as this one did, because the connection still waits for what is lacking.
fn would_repeat(errno: Errno, full: bool) -> bool {
    match errno {
        // No slot: the connection is gone. With a slot to give it is the machine that has no file or no memory for one.
        Errno::NFILE => !full,
        Errno::MFILE | Errno::NOMEM | Errno::NOBUFS | Errno::INVAL | Errno::BADF => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel has one word for a full table of slots and for a machine without another file: the one takes the
    /// connection away, after the other it waits on, and the next accept failed at once, and the next.
    #[test]
    fn accepting_rests_after_what_would_repeat() {
        let check =
            |errno, full, expected| assert_eq!(would_repeat(errno, full), expected, "{errno}, {full}");
        check(Errno::NFILE, true, false);
        check(Errno::NFILE, false, true);
        for full in [false, true] {
            check(Errno::NOMEM, full, true);
            check(Errno::MFILE, full, true);
            check(Errno::CONNABORTED, full, false);
            check(Errno::PERM, full, false);
        }
    }
}
