//! The open side: a TUN device with the agent's open address, by which this host reaches hosts
//! that know nothing of the tunnel, and is reached by them (docs/protocol-tunnel.md, section 17).
//!
//! It is beside the local side, and independent of it. The agent's own segments go to a VIP of
//! IPv4, and all routes to this device are of IPv6, so that the tunnel never carries itself.

pub mod device;

use std::io;
use std::net::Ipv6Addr;

use anyrelay_core::time::Instant;
use anyrelay_core::tunnel::agent::{Agent, OpenAddresses, OpenSendError, packet_too_big};
use anyrelay_core::wire::ip;
use anyrelay_core::wire::ipv6::MTU_MIN;
use linux_tun::TunError;
use rustix::io::Errno;
use serde_json::{Value, json};

use self::device::{OpenDevice, Setting};
use crate::engine::log_limit::LogLimiter;
use crate::inner::routes::IpPrefix;
use crate::outer::SEGMENT_LEN_MAX;
use crate::poller::Poller;
use crate::publish::{PublishTarget, Publisher};

/// `[open]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenConfig {
    /// The device's name.
    pub device: String,
    /// Prefixes of IPv6 that are routed to the device.
    pub routes: Vec<IpPrefix>,
    /// Targets for the open address.
    pub publish: Vec<PublishTarget>,
}

/// Why the open side does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The device cannot be created.
    #[error("the open device: {0}")]
    Device(#[from] TunError),
    /// No thread to publish by.
    #[error("no thread: {0}")]
    Thread(io::Error),
}

/// The open side of an agent.
#[derive(Debug)]
pub struct OpenSide {
    device: OpenDevice,
    publisher: Publisher,
    /// What the last token came with.
    addresses: OpenAddresses,
    wanted: Wanted,
    published: Option<Ipv6Addr>,
    retry_at: Instant,
    log: LogLimiter,
    packet: Box<[u8]>,
    losses: Losses,
    /// The device was removed, so every read fails at once.
    is_removed: bool,
}

/// What the device should be, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Up(Setting),
    /// Down, as no POP has given an address yet.
    NotYet,
    /// Down, as the POPs' tunnel has no open side.
    Closed,
    /// Down, as the path carries datagrams of this many bytes only.
    Narrow(usize),
}

/// What was lost between the device and the tunnel; the tunnel's own counters have the rest.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    /// Larger than the path: their senders were told.
    too_big: u64,
    /// Of the packets larger than the path, those whose senders may not be told.
    too_big_untold: u64,
    /// The tunnel was not up.
    tunnel_not_up: u64,
    /// Marked by a router, but the sender does not know of marks (RFC 6040).
    marked: u64,
    /// The device did not take them.
    device: u64,
}

