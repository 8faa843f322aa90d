//! POPs with wrong timestamps: a layer between a POP and its ports changes what pool mode says to
//! targets, and back. What it changes of open packets is in `open.rs`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use anyrelay_kit::frames::{SYN, TCP, put_word, word};

use super::open;
use crate::Sabotage;
use crate::setup::{POOLED, Port};
use crate::wire::{self, Datagram, ETHERNET_LEN};

/// How POPs are wrong.
#[derive(Clone, Debug)]
pub struct Mutant {
    sabotage: Sabotage,
    /// Egress endpoints of bare segments, as targets see them, of all POPs.
    moved: Rc<RefCell<BTreeSet<SocketAddr>>>,
}

impl Mutant {
    /// `None` where it is not the POP that is wrong.
    pub fn new(sabotage: Sabotage) -> Option<Self> {
        use Sabotage::{
            BareIsElsewhere, BareIsOlder, FreeHop, InvertedBit, OtherAck, OtherClient, StripsAll,
        };
        let ours =
            [BareIsElsewhere, BareIsOlder, FreeHop, InvertedBit, OtherAck, OtherClient, StripsAll];
        ours.contains(&sabotage).then(|| Mutant { sabotage, moved: Rc::default() })
    }

    /// A frame comes to the POP.
    pub fn enter(&self, port: Port, frame: &mut [u8]) {
        let Some(segment) = Place::of(frame).filter(|_| port == Port::Lan) else { return };
        if !is_pool(segment.dst.ip()) {
            return;
        }
        match (self.sabotage, segment.stamps_at) {
            (Sabotage::InvertedBit, Some(at)) => segment.flip(frame, at + 7, 1),
            (Sabotage::BareIsElsewhere, _) if self.moved.borrow().contains(&segment.dst) => {
                segment.flip(frame, segment.tcp_at + 3, 1);
            }
            _ => {}
        }
    }

    /// A frame leaves the POP.
    pub fn leave(&self, port: Port, frame: &mut [u8]) {
        if port == Port::Wan {
            open::leave(self.sabotage, frame);
        }
        let Some(segment) = Place::of(frame) else { return };
        let is_syn = segment.flags & SYN != 0;
        if port == Port::Wan {
            let is_one = !is_syn && POOLED.contains(&segment.src);
            let strips = self.sabotage == Sabotage::StripsAll && is_one;
            if let Some(at) = segment.stamps_at.filter(|_| strips) {
                (at - 2..at + 8).for_each(|at| segment.flip(frame, at, frame[at] ^ 1));
            }
            return;
        }
        if !is_pool(segment.src.ip()) {
            return;
        }
        let moved = SocketAddr::new(segment.src.ip(), segment.src.port() ^ 1);
        let Some(at) = segment.stamps_at else {
            // The POP's own RST to a target without timestamps.
            if self.moved.borrow().contains(&moved) {
                segment.flip(frame, segment.tcp_at + 1, 1);
            }
            return;
        };
        let low = frame[at + 3] & 1;
        let bare = if is_syn { low == 0 } else { frame[at + 4..at + 8] == [0; 4] };
        match self.sabotage {
            Sabotage::InvertedBit => segment.flip(frame, at + 3, 1),
            Sabotage::OtherClient => {
                if let Some(at) = segment.client_at {
                    segment.flip(frame, at + 3, 1);
                }
            }
            Sabotage::BareIsOlder if bare && low == 1 => segment.flip(frame, at + 3, 1),
            Sabotage::BareIsElsewhere if bare => {
                segment.flip(frame, segment.tcp_at + 1, 1);
                self.moved.borrow_mut().insert(moved);
            }
            _ => {}
        }
    }
}

/// A segment in a frame.
struct Place {
    tcp_at: usize,
    src: SocketAddr,
    dst: SocketAddr,
    flags: u8,
    /// Where TSval is, and TSecr behind it.
    stamps_at: Option<usize>,
    /// Where the address of the client is, if it is told.
    client_at: Option<usize>,
}

impl Place {
    fn of(frame: &[u8]) -> Option<Self> {
        let ip = Datagram::read(frame.get(ETHERNET_LEN..)?).filter(|ip| ip.protocol == TCP)?;
        let segment = ip.segment()?;
        let tcp_at = ETHERNET_LEN + ip.payload_at;
        let stamps_at = wire::timestamps_at(segment.options).map(|at| tcp_at + 20 + at + 2);
        let client_at = if segment.options.starts_with(&[1, 1, 8, 10]) { 12 } else { 0 };
        let tells = segment.options.get(client_at..client_at + 8);
        let client_at = tells.filter(|told| told.starts_with(&[254, 8])).map(|_| client_at);
        let client_at = client_at.map(|at| tcp_at + 20 + at + 4);
        let (src, dst, flags) = (segment.src, segment.dst, segment.flags);
        Some(Place { tcp_at, src, dst, flags, stamps_at, client_at })
    }

    /// Flips bits of a byte; the checksum is as right or wrong as before (RFC 1624).
    fn flip(&self, frame: &mut [u8], at: usize, bits: u8) {
        let (sum_at, word_at) = (self.tcp_at + 16, at - (at - self.tcp_at) % 2);
        let before = word(frame, word_at);
        frame[at] ^= bits;
        let after = word(frame, word_at);
        let sum = u32::from(!word(frame, sum_at)) + u32::from(!before) + u32::from(after);
        let sum = (sum & 0xffff) + (sum >> 16);
        put_word(frame, sum_at, !((sum & 0xffff) + (sum >> 16)) as u16);
    }
}

/// Whether it is of one of the pools (`setup.rs`).
fn is_pool(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64)
}
