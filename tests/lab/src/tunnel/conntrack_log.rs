//! What conntrack logs about invalid packets in one namespace, read by netlink (nfnetlink_log.h).
//!
//! The kernel's ring buffer would show the lines of all namespaces of the machine, without saying
//! whose they are, and only after a setting of the whole machine (`nf_log_all_netns`). The netlink
//! log is the namespace's own.

use std::os::fd::{AsRawFd, OwnedFd};

use anyrelay_kit::frames::Segment;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use crate::{LabError, Namespace, Result};

/// How many lines are kept; later ones are only counted.
pub const KEPT_MAX: usize = 200;

/// A reader of the log, from when it was opened.
#[derive(Debug)]
pub struct ConntrackLog {
    socket: OwnedFd,
    lines: u64,
    /// Losses of the log itself: then `lines` is too low.
    overrun: bool,
    kept: Vec<String>,
}

impl ConntrackLog {
    /// Makes conntrack log invalid TCP segments of a namespace, and opens the log.
    ///
    /// # Errors
    /// If the kernel has no netlink log.
    pub fn open(namespace: &Namespace) -> Result<Self> {
        let what = || LabError::io(format!("open the conntrack log of {}", namespace.name()));
        let socket = namespace.run(open)?.map_err(what())?;
        // The families of nf_log: 2 is IPv4, 10 is IPv6.
        for family in [2, 10] {
            let logger = format!("net.netfilter.nf_log.{family}");
            namespace.sysctl(&logger, "nfnetlink_log")?;
        }
        namespace.sysctl("net.netfilter.nf_conntrack_log_invalid", "6")?;
        Ok(Self { socket, lines: 0, overrun: false, kept: Vec::new() })
    }

    /// How many lines there have been so far.
    ///
    /// # Errors
    /// If the log has lost some, so that nobody knows.
    pub fn lines(&mut self) -> Result<u64> {
        self.read();
        match self.overrun {
            false => Ok(self.lines),
            true => Err(LabError::Unexpected("the conntrack log was read too late".into())),
        }
    }

    /// The first lines, at most [`KEPT_MAX`]: the reason, then the packet.
    pub fn text(&mut self) -> String {
        self.read();
        self.kept.join("\n")
    }

    fn read(&mut self) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match recv(&self.socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((size, _)) => self.take(&buffer[..size]),
                Err(rustix::io::Errno::NOBUFS) => self.overrun = true,
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, mut messages: &[u8]) {
        while let Some(length) = messages.get(..4).map(|b| native_u32(b) as usize) {
            let Some(message) = messages.get(..length.max(16)) else { return };
            if message[4..6] == PACKET.to_ne_bytes() {
                self.lines += 1;
                if self.kept.len() < KEPT_MAX {
                    self.kept.push(describe(message.get(20..).unwrap_or_default()));
                }
            }
            messages = messages.get(length.next_multiple_of(4).max(16)..).unwrap_or_default();
        }
    }
}

fn open() -> std::io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkNetFilter;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    sockopt::set_socket_recv_buffer_size_force(&fd, 16 << 20)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    // Group 0 is the one that conntrack logs to. Whole packets of up to 128 bytes, one a message.
    let mode = [0, 0, 0, 128, COPY_PACKET, 0];
    for (kind, value) in [(1_u16, &[BIND][..]), (2, &mode), (5, &[0, 0, 0, 1])] {
        send(&fd, &config(kind, value), SendFlags::empty())?;
        let mut answer = [0; 64];
        let (size, _) = recv(&fd, answer.as_mut_slice(), RecvFlags::empty())?;
        // An acknowledgment is an error of 0.
        if size < 20 || native_u32(&answer[16..20]) != 0 {
            return Err(std::io::Error::other("the kernel refuses to log by netlink"));
        }
    }
    Ok(fd)
}

/// A request to the log with one attribute: netlink header, netfilter header, attribute.
fn config(kind: u16, value: &[u8]) -> Vec<u8> {
    let attribute_len = 4 + value.len();
    let length = 20 + attribute_len.next_multiple_of(4);
    let mut message = (length as u32).to_ne_bytes().to_vec();
    message.extend(CONFIG.to_ne_bytes());
    message.extend(REQUEST_WITH_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]); // any family, version 0, group 0
    message.extend((attribute_len as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(length, 0);
    message
}

/// The prefix and the packet of a message's attributes.
fn describe(mut attributes: &[u8]) -> String {
    let (mut prefix, mut packet) = (String::new(), String::new());
    while let Some(length) = attributes.get(..2).map(|b| u16::from_ne_bytes([b[0], b[1]])) {
        let length = usize::from(length).max(4);
        let Some(attribute) = attributes.get(..length) else { break };
        match u16::from_ne_bytes([attribute[2], attribute[3]]) {
            PREFIX => prefix = String::from_utf8_lossy(&attribute[4..]).replace('\0', ""),
            PAYLOAD => packet = describe_packet(&attribute[4..]),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    format!("{prefix}{packet}")
}

fn describe_packet(ip: &[u8]) -> String {
    match Segment::read(ip) {
        Some(Segment { src, dst, seq, ack, flags, .. }) => {
            format!("{src}->{dst} seq {seq} ack {ack} flags {flags:#04x}")
        }
        None => format!("{ip:02x?}"),
    }
}

fn native_u32(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

const PACKET: u16 = 4 << 8;
const CONFIG: u16 = 4 << 8 | 1;
const REQUEST_WITH_ACK: u16 = 1 | 4;
const BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const PREFIX: u16 = 10;
const PAYLOAD: u16 = 9;
