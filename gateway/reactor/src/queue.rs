//! The two queues shared with the kernel: pushing requests, entering the kernel, counting what it holds.

use crate::counters::Counters;
use crate::token::{Operation, Token};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// The ring and what has not fitted into it.
pub(crate) struct Queue {
    pub(crate) ring: IoUring,
    /// Requests, linked ones as a pair, that had no place even after submitting. Emptied before each wait.
    backlog: VecDeque<(Entry, Option<Entry>)>,
    /// Requests whose last completion has not come: while there are any, the kernel may use our memory.
    pub(crate) outstanding: u64,
    pub(crate) counters: Counters,
}

impl Queue {
    pub(crate) fn new(ring: IoUring) -> Self {
        Self { ring, backlog: VecDeque::new(), outstanding: 0, counters: Counters::default() }
    }

    /// Queues one request that ends with a completion. What it points to stays where it is until then: the tables of
    /// this crate own it.
    pub(crate) fn push(&mut self, entry: Entry, token: Token) {
        self.outstanding += 1;
        self.place(entry.user_data(token.0), None);
    }

    /// Queues two requests of which the second starts when the first has done all it should.
    pub(crate) fn push_linked(&mut self, first: (Entry, Token), second: (Entry, Token)) {
        self.outstanding += 2;
        let entry = first.0.flags(Flags::IO_LINK).user_data(first.1.0);
        self.place(entry, Some(second.0.user_data(second.1.0)));
    }

    /// Queues one request that completes only if it fails.
    pub(crate) fn push_silent(&mut self, entry: Entry, token: Token) {
        self.place(entry.flags(Flags::SKIP_SUCCESS).user_data(token.0), None);
    }

    /// Cancels the request of a token, which then completes.
    pub(crate) fn cancel(&mut self, token: Token) {
        let cancel = Token::new(Operation::Cancel, token.generation(), token.index());
        self.push_silent(opcode::AsyncCancel::new(token.0).build(), cancel);
    }

    fn place(&mut self, first: Entry, second: Option<Entry>) {
        if self.backlog.is_empty() && self.try_place(&first, second.as_ref()) {
            return;
        }
        self.counters.submission_full += 1;
        // What the kernel takes now makes room; an error of this submission shows at the next wait.
        let _ = self.enter(0, None);
        self.flush();
        if !self.backlog.is_empty() || !self.try_place(&first, second.as_ref()) {
            self.backlog.push_back((first, second));
        }
    }

    fn try_place(&mut self, first: &Entry, second: Option<&Entry>) -> bool {
        let mut submission = self.ring.submission();
        if submission.capacity() - submission.len() < 1 + usize::from(second.is_some()) {
            return false;
        }
        for entry in [Some(first), second].into_iter().flatten() {
            // SAFETY: every request of this crate points only to memory that the reactor's tables keep until its last
            // completion, or leak (`loopback::a_reactor_dropped_with_everything_in_flight`).
            let placed = unsafe { submission.push(entry) };
            assert!(placed.is_ok(), "there was room");
        }
        true
    }

    /// Moves the backlog into the submission queue as far as it goes.
    fn flush(&mut self) {
        while let Some((first, second)) = self.backlog.pop_front() {
            if !self.try_place(&first, second.as_ref()) {
                self.backlog.push_front((first, second));
                return;
            }
        }
    }

    /// Submits what is queued, lets the kernel post what is ready, and waits for the first completion, at most for the
    /// timeout; not at all if a completion is there already or the timeout is zero. Whether it has surely slept: what is
    /// submitted, or was ready, may complete before.
    pub(crate) fn submit_and_wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.flush();
        let ready = !self.ring.completion().is_empty();
        let submission = self.ring.submission();
        let overflowed = submission.cq_overflow();
        let work = !submission.is_empty() || submission.taskrun() || overflowed;
        drop(submission);
        self.counters.completion_overflows += u64::from(overflowed);
        if ready || timeout == Some(Duration::ZERO) || !self.backlog.is_empty() {
            if work {
                self.enter(0, None)?;
            }
            return Ok(false);
        }
        self.enter(1, timeout)?;
        Ok(!work)
    }

    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        self.counters.enters += 1;
        let submitter = self.ring.submitter();
        let entered = match timeout {
            None => submitter.submit_and_wait(want),
            Some(timeout) => {
                let limit = Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(&limit))
            }
        };
        match entered.map_err(|error| (Errno::from_io_error(&error), error)) {
            Ok(_) | Err((Some(Errno::TIME | Errno::INTR | Errno::AGAIN | Errno::BUSY), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }
    /// Hands everything queued to the kernel. False: it did not take it.
    pub(crate) fn submit_all(&mut self) -> bool {
        // Each round empties a queue at least as long as the backlog's next part.
        let rounds = 1 + self.backlog.len();
        (0..rounds).any(|_| {
            self.flush();
            self.enter(0, None).is_ok() && self.backlog.is_empty() && self.ring.submission().is_empty()
        })
    }

    /// Counts the completions that are there, and forgets them.
    pub(crate) fn count_off(&mut self) {
        let outstanding = &mut self.outstanding;
        for entry in self.ring.completion() {
            let counted = Token(entry.user_data()).operation().is_some_and(Operation::is_outstanding);
            *outstanding -= u64::from(counted && !cqueue::more(entry.flags()));
        }
    }
}
