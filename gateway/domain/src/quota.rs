//! Rate classes: a token bucket per user and class (REQUIREMENTS 156).

use tidegate_ids::MonotonicNs;

/// A named class of limits that a token may carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateClass {
    /// 100 messages a minute.
    #[default]
    Default,
    /// No limit: tools and trusted services.
    Unlimited,
}

impl RateClass {
    /// The class a token names; `None` for a name that is not configured.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::Default),
            "unlimited" => Some(Self::Unlimited),
            _ => None,
        }
    }

    const fn burst(self) -> u32 {
        match self {
            Self::Default => 100,
            Self::Unlimited => u32::MAX,
        }
    }

    const fn refill_ns(self) -> u64 {
        match self {
            Self::Default => 60 * MonotonicNs::SECOND / 100,
            Self::Unlimited => 0,
        }
    }
}

/// What is left of a class's allowance.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    class: RateClass,
    tokens: u32,
    refilled: MonotonicNs,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(class: RateClass, now: MonotonicNs) -> Self {
        Self { class, tokens: class.burst(), refilled: now }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// The milliseconds until the next token, if there is none.
    pub fn take(&mut self, now: MonotonicNs) -> Result<(), u32> {
        let refill_ns = self.class.refill_ns();
        if refill_ns == 0 {
            return Ok(());
        }
        let gained = now.since(self.refilled) / refill_ns;
        if gained > 0 {
            self.tokens =
                self.tokens.saturating_add(gained.min(u64::from(u32::MAX)) as u32).min(self.class.burst());
            self.refilled = self.refilled.after(gained * refill_ns);
        }
        if self.tokens == 0 {
            let wait_ns = refill_ns - now.since(self.refilled).min(refill_ns);
            return Err((wait_ns / MonotonicNs::MILLISECOND) as u32 + 1);
        }
        self.tokens -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_pass_then_one_each_six_hundred_milliseconds() {
        let mut bucket = TokenBucket::new(RateClass::Default, MonotonicNs(0));
        assert!((0..100).all(|_| bucket.take(MonotonicNs(0)).is_ok()));
        assert_eq!(bucket.take(MonotonicNs(0)), Err(601));
        let later = MonotonicNs(600 * MonotonicNs::MILLISECOND);
        assert_eq!(bucket.take(later), Ok(()));
        assert!(bucket.take(later).is_err());
    }

    #[test]
    fn unlimited_never_refuses() {
        let mut bucket = TokenBucket::new(RateClass::Unlimited, MonotonicNs(0));
        assert!((0..10_000).all(|_| bucket.take(MonotonicNs(0)).is_ok()));
    }
}
