//! Hints between POPs, on a private network that loses, doubles, delays and reorders them, and on
//! which somebody without the key sends datagrams too (`docs/protocol.md`, section 18).

use anyrelay_core::keys::Secret;
use anyrelay_core::relay::hints::{HINTS_MAX, Hint, HintKey, Shows, TOLERANCE_MS};
use anyrelay_core::relay::memo::Rst;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::UnixTime;
use anyrelay_kit::frames::long;
use anyrelay_kit::rng::Rng;

use crate::Sabotage;
use crate::network::Packet;
use crate::refusals::Rule;
use crate::setup::Port;
use crate::stamps::Origin;
use crate::wire::{Datagram, ETHERNET_LEN};
use crate::world::{Event, World};

/// What happens to datagrams of hints, in a thousand, and how long they take.
#[derive(Clone, Copy, Debug, Default)]
pub struct HintWeather {
    pub lost: u64,
    pub doubled: u64,
    /// Held back for about 10 s, longer than POPs accept them.
    pub late: u64,
    pub delay_us: u64,
    pub jitter_us: u64,
}

impl HintWeather {
    pub fn random(rng: &mut Rng) -> Self {
        let grade =
            |rng: &mut Rng, most: u64| if rng.happens(500) { rng.below(most + 1) } else { 0 };
        HintWeather {
            lost: grade(rng, 400),
            doubled: grade(rng, 300),
            late: if rng.happens(300) { 1000 } else { rng.below(300) },
            delay_us: 200 + grade(rng, 100_000),
            jitter_us: grade(rng, 400_000),
        }
    }
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct HintDatagram {
    bytes: Vec<u8>,
    /// The sender's time and the hints, if it is as a POP has sealed it.
    sealed: Option<(u64, Vec<Hint>)>,
}

/// The network of hints.
#[derive(Debug)]
pub(crate) struct HintNet {
    weather: HintWeather,
    /// What each POP is about to send.
    waiting: Vec<Vec<Hint>>,
    /// Datagrams that somebody has recorded.
    recorded: Vec<HintDatagram>,
    /// Whose key is not that of the POPs.
    stranger: HintKey,
}

impl HintNet {
    pub fn new(weather: HintWeather, pops: usize, rng: &mut Rng) -> Result<Self, String> {
        let stranger =
            HintKey::new(&Secret::new(rng.bytes())).map_err(|error| error.to_string())?;
        Ok(HintNet { weather, waiting: vec![Vec::new(); pops], recorded: Vec::new(), stranger })
    }

    /// Faults end.
    pub fn calm(&mut self) {
        let HintWeather { delay_us, .. } = self.weather;
        self.weather = HintWeather { delay_us, ..HintWeather::default() };
    }

    /// A POP begins anew, and has nothing to send.
    pub fn forget(&mut self, pop: usize) {
        self.waiting[pop].clear();
    }
}

impl World {
    /// A POP is to tell the others.
    pub(crate) fn queue_hints(&mut self, pop: usize, hints: &[Hint]) {
        if hints.is_empty() {
            return;
        }
        let waiting = &mut self.hints.waiting[pop];
        if waiting.is_empty() {
            // The thread that sends them takes turns of 1 ms.
            let after_us = self.rng.below(1000);
            self.queue.push(self.now_us + after_us, Event::SendHints(pop));
        }
        waiting.extend(hints);
        self.counts.hints.hinted += hints.len() as u64;
    }

    /// A POP sends what waits, to all others.
    pub(crate) fn send_hints(&mut self, pop: usize) {
        let waiting = std::mem::take(&mut self.hints.waiting[pop]);
        let now = self.pops[pop].now(self.now_us, self.unix_ms);
        for hints in waiting.chunks(HINTS_MAX) {
            let bytes = self.pops[pop].hint_key().seal(now.unix, hints).to_vec();
            let sealed = Some((now.unix.as_millis(), hints.to_vec()));
            let datagram = HintDatagram { bytes, sealed };
            if self.hints.recorded.len() < RECORDED_MAX {
                self.hints.recorded.push(datagram.clone());
            }
            for peer in (0..self.pops.len()).filter(|peer| *peer != pop) {
                self.pass_hints(peer, &datagram);
            }
        }
    }

