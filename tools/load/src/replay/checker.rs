//! What every device stored, against what the logs say: each message once, in order, identical.
//!
//! For each device in each group there is a cursor: everything before it is stored or known to be missing. A record is
//! named by its sequence, which the acknowledgement told; one that comes before its acknowledgement can only be the
//! group's message on its way. A device's own messages are stored by their acknowledgement, wherever that stands.
//! Nothing here allocates for a record that comes in its place.

use crate::script::Script;
use tidegate_ids::{MonotonicNs, Sequence, UserId};

const NONE: u32 = u32::MAX;

/// See the module.
pub struct Checker {
    groups: Vec<Ledger>,
    /// By person, sorted by group.
    seats: Vec<Vec<Seat>>,
    seats_count: usize,
    complete: usize,
    faults: Faults,
    /// Records of others that devices stored.
    deliveries: u64,
}

/// What a group says and has said.
struct Ledger {
    lines: Vec<Entry>,
    /// The line at each sequence, or `NONE`.
    lines_by_sequence: Vec<u32>,
    /// The line that is on its way, or `NONE`.
    in_flight: u32,
    acknowledged: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    speaker: u32,
    is_acknowledged: bool,
    intended: MonotonicNs,
}

/// One device in one group.
struct Seat {
    group: u32,
    cursor: u32,
    /// Lines before the cursor that are not stored.
    missing: Vec<u32>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Acknowledged messages that a device did not store.
    pub lost: u64,
    /// Records that reached a device's application again, or a message that was stored under two sequences.
    pub duplicated: u64,
    /// Records that came after one that is behind them.
    pub misordered: u64,
    /// Records with other bytes or another sender than what was sent at that place.
    pub altered: u64,
    /// Records that nobody sent.
    pub foreign: u64,
    /// Acknowledgements that contradict what was seen before.
    pub contradicted: u64,
}

/// A record that a device stored.
pub struct Delivered<'a> {
    /// Where it stands.
    pub sequence: Sequence,
    /// Who sent it.
    pub sender: UserId,
    /// The encoded message.
    pub message: &'a [u8],
}

/// What a record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A message, for the first time; when it was meant to be sent.
    Stored(MonotonicNs),
    /// The device's own message, fetched before its acknowledgement came.
    Own,
    /// A fault, which is counted.
    Fault,
    /// Nothing that was sent: a system record, or a fault if it is none; see [`Checker::foreign`].
    Unknown,
}

/// A device that misses something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Index into the roster.
    pub person: usize,
    /// Index of the script.
    pub group: usize,
    /// Acknowledged messages of others that are not stored.
    pub missing: Vec<u32>,
}

impl Checker {
    /// Nothing is sent or stored yet.
    pub fn new(scripts: &[Script], people: usize) -> Self {
        let mut seats: Vec<Vec<Seat>> = (0..people).map(|_| Vec::new()).collect();
        for (group, script) in scripts.iter().enumerate() {
            for person in &script.members {
                seats[*person as usize].push(Seat { group: group as u32, cursor: 0, missing: Vec::new() });
            }
        }
        let groups = scripts.iter().map(Ledger::new).collect();
        let seats_count = seats.iter().map(Vec::len).sum();
        Self { groups, seats, seats_count, complete: 0, faults: Faults::default(), deliveries: 0 }
    }

    /// Records of others that devices stored.
    pub const fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Whether every device has everything.
    pub const fn is_complete(&self) -> bool {
        self.complete == self.seats_count
    }

    /// What went wrong, losses as of now.
    pub fn faults(&self) -> Faults {
        let lost = self.shortfalls().map(|shortfall| shortfall.missing.len() as u64).sum();
        Faults { lost, ..self.faults }
    }

