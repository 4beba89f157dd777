//! The play: which line is next in each group, what the devices say, who comes and goes.
//!
//! Three acts: everybody connects; the groups are created; the lines are spoken, each after the one before it was
//! acknowledged, all groups at a time. Whoever is in no channel yet leaves as the third act begins. What the devices say is noted by [`Audience::event`] while the fleet turns, and
//! acted upon by [`Scene::step`] between two turns.

use super::Setting;
use super::channel::{self, Channel};
use super::checker::{Checker, Delivered, Verdict};
use super::latency::Latency;
use super::pace::Pace;
use super::presence::Presence;
use super::report::Counts;
use crate::ack_log::{AckLog, Acknowledged, hash};
use crate::fleet::{Audience, Fleet, Leaving};
use crate::limits::{ACKS_FLUSH_NS, LINGER_NS, TOKENS_REFUSED_MAX, TURN_WAIT};
use crate::script::{Roster, Script};
use crate::token::Signer;
use anyhow::{Result, anyhow, bail};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;
use tidegate_client::{ConnectionState, Event, Source, StopReason};
use tidegate_ids::{ClientId, ConversationId, MonotonicNs};
use tidegate_schema::{GroupCreated, MessageFields, MessageKind, SendAck, Stamp};

/// See the module.
pub struct Scene {
    pub scripts: Vec<Script>,
    pub roster: Roster,
    pub checker: Checker,
    pub presence: Presence,
    pub counts: Counts,
    /// From the intended send to stored, on devices that were not kept offline in between; on those that were; and to
    /// the acknowledgement, where the sender was online by then.
    pub live: Latency,
    pub away: Latency,
    pub acknowledged: Latency,
    pub pushed: u64,
    pub fetched: u64,
    pub leaves: u64,
    /// The last time that something came nearer to the end.
    pub progress_at: MonotonicNs,
    /// Why it cannot go on.
    pub failure: Option<String>,
    signer: Signer,
    acks: Option<AckLog>,
    acks_flush_at: MonotonicNs,
    rate: Option<f64>,
    pace: Option<(Pace, MonotonicNs)>,
    act: Act,
    stages: Vec<Stage>,
    people: Vec<Person>,
    groups: HashMap<ConversationId, u32>,
    /// Sets the creations of this run apart from those of others.
    nonce: [u8; 12],
    arrived: usize,
    created: usize,
    ended: usize,
    /// Groups that may go on.
    ready: Vec<u32>,
    /// Groups whose next line is not due yet.
    due: BinaryHeap<Reverse<(MonotonicNs, u32)>>,
    /// Devices that want something: a token, another try.
    wishes: Vec<(u32, Wish)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Arriving,
    Creating,
    Speaking,
    Settling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Token,
    Retry,
    Resume,
}

/// One group.
struct Stage {
    conversation: Option<ConversationId>,
    next_line: usize,
    /// The line that was announced to its speaker.
    announced: usize,
    in_flight: Option<ClientId>,
    channel: Channel,
}

#[derive(Clone, Copy, Default)]
struct Person {
    has_arrived: bool,
    is_ready: bool,
    /// The replay has taken them offline, and they are not back.
    is_away: bool,
    /// When they were back.
    back_at: MonotonicNs,
}

impl Scene {
    /// Nothing has happened yet.
    ///
    /// # Errors
    /// The file of acknowledged sends cannot be opened.
    pub fn new(scripts: Vec<Script>, roster: Roster, signer: Signer, setting: &Setting) -> Result<Self> {
        let channels: Vec<_> = scripts.iter().map(Channel::new).collect();
        let logs = channel::logs(roster.len(), &scripts, &channels);
        let stage =
            |channel| Stage { conversation: None, next_line: 0, announced: 0, in_flight: None, channel };
        Ok(Self {
            checker: Checker::new(&scripts, roster.len()),
            presence: Presence::new(&logs, setting.offline_percent, setting.seed),
            counts: Counts::default(),
            live: Latency::new()?,
            away: Latency::new()?,
            acknowledged: Latency::new()?,
            pushed: 0,
            fetched: 0,
            leaves: 0,
            progress_at: MonotonicNs(0),
            failure: None,
            signer,
            acks: setting.acks.as_deref().map(AckLog::open).transpose()?,
            acks_flush_at: MonotonicNs(0),
            rate: setting.rate,
            pace: None,
            act: Act::Arriving,
            stages: channels.into_iter().map(stage).collect(),
            people: vec![Person::default(); roster.len()],
            groups: HashMap::new(),
            nonce: rand::random(),
            arrived: 0,
            created: 0,
            ended: 0,
            ready: Vec::new(),
            due: BinaryHeap::new(),
            wishes: Vec::new(),
            scripts,
            roster,
        })
    }

