//! Load that is written down, and the proof of what came of it.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate_ids::{ClientId, ConversationId, DeviceId, UserId};
use tidegate_tests_e2e::limits::{LOOK_INTERVAL, WAIT, seed};
use tidegate_tests_e2e::{Conversation, Expected, ExpectedFile, Founded, Gateway, Sender, Wire, user_at};

/// How long a gateway works in a life at most, after every device got its answers.
const WORK: Duration = Duration::from_millis(300);

/// Devices that send.
pub(crate) const SENDERS: usize = 3;

/// Answers that every device gets in a life that waits for them.
pub(crate) const ANSWERS_MIN: u64 = 5;

/// Load on one group of everybody and on each one's own conversation with somebody who is never there.
pub(crate) struct Load {
    users: Vec<UserId>,
    group: ConversationId,
    senders: Vec<Sender>,
    expected: ExpectedFile,
    /// Says how long a gateway works.
    chance: StdRng,
}

impl Load {
    /// Load that is written down in a file that is made here.
    pub(crate) fn new(gateway: &Gateway, expected: &Path) -> Self {
        let users: Vec<UserId> = (0..SENDERS as u16).map(|shard| user_at(4, shard, 0)).collect();
        let (user, device) = (users[0], DeviceId(9));
        let mut founder = Wire::greeted(gateway.ws, &gateway.token(user), device, 1);
        let group = founder.create_group(ClientId([1; 16]), &users[1..]);
        let mut members = users.clone();
        members.sort_unstable();
        let expected = ExpectedFile::create(expected);
        expected.found(group, &Founded { user, device, members });
        let sender = |user: &UserId| {
            let conversations = [group, own(*user)];
            Sender::new(*user, DeviceId(1), gateway.token(*user), &conversations)
        };
        let senders = users.iter().map(sender).collect();
        let chance = StdRng::seed_from_u64(seed());
        Self { users, group, senders, expected, chance }
    }

    /// Sends until every device got its answers, and a little longer; `last` is done while it is at it, then the gateway is
    /// killed.
    pub(crate) fn run(&mut self, gateway: Gateway, last: impl FnOnce()) {
        let work = WORK.mul_f64(self.chance.random());
        let wait = |counts: &[AtomicU64]| {
            let end = Instant::now() + WAIT;
            let is_idle = |count: &AtomicU64| count.load(Ordering::Relaxed) < ANSWERS_MIN;
            while counts.iter().any(is_idle) && Instant::now() < end {
                std::thread::sleep(LOOK_INTERVAL);
            }
            std::thread::sleep(work);
        };
        let counts = self.drive(gateway, wait, last);
        let answered = counts.iter().all(|count| *count >= ANSWERS_MIN);
        assert!(answered, "a device got less than {ANSWERS_MIN} answers in this life: {counts:?}");
    }

    /// Sends until a moment, whether there are answers or not; then the same.
    pub(crate) fn run_until(&mut self, gateway: Gateway, moment: Instant, last: impl FnOnce()) {
        let wait = |_: &[AtomicU64]| std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        self.drive(gateway, wait, last);
    }

    /// Gives the answers that each device got.
    fn drive(&mut self, gateway: Gateway, wait: impl FnOnce(&[AtomicU64]), last: impl FnOnce()) -> Vec<u64> {
        let counts: Vec<AtomicU64> = self.senders.iter().map(|_| AtomicU64::new(0)).collect();
        let (address, expected) = (gateway.ws, &self.expected);
        std::thread::scope(|scope| {
            for (sender, count) in self.senders.iter_mut().zip(&counts) {
                scope.spawn(move || sender.run(address, expected, count));
            }
            wait(&counts);
            last();
            gateway.kill();
        });
        counts.into_iter().map(AtomicU64::into_inner).collect()
    }

    /// Sends until every device was refused.
    pub(crate) fn run_until_refused(&mut self, gateway: Gateway) -> Gateway {
        let (address, expected) = (gateway.ws, &self.expected);
        std::thread::scope(|scope| {
            for sender in &mut self.senders {
                scope.spawn(move || sender.run(address, expected, &AtomicU64::new(0)));
            }
        });
        gateway
    }

    /// Who sends.
    pub(crate) fn users(&self) -> &[UserId] {
        &self.users
    }

    /// What was sent and acknowledged so far.
    pub(crate) fn expected(&self) -> Expected {
        self.expected.read()
    }

    /// Everything that was acknowledged is there, identical, once, and sequences are contiguous; nothing is there that was
    /// not sent. Gives how many were acknowledged.
    pub(crate) fn prove(&self, gateway: &Gateway) -> usize {
        let expected = self.expected();
        self.prove_that(gateway, &expected);
        expected.acknowledged.len()
    }

    /// The same of what is expected of this gateway.
    pub(crate) fn prove_that(&self, gateway: &Gateway, expected: &Expected) {
        for user in &self.users {
            let mut wire = Wire::greeted(gateway.ws, &gateway.token(*user), DeviceId(8), 1);
            Conversation::read(&mut wire, own(*user)).prove(expected);
            Conversation::read(&mut wire, self.group).prove(expected);
        }
    }
}

fn own(user: UserId) -> ConversationId {
    ConversationId::direct(user, UserId(1 << 40))
}
