//! Whether the route to the VIP leads into an interface whose packets the agent itself carries: the
//! tunnel would then carry itself, and nothing would ever arrive.
//!
//! That can be told of the agent's own TUN device, and of WireGuard interfaces: there it depends on
//! the endpoint of the peer that takes packets to the VIP. Of other tunnels it cannot be told.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::link::{self, Link};
use super::steering::Steering;
use super::uplink::UplinkConfig;
use super::wireguard::{Hop, WireGuard};
use super::{UplinkError, route};

/// What an agent carries for its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// What programs send to this address.
    Listen(SocketAddr),
    /// Datagrams to and from this server.
    Target(SocketAddr),
    /// Packets of this TUN device, the agent's own.
    Device(String),
}

/// The route leads into a WireGuard interface whose packets the agent carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    vip: SocketAddr,
    device: String,
    endpoint: SocketAddr,
    fwmark: Option<NonZeroU32>,
    steering: Steering,
}

impl Loop {
    /// Whether it may end by itself.
    pub fn is_temporary(&self) -> bool {
        self.steering.is_set()
    }
}

/// Watches the route to the VIP.
#[derive(Debug)]
pub struct RouteWatch {
    /// The uplink.
    pub config: UplinkConfig,
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    index: u32,
    at: Instant,
    device: String,
    finding: Finding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    Apart,
    Loops(Loop),
    /// It cannot be told, for this reason.
    Unknown(String),
}

impl RouteWatch {
    /// A watch that has not looked yet.
    pub fn new(config: UplinkConfig) -> Self {
        RouteWatch { config, seen: None }
    }

    /// Checks that segments from `local` do not come back to the agent.
    ///
    /// # Errors
    /// When they would.
    pub fn check(&mut self, local: IpAddr) -> Result<(), UplinkError> {
        let UplinkConfig { vip, steering, carried } = &self.config;
        // A kernel that does not answer counts as a pass: the address shows that a route exists.
        let Ok(index) = route::device_towards(Some(local), vip.ip(), steering) else {
            return Ok(());
        };
        if let Carried::Device(device) = carried
            && link::index_of(device).is_ok_and(|own| own == index)
        {
            let device = device.clone();
            self.seen = None;
            return Err(UplinkError::OwnDevice { vip: *vip, device });
        }
        let finding = match self.seen.take().filter(|seen| seen.is_fresh(index)) {
            Some(seen) => &self.seen.insert(seen).finding,
            None => {
                let Ok(link) = Link::by_index(index) else { return Ok(()) };
                let finding = self.config.judge(&link);
                let seen = Seen { index, at: Instant::now(), device: link.name, finding };
                &self.seen.insert(seen).finding
            }
        };
        match finding {
            Finding::Loops(found) => Err(UplinkError::Loop(Box::new(found.clone()))),
            Finding::Apart | Finding::Unknown(_) => Ok(()),
        }
    }

    /// The interface that segments leave by, as last seen.
    pub fn device(&self) -> Option<&str> {
        self.seen.as_ref().map(|seen| seen.device.as_str())
    }

    /// A warning, if it cannot be told whether the agent carries that interface's packets.
    pub fn doubt(&self) -> Option<String> {
        match &self.seen.as_ref()?.finding {
            Finding::Unknown(reason) => Some(reason.clone()),
            Finding::Apart | Finding::Loops(_) => None,
        }
    }
}

impl Seen {
    fn is_fresh(&self, index: u32) -> bool {
        let keep = match self.finding {
            Finding::Loops(_) => KEPT_LOOP,
            Finding::Apart | Finding::Unknown(_) => KEPT,
        };
        self.index == index && self.at.elapsed() < keep
    }
}

impl UplinkConfig {
    fn judge(&self, link: &Link) -> Finding {
        if !link.is_tunnel() {
            return Finding::Apart;
        }
        let unknown = |reason: &str| match self.steering.is_set() {
            // The operator has chosen the way.
            true => Finding::Apart,
            false => Finding::Unknown(self.doubt(&link.name, reason)),
        };
        let wireguard = match WireGuard::query(&link.name) {
            Ok(wireguard) => wireguard,
            Err(reason) => return unknown(&reason),
        };
        match wireguard.hop(self.vip.ip()) {
            Hop::Endpoint(endpoint) if self.carries(endpoint, &wireguard) => Finding::Loops(Loop {
                vip: self.vip,
                device: link.name.clone(),
                endpoint,
                fwmark: wireguard.fwmark,
                steering: self.steering.clone(),
            }),
            Hop::Unset => unknown("its peer has no endpoint yet"),
            Hop::Endpoint(_) | Hop::Elsewhere => Finding::Apart,
        }
    }

