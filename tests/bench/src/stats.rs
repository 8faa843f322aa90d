//! Least, median and greatest of a figure over the rounds.

use serde_json::{Map, Value};

/// Where the values of a figure are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The one in the middle, or between the two there.
    pub median: f64,
    /// The greatest.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Of some values; all zero without any.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => at(middle),
            _ => (at(middle.max(1) - 1) + at(middle)) / 2.0,
        };
        let count = values.len();
        Spread { min: at(0), median, max: at(count.max(1) - 1), count }
    }

    /// Whether the rounds agree: greatest and least differ by at most [`AGREE_MAX`] of the median.
    /// `None` of a single round.
    pub fn agrees(&self) -> Option<bool> {
        (self.count > 1).then_some(self.max - self.min <= AGREE_MAX * self.median)
    }

    /// The same for people: `yes`, `no` or `one round`.
    pub fn agreement(&self) -> &'static str {
        match self.agrees() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "one round",
        }
    }

    /// Adds the figure to a result: the median as `key`, the others as `key_min` and `key_max`.
    pub fn add_to(&self, result: &mut Map<String, Value>, key: &str) {
        result.insert(key.to_owned(), rounded(self.median).into());
        result.insert(format!("{key}_min"), rounded(self.min).into());
        result.insert(format!("{key}_max"), rounded(self.max).into());
    }
}

/// Three digits after the point: more would be noise.
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// How far apart rounds that agree may be, as a share of the median.
pub const AGREE_MAX: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Spread {
        Spread::of(values.iter().copied())
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = of(&[3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { min: 1.0, median: 2.0, max: 3.0, count: 3 });
        assert_eq!(of(&[4.0, 1.0]).median, 2.5);
        assert_eq!(of(&[]), Spread { min: 0.0, median: 0.0, max: 0.0, count: 0 });
    }

    #[test]
    fn rounds_agree_within_five_percent() {
        assert_eq!(of(&[0.98, 1.0, 1.02]).agrees(), Some(true));
        assert_eq!(of(&[0.97, 1.0, 1.03]).agrees(), Some(false));
        assert_eq!(of(&[1.0]).agrees(), None);
    }
}
