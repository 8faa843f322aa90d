//! Open addresses: an agent's IPv4 address and port, and the base of its numbers, as an IPv6
//! address that only POPs can make and read.
//!
//! For a prefix of p bits, 32 <= p <= 48:
//!
//! ```text
//! x       = agent's IPv4 address 32 | port 16 | base16 16 | zeros 63 - p       n = 127 - p bits
//! address = prefix p | whether the epoch is odd 1 | P(x)
//! ```
//!
//! P is the Feistel network of [`crate::crypto::Feistel`] over n bits, without a tweak, under K =
//! HKDF(token secret of the epoch, "open", VIP | number of the tenant 16). A made-up address passes
//! with a chance of 2^-(63 - p): 1 in 32,768 for a /48.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::config::OpenPrefix;
use crate::crypto::{Aes128, Cipher, CipherJob, Feistel, HkdfError, low};
use crate::keys::{Epochs, open_key};
use crate::time::UnixTime;
use crate::tunnel::epochs::OfEpochs;
use crate::verdict::DropReason;

/// What an open address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpenAgent {
    /// The agent's public endpoint.
    pub at: SocketAddrV4,
    /// The high 16 bits of the base of its sequence numbers; the low ones are 0x8000 by alignment.
    pub base_high: u16,
}

/// The reason that an address stands for no agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenAddressError {
    /// No epoch of this parity is accepted now.
    Epoch,
    /// It was not made under the key of that epoch, or is of another prefix.
    Forged,
}

impl From<OpenAddressError> for DropReason {
    /// Why a packet to such an address is dropped.
    fn from(error: OpenAddressError) -> Self {
        match error {
            OpenAddressError::Epoch => DropReason::OpenEpoch,
            OpenAddressError::Forged => DropReason::OpenAddress,
        }
    }
}

/// The open addresses of the agents at one VIP.
#[derive(Clone, Debug)]
pub struct OpenAddresses {
    prefix: OpenPrefix,
    epochs: OfEpochs<Aes128>,
}

impl OpenAddresses {
    /// The addresses of the agents of `tenant` at `vip` within `prefix`, under the keys of
    /// `epochs`.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn new(
        epochs: &Epochs,
        vip: SocketAddrV4,
        tenant: u16,
        prefix: OpenPrefix,
    ) -> Result<Self, HkdfError> {
        let vip = SocketAddr::V4(vip);
        let epochs =
            OfEpochs::new(epochs, |epoch| Ok(Aes128::new(&open_key(&epoch.secret, vip, tenant)?)))?;
        Ok(OpenAddresses { prefix, epochs })
    }

    /// The prefix of all addresses.
    #[inline]
    pub fn prefix(&self) -> OpenPrefix {
        self.prefix
    }

    /// Whether `ip` is within the prefix.
    #[inline]
    pub fn holds(&self, ip: u128) -> bool {
        self.prefix.net().contains(ip)
    }

    /// The address of `agent` in the current epoch.
    pub fn encode(&self, now: UnixTime, agent: &OpenAgent) -> Option<u128> {
        let epoch = self.epochs.current(now)?;
        let x = u128::from(agent.at.ip().to_bits()) << 32
            | u128::from(agent.at.port()) << 16
            | u128::from(agent.base_high);
        let y = self.permute(&epoch.keys, false, x << self.zeros());
        Some(self.prefix.first | u128::from(epoch.is_odd()) << self.body_bits() | y)
    }

    /// What `ip` stands for. Whether an agent can have that endpoint is not checked here.
    ///
    /// # Errors
    /// When its epoch is not accepted, or it is not authentic.
    #[inline]
    pub fn decode(&self, now: UnixTime, ip: u128) -> Result<OpenAgent, OpenAddressError> {
        if !self.holds(ip) {
            return Err(OpenAddressError::Forged);
        }
        let odd = ip >> self.body_bits() & 1 == 1;
        let epoch = self.epochs.accepted(now, odd).ok_or(OpenAddressError::Epoch)?;
        let body = ip & low(self.body_bits());
        let x = self.permute(&epoch.keys, true, body);
        if x & low(self.zeros()) != 0 {
            return Err(OpenAddressError::Forged);
        }
        let x = x >> self.zeros();
        let at = SocketAddrV4::new(Ipv4Addr::from_bits((x >> 32) as u32), (x >> 16) as u16);
        Ok(OpenAgent { at, base_high: x as u16 })
    }

    /// n: bits behind the prefix and the epoch's.
    #[inline]
    const fn body_bits(&self) -> u32 {
        self.prefix.host_bits() - 1
    }

    /// How many bits of x are zero.
    #[inline]
    const fn zeros(&self) -> u32 {
        self.body_bits() - AGENT_BITS
    }

    #[inline]
    fn permute(&self, aes: &Aes128, is_inverse: bool, mut number: u128) -> u128 {
        let feistel = Feistel::new(self.body_bits(), 0);
        aes.run(Permute { feistel, is_inverse, number: &mut number });
        number
    }
}

struct Permute<'a> {
    feistel: Feistel,
    is_inverse: bool,
    number: &'a mut u128,
}

impl CipherJob for Permute<'_> {
    #[inline(always)]
    fn run<C: Cipher>(self, cipher: &C) {
        let mut halves = [self.feistel.split(*self.number)];
        self.feistel.permute(cipher, self.is_inverse, &mut halves);
        *self.number = self.feistel.join(halves[0]);
    }
}

/// Bits of an agent: address, port and base.
const AGENT_BITS: u32 = 64;

const _: () = assert!(u128::BITS - 1 - OpenPrefix::LEN_MAX as u32 == AGENT_BITS + 15);
