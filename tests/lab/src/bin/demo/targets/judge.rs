//! What became of the connections of a run: which had moved, which were at targets that died, and
//! which broke.

use std::time::Duration;

use anyrelay_core::time::UnixTime;
use anyrelay_lab::fleet::{End, Life, Short};
use anyrelay_lab::targets::Choice;

use super::change::Given;
use super::plan::Number;

/// All that a run has seen.
pub struct Seen<'a> {
    /// Long connections.
    pub lives: Vec<Life>,
    /// Short ones.
    pub shorts: Vec<Short>,
    /// The orders.
    pub given: &'a [Given],
    /// When POPs were killed.
    pub kills: Vec<UnixTime>,
    /// Which targets clients have, where that can be said, and the dates at which these change.
    pub choice: Option<(Choice, Vec<UnixTime>)>,
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// Long connections that do not count as [`Self::dead`].
    pub lives: u64,
    /// Of them, those that broke.
    pub broken: u64,
    /// Of them, those whose client had another target than theirs at some time.
    pub moved: u64,
    /// Of these, those that broke.
    pub moved_broken: u64,
    /// Connections of both kinds with a wrong byte.
    pub corrupt: u64,
    /// Long connections at a target when it died, or that were led to one that was dead.
    pub dead: u64,
    /// Of them, those that broke.
    pub dead_broken: u64,
    /// Short connections that do not count as [`Self::shorts_dead`].
    pub shorts: u64,
    /// Of them, those that failed.
    pub short_broken: u64,
    /// Of them, those that took a second longer or more, without those of the next two.
    pub short_slow: u64,
    /// Those that took so long, and began or ended close to the kill of a POP.
    pub short_slow_at_kill: u64,
    /// Short connections that were led to a target that was dead.
    pub shorts_dead: u64,
    /// For each target that died, how long after the order to leave it a new connection was still
    /// led to it.
    pub left_after: Vec<(Number, Duration)>,
    /// The longest time without progress of a long connection, without [`Self::dead`] ones.
    pub longest_stall: Duration,
    /// The first connections that went wrong, in words.
    pub wrong: Vec<String>,
}

impl Judged {
    fn note(&mut self, text: String) {
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push(text);
        }
    }
}

/// A target that died.
struct Grave {
    number: Number,
    died: UnixTime,
    ordered: UnixTime,
    /// Nothing new is led to it from now on.
    left: UnixTime,
}

impl Seen<'_> {
    /// Counts, and keeps in words what is wrong.
    pub fn judge(&self) -> Judged {
        let graves = self.graves();
        let mut judged = Judged::default();
        let mut last_led = vec![None; graves.len()];
        for life in &self.lives {
            judged.corrupt += u64::from(life.end == End::Corrupt);
            let is_broken = matches!(life.end, End::Broken(_));
            if let Some(grave) = self.grave_of(&graves, life) {
                judged.dead += 1;
                judged.dead_broken += u64::from(is_broken);
                if life.target.is_none() {
                    last_led[grave] = last_led[grave].max(Some(life.began));
                }
                continue;
            }
            let moved = self.choice.as_ref();
            let moved = moved.is_some_and(|(choice, dates)| life.has_moved(choice, dates));
            judged.lives += 1;
            judged.moved += u64::from(moved);
            judged.broken += u64::from(is_broken);
            judged.moved_broken += u64::from(is_broken && moved);
            judged.longest_stall = judged.longest_stall.max(life.longest_stall);
            if life.end != End::Whole || life.longest_stall > STALL {
                judged.note(format!("moved: {moved}, {life:?}"));
            }
        }
        for short in &self.shorts {
            judged.corrupt += u64::from(short.end == End::Corrupt);
            let is_broken = matches!(short.end, End::Broken(_));
            let is_slow = short.took >= SLOW;
            let led = self.led_to(&graves, short, is_broken || is_slow);
            if let Some(grave) = led {
                judged.shorts_dead += 1;
                last_led[grave] = last_led[grave].max(Some(short.began));
                continue;
            }
            judged.shorts += 1;
            judged.short_broken += u64::from(is_broken);
            let is_at_kill = self.kills.iter().any(|kill| {
                let (from, until) = (kill.minus_millis(AT_KILL_MS), kill.plus_millis(AT_KILL_MS));
                from <= short.began && short.began < until
            });
            judged.short_slow += u64::from(is_slow && !is_broken && !is_at_kill);
            judged.short_slow_at_kill += u64::from(is_slow && !is_broken && is_at_kill);
            if is_broken || (is_slow && !is_at_kill) {
                judged.note(format!("{short:?}"));
            }
        }
        judged.left_after = graves
            .iter()
            .zip(last_led)
            .map(|(grave, last)| {
                let last = last.unwrap_or_default().as_millis();
                let after = last.saturating_sub(grave.ordered.as_millis());
                (grave.number, Duration::from_millis(after))
            })
            .collect();
        judged
    }

    fn graves(&self) -> Vec<Grave> {
        let grave = |given: &Given| {
            Some(Grave {
                number: given.number,
                died: given.died?.minus_millis(MOMENT_MS),
                ordered: given.at,
                left: given.holds.plus_millis(MOMENT_MS),
            })
        };
        self.given.iter().filter_map(grave).collect()
    }

    /// Which dead target has a long connection, or was to have it.
    fn grave_of(&self, graves: &[Grave], life: &Life) -> Option<usize> {
        let led = |grave: &Grave| {
            let address = grave.number.address();
            let had = life.target == Some(address) && life.ended >= grave.died;
            had || grave.died <= life.ended
                && grave.takes(life.began)
                && match (&self.choice, life.client) {
                    // A SYN that was sent again may have come to another one.
                    (Some((choice, _)), Some(client)) => {
                        choice.target(client, life.began) == Some(address)
                    }
                    _ => life.target.is_none(),
                }
        };
        graves.iter().position(led)
    }

    /// Which dead target a short connection was led to, or was at when it died. Where nobody can
    /// say, one that failed or was slow while there was one.
    fn led_to(&self, graves: &[Grave], short: &Short, is_wrong: bool) -> Option<usize> {
        let took = u64::try_from(short.took.as_millis()).unwrap_or(u64::MAX);
        let led = |grave: &Grave| {
            let at_its_time =
                grave.died <= short.began.plus_millis(took) && grave.takes(short.began);
            at_its_time
                && match (&self.choice, short.client) {
                    (Some((choice, _)), Some(client)) => {
                        choice.target(client, short.began) == Some(grave.number.address())
                            && (is_wrong || short.target.is_none())
                    }
                    _ => is_wrong,
                }
        };
        graves.iter().position(led)
    }
}

impl Grave {
    /// Whether new connections are still led to it.
    fn takes(&self, time: UnixTime) -> bool {
        time < self.left
    }
}

/// A stall that is worth a note.
const STALL: Duration = Duration::from_secs(3);
const WRONG_MAX: usize = 20;
/// So much more than a short connection takes by itself.
const SLOW: Duration = Duration::from_secs(1);
/// Between a kill and what its loss still delays.
const AT_KILL_MS: u64 = 1500;
/// Between two readings of the clock.
const MOMENT_MS: u64 = 100;
