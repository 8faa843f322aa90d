//! The cryptography of all segments of a burst, computed together.
//!
//! A segment of a pool service, and a datagram of a tunnel, takes a lane when it is classified.
//! [`Lanes::map`] then goes over the services that occur and computes all lanes of one in a single
//! call, so that the cipher's pipeline is filled. Results are the same in any company: `tests/engine/equivalence.rs` shows it.

use arrayvec::ArrayVec;

use super::BURST;
use crate::net::{Endpoint, ServiceIndex};
use crate::relay::permutation::{Client, CycleLimit, DecodeError, Mapped};
use crate::snapshot::{Egress, Service, Snapshot};
use crate::time::UnixTime;
use crate::tunnel::forward::{self, DataUp, OpenedTokens};

/// A lane's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane(u8);

/// What a client's segment becomes.
#[derive(Clone, Copy, Debug)]
pub struct Up {
    /// What stands for the client.
    pub mapped: Result<Mapped, CycleLimit>,
    /// The target, as an index into the service's.
    pub target: u16,
}

impl Up {
    /// Before anything is mapped.
    pub const NONE: Up = Up { mapped: Err(CycleLimit), target: 0 };
}

/// The segments of a burst that are to be mapped, and then what came out.
#[derive(Debug, Default)]
pub struct Lanes {
    clients: ArrayVec<(ServiceIndex, Client), BURST>,
    ups: ArrayVec<Up, BURST>,
    mapped: ArrayVec<(ServiceIndex, Mapped), BURST>,
    downs: ArrayVec<Result<Client, DecodeError>, BURST>,
    tunnels: ArrayVec<(ServiceIndex, ()), BURST>,
    datagrams: ArrayVec<DataUp, BURST>,
    opened: ArrayVec<OpenedTokens, BURST>,
}

impl Lanes {
    /// Frees all lanes.
    pub fn clear(&mut self) {
        self.clients.clear();
        self.ups.clear();
        self.mapped.clear();
        self.downs.clear();
        self.tunnels.clear();
        self.datagrams.clear();
        self.opened.clear();
    }

    /// Takes a lane for a client's segment. There are as many lanes as frames in a burst.
    #[inline]
    pub fn up(&mut self, service: ServiceIndex, client: Client) -> Lane {
        let lane = Lane(self.clients.len() as u8);
        let _ = self.clients.try_push((service, client));
        let _ = self.ups.try_push(Up::NONE);
        lane
    }

    /// Takes a lane for a target's segment.
    #[inline]
    pub fn down(&mut self, service: ServiceIndex, mapped: Mapped) -> Lane {
        let lane = Lane(self.mapped.len() as u8);
        let _ = self.mapped.try_push((service, mapped));
        let _ = self.downs.try_push(Err(DecodeError::CycleLimit));
        lane
    }

    /// Takes a lane for a datagram of a tunnel.
    #[inline]
    pub fn datagram(&mut self, tunnel: ServiceIndex, datagram: DataUp) -> Lane {
        let lane = Lane(self.datagrams.len() as u8);
        let _ = self.tunnels.try_push((tunnel, ()));
        let _ = self.datagrams.try_push(datagram);
        let _ = self.opened.try_push(OpenedTokens::NOT);
        lane
    }

    /// Computes what all lanes map to at `now`.
    pub fn map(&mut self, snapshot: &Snapshot, now: UnixTime) {
        for_each_service(&self.tunnels, |tunnel, lanes, _| {
            let Some(tunnel) = snapshot.tunnel(tunnel) else { return };
            forward::open_all(&tunnel.service, now, &self.datagrams, lanes, &mut self.opened);
        });
        for_each_service(&self.clients, |service, lanes, clients| {
            let Some(service) = snapshot.service(service) else { return };
            let mut ups = [Up::NONE; BURST];
            map_up(service, clients, &mut ups);
            for (lane, up) in lanes.iter().zip(ups) {
                if let Some(place) = self.ups.get_mut(usize::from(*lane)) {
                    *place = up;
                }
            }
        });
        for_each_service(&self.mapped, |service, lanes, mapped| {
            let Some(Egress::Pool { permutation, .. }) =
                snapshot.service(service).map(|service| &service.egress)
            else {
                return;
            };
            let mut downs = [Err(DecodeError::CycleLimit); BURST];
            permutation.inverse(mapped, &mut downs);
            for (lane, down) in lanes.iter().zip(downs) {
                if let Some(place) = self.downs.get_mut(usize::from(*lane)) {
                    *place = down;
                }
            }
        });
    }

