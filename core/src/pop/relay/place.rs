//! Where the memo keeps what is known of clients' connections.

use super::super::egress::Egress;
use crate::net::IpEndpoint;
use crate::relay::Relay;
use crate::relay::memo::Place;
use crate::seq::SeqNum;

/// The place of an egress endpoint of `relay`.
pub(super) fn place(relay: &Relay, egress: IpEndpoint) -> Place {
    Place { service: relay.slot.0, egress }
}

/// Whether a segment to the client with `tag` that acknowledges `ack` is of a connection before the
/// client's last SYN: of a socket in TIME_WAIT, for example.
pub(super) fn is_of_before<O>(egress: &Egress<'_, O>, place: Place, tag: u32, ack: SeqNum) -> bool {
    let (now, memo) = (egress.arrival.now, &egress.arrival.soft.memo);
    memo.last_syn(now, place, tag).is_some_and(|end| ack.before(end))
}