    fn pass_hints(&mut self, peer: usize, datagram: &HintDatagram) {
        let weather = self.hints.weather;
        if self.rng.happens(weather.lost) {
            return;
        }
        for _ in 0..1 + usize::from(self.rng.happens(weather.doubled)) {
            let mut after_us = weather.delay_us + self.rng.below(weather.jitter_us + 1);
            if self.rng.happens(weather.late) {
                after_us += 9_000_000 + self.rng.below(2_000_000);
            }
            self.queue.push(self.now_us + after_us, Event::Hints(peer, datagram.clone()));
        }
    }

    /// A datagram comes to a POP's socket for hints.
    pub(crate) fn take_hints(&mut self, pop: usize, datagram: &HintDatagram) {
        if self.pops[pop].down_until_us > self.now_us {
            return;
        }
        let now = self.pops[pop].now(self.now_us, self.unix_ms);
        let opened = self.pops[pop].hint_key().open(now.unix, &datagram.bytes);
        let in_time = |sent_ms: u64| sent_ms.abs_diff(now.unix.as_millis()) <= ACCEPTED_MS;
        let sealed = datagram.sealed.as_ref().filter(|(sent_ms, _)| in_time(*sent_ms));
        let due = sealed.map(|(_, hints)| hints.as_slice());
        if opened.as_deref().ok() != due {
            let of = if due.is_some() { "that must be accepted" } else { "that must not be" };
            self.fail(format!("POP {pop}: a datagram of hints {of}: {opened:?}"));
        }
        let is_due = due.is_some();
        match opened {
            Ok(_) => self.counts.hints.accepted += 1,
            Err(_) => self.counts.hints.rejected += 1,
        }
        let taken = match self.sabotage {
            Some(Sabotage::Without(Rule::HintTaken)) => return,
            Some(Sabotage::Without(Rule::HintMac)) if opened.is_err() => {
                self.hints.stranger.open(now.unix, &datagram.bytes)
            }
            Some(Sabotage::Without(Rule::HintTime)) if datagram.bytes.len() >= 12 => {
                let sent = u64::from(long(&datagram.bytes, 4)) << 32;
                let sent = UnixTime::from_millis(sent | u64::from(long(&datagram.bytes, 8)));
                self.pops[pop].hint_key().open(sent, &datagram.bytes)
            }
            _ => opened,
        };
        for hint in taken.into_iter().flatten() {
            self.take_hint(pop, &hint, is_due);
        }
    }

    fn take_hint(&mut self, pop: usize, hint: &Hint, is_due: bool) {
        let now = self.pops[pop].now(self.now_us, self.unix_ms);
        let mut sink = std::mem::take(&mut self.sink);
        // A POP that has not learnt of a change may not know the target.
        let targets = &self.pops[pop].targets;
        let service = self.setup.service_at(hint.vip.into());
        let service = service.filter(|at| targets[*at].names(hint.target.into()));
        let name = service.map(|at| self.setup.services[at].name);
        if let Err(text) = self.pops[pop].take_hint(now, hint, name, &mut sink) {
            self.fail(format!("POP {pop}: {text}"));
        }
        if self.sabotage == Some(Sabotage::Without(Rule::HintOnce)) {
            sink.hints.push(*hint);
        }
        let at = self.pops[pop].at(self.now_us, self.unix_ms);
        if !self.only_hosts_judge
            && service.is_some()
            && let Err(text) = self.memory.check_hinted(&self.setup, at, (hint, is_due), &sink)
        {
            self.fail(format!("POP {pop}: {text}: {hint:?}"));
        }
        self.queue_hints(pop, &sink.hints);
        if let (Some(service), Some(teller)) = (service, &mut self.teller) {
            let at = self.pops[pop].at(self.now_us, self.unix_ms);
            let client = match hint.shows {
                Shows::Owner(owned) => self.memory.client(service, hint.egress.into(), owned.tag),
                Shows::Refusal(_) => None,
            };
            teller.hinted(&self.setup, at, (service, client), hint);
        }
        for (out, bytes) in sink.sent.drain(..) {
            let out = if out.0 == 0 { Port::Wan } else { Port::Lan };
            self.record.frame(self.now_us, pop, &bytes);
            if self.answer_query(pop, out, &bytes) {
                continue;
            }
            let Some(ip) = bytes.get(ETHERNET_LEN..).and_then(Datagram::read) else { continue };
            let origin = Origin { stamps: None, sent_us: self.now_us };
            self.counts.hints.told += 1;
            self.send(Packet::new(ip.bytes.to_vec(), origin), Event::ToHost);
        }
        self.sink = sink;
    }

