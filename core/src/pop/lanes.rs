//! The cryptography of all segments of a burst, computed together.
//!
//! A segment of a relay, and a datagram of a tunnel, takes a lane when it is classified.
//! [`Lanes::map`] then computes all lanes of one service in a single call, so that the cipher's
//! pipeline is filled. Results do not depend on the other lanes: `tests/engine/equivalence.rs`
//! shows it.

use arrayvec::ArrayVec;

use crate::net::{IpEndpoint, ServiceIndex};
use crate::relay::mapping::{BURST, EgressSide};
use crate::relay::targets::Chosen;
use crate::snapshot::Snapshot;
use crate::time::UnixTime;
use crate::tunnel::forward::{self, DataUp, OpenedTokens};
use crate::verdict::DropReason;

/// A lane's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane(u8);

impl Lane {
    #[inline(always)]
    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Lanes of one kind: their services, their inputs, and two columns of outputs.
#[derive(Debug)]
struct Kind<I, T, U> {
    services: ArrayVec<ServiceIndex, BURST>,
    inputs: ArrayVec<I, BURST>,
    // One for each lane; those behind them are of earlier bursts.
    outputs: [T; BURST],
    others: [U; BURST],
}

impl<I: Copy, T: Copy, U: Copy + Default> Kind<I, T, U> {
    fn new(not_mapped: T) -> Self {
        Kind {
            services: ArrayVec::new(),
            inputs: ArrayVec::new(),
            outputs: [not_mapped; BURST],
            others: [U::default(); BURST],
        }
    }

    fn clear(&mut self) {
        self.services.clear();
        self.inputs.clear();
    }

    /// Takes a lane. There are as many lanes as frames in a burst.
    #[inline(always)]
    fn take(&mut self, service: ServiceIndex, input: I) -> Lane {
        let lane = Lane(self.inputs.len() as u8);
        let _ = self.services.try_push(service);
        let _ = self.inputs.try_push(input);
        lane
    }

    /// Calls `map` once for each service, with the inputs of its lanes and the places of their
    /// outputs, all of which it must write.
    #[inline]
    fn map(&mut self, not_mapped: T, mut map: impl FnMut(ServiceIndex, &[I], &mut [T], &mut [U])) {
        let Some(first) = self.services.first() else { return };
        let (inputs, outputs, others) = (&self.inputs, &mut self.outputs, &mut self.others);
        if self.services.iter().all(|service| service == first) {
            let outputs = outputs.get_mut(..inputs.len()).unwrap_or_default();
            let others = others.get_mut(..inputs.len()).unwrap_or_default();
            return map(*first, inputs, outputs, others);
        }
        for_each_service(&self.services, |service, lanes| {
            let of_service: ArrayVec<I, BURST> =
                lanes.iter().filter_map(|lane| inputs.get(usize::from(*lane)).copied()).collect();
            let mut mapped: ArrayVec<T, BURST> = lanes.iter().map(|_| not_mapped).collect();
            let mut also: ArrayVec<U, BURST> = lanes.iter().map(|_| U::default()).collect();
            map(service, &of_service, &mut mapped, &mut also);
            for ((lane, output), other) in lanes.iter().zip(mapped).zip(also) {
                let at = usize::from(*lane);
                if let (Some(place), Some(beside)) = (outputs.get_mut(at), others.get_mut(at)) {
                    (*place, *beside) = (output, other);
                }
            }
        });
    }
}

impl<I, T, U> Kind<I, Result<T, DropReason>, U> {
    #[inline(always)]
    fn output(&self, lane: Lane) -> Result<&T, DropReason> {
        match self.outputs.get(lane.index()) {
            Some(output) => output.as_ref().map_err(|reason| *reason),
            None => Err(NOT_MAPPED),
        }
    }
}

/// The segments of a burst that are to be mapped, and then what came out.
#[derive(Debug)]
pub(super) struct Lanes {
    // The second column holds the targets.
    outward: Kind<IpEndpoint, Result<EgressSide, DropReason>, Chosen>,
    // The second column holds the targets of the clients, where some have several.
    inward: Kind<EgressSide, Result<IpEndpoint, DropReason>, Chosen>,
    tunnels: ArrayVec<ServiceIndex, BURST>,
    datagrams: ArrayVec<DataUp, BURST>,
    opened: ArrayVec<OpenedTokens, BURST>,
}

impl Default for Lanes {
    fn default() -> Self {
        Lanes {
            outward: Kind::new(Err(NOT_MAPPED)),
            inward: Kind::new(Err(NOT_MAPPED)),
            tunnels: ArrayVec::new(),
            datagrams: ArrayVec::new(),
            opened: ArrayVec::new(),
        }
    }
}

impl Lanes {
    /// Frees all lanes.
    pub fn clear(&mut self) {
        self.outward.clear();
        self.inward.clear();
        self.tunnels.clear();
        self.datagrams.clear();
        self.opened.clear();
    }

    /// Takes a lane for a client's segment.
    #[inline(always)]
    pub fn outward(&mut self, service: ServiceIndex, client: IpEndpoint) -> Lane {
        self.outward.take(service, client)
    }

    /// Takes a lane for a target's segment.
    #[inline(always)]
    pub fn inward(&mut self, service: ServiceIndex, egress: EgressSide) -> Lane {
        self.inward.take(service, egress)
    }