    /// Whether the agent carries what this WireGuard interface sends to `endpoint`.
    fn carries(&self, endpoint: SocketAddr, wireguard: &WireGuard) -> bool {
        match &self.carried {
            Carried::Listen(listen) => {
                let any = listen.ip().is_unspecified() && anyrelay_netlink::is_own(endpoint.ip());
                endpoint.port() == listen.port() && (any || endpoint.ip() == listen.ip())
            }
            // Its channels have sockets of this host, which the server takes for its clients.
            Carried::Target(target) => {
                wireguard.listen_port == Some(target.port())
                    && anyrelay_netlink::is_own(target.ip())
                    && anyrelay_netlink::is_own(endpoint.ip())
            }
            Carried::Device(device) => {
                let steering = Steering { mark: wireguard.fwmark, interface: None };
                let used = route::device_towards(None, endpoint.ip(), &steering);
                matches!((used, link::index_of(device)), (Ok(used), Ok(own)) if used == own)
            }
        }
    }

    fn doubt(&self, device: &str, reason: &str) -> String {
        format!(
            "the route to the VIP {} leads into {device}, the interface of another tunnel, and it \
             cannot be told whether this agent carries that tunnel ({reason}). If it does, nothing \
             will arrive: start the agent with --mark or --interface (agent.mark, \
             agent.interface)",
            self.vip
        )
    }
}

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loop { vip, device, endpoint, fwmark, steering } = self;
        write!(
            f,
            "the route to the VIP {vip} leads into {device}, a WireGuard interface whose packets \
             this agent carries (its peer's endpoint is {endpoint}): the tunnel would carry \
             itself. "
        )?;
        let own_mark = fwmark.map_or(MARK, NonZeroU32::get);
        match (steering.mark, &steering.interface) {
            (_, Some(interface)) if interface == device => {
                write!(f, "--interface {interface} is that interface: name the one of the uplink")
            }
            (Some(mark), _) => write!(
                f,
                "Packets with the mark {mark} take this route too: use the FwMark of {device} \
                 ({}), or add a rule by which they do not, such as `ip rule add fwmark {mark} \
                 lookup TABLE` with the uplink's default route in that table",
                fwmark.map_or("it has none".to_owned(), |mark| mark.to_string())
            ),
            (None, _) => write!(
                f,
                "Write `FwMark = {own_mark}` into [Interface] of the wg-quick config of {device}, \
                 and start the agent with --mark {own_mark} (agent.mark); or start it with \
                 --interface and the uplink's name (agent.interface); or write `Table = off` \
                 there, and make routes to {device} that spare {vip}"
            ),
        }
    }
}

/// The mark that wg-quick takes by itself.
const MARK: u32 = 51_820;
/// How long a finding about one interface holds; to ask takes four runs of `wg`.
const KEPT: Duration = Duration::from_secs(30);
/// After the operator has mended it, the agent goes on this much later at most.
const KEPT_LOOP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn config(carried: Carried) -> UplinkConfig {
        let vip = "203.0.113.20:443".parse().unwrap();
        UplinkConfig { vip, steering: Steering::default(), carried }
    }

    #[test]
    fn what_is_carried_depends_on_the_endpoint() {
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let mut server = WireGuard::default();
        server.listen_port = Some(7);
        let client = WireGuard::default();
        let (listen, any) = (address("127.0.0.1:7"), address("0.0.0.0:7"));
        for (carried, wireguard, endpoint, carries) in [
            (Carried::Listen(listen), &client, "127.0.0.1:7", true),
            (Carried::Listen(listen), &client, "127.0.0.1:9", false),
            (Carried::Listen(listen), &client, "198.51.100.7:7", false),
            (Carried::Listen(any), &client, "127.0.0.1:7", true),
            (Carried::Listen(any), &client, "198.51.100.7:7", false),
            (Carried::Target(listen), &server, "127.0.0.1:40000", true),
            (Carried::Target(listen), &client, "127.0.0.1:40000", false),
            (Carried::Target(listen), &server, "198.51.100.7:7", false),
            (Carried::Target(address("198.51.100.7:7")), &server, "127.0.0.1:40000", false),
            (Carried::Device("lo".to_owned()), &client, "127.0.0.1:7", true),
            (Carried::Device("no-such".to_owned()), &client, "127.0.0.1:7", false),
        ] {
            let found = config(carried.clone()).carries(address(endpoint), wireguard);
            assert_eq!(found, carries, "{carried:?} {endpoint}");
        }
    }

    #[test]
    fn the_remedy_fits_what_is_set_already() {
        let vip = "203.0.113.20:443".parse().unwrap();
        let endpoint = "127.0.0.1:51820".parse().unwrap();
        let (seven, none) = (NonZeroU32::new(7), Steering::default());
        let marked = Steering { mark: seven, interface: None };
        let bound = Steering { mark: None, interface: Some("wg0".to_owned()) };
        for (fwmark, steering, wanted) in [
            (None, &none, "`FwMark = 51820`"),
            (seven, &none, "--mark 7 (agent.mark)"),
            (NonZeroU32::new(9), &marked, "use the FwMark of wg0 (9)"),
            (seven, &bound, "--interface wg0 is that interface"),
        ] {
            let steering = steering.clone();
            let found = Loop { vip, device: "wg0".to_owned(), endpoint, fwmark, steering };
            let text = found.to_string();
            assert!(text.contains(wanted), "{text}");
            assert!(text.contains("its peer's endpoint is 127.0.0.1:51820"), "{text}");
        }
    }
}
