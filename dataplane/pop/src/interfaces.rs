//! The kernel's interfaces below ports: `net_af_packet` and `net_af_xdp` report a link that is up,
//! whatever becomes of the interface, so the kernel is asked (rtnetlink(7), `RTM_GETLINK`).
//!
//! The question is about the interface's index, not its name: a port stays with the interface that
//! it was opened on, and hears nothing of another one that gets the name later.

use std::fmt;
use std::io;

use anyrelay_netlink::{self as netlink, Request};

/// The interface that a port's device string is about, if a driver on top of the kernel has it.
pub fn of_device(device: &str) -> Option<&str> {
    let (name, arguments) = device.split_once(',')?;
    if !DRIVERS.iter().any(|driver| name.starts_with(driver)) {
        return None;
    }
    arguments.split(',').find_map(|argument| argument.strip_prefix("iface="))
}

/// An interface that a port was opened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name at that time.
    pub name: String,
    index: i32,
}

/// What is wrong with an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was deleted, or moved to another network namespace.
    Gone,
    /// It is set down.
    Down,
    /// It has no carrier.
    NoCarrier,
    /// It takes no datagrams of the port's size.
    Mtu {
        /// Its MTU.
        has: u32,
        /// The port's.
        wants: u16,
    },
}

/// A fault of the interface of this name, with its remedy.
#[derive(Debug)]
pub struct Described<'a>(pub &'a str, pub &'a Fault);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Described(name, fault) = self;
        match fault {
            Fault::Gone => write!(
                f,
                "the interface {name} is gone, and another one of this name is not the same: \
                 make it again, and restart the POP"
            ),
            Fault::Down => {
                write!(f, "the interface {name} is down: set it up (ip link set {name} up)")
            }
            Fault::NoCarrier => write!(
                f,
                "the interface {name} has no carrier: check the cable, the switch, or its peer"
            ),
            Fault::Mtu { has, wants } => write!(
                f,
                "the interface {name} has an MTU of {has}, but port.mtu is {wants}: raise it (ip \
                 link set {name} mtu {wants}), or lower port.mtu and restart the POP"
            ),
        }
    }
}

impl Interface {
    /// The interface that has this name now.
    ///
    /// # Errors
    /// When there is none, or the kernel does not say.
    pub fn of_name(name: &str) -> io::Result<Interface> {
        let value = [name.as_bytes(), &[0]].concat();
        let link = ask(request(0).attribute(IFLA_IFNAME, &value))?;
        Ok(Interface { name: name.to_owned(), index: link.index })
    }

    /// What is wrong with it for a port with this MTU, if anything is.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn fault(&self, wants: u16) -> io::Result<Option<Fault>> {
        match ask(request(self.index)) {
            Ok(link) => Ok(link.fault(wants)),
            Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(Some(Fault::Gone)),
            Err(error) => Err(error),
        }
    }
}

/// The MTU of the interface `index`, in bytes.
///
/// # Errors
/// When there is none, or the kernel does not say.
pub fn mtu(index: i32) -> io::Result<u32> {
    ask(request(index))?.mtu.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    index: i32,
    flags: u32,
    mtu: Option<u32>,
}

impl Link {
    /// Reads the body of an answer to `RTM_GETLINK`.
    fn parse(body: &[u8]) -> Option<Link> {
        let number = |at: usize| body.get(at..)?.first_chunk().copied();
        let (index, flags) = (i32::from_ne_bytes(number(4)?), u32::from_ne_bytes(number(8)?));
        Some(Link { index, flags, mtu: netlink::number(body.get(HEADER..)?, IFLA_MTU) })
    }

    fn fault(&self, wants: u16) -> Option<Fault> {
        if self.flags & IFF_UP == 0 {
            return Some(Fault::Down);
        }
        if self.flags & IFF_LOWER_UP == 0 {
            return Some(Fault::NoCarrier);
        }
        let has = self.mtu?;
        (has < wants.into()).then_some(Fault::Mtu { has, wants })
    }
}

/// A question about the link `index`, without its statistics.
fn request(index: i32) -> Request {
    // struct ifinfomsg: family, padding, type, index, flags, change.
    let [a, b, c, d] = index.to_ne_bytes();
    let header = [0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0];
    Request::new(RTM_GETLINK, &header).attribute(IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes())
}

/// Asks the kernel.
fn ask(request: Request) -> io::Result<Link> {
    let answer = request.ask(None, RTM_NEWLINK)?;
    Link::parse(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Drivers on top of an interface of the kernel, which they name by `iface`.
const DRIVERS: [&str; 3] = ["net_af_packet", "net_af_xdp", "net_pcap"];

// linux/rtnetlink.h, linux/if_link.h, linux/if.h, asm-generic/errno-base.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_EXT_MASK: u16 = 29;
const SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;
const ENODEV: i32 = 19;
const HEADER: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_on_top_of_the_kernel_have_an_interface() {
        let has = [
            ("net_af_packet0,iface=eth1,qdisc_bypass=1", Some("eth1")),
            ("net_af_xdp1,busy_budget=0,iface=eth2", Some("eth2")),
            ("net_pcap0,iface=lan,phy_mac=1", Some("lan")),
            ("net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap", None),
            ("net_tap0,iface=tap7", None),
            ("net_null0", None),
            ("0000:01:00.0,iface=eth1", None),
        ];
        for (device, interface) in has {
            assert_eq!(of_device(device), interface, "{device}");
        }
    }

    #[test]
    fn the_kernel_tells_of_its_own_loopback() {
        let loopback = Interface::of_name("lo").unwrap();
        assert_eq!(loopback.index, 1);
        let fault = loopback.fault(1500).unwrap();
        assert!(fault.is_none() || fault == Some(Fault::Down), "{fault:?}");
        let error = Interface::of_name("no-such-if").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(ENODEV));
        let gone = Interface { name: "old0".to_owned(), index: i32::MAX };
        assert_eq!(gone.fault(1500).unwrap(), Some(Fault::Gone));
    }

    #[test]
    fn faults_by_flags_and_mtu() {
        let link = |flags, mtu| Link { index: 7, flags, mtu: Some(mtu) };
        let up = IFF_UP | IFF_LOWER_UP;
        assert_eq!(link(up, 1500).fault(1500), None);
        assert_eq!(link(IFF_UP, 1500).fault(1500), Some(Fault::NoCarrier));
        assert_eq!(link(IFF_LOWER_UP, 1500).fault(1500), Some(Fault::Down));
        let mtu = Some(Fault::Mtu { has: 1499, wants: 1500 });
        assert_eq!(link(up, 1499).fault(1500), mtu);
    }

    #[test]
    fn answers_that_are_cut_off_tell_nothing() {
        let mut answer = vec![0; HEADER];
        answer[4] = 7;
        answer.extend(netlink::attribute(IFLA_MTU, &1400_u32.to_ne_bytes()));
        let link = Link::parse(&answer).unwrap();
        assert_eq!((link.index, link.mtu), (7, Some(1400)));
        for len in 0..answer.len() {
            let cut = Link::parse(&answer[..len]);
            assert_eq!(cut.and_then(|link| link.mtu), None, "{len}");
            assert_eq!(cut.is_some(), len >= HEADER, "{len}");
        }
    }
}