    /// Takes a lane for a datagram of a tunnel.
    #[inline]
    pub fn datagram(&mut self, tunnel: ServiceIndex, datagram: DataUp) -> Lane {
        let lane = Lane(self.datagrams.len() as u8);
        let _ = self.tunnels.try_push(tunnel);
        let _ = self.datagrams.try_push(datagram);
        let _ = self.opened.try_push(OpenedTokens::NOT);
        lane
    }

    /// Computes what all lanes map to at `now`.
    #[inline]
    pub fn map(&mut self, snapshot: &Snapshot, now: UnixTime) {
        self.outward.map(Err(NOT_MAPPED), |service, clients, egress, chosen| {
            let Some(relay) = snapshot.relay(service) else { return egress.fill(Err(NOT_MAPPED)) };
            relay.mode.outward_burst(clients, egress);
            relay.targets.window(now).choose(clients, chosen);
        });
        self.inward.map(Err(NOT_MAPPED), |service, egress, clients, chosen| {
            let Some(relay) = snapshot.relay(service) else { return clients.fill(Err(NOT_MAPPED)) };
            relay.mode.inward_burst(egress, clients);
            let window = relay.targets.window(now);
            match window.is_settled() {
                true => chosen.fill(Chosen::default()),
                false => {
                    // Those that stand for no client are dropped; any client will do for them.
                    let clients = clients.iter().map(|client| client.unwrap_or(relay.vip));
                    let clients: ArrayVec<IpEndpoint, BURST> = clients.take(BURST).collect();
                    window.choose(&clients, chosen);
                }
            }
        });
        for_each_service(&self.tunnels, |tunnel, lanes| {
            let Some(tunnel) = snapshot.tunnel(tunnel) else { return };
            forward::open_all(&tunnel.service, now, &self.datagrams, lanes, &mut self.opened);
        });
    }

    /// What the client's segment in `lane` maps to, and its targets.
    ///
    /// # Errors
    /// Why the client has no egress endpoint or no target, as its mode says.
    #[inline(always)]
    pub fn outward_at(&self, lane: Lane) -> Result<(&EgressSide, Chosen), DropReason> {
        let egress = self.outward.output(lane)?;
        let chosen = self.outward.others.get(lane.index()).copied();
        Ok((egress, chosen.unwrap_or_default()))
    }

    /// The client that the target's segment in `lane` maps to, and its targets where it may have
    /// several.
    ///
    /// # Errors
    /// Why the segment belongs to no client, as its mode says.
    #[inline(always)]
    pub fn inward_at(&self, lane: Lane) -> Result<(&IpEndpoint, Chosen), DropReason> {
        let client = self.inward.output(lane)?;
        let chosen = self.inward.others.get(lane.index()).copied();
        Ok((client, chosen.unwrap_or_default()))
    }

    /// The datagram in `lane`, and its tokens opened.
    #[inline]
    pub fn datagram_at(&self, lane: Lane) -> Option<(&DataUp, &OpenedTokens)> {
        Some((self.datagrams.get(lane.index())?, self.opened.get(lane.index())?))
    }
}

/// What a lane holds before it is mapped, and after that where it is of no relay.
const NOT_MAPPED: DropReason = DropReason::UnservedPort;

/// Calls `each` once for each service in `lanes`, with the numbers of its lanes.
fn for_each_service(lanes: &[ServiceIndex], mut each: impl FnMut(ServiceIndex, &[u8])) {
    let mut pending: u64 = lanes_mask(lanes.len());
    // Each turn takes out at least the lane that it began with.
    while let Some(service) = lanes.get(pending.trailing_zeros() as usize) {
        let mut numbers = ArrayVec::<u8, BURST>::new();
        for (number, other) in (0u8..).zip(lanes) {
            if other == service {
                numbers.push(number);
                pending &= !(1 << number);
            }
        }
        each(*service, &numbers);
    }
}

/// A bit for each of the first `count` lanes.
pub(super) fn lanes_mask(count: usize) -> u64 {
    if count >= BURST { u64::MAX } else { (1 << count) - 1 }
}

const _: () = assert!(BURST == u64::BITS as usize);
const _: () = assert!(BURST <= forward::MANY);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_is_mapped_once_with_its_own_service() {
        for count in [0, 1, 2, 31, 32, 33, 63, 64] {
            for services in [1, 2, 3, 7, 64] {
                let mut kind = Kind::<u16, Option<(ServiceIndex, u16)>, u16>::new(None);
                for lane in 0..count {
                    kind.take(ServiceIndex(lane * 5 % services), lane);
                }
                let mut calls = Vec::new();
                kind.map(None, |service, inputs, outputs, others| {
                    assert!(!calls.contains(&service), "one call for each service");
                    calls.push(service);
                    assert_eq!((inputs.len(), inputs.len()), (outputs.len(), others.len()));
                    for ((input, output), other) in inputs.iter().zip(outputs).zip(others) {
                        assert!(output.replace((service, *input)).is_none());
                        *other += input + 1;
                    }
                });
                for ((lane, output), other) in (0..count).zip(&kind.outputs).zip(&kind.others) {
                    assert_eq!(*output, Some((ServiceIndex(lane * 5 % services), lane)));
                    assert_eq!(*other, lane + 1);
                }
            }
        }
    }
}