impl OpenSide {
    /// Creates the device, which is down until a POP gives an address.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(config: OpenConfig) -> Result<Self, OpenError> {
        let OpenConfig { device, routes, publish } = config;
        Ok(OpenSide {
            device: OpenDevice::open(&device, routes)?,
            publisher: Publisher::start("open address", publish).map_err(OpenError::Thread)?,
            addresses: OpenAddresses::default(),
            wanted: Wanted::NotYet,
            published: None,
            retry_at: Instant::default(),
            log: LogLimiter::default(),
            packet: vec![0; SEGMENT_LEN_MAX].into_boxed_slice(),
            losses: Losses::default(),
            is_removed: false,
        })
    }

    /// Registers the device with the poller.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn start(&self, poller: &Poller, key: u64) -> io::Result<()> {
        poller.add(&self.device.tun, key)
    }

    /// Sends a bounded number of packets of this host by `send`.
    pub fn readable(&mut self, mut send: impl FnMut(&[u8]) -> Result<(), OpenSendError>) {
        for _ in 0..BATCH {
            let len = match self.device.tun.read(&mut self.packet) {
                Ok(Some(len)) => len,
                Ok(None) => return,
                Err(error) => {
                    self.is_removed |= error.raw_os_error() == Some(Errno::BADFD.raw_os_error());
                    return;
                }
            };
            let packet = self.packet.get(..len).unwrap_or_default();
            match send(packet) {
                Err(OpenSendError::TooBig { max }) => self.tell_too_big(len, max),
                Err(OpenSendError::NotReady) => self.losses.tunnel_not_up += 1,
                // The tunnel counts the others.
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Tells the sender of the packet in the buffer how large it may be. The device's MTU does that
    /// too; this is for what was under way when it fell.
    fn tell_too_big(&mut self, len: usize, max: usize) {
        let mut message = [0; MTU_MIN];
        let mtu = u16::try_from(max.max(MTU_MIN)).unwrap_or(u16::MAX);
        let packet = self.packet.get(..len).unwrap_or_default();
        let written = packet_too_big(packet, mtu, &mut message);
        match written.and_then(|len| message.get(..len)) {
            Some(message) => {
                self.losses.too_big += 1;
                self.losses.device += u64::from(self.device.tun.write(message).is_err());
            }
            None => self.losses.too_big_untold += 1,
        }
    }

    /// Gives this host a packet that came in a segment of this class (DSCP and ECN).
    pub fn received(&mut self, packet: &[u8], class: u8) {
        let own = ip::class(packet);
        let written = match ip::decapsulated_class(class, own) {
            None => {
                self.losses.marked += 1;
                return;
            }
            Some(class) if class == own => self.device.tun.write(packet),
            Some(class) => {
                let Some(copy) = self.packet.get_mut(..packet.len()) else { return };
                copy.copy_from_slice(packet);
                ip::set_class(copy, class);
                self.device.tun.write(copy)
            }
        };
        self.losses.device += u64::from(written.is_err());
    }

    /// Makes the device what it should be by what the agent knows now. `packet_max` is the largest
    /// packet of the path, in bytes.
    pub fn follow(&mut self, now: Instant, agent: &Agent, packet_max: usize) {
        // Without a token for a moment, as after another address of the NAT: the next one tells.
        let is_known = agent.token().is_some();
        if is_known {
            self.addresses = agent.open_addresses();
        }
        let wanted = match self.addresses.current {
            None if is_known => Wanted::Closed,
            None => Wanted::NotYet,
            Some(_) if packet_max < MTU_MIN => Wanted::Narrow(packet_max + AROUND),
            Some(_) => {
                let mtu = u16::try_from(packet_max).unwrap_or(u16::MAX);
                Wanted::Up(Setting { addresses: self.addresses, mtu })
            }
        };
        let is_new = wanted != self.wanted;
        if !is_new && (self.device.is(wanted.setting()) || now < self.retry_at) {
            return;
        }
        let before = std::mem::replace(&mut self.wanted, wanted);
        match self.device.set(self.wanted.setting()) {
            Ok(()) => {
                self.log.reset();
                if is_new {
                    self.log_change(before);
                }
                self.publish();
            }
            Err(error) => {
                self.retry_at = now.plus_millis(RETRY_MS);
                let device = self.device.tun.name();
                if let Some(text) = self.log.admit(now, format!("{device}: {error}")) {
                    tracing::error!("{text}; trying again");
                }
            }
        }
    }

    fn log_change(&self, before: Wanted) {
        let device = self.device.tun.name();
        if let Some(reason) = self.wanted.reason() {
            match self.wanted {
                Wanted::NotYet => tracing::info!("{device} is down: {reason}"),
                _ => tracing::warn!("{device} is down: {reason}"),
            }
            return;
        }
        let Wanted::Up(Setting { addresses, mtu }) = self.wanted else { return };
        let Some(address) = addresses.current else { return };
        match (before, self.published) {
            (Wanted::Up(old), _) if old.addresses == addresses => {
                tracing::info!("{device}: MTU {} -> {mtu}", old.mtu);
            }
            (_, Some(old)) if old != address => {
                let end = match addresses.deprecated == Some(old) {
                    true => "works until its token epoch ends, for what was begun with it",
                    false => "works no more",
                };
                tracing::info!("{device}: the open address has changed to {address}; {old} {end}");
            }
            (Wanted::Up(_), Some(_)) => {
                tracing::info!("{device}: the epoch of the open address before {address} ended");
            }
            _ => tracing::info!("{device} is up, open address {address}, MTU {mtu}"),
        }
    }

    /// Publishes the address once it works.
    fn publish(&mut self) {
        let current = self.device.setting().and_then(|setting| setting.addresses.current);
        if let Some(address) = current.filter(|_| current != self.published) {
            self.published = current;
            self.publisher.publish(&address.to_string());
        }
    }

    /// The error that forces the agent to stop.
    pub fn failure(&self) -> Option<io::Error> {
        let name = self.device.tun.name();
        let text = || format!("the open device {name} was removed; start the agent again");
        self.is_removed.then(|| io::Error::new(io::ErrorKind::NotFound, text()))
    }

    /// The object that `status` shows.
    pub fn status(&self) -> Value {
        let setting = self.device.setting();
        let Losses { too_big, too_big_untold, tunnel_not_up, marked, device } = self.losses;
        let text = |address: Option<Ipv6Addr>| address.map(|address| address.to_string());
        json!({
            "device": self.device.tun.name(),
            "state": if setting.is_some() { "up" } else { "down" },
            "reason": self.wanted.reason(),
            "mtu": setting.map(|setting| setting.mtu),
            "address": text(self.addresses.current),
            "deprecated": text(self.addresses.deprecated),
            "lost": {
                "too_big": too_big,
                "too_big_untold": too_big_untold,
                "tunnel_not_up": tunnel_not_up,
                "marked": marked,
                "device": device,
            },
        })
    }
}

impl Wanted {
    fn setting(&self) -> Option<&Setting> {
        match self {
            Wanted::Up(setting) => Some(setting),
            Wanted::NotYet | Wanted::Closed | Wanted::Narrow(_) => None,
        }
    }

    /// Why it is down, and what to do.
    fn reason(&self) -> Option<String> {
        Some(match self {
            Wanted::Up(_) => return None,
            Wanted::NotYet => "no POP has given an open address yet".to_owned(),
            Wanted::Closed => {
                "the POPs' tunnel has no open side: ask their operator for `open` in \
                               its [[tunnel]], or remove [open] here"
                    .to_owned()
            }
            Wanted::Narrow(mtu) => format!(
                "datagrams to the VIP can be {mtu} bytes long, and an open address needs \
                 {LEAST_MTU} (the {MTU_MIN} of IPv6, and {AROUND} around them): raise the MTU of \
                 this host's path to the VIP; it is tried again when what ICMP said of it expires, \
                 after ten minutes"
            ),
        })
    }
}

/// Packets that are read in one turn of the event loop.
const BATCH: usize = 64;
/// The bytes of IP, TCP and the open header around a packet.
const AROUND: usize = 44;
const LEAST_MTU: usize = MTU_MIN + AROUND;
const RETRY_MS: u64 = 5000;
