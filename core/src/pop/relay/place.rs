//! Where the memo keeps what is known of clients' connections.

use super::super::egress::Egress;
use crate::net::{Endpoint, IpEndpoint};
use crate::relay::Relay;
use crate::relay::memo::Place;
use crate::seq::SeqNum;

/// The place of an egress endpoint of `relay`.
pub(super) fn place(relay: &Relay, egress: IpEndpoint) -> Place {
    Place { service: relay.slot.0, egress }
}

/// The client as it is remembered of a SYN.
pub(super) fn syn_client(client: &IpEndpoint) -> Endpoint {
    client.of_family().unwrap_or_default()
}

/// Whether a segment to `client` that acknowledges `ack` is of a connection before the client's
/// last SYN: of a socket in TIME_WAIT, for example.
pub(super) fn is_of_before<O>(
    egress: &Egress<'_, O>,
    place: Place,
    client: &IpEndpoint,
    ack: SeqNum,
) -> bool {
    let (now, memo) = (egress.arrival.now, &egress.arrival.soft.memo);
    memo.last_syn(now, place, syn_client(client)).is_some_and(|end| ack.before(end))
}
