//! Egress modes `ipip` and `gue`: a client's datagram goes to the target whole, with the VIP as its
//! destination, inside another.
//!
//! ```text
//!   +----------------------+------------+---------------+-----+
//!   | from --> target      | UDP, GUE   | client --> VIP| TCP |     gue alone has the second part
//!   +----------------------+------------+---------------+-----+
//! ```
//!
//! The target takes off the outer headers, and has the VIP as an address of its own. Its answers
//! are from the VIP to the client: by its own route (`direct`), or inside a datagram back to `from`
//! (`through`). Nothing stands for the client, so there is nothing to map.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::mapping::{EgressMode, EgressSide};
use crate::config::{Encapsulate, Encapsulation};
use crate::crypto::Cmac;
use crate::frame::{self, Frame};
use crate::keys::endpoint_fields;
use crate::net::{Family, IpEndpoint};
use crate::verdict::DropReason;
use crate::wire::{gue, ip, ipv4, ipv6};

/// A datagram inside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// How it is inside.
    pub protocol: Encapsulate,
    /// Its family.
    pub family: Family,
    /// Bytes of headers in front of it, behind the outer IP header.
    pub at: usize,
}

impl Carried {
    /// Looks for a datagram in `payload`, which follows an IP header that names it `protocol`.
    /// `None` where there is none of a tunnel of ours.
    pub fn find(protocol: u8, payload: &[u8]) -> Option<Carried> {
        let (inner, protocol, at) = match protocol {
            ipv4::PROTOCOL_UDP => (gue::parse(payload)?, Encapsulate::Gue, gue::HEADERS_LEN),
            inner => (inner, Encapsulate::IpIp, 0),
        };
        let family = match inner {
            ipv4::PROTOCOL_IPV4 => Family::V4,
            ipv6::PROTOCOL_IPV6 => Family::V6,
            _ => return None,
        };
        Some(Carried { protocol, family, at })
    }
}

/// A service whose datagrams are encapsulated.
#[derive(Clone, Debug)]
pub struct EncapsulatedMode {
    encapsulation: Encapsulation,
    /// Spreads flows over UDP source ports.
    flows: Arc<Cmac>,
}

impl EncapsulatedMode {
    /// The mode of a service; `flows` is of the key that all services share.
    pub fn new(flows: Arc<Cmac>, encapsulation: Encapsulation) -> Self {
        EncapsulatedMode { encapsulation, flows }
    }

    /// How it is encapsulated.
    #[inline]
    pub fn encapsulation(&self) -> &Encapsulation {
        &self.encapsulation
    }

    /// Whether no POP sees what targets answer: then a client's segment goes to one target alone,
    /// as the RST of another would reach the client.
    #[inline]
    pub fn answers_pass_by(&self) -> bool {
        !self.encapsulation.is_through()
    }

    /// Puts the outer headers in front of the datagram at `l3` of `frame`, which ends with it and
    /// is a client's or an ICMP error about a segment to the client. Gives back where they begin.
    ///
    /// DSCP and ECN are those of the datagram (RFC 2983, uniform; RFC 6040, section 4.1). `id` is
    /// that of a datagram that may be fragmented; without one, DF is set.
    ///
    /// # Errors
    /// [`DropReason::TooBig`] where its length field cannot hold the length, [`DropReason::NoRoom`]
    /// where the frame has no room in front.
    pub fn put<F: Frame>(
        &self,
        frame: &mut F,
        l3: usize,
        client: &IpEndpoint,
        target: IpAddr,
        id: Option<u16>,
    ) -> Result<usize, DropReason> {
        let inner = frame.bytes().get(l3..).unwrap_or_default();
        let class = ip::class(inner);
        let carried = ip::protocol_inside(ip::family(inner));
        let (mut at, mut protocol) = (l3, carried);
        let ends = (self.encapsulation.from, target);
        if self.encapsulation.protocol == Encapsulate::Gue {
            at = frame::put_before(frame, l3, &[0; gue::HEADERS_LEN]).ok_or(DropReason::NoRoom)?;
            let udp = frame.bytes_mut().get_mut(at..).unwrap_or_default();
            gue::write(self.flow_port(client), carried, ends, udp);
            protocol = ipv4::PROTOCOL_UDP;
        }
        let payload_len = frame.bytes().len().saturating_sub(at);
        let fits = |len: usize| u16::try_from(len).map_err(|_| DropReason::TooBig);
        match ends {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = ipv4::Header {
                    tos: class,
                    total_len: fits(ipv4::HEADER_LEN + payload_len)?,
                    id: id.unwrap_or(0),
                    fragment: if id.is_some() { 0 } else { ipv4::DONT_FRAGMENT },
                    ttl: ipv4::ORIGINATED_TTL,
                    protocol,
                    src: src.to_bits(),
                    dst: dst.to_bits(),
                };
                let mut bytes = [0; ipv4::HEADER_LEN];
                header.write(&mut bytes);
                frame::put_before(frame, at, &bytes).ok_or(DropReason::NoRoom)
            }
            (src, dst) => {
                let header = ip::Header {
                    class,
                    hops: ipv4::ORIGINATED_TTL,
                    protocol,
                    payload_len: fits(payload_len)?,
                    src,
                    dst,
                };
                let mut bytes = [0; ipv6::HEADER_LEN];
                header.write(&mut bytes);
                frame::put_before(frame, at, &bytes).ok_or(DropReason::NoRoom)
            }
        }
    }

    /// The UDP source port of a client's datagrams, one of the dynamic ones (RFC 6335): all of a
    /// connection have the same, so that they take one way.
    fn flow_port(&self, client: &IpEndpoint) -> u16 {
        let [a, b, ..] = self.flows.mac(&endpoint_fields(SocketAddr::from(*client)));
        DYNAMIC_PORTS | u16::from_be_bytes([a, b])
    }
}

impl EgressMode for EncapsulatedMode {
    fn name(&self) -> &'static str {
        self.encapsulation.protocol.name()
    }

    fn outward(&self, clients: &[IpEndpoint], out: &mut [Result<EgressSide, DropReason>]) {
        super::transparent::TransparentMode.outward(clients, out);
    }

    fn inward(&self, egress: &[EgressSide], out: &mut [Result<IpEndpoint, DropReason>]) {
        super::transparent::TransparentMode.inward(egress, out);
    }
}

const DYNAMIC_PORTS: u16 = 0xc000;
