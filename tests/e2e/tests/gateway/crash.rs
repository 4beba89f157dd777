//! The gateway is killed under load, again and again: what it acknowledged is there.

use crate::stop::verify_log;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate_ids::{ClientId, ConversationId, DeviceId, UserId};
use tidegate_tests_e2e::limits::{LOOK_INTERVAL, WAIT, cycles};
use tidegate_tests_e2e::{Acknowledged, Conversation, Gateway, Sender, Setup, Wire, user_at};

/// How often it is killed.
const KILLS: usize = 20;

/// How long it works in each life at most, after every device got an answer.
const WORK: Duration = Duration::from_millis(300);

/// Devices that send.
const SENDERS: usize = 3;

/// Load on one group of everybody and on each one's own conversation with somebody who is never there.
pub(crate) struct Load {
    users: Vec<UserId>,
    group: ConversationId,
    senders: Vec<Sender>,
    /// Says when a life ends: the same in every run.
    chance: StdRng,
}

impl Load {
    pub(crate) fn new(gateway: &Gateway) -> Self {
        let users: Vec<UserId> = (0..SENDERS as u16).map(|shard| user_at(4, shard, 0)).collect();
        let mut founder = Wire::greeted(gateway.ws, &gateway.token(users[0]), DeviceId(9), 1);
        let group = founder.create_group(ClientId([1; 16]), &users[1..]);
        let sender = |user: &UserId| {
            let conversations = [group, own(*user)];
            Sender::new(*user, DeviceId(1), gateway.token(*user), &conversations)
        };
        let senders = users.iter().map(sender).collect();
        Self { users, group, senders, chance: StdRng::seed_from_u64(1) }
    }

    /// Sends, and ends the gateway while it is at it.
    pub(crate) fn run(&mut self, gateway: Gateway, end: impl FnOnce(Gateway)) {
        let acknowledged: Vec<AtomicU64> = self.senders.iter().map(|_| AtomicU64::new(0)).collect();
        let address = gateway.ws;
        let work = WORK.mul_f64(self.chance.random());
        std::thread::scope(|scope| {
            for (sender, acknowledged) in self.senders.iter_mut().zip(&acknowledged) {
                scope.spawn(|| sender.run(address, acknowledged));
            }
            let last = Instant::now() + WAIT;
            let is_idle = |count: &AtomicU64| count.load(Ordering::Relaxed) == 0;
            while acknowledged.iter().any(is_idle) && Instant::now() < last {
                std::thread::sleep(LOOK_INTERVAL);
            }
            std::thread::sleep(work);
            end(gateway);
        });
        let counts: Vec<u64> = acknowledged.into_iter().map(AtomicU64::into_inner).collect();
        assert!(counts.iter().all(|count| *count > 0), "a device got no answer in this life: {counts:?}");
    }

    /// Sends until every device was refused.
    pub(crate) fn run_until_refused(&mut self, gateway: Gateway) -> Gateway {
        let address = gateway.ws;
        std::thread::scope(|scope| {
            for sender in &mut self.senders {
                scope.spawn(|| sender.run(address, &AtomicU64::new(0)));
            }
        });
        gateway
    }

    /// Who sends.
    pub(crate) fn users(&self) -> &[UserId] {
        &self.users
    }

    /// What was acknowledged so far.
    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.senders.iter().flat_map(|sender| sender.acknowledged.iter().cloned()).collect()
    }

    /// Everything that was acknowledged is there, identical, once, and sequences are contiguous.
    pub(crate) fn prove(&self, gateway: &Gateway) -> usize {
        let acknowledged = self.acknowledged();
        self.prove_all(gateway, &acknowledged);
        acknowledged.len()
    }

    /// The same of some of them.
    pub(crate) fn prove_all(&self, gateway: &Gateway, acknowledged: &[Acknowledged]) {
        for user in &self.users {
            let mut wire = Wire::greeted(gateway.ws, &gateway.token(*user), DeviceId(8), 1);
            Conversation::read(&mut wire, own(*user)).prove(acknowledged);
            let group = Conversation::read(&mut wire, self.group);
            group.prove(acknowledged);
        }
    }
}

fn own(user: UserId) -> ConversationId {
    ConversationId::direct(user, UserId(1 << 40))
}

#[test]
fn what_was_acknowledged_survives_kills_on_one_shard() {
    survive(&[1], 1);
}

#[test]
fn what_was_acknowledged_survives_kills_on_four_shards() {
    survive(&[4], 4);
}

#[test]
fn what_was_acknowledged_survives_kills_with_changing_numbers_of_shards() {
    survive(&[4, 1, 2, 3], 4);
}

#[track_caller]
fn survive(lives: &[u16], last: u16) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let mut load: Option<Load> = None;
    let kills = cycles(KILLS);
    for life in 0..kills {
        let gateway = Setup::new(data, lives[life % lives.len()]).start();
        let load = load.get_or_insert_with(|| Load::new(&gateway));
        load.run(gateway, Gateway::kill);
    }
    verify_log(data);
    let gateway = Gateway::start(data, last);
    let count = load.unwrap().prove(&gateway);
    println!("{count} acknowledged sends survived {kills} kills");
    gateway.stop();
}
