//! Maps an ICMP error to the endpoint that it concerns (RFC 792, RFC 1191, RFC 4443, RFC 5508).
//!
//! The [`Quote`] inside an error is a segment of a relay, on its way to a target or to a client.
//! The functions that rewrote the segment give its first form back, so that the endpoint sees its
//! own segment quoted; sequence numbers pass as they are, for the endpoint to check. Errors that
//! stay IPv4 are rewritten by `in_place`, those over IPv6 whose quote has timestamps that change by
//! `in_place6`, all others by `families`.

mod families;
mod headers;
mod in_place;
mod in_place6;
mod kinds;
mod quote;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::frame::Frame;
use crate::net::IpEndpoint;
use crate::relay::rewrite::{IpRewrite, Timestamps};
use crate::verdict::DropReason;
use crate::wire::Datagram;

pub use families::{Translated, apply_4to6, apply_6to4, apply_6to6};
pub use kinds::{mtu_for_ipv4, mtu_for_ipv6, raised_mtu};
pub use quote::{Quote, Quote4, Quote6, Seen};

/// What an ICMP error becomes.
#[derive(Clone, Copy, Debug)]
pub struct ErrorRewrite {
    /// What the quoted segment becomes: as the endpoint sent it, with its TTL as quoted.
    pub quote: IpRewrite,
    /// The MTU to announce, in bytes, where the error announces one.
    pub mtu: Option<u32>,
}

impl ErrorRewrite {
    /// The endpoint that sent the quoted segment, which the error is for.
    pub fn addressee(&self) -> IpEndpoint {
        match &self.quote {
            IpRewrite::V4(quote) => quote.endpoints.src.into(),
            IpRewrite::V6(quote) => quote.endpoints.src.into(),
        }
    }

    /// Rewrites the ICMP error in `frame`, TTL or hop limit less one. Gives back where its IP
    /// header is afterwards.
    ///
    /// The error's source becomes the peer that the addressee knows, as a NAT has it (RFC 5508,
    /// section 4): the reporting router may have an address that filters on the way drop, and
    /// neither side learns of the other's.
    ///
    /// `ip` is the header at `l3`; `frame` must end where its datagram ends.
    ///
    /// # Errors
    /// When the other family has no such error ([`DropReason::IcmpType`]), the quote is too short
    /// ([`DropReason::IcmpQuote`]), or the frame buffer has no room ([`DropReason::NoRoom`]).
    pub fn apply<F: Frame>(
        &self,
        frame: &mut F,
        l3: usize,
        ip: &Datagram,
        quote: &Quote,
    ) -> Result<usize, DropReason> {
        match (ip, quote, &self.quote) {
            (Datagram::V4(ip), Quote::V4(quote), IpRewrite::V4(to)) => {
                in_place::apply(frame, l3, ip, quote, to, self.mtu)
            }
            (Datagram::V4(ip), Quote::V4(quote), IpRewrite::V6(to)) => {
                let to = Translated { quote: to.endpoints, mtu: self.mtu };
                apply_4to6(frame, l3, ip, quote, &to)
            }
            (Datagram::V6(ip), Quote::V6(quote), IpRewrite::V4(to)) => {
                let to = Translated { quote: to.endpoints, mtu: self.mtu };
                apply_6to4(frame, l3, (&ip.header, ip.upper.at), quote, &to)
            }
            (Datagram::V6(ip), Quote::V6(quote), IpRewrite::V6(to))
                if to.timestamps != Timestamps::Keep =>
            {
                let error = (&ip.header, ip.upper.at);
                in_place6::apply(frame, l3, error, quote, to, self.mtu)
            }
            (Datagram::V6(ip), Quote::V6(quote), IpRewrite::V6(to)) => {
                let to = Translated { quote: to.endpoints, mtu: self.mtu };
                apply_6to6(frame, l3, (&ip.header, ip.upper.at), quote, &to);
                Ok(l3)
            }
            // The quote is of the family of the error around it.
            (Datagram::V4(_), Quote::V6(_), _) | (Datagram::V6(_), Quote::V4(_), _) => {
                Err(DropReason::IcmpQuote)
            }
        }
    }

    /// The address that the error goes to.
    pub fn destination(&self) -> IpAddr {
        self.addressee().ip()
    }
}
