//! The middle of a few numbers, and how far apart they are.

use serde::Serialize;

/// A median with the extremes around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Median {
    /// The middle one; of an even count the mean of the two in the middle.
    pub middle: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Median {
    /// Of these numbers; zeros if there are none.
    #[must_use]
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        let (Some(low), Some(high)) = (numbers.first(), numbers.last()) else { return Self::default() };
        let half = numbers.len() / 2;
        let middle = if numbers.len() % 2 == 1 {
            numbers[half]
        } else {
            f64::midpoint(numbers[half - 1], numbers[half])
        };
        Self { middle, low: *low, high: *high }
    }

    /// How far the extremes are apart, as a part of the middle.
    #[must_use]
    pub fn spread(&self) -> f64 {
        if self.middle > 0.0 { (self.high - self.low) / self.middle } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::Median;

    fn check(numbers: &[f64], middle: f64, low: f64, high: f64) {
        assert_eq!(Median::of(numbers.iter().copied()), Median { middle, low, high }, "{numbers:?}");
    }

    #[test]
    fn the_middle_does_not_depend_on_the_order() {
        check(&[], 0.0, 0.0, 0.0);
        check(&[3.0], 3.0, 3.0, 3.0);
        check(&[9.0, 1.0, 2.0], 2.0, 1.0, 9.0);
        check(&[4.0, 1.0, 2.0, 100.0], 3.0, 1.0, 100.0);
    }

    #[test]
    fn the_spread_is_a_part_of_the_middle() {
        assert_eq!(Median::of([1.0, 2.0, 3.0]).spread(), 1.0);
        assert_eq!(Median::of([]).spread(), 0.0);
    }
}
