//! Segments that no two snapshots hold yet, and the one that is written to: what in them is to go, so that somebody has them
//! closed and held.

use super::overdue::Outlook;
use super::pace::Paced;
use super::{Pass, Retention, WhyLeft};
use crate::holdings::{self, is_written};
use crate::limits::OPEN_READS_MAX;
use tidegate_ids::{LogId, StreamId};
use tidegate_storage_log::{recover, segment_header};

impl Retention {
    /// A segment that no two snapshots hold: whether it holds what is to be erased, or must be gone.
    pub(super) fn look_at_uncovered(&mut self, pass: &Pass<'_>, log: LogId, segment: u32, later: &[u32]) {
        let has_later = later.iter().any(|next| is_written(&mut self.reader, *next));
        if !has_later && !is_written(&mut self.reader, segment) {
            // A spare.
            return;
        }
        let is_open = log.epoch == self.epoch && !has_later;
        let why = if is_open { WhyLeft::Open } else { WhyLeft::Uncovered };
        self.look_for_overdue(pass, segment, is_open);
        self.overdue.leave(log, segment, why);
        if !self.erasing.is_asked() {
            return;
        }
        // What was torn there may be what somebody said again later: it goes once it is covered.
        if self.erasing.known(segment).is_none() && !self.is_passed_over(segment, later) {
            for _ in 0..OPEN_READS_MAX {
                let may_erase = |stream: &StreamId, range| pass.policy.may_erase(stream, range);
                let mut medium = Paced { medium: &mut self.reader, pace: &pass.pace };
                let holdings = holdings::of(&mut medium, segment, later, may_erase);
                self.erasing.note(pass.policy, segment, &holdings);
                // A batch that is read while it is written can look like damage.
                if has_later || !holdings.is_damaged {
                    break;
                }
            }
        }
        self.erasing.leave(log, segment, why);
    }

    /// Reads a segment that may not be touched, if it may hold what must be gone. What is damaged in it is left out: it is not
    /// rewritten either.
    fn look_for_overdue(&mut self, pass: &Pass<'_>, segment: u32, is_open: bool) {
        // Erasing does not wait for it. What was touched before will be again, once its snapshot is made again.
        let is_meant = !pass.only_erases && !self.looked_at.contains_key(&segment);
        if !is_meant || !self.overdue.is_due(segment, pass.now) {
            return;
        }
        let mut outlook = Outlook::default();
        let mut medium = Paced { medium: &mut self.reader, pace: &pass.pace };
        let read = recover(&mut medium, &[segment], None, |record| {
            if !record.is_hole() {
                outlook.take(pass.policy, &record.head);
            }
        });
        let is_fixed = !is_open && read.is_ok();
        let fixed_ms = if is_fixed { u64::MAX } else { self.options.look_again_ms };
        self.overdue.note(segment, outlook, pass.now, fixed_ms);
    }

    /// Whether a segment's first write was torn, so that nothing in it was ever acknowledged, and the log went on without it.
    pub(super) fn is_passed_over(&mut self, segment: u32, later: &[u32]) -> bool {
        let reader = &mut self.reader;
        if !matches!(segment_header(reader, segment), Ok(None)) {
            return false;
        }
        let next = later.iter().find_map(|next| segment_header(reader, *next).ok().flatten());
        next.is_some_and(|next| next.previous.end.segment < segment)
    }
}