    /// How long the next turn may wait.
    pub fn wait(&self, now: MonotonicNs) -> Duration {
        let due = self.due.peek().map(|Reverse((at, _))| Duration::from_nanos(at.since(now)));
        due.map_or(TURN_WAIT, |due| due.min(TURN_WAIT))
    }

    /// Whether everything has arrived, and nothing followed for a while.
    pub fn is_over(&self, now: MonotonicNs) -> bool {
        let over = self.act == Act::Settling && self.checker.is_complete();
        over && now.since(self.progress_at) >= LINGER_NS
    }

    /// Does what the last turn led to.
    ///
    /// # Errors
    /// The file of acknowledged sends cannot be written.
    pub fn step(&mut self, fleet: &mut Fleet) -> Result<()> {
        let now = fleet.now();
        self.grant_wishes(fleet)?;
        match self.act {
            Act::Arriving if self.arrived == self.people.len() => self.create_groups(fleet)?,
            Act::Creating if self.created == self.stages.len() => {
                self.begin(now);
                // Who comes before a first line need not go and come back.
                self.speak(fleet, now)?;
            }
            Act::Speaking => self.speak(fleet, now)?,
            Act::Arriving | Act::Creating | Act::Settling => {}
        }
        self.move_people(fleet, now);
        if now >= self.acks_flush_at {
            self.flush()?;
            self.acks_flush_at = now.after(ACKS_FLUSH_NS);
        }
        Ok(())
    }

