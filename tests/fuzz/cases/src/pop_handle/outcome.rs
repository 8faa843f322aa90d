//! What becomes of an input's frames: how far the corpus reaches.

use std::collections::BTreeMap;

use anyrelay_core::counters::Counters;
use anyrelay_core::relay::Mode;
use anyrelay_core::snapshot::Service;
use anyrelay_core::verdict::Verdict;

use super::cases::{self, Case};
use super::{Fast, Input, World, check, frames};

/// How many frames had each outcome, by its name.
pub type Outcomes = BTreeMap<String, usize>;

/// Adds what becomes of the frames of an input, each handed over by itself.
pub fn count(input: &[u8], outcomes: &mut Outcomes) {
    let Some((&first, rest)) = input.split_first() else { return };
    let case = cases::case(first);
    let (mut general, mut fast) = (World::new(case), Fast::new(case));
    for frame in frames(case, rest) {
        let before = forwarded(case, &general.pop.counters);
        general.handle(std::slice::from_ref(&frame));
        let after = forwarded(case, &general.pop.counters);
        let ways = before.into_iter().zip(after);
        let way = ways.filter(|(before, after)| before.1 < after.1).map(|(_, after)| after.0);
        let way = way.collect::<Vec<_>>().join(" ");
        let fast_frames = fast.pop.counters.fast_frames.get();
        fast.handle(case, std::slice::from_ref(&frame));
        let is_fast = fast.pop.counters.fast_frames.get() > fast_frames;
        let mut add = |outcome: String| *outcomes.entry(outcome).or_default() += 1;
        for verdict in general.out.verdicts() {
            let outcome = match verdict {
                Verdict::Forward(_) => {
                    let kind = general.kind(&frame);
                    format!("forward {way}{kind}")
                }
                Verdict::Reply(kind) => format!("reply {kind}"),
                Verdict::Absorb(kind) => format!("absorb {kind}"),
                Verdict::Drop(reason) => format!("drop {reason}"),
            };
            if is_fast {
                add(format!("fast: {outcome}"));
            }
            add(outcome);
        }
        general.out.replies().for_each(|kind| add(format!("sent {kind}")));
    }
}

/// Packets of each service in each direction, by the name of its mode.
fn forwarded(case: &Case, counters: &Counters) -> Vec<(String, u64)> {
    let services = case.snapshot.services().iter().flat_map(|service| {
        let of_service = counters.service(service.slot());
        let mode = match service {
            Service::Relay(relay) if matches!(relay.mode, Mode::Pool6(_)) => "pool6",
            Service::Relay(relay) => relay.mode.name(),
            Service::Tunnel(_) => "tunnel",
        };
        [("up", &of_service.up), ("down", &of_service.down)]
            .map(|(towards, traffic)| (format!("{mode} {towards}"), traffic.packets.get()))
    });
    services.collect()
}

impl World<'_> {
    /// Whether the frame, which was sent on, is an ICMP error, or UDP that is no tunnel.
    fn kind(&self, frame: &Input) -> &'static str {
        let Some(at) = check::l3(&frame.bytes) else { return "" };
        let (protocol, behind) = match frame.bytes[at] >> 4 {
            4 => (frame.bytes[at + 9], at + 4 * usize::from(frame.bytes[at] & 15)),
            _ => (frame.bytes[at + 6], at + 40),
        };
        match protocol {
            1 | 58 => " ICMP",
            17 if frame.bytes.get(behind + 2..behind + 4) != Some(&GUE) => " UDP",
            _ => "",
        }
    }
}

/// The port of GUE, on the wire.
const GUE: [u8; 2] = 6080_u16.to_be_bytes();
