//! The namespaces at a guest's NICs.
//!
//! | where | interface | addresses |
//! |---|---|---|
//! | client | `wan`, the gateway of the POP's port | 192.0.2.1/24, 2001:db8:1::1/64 |
//! | client | `lo`, the clients | 198.18.0.0/24, 2001:db8:c::7 |
//! | guest | NIC 1, NIC 2: the POP's | 192.0.2.2, 198.51.100.2, 2001:db8:1::2, 2001:db8:2::2 |
//! | target | `lan`, the gateway of the POP's port | 198.51.100.1/24, 2001:db8:2::1/64 |
//! | target | `lo`, the target | 198.51.100.10, 2001:db8:5::10 |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_lab::{Namespace, Result, command};

/// The POP's ports, in order: towards clients, towards targets.
pub(crate) const PORTS: [&str; 2] = ["wan", "lan"];

/// Where the relayed services lead.
pub const TARGETS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10)), 8443),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 0x10)), 8443),
];

/// The namespaces of one guest; gone when dropped.
#[derive(Debug)]
pub struct Network {
    /// The clients, and the router towards them.
    pub client: Namespace,
    /// The target, and the router towards it.
    pub target: Namespace,
    /// Where QEMU runs, and makes its taps.
    pub machine: Namespace,
}

impl Network {
    /// Makes the namespaces, without interfaces.
    ///
    /// # Errors
    /// With the words of `ip`.
    pub fn create(id: &str) -> Result<Network> {
        let space = |role: &str| Namespace::create(&format!("{id}-{role}"));
        let (client, target) = (space("client")?, space("target")?);
        let network = Network { client, target, machine: space("machine")? };
        for space in network.ends() {
            for scope in ["all", "default", "lo"] {
                space.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "0")?;
                space.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0")?;
            }
        }
        Ok(network)
    }

    /// Moves the taps that QEMU made to both ends, with addresses and routes.
    ///
    /// # Errors
    /// With the words of `ip`.
    pub fn connect(&self) -> Result<()> {
        for (space, port) in self.ends().into_iter().zip(PORTS) {
            self.machine.ip(&[format!("link set {port} netns {}", space.name())])?;
        }
        self.client.ip(CLIENT)?;
        self.target.ip(TARGET)
    }

    /// Sets the MTU of both taps.
    ///
    /// # Errors
    /// With the words of `ip`.
    pub fn set_mtu(&self, mtu: u16) -> Result<()> {
        for (space, port) in self.ends().into_iter().zip(PORTS) {
            space.ip(&[format!("link set {port} mtu {mtu}")])?;
        }
        Ok(())
    }

    /// Makes both routers forget all neighbours.
    ///
    /// # Errors
    /// With the words of `ip`.
    pub fn flush_neighbours(&self) -> Result<()> {
        for (space, port) in self.ends().into_iter().zip(PORTS) {
            space.ip(&[format!("neigh flush dev {port}")])?;
        }
        Ok(())
    }

    /// Sends echo requests to an address from the clients' side: how many of `count` are answered.
    /// They are of `bytes` bytes at the IP layer, and are not cut in fragments.
    ///
    /// # Errors
    /// If `ping` cannot be started or prints something else.
    pub fn ping(&self, to: IpAddr, bytes: u16, count: u32) -> Result<u32> {
        let headers = if to.is_ipv4() { 28 } else { 48 };
        let size = bytes.saturating_sub(headers).to_string();
        let mut shell = self.client.command("sh");
        let line = format!("ping -n -M do -s {size} -c {count} -i 0.2 -W 1 {to} || true");
        let text = command::run(shell.args(["-c", &line]))?;
        let mut words = text.split_whitespace().zip(text.split_whitespace().skip(1));
        let number = words.find(|(_, word)| word.starts_with("received"));
        let number = number.and_then(|(number, _)| number.parse().ok());
        number.ok_or_else(|| anyrelay_lab::LabError::Unexpected(format!("ping printed: {text}")))
    }

    fn ends(&self) -> [&Namespace; 2] {
        [&self.client, &self.target]
    }
}

const CLIENT: &[&str] = &[
    "addr add 192.0.2.1/24 dev wan",
    "addr add 2001:db8:1::1/64 dev wan nodad",
    "link set wan up",
    "addr add 198.18.0.0/24 dev lo",
    "addr add 2001:db8:c::7/128 dev lo nodad",
    "route add 203.0.113.10/32 via 192.0.2.2 src 198.18.0.7",
    "route add 2001:db8:f::10/128 via 2001:db8:1::2 src 2001:db8:c::7",
];
const TARGET: &[&str] = &[
    "addr add 198.51.100.1/24 dev lan",
    "addr add 2001:db8:2::1/64 dev lan nodad",
    "link set lan up",
    "addr add 198.51.100.10/32 dev lo",
    "addr add 2001:db8:5::10/128 dev lo nodad",
    "route add 100.64.8.0/24 via 198.51.100.2",
    "route add 2001:db8:c::/64 via 2001:db8:2::2",
];
