//! Seals and opens single tokens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::{Return, TOKEN_LEN_V4, TOKEN_LEN_V6, Token};
use crate::crypto::{Aes128, Aes128Inverse, Block, Cipher, CipherJob, Cmac};
use crate::tunnel::message::{array_at, put};
use crate::wire::get_u64;

/// The ciphers of one epoch's tokens at one VIP.
#[derive(Clone, Debug)]
pub(super) enum Sealer {
    V4 { seal: Aes128, open: Aes128Inverse },
    V6 { mac: Cmac, mask: Aes128 },
}

impl Sealer {
    pub(super) fn seal(&self, holds: &Return) -> Option<Token> {
        match (self, holds.agent.ip()) {
            (Sealer::V4 { seal, .. }, IpAddr::V4(ip)) => {
                let mut block = [0; TOKEN_LEN_V4];
                put(&mut block, 0, &ip.octets());
                put(&mut block, 4, &holds.tail());
                Some(Token::V4(seal.encrypt_block(&block)))
            }
            (Sealer::V6 { mac, mask }, IpAddr::V6(ip)) => {
                let mut fields = [0; FIELDS_LEN_V6];
                put(&mut fields, 0, &ip.octets());
                put(&mut fields, 16, &holds.tail());
                let check: [u8; CHECK_LEN] = array_at(&mac.mac(&fields), 0)?;
                let mut token = [0; TOKEN_LEN_V6];
                put(&mut token, 0, &check);
                put(&mut token, CHECK_LEN, &masked(mask, check, &fields));
                Some(Token::V6(token))
            }
            _ => None,
        }
    }

    /// The contents of the token: the slow twin of opening many.
    pub(super) fn open(&self, token: &Token) -> Option<Return> {
        match (self, token) {
            (Sealer::V4 { open, .. }, Token::V4(token)) => {
                Return::of_block(&open.decrypt_block(token))
            }
            (Sealer::V6 { mac, mask }, Token::V6(token)) => {
                let check: [u8; CHECK_LEN] = array_at(token, 0)?;
                let fields = masked(mask, check, &array_at(token, CHECK_LEN)?);
                // One comparison of numbers takes the same time wherever they differ.
                let expected: [u8; CHECK_LEN] = array_at(&mac.mac(&fields), 0)?;
                let ip: [u8; 16] = array_at(&fields, 0)?;
                (u64::from_ne_bytes(expected) == u64::from_ne_bytes(check))
                    .then(|| Return::with_tail(Ipv6Addr::from(ip).into(), get_u64(&fields, 16)))
            }
            _ => None,
        }
    }
}

impl Return {
    /// The fields after the address.
    fn tail(&self) -> [u8; 8] {
        let ([a, b], [c, d]) = (self.agent.port().to_be_bytes(), self.base_high.to_be_bytes());
        let [e, f] = self.tenant.to_be_bytes();
        [a, b, c, d, e, f, self.epoch, self.pop]
    }

    /// The contents of an IPv4 token, if it ends in zeros.
    #[inline]
    pub(super) fn of_block(block: &Block) -> Option<Self> {
        let block = u128::from_be_bytes(*block);
        let ip = Ipv4Addr::from_bits((block >> 96) as u32);
        (block as u32 == 0).then(|| Return::with_tail(ip.into(), (block >> 32) as u64))
    }

    /// The contents from the address and the fields after it.
    #[inline]
    pub(super) fn with_tail(ip: IpAddr, tail: u64) -> Self {
        Return {
            agent: SocketAddr::new(ip, (tail >> 48) as u16),
            base_high: (tail >> 32) as u16,
            tenant: (tail >> 16) as u16,
            epoch: (tail >> 8) as u8,
            pop: tail as u8,
        }
    }
}

/// The fields of an IPv6 token, masked or unmasked by the keystream of `check`.
#[inline]
fn masked(
    mask: &Aes128,
    check: [u8; CHECK_LEN],
    fields: &[u8; FIELDS_LEN_V6],
) -> [u8; FIELDS_LEN_V6] {
    let mut stream = [[0; 16]; 2];
    mask.run(Keystream { check, stream: &mut stream });
    let mut out = *fields;
    out.iter_mut().zip(stream.as_flattened()).for_each(|(byte, mask)| *byte ^= mask);
    out
}

/// Computes both blocks of the keystream in one job of the cipher.
struct Keystream<'a> {
    check: [u8; CHECK_LEN],
    stream: &'a mut [Block; 2],
}

impl CipherJob for Keystream<'_> {
    #[inline(always)]
    fn run<C: Cipher>(self, cipher: &C) {
        let first = u128::from(u64::from_be_bytes(self.check)) << 64;
        let blocks = [first, first | 1].map(|block| cipher.encrypt_one(&block.to_be_bytes()));
        *self.stream = blocks;
    }
}

/// Length of the fields of an IPv6 token, in bytes.
const FIELDS_LEN_V6: usize = 24;
/// Length of the check before them, in bytes.
pub(super) const CHECK_LEN: usize = 8;

const _: () = assert!(CHECK_LEN + FIELDS_LEN_V6 == TOKEN_LEN_V6);
