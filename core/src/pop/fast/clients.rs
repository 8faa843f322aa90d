//! Whether the segments of targets go to clients, and which way.

use cpu_vector::{Job, Vector, all, bits};

use super::super::arrival::Arrival;
use super::columns::Words;
use super::{Fast, for_each_lane};
use crate::net::{Endpoint, Towards};

impl Fast {
    /// A target's segment goes to what can be a client alone.
    #[inline]
    pub(super) fn check_clients(&mut self, arrival: &Arrival<'_>) {
        let lanes = self.lanes.taken & self.lanes.down & !self.lanes.bad;
        if lanes == 0 {
            return;
        }
        let links = &arrival.soft.links;
        // Nearly all clients are behind the same gateway.
        let common = links.common_route(Towards::Clients);
        let mut others = if common.is_some() { 0 } else { lanes };
        for (network, mask) in links.on_link(Towards::Clients) {
            let (clients, network, mask) = (&self.columns.client, network.into(), mask.into());
            others |= self.isa.run(OfClients { clients, network, mask });
        }
        for_each_lane(lanes, |lane| {
            let ip = self.columns.client[lane] as u32;
            let port = self.columns.numbers.0[lane] as u16;
            let is_client = arrival.snapshot.is_client(&Endpoint { ip, port }.into());
            self.lanes.bad |= u64::from(!is_client) << lane;
            self.columns.route[lane] = match common {
                Some(common) if others >> lane & 1 == 0 => common,
                _ => links.route_key(Towards::Clients, ip),
            };
        });
    }
}

/// Finds the segments whose clients' addresses have the bits of `network` under `mask`.
struct OfClients<'a> {
    clients: &'a Words,
    network: u64,
    mask: u64,
}

impl Job for OfClients<'_> {
    /// A bit for each.
    type Output = u64;

    #[inline(always)]
    fn run<V: Vector>(self, _: V) -> u64 {
        let OfClients { clients, network, mask } = self;
        bits(&clients.map(|client| all(client & mask == network)))
    }
}
