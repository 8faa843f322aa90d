//! Token buckets: bounds on what a POP sends of its own accord.

use crate::time::Instant;

const NANOS: u64 = 1_000_000_000;

/// Lets through `rate` events a second, and as many at once after a second of rest.
///
/// The state is the time at which the bucket would be full again (the "virtual scheduling" form of
/// ITU-T I.371's GCRA), so an idle bucket costs nothing. A rate of 0 lets nothing through.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// A full bucket.
    pub const fn new() -> Self {
        Bucket { full_at_ns: 0 }
    }

    /// Takes a token; false when there is none.
    pub fn take(&mut self, now: Instant, rate_per_second: u32) -> bool {
        let rate = u64::from(rate_per_second);
        if rate == 0 {
            return false;
        }
        let full_at = self.full_at_ns.max(now.as_nanos()).saturating_add(NANOS / rate);
        if full_at - now.as_nanos() > NANOS {
            return false;
        }
        self.full_at_ns = full_at;
        true
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Bucket::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_tokens_then_the_rate() {
        let mut bucket = Bucket::new();
        let start = Instant::from_millis(5_000);
        let taken =
            |bucket: &mut Bucket, now, tries| (0..tries).filter(|_| bucket.take(now, 100)).count();
        assert_eq!(taken(&mut bucket, start, 1000), 100);
        assert_eq!(taken(&mut bucket, start.plus_millis(100), 1000), 10);
        assert_eq!(taken(&mut bucket, start.plus_millis(10_000), 1000), 100);
    }

    #[test]
    fn no_rate_no_tokens() {
        assert!(!Bucket::new().take(Instant::from_millis(1), 0));
    }
}