    /// Everything acknowledged is in the file after this.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        Ok(self.acks.as_mut().map_or(Ok(()), AckLog::flush)?)
    }

    /// What the groups wait for that have not ended.
    pub fn stuck<'s>(&'s self, fleet: &'s Fleet) -> impl Iterator<Item = String> + 's {
        let groups = self.scripts.iter().zip(&self.stages);
        groups.filter(|(script, stage)| stage.next_line < script.lines.len()).map(|(script, stage)| {
            let line = stage.next_line;
            let speaker = script.lines[line].speaker as usize;
            let machine = fleet.machine(speaker);
            let pending = stage.conversation.and_then(|id| machine.pending(&id).next());
            let answer = match (stage.in_flight, pending) {
                (None, _) => "not sent yet".to_owned(),
                (Some(_), Some(pending)) => format!("{:?} as number {}", pending.state, pending.number),
                (Some(_), None) => "not in the outbox".to_owned(),
            };
            let (name, nick, state) = (&script.name, self.nick(speaker), machine.connection());
            format!("{name} waits for message {} of {nick}: {answer}; {state:?}", line + 1)
        })
    }

    fn create_groups(&mut self, fleet: &mut Fleet) -> Result<()> {
        self.act = Act::Creating;
        for (group, script) in self.scripts.iter().enumerate() {
            let creator = script.creator();
            let others = script.members.iter().filter(|person| **person != creator);
            let users: Vec<_> = others.map(|person| self.roster.person(*person as usize).user).collect();
            let mut client_id = [0; 16];
            client_id[..4].copy_from_slice(&(group as u32).to_le_bytes());
            client_id[4..].copy_from_slice(&self.nonce);
            let name = script.name.as_bytes();
            let created = fleet.with(creator as usize, |machine, _| {
                machine.create_group_as(ClientId(client_id), name, &users)
            });
            created.map_err(|error| anyhow!("the group of {} cannot be created: {error}", script.name))?;
        }
        Ok(())
    }

    fn begin(&mut self, now: MonotonicNs) {
        self.act = Act::Speaking;
        let lines: Vec<_> = self.scripts.iter().map(|script| script.lines.len()).collect();
        self.pace = self.rate.map(|rate| (Pace::new(&lines, rate), now));
        self.ready.extend(0..self.stages.len() as u32);
    }

    /// Every group goes on that may.
    fn speak(&mut self, fleet: &mut Fleet, now: MonotonicNs) -> Result<()> {
        while let Some(Reverse((_, group))) = self.due.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.due.pop();
            self.ready.push(group);
        }
        let mut ready = std::mem::take(&mut self.ready);
        for group in ready.drain(..) {
            self.go_on(group as usize, fleet, now)?;
        }
        // Those that wait for their speaker have put themselves into the new list.
        ready.append(&mut self.ready);
        self.ready = ready;
        if self.ended == self.stages.len() {
            self.act = Act::Settling;
            self.progress_at = now;
            self.presence.settle();
        }
        Ok(())
    }

    /// Sends the next line of a group, if its time has come and its speaker is there.
    fn go_on(&mut self, group: usize, fleet: &mut Fleet, now: MonotonicNs) -> Result<()> {
        let line = self.stages[group].next_line;
        self.announce(group, line);
        self.change_presence(group, line);
        let script = &self.scripts[group];
        if line == script.lines.len() {
            self.end_group(group);
            return Ok(());
        }
        let speaker = script.lines[line].speaker as usize;
        let intended = match &self.pace {
            Some((pace, start)) => start.after(pace.intended_ns(group, line)),
            None => now,
        };
        if intended > now {
            self.due.push(Reverse((intended, group as u32)));
            return Ok(());
        }
        if self.pace.is_none() && !self.people[speaker].is_ready {
            self.ready.push(group as u32);
            return Ok(());
        }
        let Some(conversation) = self.stages[group].conversation else { bail!("a group without a name") };
        let message = script.message(line);
        let sent = fleet.with(speaker, |machine, _| machine.send(conversation, message));
        let client_id =
            sent.map_err(|error| anyhow!("line {line} of {} cannot be sent: {error}", script.name))?;
        self.checker.sent(group, line, intended);
        self.stages[group].in_flight = Some(client_id);
        self.announce(group, line + 1);
        Ok(())
    }

    /// Whose line is next comes online for it, while the one before is on its way.
    fn announce(&mut self, group: usize, line: usize) {
        let stage = &mut self.stages[group];
        if stage.announced > line {
            return;
        }
        stage.announced = line + 1;
        if let Some(spoken) = self.scripts[group].lines.get(line) {
            self.presence.want(spoken.speaker);
        }
    }

    /// Who came and went before this line.
    fn change_presence(&mut self, group: usize, line: usize) {
        let (script, channel) = (&self.scripts[group], &mut self.stages[group].channel);
        channel.go_on(script, line, |person, here| self.presence.change(person, here));
    }

    /// The log is over: everybody comes back to it.
    fn end_group(&mut self, group: usize) {
        self.ended += 1;
        let (script, channel) = (&self.scripts[group], &mut self.stages[group].channel);
        channel.end(script, |person, here| self.presence.change(person, here));
        script.members.iter().for_each(|person| self.presence.played(*person));
    }

    fn move_people(&mut self, fleet: &mut Fleet, now: MonotonicNs) {
        if matches!(self.act, Act::Arriving | Act::Creating) {
            return;
        }
        self.presence.tick(now);
        while let Some((person, online)) = self.presence.next_change() {
            if online {
                fleet.go_online(person);
                continue;
            }
            self.leaves += 1;
            self.people[person].is_away = true;
            let leaving = if self.presence.toss() { Leaving::Politely } else { Leaving::Abruptly };
            fleet.go_offline(person, leaving, self);
        }
    }

    fn grant_wishes(&mut self, fleet: &mut Fleet) -> Result<()> {
        while let Some((device, wish)) = self.wishes.pop() {
            let device = device as usize;
            match wish {
                Wish::Token => {
                    let token = self.signer.sign(self.roster.person(device).user)?;
                    fleet.with(device, |machine, now| machine.set_token(&token, now));
                }
                Wish::Retry => fleet.with(device, |machine, _| machine.retry()),
                Wish::Resume => fleet.with(device, |machine, now| machine.resume(now)),
            }
        }
        Ok(())
    }

    fn fail(&mut self, failure: String) {
        self.failure.get_or_insert(failure);
    }

    fn nick(&self, person: usize) -> String {
        let person = self.roster.person(person);
        format!("{} (user {})", String::from_utf8_lossy(&person.nick), person.user)
    }

    fn record(&mut self, device: usize, stamp: &Stamp, message: &[u8], source: Source, now: MonotonicNs) {
        // Groups of an earlier replay with the same data.
        let Some(group) = self.groups.get(&stamp.conversation) else { return };
        let group = *group as usize;
        let delivered = Delivered { sequence: stamp.sequence, sender: stamp.sender, message };
        let roster = &self.roster;
        let users = |speaker: u32| roster.person(speaker as usize).user;
        match self.checker.delivered(device, group, &self.scripts[group], users, &delivered) {
            Verdict::Stored(intended) => {
                let person = self.people[device];
                let was_away = person.is_away || person.back_at > intended;
                let latency = if was_away { &mut self.away } else { &mut self.live };
                latency.record(intended, now);
                *(if source == Source::Push { &mut self.pushed } else { &mut self.fetched }) += 1;
                self.progress_at = now;
            }
            Verdict::Own => self.counts.own_fetched += 1,
            Verdict::Fault => self.progress_at = now,
            Verdict::Unknown => {
                let verified = MessageFields::verify(message);
                if !verified.is_ok_and(|message| message.kind == MessageKind::System) {
                    self.checker.foreign();
                }
            }
        }
    }

    fn was_sent(
        &mut self,
        device: usize,
        client_id: ClientId,
        at: ConversationId,
        ack: &SendAck,
        now: MonotonicNs,
    ) {
        let Some(group) = self.groups.get(&at) else { return };
        let group = *group as usize;
        if self.stages[group].in_flight.take_if(|in_flight| *in_flight == client_id).is_none() {
            return self.fail(format!("{} has an answer to what nobody said", self.nick(device)));
        }
        self.counts.acknowledged_again += u64::from(ack.duplicate);
        let Some((line, intended)) = self.checker.acknowledged_at(group, ack.sequence) else { return };
        if self.people[device].back_at <= intended {
            self.acknowledged.record(intended, now);
        }
        self.progress_at = now;
        self.stages[group].next_line = line + 1;
        self.ready.push(group as u32);
        self.presence.release(device as u32);
        let acknowledged = Acknowledged {
            conversation: at,
            sequence: ack.sequence,
            message_id: ack.message_id,
            hash: hash(self.scripts[group].message(line)),
            user: self.roster.person(device).user,
        };
        let written = self.acks.as_mut().map_or(Ok(()), |acks| acks.append(&acknowledged));
        if let Err(error) = written {
            self.fail(format!("the file of acknowledged sends cannot be written: {error}"));
        }
    }

    fn group_created(&mut self, client_id: ClientId, created: &GroupCreated, now: MonotonicNs) {
        let (group, nonce) = client_id.0.split_at(4);
        let group = u32::from_le_bytes(group.try_into().unwrap_or_default());
        let Some(stage) = self.stages.get_mut(group as usize).filter(|_| nonce == self.nonce) else { return };
        if stage.conversation.replace(created.conversation).is_none() {
            self.created += 1;
            self.groups.insert(created.conversation, group);
            self.progress_at = now;
        }
    }

    fn connection_changed(&mut self, device: usize, state: ConnectionState, now: MonotonicNs) {
        let person = &mut self.people[device];
        person.is_ready = state == ConnectionState::Ready;
        match state {
            ConnectionState::Ready => {
                if std::mem::take(&mut person.is_away) {
                    person.back_at = now;
                }
                if !std::mem::replace(&mut person.has_arrived, true) {
                    self.arrived += 1;
                    self.progress_at = now;
                }
            }
            ConnectionState::Stopped(reason) if reason != StopReason::Closed => {
                self.counts.stops += 1;
                eprintln!("{} was told to stay away: {reason:?}", self.nick(device));
                self.wishes.push((device as u32, Wish::Resume));
            }
            _ => {}
        }
    }
}

