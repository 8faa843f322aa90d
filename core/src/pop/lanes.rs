//! The cryptography of all segments of a burst, computed together.
//!
//! A segment of a relay, and a datagram of a tunnel, takes a lane when it is classified.
//! [`Lanes::map`] then computes all lanes of one service in a single call, so that the cipher's
//! pipeline is filled. Results do not depend on the other lanes: `tests/engine/equivalence.rs`
//! shows it.

use arrayvec::ArrayVec;

use crate::net::ServiceIndex;
use crate::relay::mapping::{BURST, ClientSide, Mapping, TargetSide};
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

/// Lanes of one kind: their services, their inputs, and after mapping their outputs.
#[derive(Debug)]
struct Kind<I, T> {
    services: ArrayVec<ServiceIndex, BURST>,
    inputs: ArrayVec<I, BURST>,
    outputs: ArrayVec<T, BURST>,
}

impl<I, T> Default for Kind<I, T> {
    fn default() -> Self {
        Kind { services: ArrayVec::new(), inputs: ArrayVec::new(), outputs: ArrayVec::new() }
    }
}

impl<I: Copy, T: Copy> Kind<I, T> {
    fn clear(&mut self) {
        self.services.clear();
        self.inputs.clear();
        self.outputs.clear();
    }

    /// Takes a lane. There are as many lanes as frames in a burst.
    #[inline(always)]
    fn take(&mut self, service: ServiceIndex, input: I, not_mapped: T) -> Lane {
        let lane = Lane(self.inputs.len() as u8);
        let _ = self.services.try_push(service);
        let _ = self.inputs.try_push(input);
        let _ = self.outputs.try_push(not_mapped);
        lane
    }

    /// Calls `map` once for each service, with the inputs of its lanes and the places of their
    /// outputs.
    #[inline]
    fn map(&mut self, not_mapped: T, mut map: impl FnMut(ServiceIndex, &[I], &mut [T])) {
        let Some(first) = self.services.first() else { return };
        if self.services.iter().all(|service| service == first) {
            return map(*first, &self.inputs, &mut self.outputs);
        }
        let (inputs, outputs) = (&self.inputs, &mut self.outputs);
        for_each_service(&self.services, |service, lanes| {
            let of_service: ArrayVec<I, BURST> =
                lanes.iter().filter_map(|lane| inputs.get(usize::from(*lane)).copied()).collect();
            let mut mapped: ArrayVec<T, BURST> = lanes.iter().map(|_| not_mapped).collect();
            map(service, &of_service, &mut mapped);
            for (lane, output) in lanes.iter().zip(mapped) {
                if let Some(place) = outputs.get_mut(usize::from(*lane)) {
                    *place = output;
                }
            }
        });
    }
}

/// The segments of a burst that are to be mapped, and then what came out.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    outward: Kind<ClientSide, Result<Mapping, DropReason>>,
    inward: Kind<TargetSide, Result<Mapping, DropReason>>,
    tunnels: ArrayVec<ServiceIndex, BURST>,
    datagrams: ArrayVec<DataUp, BURST>,
    opened: ArrayVec<OpenedTokens, BURST>,
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
    pub fn outward(&mut self, service: ServiceIndex, client: ClientSide) -> Lane {
        self.outward.take(service, client, NOT_MAPPED)
    }

    /// Takes a lane for a target's segment.
    #[inline(always)]
    pub fn inward(&mut self, service: ServiceIndex, answer: TargetSide) -> Lane {
        self.inward.take(service, answer, NOT_MAPPED)
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
        self.outward.map(NOT_MAPPED, |service, clients, out| {
            if let Some(relay) = snapshot.relay(service) {
                relay.mode.outward_burst(clients, out);
            }
        });
        self.inward.map(NOT_MAPPED, |service, answers, out| {
            if let Some(relay) = snapshot.relay(service) {
                relay.mode.inward_burst(answers, out);
            }
        });
        for_each_service(&self.tunnels, |tunnel, lanes| {
            let Some(tunnel) = snapshot.tunnel(tunnel) else { return };
            forward::open_all(&tunnel.service, now, &self.datagrams, lanes, &mut self.opened);
        });
    }

    /// What the client's segment in `lane` maps to.
    #[inline(always)]
    pub fn outward_at(&self, lane: Lane) -> Option<&Result<Mapping, DropReason>> {
        self.outward.outputs.get(lane.index())
    }

    /// What the target's segment in `lane` maps to.
    #[inline(always)]
    pub fn inward_at(&self, lane: Lane) -> Option<&Result<Mapping, DropReason>> {
        self.inward.outputs.get(lane.index())
    }

    /// The datagram in `lane`, and its tokens opened.
    #[inline]
    pub fn datagram_at(&self, lane: Lane) -> Option<(&DataUp, &OpenedTokens)> {
        Some((self.datagrams.get(lane.index())?, self.opened.get(lane.index())?))
    }
}

const NOT_MAPPED: Result<Mapping, DropReason> = Err(DropReason::CycleLimit);

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

fn lanes_mask(count: usize) -> u64 {
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
                let mut kind = Kind::<u16, Option<(ServiceIndex, u16)>>::default();
                for lane in 0..count {
                    kind.take(ServiceIndex(lane * 5 % services), lane, None);
                }
                let mut calls = Vec::new();
                kind.map(None, |service, inputs, outputs| {
                    assert!(!calls.contains(&service), "one call for each service");
                    calls.push(service);
                    assert_eq!(inputs.len(), outputs.len());
                    for (input, output) in inputs.iter().zip(outputs) {
                        assert!(output.replace((service, *input)).is_none());
                    }
                });
                for (lane, output) in (0..count).zip(&kind.outputs) {
                    assert_eq!(*output, Some((ServiceIndex(lane * 5 % services), lane)));
                }
            }
        }
    }
}
