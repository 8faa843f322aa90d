//! The kernel's interfaces below ports: `net_af_packet` and `net_af_xdp` report a link that is up,
//! whatever becomes of the interface, so the kernel is asked (rtnetlink(7), `RTM_GETLINK`).
//!
//! The question is about the interface's index, not its name: a port stays with the interface that
//! it was opened on, and hears nothing of another one that gets the name later.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

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
        let mut request = request(0);
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        request.extend(((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes());
        request.extend(IFLA_IFNAME.to_ne_bytes());
        request.extend(value);
        request.resize(request.len().next_multiple_of(4), 0);
        let link = Link::parse(&ask(request)?).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Interface { name: name.to_owned(), index: link.index })
    }

    /// What is wrong with it for a port with this MTU, if anything is.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn fault(&self, wants: u16) -> io::Result<Option<Fault>> {
        match ask(request(self.index)) {
            Ok(answer) => {
                let link = Link::parse(&answer).ok_or(io::ErrorKind::InvalidData)?;
                Ok(link.fault(wants))
            }
            Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(Some(Fault::Gone)),
            Err(error) => Err(error),
        }
    }
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    index: i32,
    flags: u32,
    mtu: Option<u32>,
}

impl Link {
    /// Reads an answer to `RTM_GETLINK`.
    fn parse(answer: &[u8]) -> Option<Link> {
        let number = |at: usize| answer.get(at..)?.first_chunk().copied();
        let index = i32::from_ne_bytes(number(MESSAGE_HEADER + 4)?);
        let flags = u32::from_ne_bytes(number(MESSAGE_HEADER + 8)?);
        let mut rest = answer.get(MESSAGE_HEADER + LINK_HEADER..)?;
        let mut mtu = None;
        // Each turn takes at least the header of an attribute.
        while let Some(&[a, b, c, d]) = rest.first_chunk() {
            let len = usize::from(u16::from_ne_bytes([a, b]));
            let Some(value) = rest.get(ATTRIBUTE_HEADER..len) else { break };
            if u16::from_ne_bytes([c, d]) == IFLA_MTU {
                mtu = value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(Link { index, flags, mtu })
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

/// A message header and the header of a link: a question about the link `index`.
fn request(index: i32) -> Vec<u8> {
    // struct nlmsghdr: length, type, flags, sequence, port.
    let mut message = vec![0; 4];
    message.extend(RTM_GETLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg: family, type, index, flags, mask of changes.
    message.extend([0; 4]);
    message.extend(index.to_ne_bytes());
    message.extend([0; 8]);
    // Without statistics.
    message.extend(8_u16.to_ne_bytes());
    message.extend(IFLA_EXT_MASK.to_ne_bytes());
    message.extend(SKIP_STATS.to_ne_bytes());
    message
}

/// Sends a request; its answer.
fn ask(mut request: Vec<u8>) -> io::Result<Vec<u8>> {
    let len = request.len() as u32;
    if let Some(place) = request.first_chunk_mut() {
        *place = len.to_ne_bytes();
    }
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    // The kernel answers at once; the control loop must not wait if it ever does not.
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
    send(&socket, &request, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER_MAX];
    let (len, _) = recv(&socket, &mut *answer, RecvFlags::empty())?;
    answer.truncate(len);
    checked(answer)
}

/// An answer about a link, or the error that the kernel answered with.
fn checked(answer: Vec<u8>) -> io::Result<Vec<u8>> {
    let kind = answer.get(4..).and_then(|rest| rest.first_chunk().copied());
    match kind.map(u16::from_ne_bytes) {
        Some(RTM_NEWLINK) => Ok(answer),
        Some(NLMSG_ERROR) => {
            let errno = answer.get(MESSAGE_HEADER..).and_then(|rest| rest.first_chunk().copied());
            let errno = errno.map(i32::from_ne_bytes).ok_or(io::ErrorKind::InvalidData)?;
            Err(io::Error::from_raw_os_error(errno.saturating_neg()))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Drivers on top of an interface of the kernel, which they name by `iface`.
const DRIVERS: [&str; 3] = ["net_af_packet", "net_af_xdp", "net_pcap"];

// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if.h, asm-generic/errno-base.h
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_EXT_MASK: u16 = 29;
const SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;
const ENODEV: i32 = 19;
const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// A link without statistics takes some 2 KiB.
const ANSWER_MAX: usize = 32 << 10;
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

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
    fn answers_that_are_cut_off_or_of_another_kind_tell_nothing() {
        let mut answer = request(7);
        answer[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        answer.extend(8_u16.to_ne_bytes());
        answer.extend(IFLA_MTU.to_ne_bytes());
        answer.extend(1400_u32.to_ne_bytes());
        let link = Link::parse(&answer).unwrap();
        assert_eq!((link.index, link.mtu), (7, Some(1400)));
        for len in 0..answer.len() {
            let cut = Link::parse(&answer[..len]);
            assert_eq!(cut.and_then(|link| link.mtu), None, "{len}");
            assert_eq!(cut.is_some(), len >= MESSAGE_HEADER + LINK_HEADER, "{len}");
        }
        assert!(checked(answer.clone()).is_ok());
        answer[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
        assert!(checked(answer).is_err());
        assert!(checked(Vec::new()).is_err());
    }
}