impl Audience for Scene {
    fn event(&mut self, device: usize, event: &Event<'_>, now: MonotonicNs) {
        match event {
            Event::Message { stamp, message, source } => self.record(device, stamp, message, *source, now),
            Event::Sent { conversation, client_id, ack, .. } => {
                self.was_sent(device, *client_id, *conversation, ack, now);
            }
            Event::GroupCreated { client_id, created } => self.group_created(*client_id, created, now),
            Event::State(state) => self.connection_changed(device, *state, now),
            Event::Duty { .. } => self.counts.duties += 1,
            Event::Skipped { conversation, from, to, .. } if self.groups.contains_key(conversation) => {
                self.counts.sequences_skipped += to.0 - from.0 + 1;
            }
            Event::DropAbove { head, .. } => {
                self.fail(format!("{} was told that records above {head} are gone", self.nick(device)));
            }
            Event::Refused { error, .. } => {
                let (code, text) = (error.code.label(), String::from_utf8_lossy(error.text));
                self.fail(format!("{} was refused: {code} {text}", self.nick(device)));
            }
            Event::Parked { .. } => {
                self.counts.commands_parked += 1;
                self.wishes.push((device as u32, Wish::Retry));
            }
            Event::TokenNeeded => {
                self.counts.tokens_refused += 1;
                self.wishes.push((device as u32, Wish::Token));
                if self.counts.tokens_refused > TOKENS_REFUSED_MAX {
                    self.fail(
                        "the gateway does not take our tokens: is --data its data directory?".to_owned(),
                    );
                }
            }
            Event::Throttled(_) => self.counts.throttles += 1,
            Event::GoingAway(_) => self.counts.going_away += 1,
            Event::Notice(error) => {
                self.counts.notices += 1;
                if self.counts.notices <= 5 {
                    let (code, text) = (error.code.label(), String::from_utf8_lossy(error.text));
                    eprintln!("{} was told: {code} {text}", self.nick(device));
                }
            }
            _ => {}
        }
    }
}