    /// What the client's segment in `lane` becomes, and the client.
    #[inline]
    pub fn up_at(&self, lane: Lane) -> Option<(Client, Up)> {
        let at = usize::from(lane.0);
        Some((self.clients.get(at)?.1, *self.ups.get(at)?))
    }

    /// The client that the target's segment in `lane` is for, and what stood for it.
    #[inline]
    pub fn down_at(&self, lane: Lane) -> Option<(Mapped, Result<Client, DecodeError>)> {
        let at = usize::from(lane.0);
        Some((self.mapped.get(at)?.1, *self.downs.get(at)?))
    }

    /// The datagram in `lane`, and its tokens opened.
    #[inline]
    pub fn datagram_at(&self, lane: Lane) -> Option<(&DataUp, &OpenedTokens)> {
        let at = usize::from(lane.0);
        Some((self.datagrams.get(at)?, self.opened.get(at)?))
    }
}

/// Maps clients of one service, at most [`BURST`], each with its target.
pub fn map_up(service: &Service, clients: &[Client], ups: &mut [Up]) {
    let Egress::Pool { permutation, .. } = &service.egress else { return };
    let mut mapped = [Err(CycleLimit); BURST];
    permutation.forward(clients, &mut mapped);
    for (up, mapped) in ups.iter_mut().zip(mapped) {
        up.mapped = mapped;
    }
    if service.targets().len() < 2 {
        return;
    }
    let mut targets = [0; BURST];
    let endpoints: ArrayVec<_, BURST> = clients
        .iter()
        .take(BURST)
        .map(|client| Endpoint { ip: client.ip, port: client.port })
        .collect();
    service.rendezvous.choose(&endpoints, &mut targets);
    for (up, target) in ups.iter_mut().zip(targets) {
        up.target = target;
    }
}

/// Calls `map` once for each service in `lanes`, with the numbers of its lanes and what is in them.
fn for_each_service<T: Copy>(
    lanes: &[(ServiceIndex, T)],
    mut map: impl FnMut(ServiceIndex, &[u8], &[T]),
) {
    let mut pending: u64 = lanes_mask(lanes.len());
    // Each turn takes out at least the lane that it began with.
    while let Some((service, _)) = lanes.get(pending.trailing_zeros() as usize) {
        let mut numbers = ArrayVec::<u8, BURST>::new();
        let mut contents = ArrayVec::<T, BURST>::new();
        for (number, (other, content)) in (0u8..).zip(lanes) {
            if other == service {
                numbers.push(number);
                contents.push(*content);
                pending &= !(1 << number);
            }
        }
        map(*service, &numbers, &contents);
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
                let lanes: Vec<_> =
                    (0..count).map(|lane| (ServiceIndex(lane * 5 % services), lane)).collect();
                let mut mapped = vec![false; usize::from(count)];
                let mut calls = Vec::new();
                for_each_service(&lanes, |service, numbers, contents| {
                    assert!(!calls.contains(&service), "one call for each service");
                    calls.push(service);
                    assert_eq!(numbers.len(), contents.len());
                    for (number, content) in numbers.iter().zip(contents) {
                        let lane = usize::from(*number);
                        assert_eq!(lanes[lane], (service, *content));
                        assert!(!std::mem::replace(&mut mapped[lane], true));
                    }
                });
                assert!(mapped.into_iter().all(|mapped| mapped), "{count} of {services}");
            }
        }
    }
}
