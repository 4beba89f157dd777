//! How far the replay is: a bar on a terminal, else a plain line now and then. Both on standard error.

use crate::limits::{PROGRESS_BAR_NS, PROGRESS_LINE_NS};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use tidegate_ids::MonotonicNs;

const STYLE: &str = "{elapsed_precise} {wide_bar} {pos}/{len} messages, {msg}";

pub struct Progress {
    bar: Option<ProgressBar>,
    messages: u64,
    begin: MonotonicNs,
    next_at: MonotonicNs,
}

/// What is shown.
pub struct Standing {
    pub acknowledged: u64,
    pub deliveries: u64,
    pub connected: usize,
}

impl Progress {
    pub fn new(messages: u64, now: MonotonicNs) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(messages).with_style(style)
        });
        let next_at = if bar.is_some() { now } else { now.after(PROGRESS_LINE_NS) };
        Self { bar, messages, begin: now, next_at }
    }

    pub fn show(&mut self, now: MonotonicNs, standing: impl FnOnce() -> Standing) {
        if now < self.next_at {
            return;
        }
        let Standing { acknowledged, deliveries, connected } = standing();
        if let Some(bar) = &self.bar {
            bar.set_position(acknowledged);
            bar.set_message(format!("{deliveries} deliveries, {connected} connected"));
            self.next_at = now.after(PROGRESS_BAR_NS);
            return;
        }
        let seconds = now.since(self.begin) / MonotonicNs::SECOND;
        let messages = self.messages;
        eprintln!(
            "{seconds} s: {acknowledged} of {messages} messages, {deliveries} deliveries, {connected} connected"
        );
        self.next_at = now.after(PROGRESS_LINE_NS);
    }

    pub fn end(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}
