//! What a start has found lost of the segments and has answered with a new incarnation, as `MANIFEST` remembers it: so
//! the next start, which finds the same again, keeps that incarnation (docs/decisions/0015).

use crate::limits::{LOST_PLACES_MAX, LOST_PLACES_PER_SEGMENT_MAX};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tidegate_storage_log::Loss;

/// By segment, the stretches of bytes that are known to be lost; they rise and do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost(BTreeMap<u32, Vec<(u32, u32)>>);

impl Lost {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of it is known.
    pub(crate) fn holds(&self, loss: &Loss) -> bool {
        let known = self.0.get(&loss.segment).into_iter().flatten();
        known.into_iter().any(|(from, to)| *from <= loss.from && loss.to <= *to)
    }

    /// Whether a segment is lost as a whole.
    pub(crate) fn is_whole(&self, segment: u32) -> bool {
        self.holds(&Loss::whole(segment))
    }

    /// Remembers a stretch. A segment with too many of them counts as lost as a whole, and so does each if all together are
    /// too many: then more damage in it goes unnoticed.
    pub(crate) fn note(&mut self, loss: &Loss) {
        let known = self.0.entry(loss.segment).or_default();
        // A stretch of nothing is a place all the same.
        let (mut from, mut to) = (loss.from, loss.to.max(loss.from.saturating_add(1)));
        known.retain(|(other_from, other_to)| {
            let touches = *other_from <= to && from <= *other_to;
            if touches {
                (from, to) = (from.min(*other_from), to.max(*other_to));
            }
            !touches
        });
        let place = known.partition_point(|(other, _)| *other < from);
        known.insert(place, (from, to));
        if known.len() > LOST_PLACES_PER_SEGMENT_MAX {
            *known = vec![(0, u32::MAX)];
        }
        if self.0.values().map(Vec::len).sum::<usize>() > LOST_PLACES_MAX {
            self.0.values_mut().for_each(|known| *known = vec![(0, u32::MAX)]);
        }
    }

    /// A segment is removed, and what was lost of it too.
    pub(crate) fn forget(&mut self, segment: u32) {
        self.0.remove(&segment);
    }

    /// Only of the segments that are named.
    pub(crate) fn keep(&mut self, is_named: impl Fn(u32) -> bool) {
        self.0.retain(|segment, _| is_named(*segment));
    }

    /// A line for each segment: `name`, its number, its stretches.
    pub(crate) fn encode(&self, name: &str, text: &mut String) {
        for (segment, known) in &self.0 {
            // Writing to a String does not fail.
            let _ = write!(text, "{name} {segment}");
            known.iter().for_each(|(from, to)| _ = write!(text, " {from}-{to}"));
            text.push('\n');
        }
    }

    /// Reads what follows the name in a line.
    pub(crate) fn read(
        &mut self,
        rest: &str,
        next_segment: u32,
        number: impl Fn(&str) -> Option<u32>,
    ) -> Result<(), &'static str> {
        let mut parts = rest.split(' ');
        let segment = parts.next().and_then(&number).ok_or("what is lost has a segment")?;
        let is_next = self.0.last_key_value().is_none_or(|(last, _)| *last < segment);
        if segment == 0 || segment >= next_segment || !is_next {
            return Err("lost segments rise, and are below the next one");
        }
        let mut known: Vec<(u32, u32)> = Vec::new();
        for part in parts {
            let (from, to) = part.split_once('-').ok_or("a lost stretch has two ends")?;
            let (from, to) = number(from).zip(number(to)).ok_or("an end of a lost stretch is no number")?;
            if from >= to || known.last().is_some_and(|(_, last)| *last >= from) {
                return Err("lost stretches rise and do not touch");
            }
            known.push((from, to));
        }
        if known.is_empty() || known.len() > LOST_PLACES_PER_SEGMENT_MAX {
            return Err("a lost segment has no stretch, or too many");
        }
        self.0.insert(segment, known);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(segment: u32, from: u32, to: u32) -> Loss {
        Loss { segment, from, to, record: None }
    }

    fn text(lost: &Lost) -> String {
        let mut text = String::new();
        lost.encode("lost", &mut text);
        text
    }

    #[test]
    fn stretches_that_touch_become_one() {
        let check = |stretches: &[(u32, u32)], expected: &str| {
            let mut lost = Lost::default();
            stretches.iter().for_each(|(from, to)| lost.note(&loss(7, *from, *to)));
            assert!(stretches.iter().all(|(from, to)| lost.holds(&loss(7, *from, *to))));
            assert_eq!(text(&lost), format!("lost 7 {expected}\n"));
        };
        check(&[(512, 1024)], "512-1024");
        check(&[(512, 1024), (512, 1024)], "512-1024");
        check(&[(2048, 4096), (512, 1024)], "512-1024 2048-4096");
        check(&[(512, 1024), (1024, 1536)], "512-1536");
        check(&[(512, 1024), (2048, 4096), (1000, 2100)], "512-4096");
        check(&[(512, 512)], "512-513");
    }

    #[test]
    fn only_what_lies_within_is_known() {
        let mut lost = Lost::default();
        lost.note(&loss(7, 512, 1024));
        assert!(lost.holds(&loss(7, 600, 1024)));
        assert!(!lost.holds(&loss(7, 600, 1025)) && !lost.holds(&loss(8, 600, 700)));
        lost.forget(7);
        assert!(!lost.holds(&loss(7, 600, 1024)) && lost.is_empty());
    }

    #[test]
    fn too_many_stretches_are_the_whole_segment() {
        let mut lost = Lost::default();
        for place in 0..=LOST_PLACES_PER_SEGMENT_MAX as u32 {
            lost.note(&loss(7, place * 1024, place * 1024 + 512));
        }
        lost.note(&loss(8, 1, 2));
        assert_eq!(text(&lost), "lost 7 0-4294967295\nlost 8 1-2\n");
        for segment in 0..LOST_PLACES_MAX as u32 {
            lost.note(&loss(9 + segment, 1, 2));
        }
        assert!(lost.holds(&Loss::whole(8)) && lost.holds(&Loss::whole(7)));
    }
}
