//! Rate limits for log lines: a new text at once, a repeated one at most once a minute.

use std::fmt::Display;

use anyrelay_core::time::Instant;

use crate::outer::counts::SendCounts;

/// Admits a text that differs from the last one, or that was last logged a minute ago.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    logged: Option<(String, Instant)>,
}

impl LogLimiter {
    /// The text, if it is to be logged.
    pub(crate) fn admit(&mut self, now: Instant, text: impl Display) -> Option<String> {
        let text = text.to_string();
        let logged = self.logged.as_ref();
        if logged.is_some_and(|(before, at)| *before == text && now.millis_since(*at) < QUIET_MS) {
            return None;
        }
        self.logged = Some((text.clone(), now));
        Some(text)
    }

    /// The problem is over: the next text counts as new.
    pub(crate) fn reset(&mut self) {
        self.logged = None;
    }
}

/// SendWarnings about segments that were not sent: reasons and numbers.
#[derive(Debug, Default)]
pub(super) struct SendWarnings {
    seen: SendCounts,
    quiet_until: Instant,
}

impl SendWarnings {
    /// The warnings due at `now`.
    pub(super) fn due(&mut self, now: Instant, counts: &SendCounts) -> Vec<String> {
        if now < self.quiet_until {
            return Vec::new();
        }
        let SendCounts { too_big, queue_full, refused, last_error, .. } = *counts;
        let mut texts = Vec::new();
        if too_big > self.seen.too_big {
            let count = too_big - self.seen.too_big;
            texts.push(format!(
                "{count} segments were too big for the path to the VIP: its MTU is below the \
                 POPs' tunnel_mtu"
            ));
        }
        if queue_full > self.seen.queue_full {
            let count = queue_full - self.seen.queue_full;
            texts.push(format!("{count} segments were lost, as the interface's queue stayed full"));
        }
        if refused > self.seen.refused {
            let count = refused - self.seen.refused;
            let reason = last_error.map_or("no reason given", |error| error.desc());
            texts.push(format!(
                "the kernel refused to send {count} segments to the VIP ({reason}): is there a \
                 route, and does a firewall of this host let TCP out to it?"
            ));
        }
        if !texts.is_empty() {
            self.seen = *counts;
            self.quiet_until = now.plus_millis(QUIET_MS);
        }
        texts
    }
}

const QUIET_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_losses_are_logged_once_a_minute() {
        let mut warnings = SendWarnings::default();
        let at = Instant::from_millis;
        let mut counts = SendCounts::default();
        assert!(warnings.due(at(0), &counts).is_empty());
        (counts.too_big, counts.refused) = (3, 1);
        counts.last_error = Some(nix::errno::Errno::EPERM);
        let texts = warnings.due(at(1000), &counts);
        assert!(texts[0].starts_with("3 segments were too big"), "{texts:?}");
        assert!(texts[1].contains("(Operation not permitted)"), "{texts:?}");
        counts.queue_full = 5;
        assert!(warnings.due(at(60_000), &counts).is_empty());
        let texts = warnings.due(at(61_000), &counts);
        assert_eq!(texts, ["5 segments were lost, as the interface's queue stayed full"]);
    }

    #[test]
    fn a_lasting_problem_is_logged_once_a_minute() {
        let mut limiter = LogLimiter::default();
        let logged = (0..180).filter(|second| {
            limiter.admit(Instant::from_millis(second * 1000), "no route; trying again").is_some()
        });
        assert_eq!(logged.collect::<Vec<_>>(), [0, 60, 120]);
        let at = Instant::from_millis(180_500);
        assert!(limiter.admit(at, "another reason").is_some(), "at once");
        assert!(limiter.admit(at, "another reason").is_none());
        limiter.reset();
        assert!(limiter.admit(at, "another reason").is_some(), "it was well meanwhile");
    }
}
