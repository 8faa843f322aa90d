//! Relay mode: a stock client, a VIP, a stock target, and no state in between.
//!
//! A [`Relay`] is one service. Its [`Mode`] says how the POP appears to targets: it maps a client
//! to what stands for the client at the target, and back. Its [`Targets`] say which target a client
//! belongs to. Both are pure functions of the config and the keys, so that every POP gives the same
//! [`Mapping`]. The packet path, the path of ICMP errors and the command `map` use these two and
//! nothing else.
//!
//! [`rewrite`] turns a segment into what the other side gets, [`icmp`] does the same for ICMP
//! errors about such segments, [`memo`] remembers for whom the RSTs of targets are that no mapping
//! can attribute, and [`hints`] tells other POPs of them.

pub mod encapsulated;
pub mod hints;
pub mod icmp;
pub mod keys;
pub mod mapping;
pub mod memo;
pub mod pool;
pub mod pool6;
pub mod prefix;
pub mod rewrite;
pub mod targets;
pub(crate) mod transparent;

use std::net::SocketAddr;

use crate::config::{ClientAddress, Protocols};
use crate::net::{IpEndpoint, IpNet, ServiceSlot};
use crate::time::UnixTime;
use crate::verdict::DropReason;

use mapping::{EgressMode, EgressSide, Mapping};
use rewrite::DatagramIds;
use targets::Targets;

/// A relay service, ready for use.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Its name.
    pub name: String,
    /// The place of its counters.
    pub slot: ServiceSlot,
    /// The address and port that clients connect to.
    pub vip: IpEndpoint,
    /// The prefix of the addresses that the POP appears as to its targets; `None` where these are
    /// the clients' own.
    pub egress: Option<IpNet>,
    /// How the POP appears to its targets.
    pub mode: Mode,
    /// Its targets, and which client belongs to which.
    pub targets: Targets,
    /// The largest MSS that a SYN may announce, in bytes.
    pub mss: u16,
    /// The smallest MTU that an ICMP error over IPv4 may announce, in bytes.
    pub mtu_floor: u16,
    /// How its targets learn of a client's address, if they do; in pool mode alone.
    pub client_address: Option<ClientAddress>,
    /// What it relays.
    pub protocols: Protocols,
    /// The IDs of its IPv4 datagrams, and of its fragments; `None` where neither side is of IPv4
    /// and it has no UDP.
    pub ids: Option<DatagramIds>,
}

impl Relay {
    /// The address and port that clients connect to.
    pub fn vip(&self) -> SocketAddr {
        self.vip.into()
    }

    /// Maps one client to what stands for it.
    ///
    /// # Errors
    /// When the client cannot be mapped: [`DropReason::UnservedPort`].
    pub fn egress_of(&self, client: IpEndpoint) -> Result<EgressSide, DropReason> {
        let mut out = [Err(DropReason::UnservedPort)];
        self.mode.outward_burst(&[client], &mut out);
        let [egress] = out;
        egress
    }

    /// Maps one client, whose new connections at `now` go to the target of the mapping.
    ///
    /// # Errors
    /// When the client cannot be mapped; [`DropReason::NoTarget`], where no target takes new
    /// connections.
    pub fn outward(&self, client: IpEndpoint, now: UnixTime) -> Result<Mapping, DropReason> {
        let egress = self.egress_of(client)?;
        let new = self.targets.choose(&client, now).new;
        let target = new.and_then(|index| self.targets.at(index)).ok_or(DropReason::NoTarget)?;
        Ok(Mapping::new(client, egress, *target))
    }

    /// Maps what stands for a client at `target` back to the client. Whether the client's address
    /// can be one, and `target` is its target, is not checked here.
    ///
    /// # Errors
    /// When it stands for no client: [`DropReason::BadTag`].
    pub fn inward(&self, egress: EgressSide, target: IpEndpoint) -> Result<Mapping, DropReason> {
        let mut out = [Err(DropReason::BadTag)];
        self.mode.inward_burst(&[egress], &mut out);
        let [client] = out;
        Ok(Mapping::new(client?, egress, target))
    }
}

/// How the POP appears to targets: one variant and one file for each egress mode.
#[derive(Clone, Debug)]
pub enum Mode {
    /// As the addresses of an IPv4 pool, with a tag in the timestamps.
    Pool(pool::PoolMode),
    /// As the addresses of an IPv6 pool, with a tag in the timestamps.
    Pool6(pool6::Pool6Mode),
    /// As an IPv6 address for each IPv4 client: stateless NAT46 (RFC 7915).
    Prefix(prefix::PrefixMode),
    /// As the client itself, of either family.
    Transparent(transparent::TransparentMode),
    /// As the client itself, to the VIP, inside another datagram.
    Encapsulated(encapsulated::EncapsulatedMode),
}

impl Mode {
    #[inline]
    fn mode(&self) -> &dyn EgressMode {
        match self {
            Mode::Pool(mode) => mode,
            Mode::Pool6(mode) => mode,
            Mode::Prefix(mode) => mode,
            Mode::Transparent(mode) => mode,
            Mode::Encapsulated(mode) => mode,
        }
    }

    /// The name of the mode, as `map` and `replay --explain` print it.
    pub fn name(&self) -> &'static str {
        self.mode().name()
    }

    /// Whether segments of the mode carry a tag in their timestamps.
    #[inline]
    pub fn is_tagged(&self) -> bool {
        matches!(self, Mode::Pool(_) | Mode::Pool6(_))
    }

    /// Whether something stands for a client towards targets: else it is itself there.
    #[inline]
    pub fn has_stand_ins(&self) -> bool {
        !matches!(self, Mode::Transparent(_) | Mode::Encapsulated(_))
    }

    /// The tunnel to its targets, if there is one.
    #[inline]
    pub fn tunnel(&self) -> Option<&encapsulated::EncapsulatedMode> {
        match self {
            Mode::Encapsulated(mode) => Some(mode),
            _ => None,
        }
    }

    /// Maps each of `clients` into the same place of `out`, up to [`mapping::BURST`].
    #[inline]
    pub fn outward_burst(
        &self,
        clients: &[IpEndpoint],
        out: &mut [Result<EgressSide, DropReason>],
    ) {
        self.mode().outward(clients, out);
    }

    /// Finds the client of each of `egress` into the same place of `out`, up to
    /// [`mapping::BURST`]. Whether its address can be a client's is not checked here.
    #[inline]
    pub fn inward_burst(&self, egress: &[EgressSide], out: &mut [Result<IpEndpoint, DropReason>]) {
        self.mode().inward(egress, out);
    }
}
