//! What a verification found.

use crate::limits::FAULTS_PRINTED_MAX;

/// Faults as sentences, the first ones kept, all counted.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    kept: Vec<String>,
    count: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, sentence: impl FnOnce() -> String) {
        self.count += 1;
        if self.kept.len() < FAULTS_PRINTED_MAX {
            self.kept.push(sentence());
        }
    }

    /// Counts `count` more that nobody described.
    pub(crate) const fn add_unnamed(&mut self, count: u64) {
        self.count += count;
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let more = self.count - self.kept.len() as u64;
        let last = (more > 0).then(|| format!("and {more} more"));
        self.kept.iter().cloned().chain(last)
    }
}