    /// Somebody without the key sends a datagram: nonsense, a damaged or a cut copy, a whole one
    /// later, or what would break a live connection if it were believed.
    pub(crate) fn forge_hints(&mut self) {
        let pops = self.pops.len() as u64;
        let recorded = match self.hints.recorded.len() {
            0 => None,
            count => Some(self.hints.recorded[self.rng.index(count)].clone()),
        };
        let mut after_us = 0;
        let datagram = match (self.rng.below(6), recorded) {
            (0, _) => {
                let count = self.rng.index(1300);
                HintDatagram { bytes: self.rng.vec(count), sealed: None }
            }
            (1, Some(mut copy)) => {
                let at = self.rng.index(copy.bytes.len());
                copy.bytes[at] ^= 1 << self.rng.below(8);
                HintDatagram { sealed: None, ..copy }
            }
            (2, Some(mut copy)) => {
                let len = self.rng.index(copy.bytes.len());
                match self.rng.happens(500) {
                    true => copy.bytes.truncate(len),
                    false => copy.bytes.push(0),
                }
                HintDatagram { sealed: None, ..copy }
            }
            (3, Some(copy)) => {
                after_us = self.rng.below(30_000_000);
                copy
            }
            _ => {
                let Some(hint) = self.harmful() else { return };
                let unix = UnixTime::from_millis(self.unix_ms + self.now_us / 1000);
                let bytes = self.hints.stranger.seal(unix, &[hint]).to_vec();
                HintDatagram { bytes, sealed: None }
            }
        };
        self.counts.hints.forged += 1;
        let first = self.rng.below(pops) as usize;
        for pop in (0..self.pops.len()).filter(|pop| *pop == first || after_us == 0) {
            self.queue.push(self.now_us + after_us, Event::Hints(pop, datagram.clone()));
        }
    }

    /// A hint that would reset some live connection at its next segment.
    fn harmful(&mut self) -> Option<Hint> {
        let mut live = Vec::new();
        for target in self.stacks.iter().flatten().filter(|stack| !stack.is_client) {
            let Some(service) = self.setup.service_of(target.local, target.remote.ip()) else {
                continue;
            };
            let service = &self.setup.services[service];
            let Some(number) = target.number.filter(|_| service.is_pool()) else { continue };
            let client = self.by_ends.get(&(self.plans[number].client, service.vip));
            let client = client.and_then(|index| self.stacks[*index].as_ref());
            if let Some((next, ack)) = client.and_then(|client| client.next) {
                live.push((service.vip, target.remote, target.local, SeqNum(next), SeqNum(ack)));
            }
        }
        if live.is_empty() {
            return None;
        }
        let (vip, egress, target, next, ack) = self.rng.pick(&live);
        let rst = match self.rng.happens(800) {
            true => Rst::Bare { seq: ack },
            false => Rst::Acknowledging { seq: ack, ack: next },
        };
        let (vip, egress, target) = (vip.into(), egress.into(), target.into());
        Some(Hint { vip, egress, target, shows: Shows::Refusal(rst) })
    }
}

/// A datagram is accepted for so long, before and after the time in it.
const ACCEPTED_MS: u64 = 5000;
const RECORDED_MAX: usize = 64;

const _: () = assert!(ACCEPTED_MS == TOLERANCE_MS);