    /// Messages that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.groups.iter().map(|ledger| u64::from(ledger.acknowledged)).sum()
    }

    /// A line is on its way.
    pub fn sent(&mut self, group: usize, line: usize, intended: MonotonicNs) {
        let ledger = &mut self.groups[group];
        ledger.in_flight = line as u32;
        ledger.lines[line].intended = intended;
    }

    /// The line that was on its way is acknowledged. Gives when it was meant to be sent.
    pub fn acknowledged_at(&mut self, group: usize, sequence: Sequence) -> Option<(usize, MonotonicNs)> {
        let ledger = &mut self.groups[group];
        let line = std::mem::replace(&mut ledger.in_flight, NONE);
        let entry = ledger.lines.get_mut(line as usize)?;
        entry.is_acknowledged = true;
        ledger.acknowledged += 1;
        let (speaker, intended) = (entry.speaker, entry.intended);
        let agrees = ledger.place(sequence, line);
        self.faults.contradicted += u64::from(!agrees);
        let seat = seat(&mut self.seats[speaker as usize], group)?;
        let ledger = &self.groups[group];
        let was_complete = seat.is_complete(ledger);
        seat.missing.retain(|missing| *missing != line);
        seat.advance(ledger, speaker);
        self.complete += usize::from(!was_complete && seat.is_complete(ledger));
        Some((line as usize, intended))
    }

    /// A device stored a record.
    pub fn delivered(
        &mut self,
        person: usize,
        group: usize,
        script: &Script,
        users: impl Fn(u32) -> UserId,
        delivered: &Delivered<'_>,
    ) -> Verdict {
        let Some(seat) = seat(&mut self.seats[person], group) else { return Verdict::Unknown };
        let ledger = &mut self.groups[group];
        let known = ledger.line_at(delivered.sequence);
        let line = if known == NONE { ledger.in_flight } else { known };
        let same = ledger.lines.get(line as usize).is_some_and(|entry| {
            users(entry.speaker) == delivered.sender && script.message(line as usize) == delivered.message
        });
        if !same && known == NONE {
            return Verdict::Unknown;
        }
        if !same {
            self.faults.altered += 1;
            return Verdict::Fault;
        }
        ledger.place(delivered.sequence, line);
        let entry = ledger.lines[line as usize];
        let own = entry.speaker == person as u32;
        let was_complete = seat.is_complete(ledger);
        let stored = if own && entry.is_acknowledged { Err(Fault::Duplicated) } else { Ok(()) };
        let stored = stored.and_then(|()| seat.store(line, ledger, person as u32));
        self.complete += usize::from(!was_complete && seat.is_complete(ledger));
        match stored {
            Ok(()) => {}
            Err(Fault::Duplicated) => self.faults.duplicated += 1,
            Err(Fault::Misordered) => self.faults.misordered += 1,
        }
        match stored {
            Ok(()) if own => Verdict::Own,
            Ok(()) => {
                self.deliveries += 1;
                Verdict::Stored(entry.intended)
            }
            Err(_) => Verdict::Fault,
        }
    }

    /// A record that nobody sent is no system record either.
    pub fn foreign(&mut self) {
        self.faults.foreign += 1;
    }

    /// Who misses what, of what is acknowledged.
    pub fn shortfalls(&self) -> impl Iterator<Item = Shortfall> {
        let seats = self.seats.iter().enumerate();
        let seats = seats.flat_map(|(person, seats)| seats.iter().map(move |seat| (person, seat)));
        seats.filter_map(|(person, seat)| {
            let ledger = &self.groups[seat.group as usize];
            let earlier = seat.missing.iter().copied();
            let wanted = |line: &u32| {
                let entry = &ledger.lines[*line as usize];
                entry.is_acknowledged && entry.speaker != person as u32
            };
            let missing: Vec<_> =
                earlier.chain(seat.cursor..ledger.lines.len() as u32).filter(wanted).collect();
            (!missing.is_empty()).then_some(Shortfall { person, group: seat.group as usize, missing })
        })
    }
}

#[derive(Clone, Copy)]
enum Fault {
    Duplicated,
    Misordered,
}

impl Ledger {
    fn new(script: &Script) -> Self {
        let entry = |speaker| Entry { speaker, is_acknowledged: false, intended: MonotonicNs(0) };
        Self {
            lines: script.lines.iter().map(|line| entry(line.speaker)).collect(),
            // The creation of the group stands before the first line.
            lines_by_sequence: Vec::with_capacity(script.lines.len() + 2),
            in_flight: NONE,
            acknowledged: 0,
        }
    }

    fn line_at(&self, sequence: Sequence) -> u32 {
        self.lines_by_sequence.get(sequence.0 as usize).copied().unwrap_or(NONE)
    }

    /// Notes where a line stands; gives `false` if another one stands there, or the sequence cannot be.
    fn place(&mut self, sequence: Sequence, line: u32) -> bool {
        let at = sequence.0 as usize;
        // Twice as many records as lines are not believed; nor is memory for them.
        if sequence.0 == 0 || at > 2 * self.lines.len() + 16 {
            return false;
        }
        if self.lines_by_sequence.len() <= at {
            self.lines_by_sequence.resize(at + 1, NONE);
        }
        let place = &mut self.lines_by_sequence[at];
        if *place == NONE {
            *place = line;
        }
        *place == line
    }
}

impl Seat {
    /// Passes the device's own lines that are acknowledged.
    fn advance(&mut self, ledger: &Ledger, person: u32) {
        while let Some(entry) = ledger.lines.get(self.cursor as usize) {
            if entry.speaker != person || !entry.is_acknowledged {
                break;
            }
            self.cursor += 1;
        }
    }

    fn is_complete(&self, ledger: &Ledger) -> bool {
        self.cursor as usize == ledger.lines.len() && self.missing.is_empty()
    }

    /// Stores a line.
    fn store(&mut self, line: u32, ledger: &Ledger, person: u32) -> Result<(), Fault> {
        if line < self.cursor {
            let at = self.missing.iter().position(|missing| *missing == line).ok_or(Fault::Duplicated)?;
            self.missing.remove(at);
            return Err(Fault::Misordered);
        }
        self.advance(ledger, person);
        if line > self.cursor {
            let stored = |entry: &Entry| entry.speaker == person && entry.is_acknowledged;
            self.missing.extend((self.cursor..line).filter(|line| !stored(&ledger.lines[*line as usize])));
        }
        self.cursor = line + 1;
        self.advance(ledger, person);
        Ok(())
    }
}

fn seat(seats: &mut [Seat], group: usize) -> Option<&mut Seat> {
    let at = seats.binary_search_by_key(&(group as u32), |seat| seat.group).ok()?;
    Some(&mut seats[at])
}

#[cfg(test)]
mod tests;
