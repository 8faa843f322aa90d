//! What a POP was seen to do, counted a second time: its own counters must say the same, whatever
//! the config was meanwhile.

use std::collections::BTreeMap;

use anyrelay_core::counters::Counters;
use anyrelay_core::net::PortIndex;
use anyrelay_core::net::ServiceSlot;
use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};
use anyrelay_kit::pop::Recorder;

use crate::popside::is_address_query;
use crate::setup::Port;

/// Counts since a POP began.
#[derive(Debug, Default)]
pub struct Tally {
    drops: BTreeMap<(Port, &'static str), u64>,
    /// Answers of its own, those that were sent and those that a limit held back.
    answers: BTreeMap<(&'static str, bool), u64>,
    /// By service and what happened. An ICMP error is counted with the service of its quote, which
    /// is told to nobody: it is here without a name.
    services: BTreeMap<(Option<String>, &'static str), u64>,
    /// Hints to other POPs, from them, and from them about what the POP does not have.
    hints: [u64; 3],
}

impl Tally {
    /// Counts what came of a frame that came in through `port`.
    pub fn add(&mut self, port: Port, out: &Recorder) {
        let sent = out.replies().map(|kind| (kind.label(), true));
        for answer in sent.chain(out.withheld().map(|kind| (kind.label(), false))) {
            *self.answers.entry(answer).or_default() += 1;
        }
        self.hints[0] += out.hints.len() as u64;
        let service = out.service().map(str::to_owned);
        // The first target's segment comes last.
        let mut copies = out.verdicts().filter(|one| matches!(one, Verdict::Forward(_))).count();
        for verdict in out.verdicts() {
            let what = match verdict {
                Verdict::Drop(reason) => {
                    *self.drops.entry((port, reason.label())).or_default() += 1;
                    reason.label()
                }
                Verdict::Forward(_) if copies > 1 => {
                    copies -= 1;
                    COPIED
                }
                Verdict::Forward(_) => forwarded(port),
                _ => continue,
            };
            *self.services.entry((service.clone(), what)).or_default() += 1;
        }
    }

    /// Counts what came of a hint about a service. Nothing says that a client could not be told for
    /// want of a neighbour.
    pub fn add_hint(&mut self, service: Option<&str>, unresolved: bool, out: &Recorder) {
        let Some(service) = service else { return self.hints[2] += 1 };
        self.hints[1] += 1;
        if unresolved {
            let reason = DropReason::NeighbourUnresolved.label();
            *self.drops.entry((Port::Wan, reason)).or_default() += 1;
            *self.services.entry((Some(service.to_owned()), reason)).or_default() += 1;
        } else if out.sent.iter().any(|(_, frame)| !is_address_query(frame)) {
            *self.answers.entry((ReplyKind::HintedRst.label(), true)).or_default() += 1;
        }
    }

    /// Compares with a POP's own counters, in which each service has its place.
    pub fn check<'a>(
        &self,
        counters: &Counters,
        places: impl Iterator<Item = (&'a str, ServiceSlot)>,
    ) -> Result<(), String> {
        for port in [Port::Wan, Port::Lan] {
            for reason in DropReason::ALL {
                let seen = self.drops.get(&(port, reason.label())).copied().unwrap_or(0);
                let counted = counters.drops(PortIndex(port as u8), *reason);
                if counted != seen {
                    return Err(format!("{port:?}, {reason}: {counted}, but {seen} were seen"));
                }
            }
        }
        for &kind in ReplyKind::ALL {
            for (counted, sent) in
                [(counters.replies(kind), true), (counters.withheld(kind), false)]
            {
                let seen = self.answers.get(&(kind.label(), sent)).copied().unwrap_or(0);
                if counted != seen {
                    return Err(format!("{kind}, sent: {sent}: {counted}, but {seen} were seen"));
                }
            }
        }
        let counted = &counters.hints;
        let counted = [&counted.sent, &counted.taken, &counted.foreign].map(|count| count.get());
        if counted != self.hints {
            let seen = self.hints;
            return Err(format!("hints: {counted:?}, but {seen:?} were seen"));
        }
        let mut unnamed = BTreeMap::new();
        for (name, slot) in places {
            let own = counters.service(slot);
            let drops = DropReason::ALL.iter();
            let drops = drops.map(|reason| (reason.label(), counters.service_drops(slot, *reason)));
            let up = (forwarded(Port::Wan), own.up.packets.get());
            let down = (forwarded(Port::Lan), own.down.packets.get());
            // What a tunnel sends on came in on the same side.
            let copies = (COPIED, own.copies.packets.get());
            let traffic = [up, down, copies].into_iter().filter(|_| name != "tunnel");
            for (what, counted) in traffic.chain(drops) {
                let seen = self.seen(Some(name), what);
                let Some(beyond) = counted.checked_sub(seen) else {
                    return Err(format!("{name}, {what}: {counted}, but {seen} were seen"));
                };
                *unnamed.entry(what).or_insert(0) += beyond;
            }
        }
        for (what, beyond) in unnamed {
            let seen = self.seen(None, what);
            // Those that are dropped for what they are have no service.
            let forwards = [forwarded(Port::Wan), forwarded(Port::Lan), COPIED].contains(&what);
            if beyond > seen || (forwards && beyond != seen) {
                return Err(format!("{what}, {beyond} too many, of {seen} errors"));
            }
        }
        Ok(())
    }

    fn seen(&self, name: Option<&str>, what: &'static str) -> u64 {
        self.services.get(&(name.map(str::to_owned), what)).copied().unwrap_or(0)
    }
}

/// What is counted of a frame that goes to one more target.
const COPIED: &str = "copied";

/// What is counted of a frame that came in through that port and was sent on.
const fn forwarded(port: Port) -> &'static str {
    match port {
        Port::Wan => "forwarded up",
        Port::Lan => "forwarded down",
    }
}
