//! Opens many tokens side by side, to fill the cipher's pipeline.

use std::net::Ipv6Addr;

use arrayvec::ArrayVec;

use super::sealer::{CHECK_LEN, Sealer};
use super::{OfEpoch, Return, Token, TokenError, TokenKeys};
use crate::crypto::Block;
use crate::time::UnixTime;
use crate::wire::get_u64;

impl TokenKeys {
    /// [`TokenKeys::open`] of all `tokens`, each with whether its epoch is odd, computed side by
    /// side. Calls `each` once for each token, with its place in `tokens` and the result.
    #[inline]
    pub fn open_all(
        &self,
        now: UnixTime,
        tokens: &[(bool, Token)],
        mut each: impl FnMut(usize, Result<Return, TokenError>),
    ) {
        for (at, tokens) in (0..).step_by(MANY).zip(tokens.chunks(MANY)) {
            for odd in [false, true] {
                let mine = tokens.iter().enumerate().filter(|(_, token)| token.0 == odd);
                let mine = mine.map(|(place, (_, token))| (at + place, token));
                match self.epochs.accepted(now, odd) {
                    Some(epoch) => epoch.open_all(mine, &mut each),
                    None => mine.for_each(|(place, _)| each(place, Err(TokenError::Epoch))),
                }
            }
        }
    }
}

impl OfEpoch<Sealer> {
    /// Opens at most [`MANY`] tokens.
    #[inline]
    fn open_all<'a>(
        &self,
        tokens: impl Iterator<Item = (usize, &'a Token)>,
        each: &mut impl FnMut(usize, Result<Return, TokenError>),
    ) {
        let mut places = ArrayVec::<usize, MANY>::new();
        match &self.keys {
            Sealer::V4 { open, .. } => {
                let mut blocks = ArrayVec::<Block, MANY>::new();
                for (place, token) in tokens {
                    match token {
                        Token::V4(token) => {
                            places.push(place);
                            blocks.push(*token);
                        }
                        Token::V6(_) => each(place, Err(TokenError::Forged)),
                    }
                }
                open.decrypt_blocks(&mut blocks);
                for (place, block) in places.iter().zip(&blocks) {
                    each(*place, self.checked(Return::of_block(block)));
                }
            }
            Sealer::V6 { mac, mask } => {
                // The check, the masked address, and the masked fields after it.
                let mut masked = ArrayVec::<(u64, u128, u64), MANY>::new();
                let mut streams = ArrayVec::<[Block; 2], MANY>::new();
                for (place, token) in tokens {
                    match token {
                        Token::V6(token) => {
                            let check = get_u64(token, 0);
                            let first = u128::from(check) << 64;
                            places.push(place);
                            masked.push((check, get_u128(token, CHECK_LEN), get_u64(token, 24)));
                            streams.push([first, first | 1].map(u128::to_be_bytes));
                        }
                        Token::V4(_) => each(place, Err(TokenError::Forged)),
                    }
                }
                mask.encrypt_blocks(streams.as_flattened_mut());
                let mut messages = ArrayVec::<[u128; 2], MANY>::new();
                for ((_, ip, tail), stream) in masked.iter().zip(&streams) {
                    let [first, second] = stream.map(u128::from_be_bytes);
                    let tail = u128::from(*tail) << 64 ^ second >> 64 << 64;
                    messages.push([ip ^ first, tail | 0x80 << 56]);
                }
                let mut macs = [[0; 16]; MANY];
                mac.macs_of_padded(&messages, &mut macs);
                let rest = masked.iter().zip(&messages).zip(&macs);
                for (place, (((check, ..), [ip, tail]), mac)) in places.iter().zip(rest) {
                    // One comparison of numbers takes the same time wherever they differ.
                    let holds = get_u64(mac, 0) == *check;
                    let agent = Ipv6Addr::from_bits(*ip).into();
                    let found = holds.then(|| Return::with_tail(agent, (tail >> 64) as u64));
                    each(*place, self.checked(found));
                }
            }
        }
    }
}

#[inline]
fn get_u128(bytes: &[u8], at: usize) -> u128 {
    u128::from(get_u64(bytes, at)) << 64 | u128::from(get_u64(bytes, at + 8))
}

/// Most tokens that are opened side by side.
const MANY: usize = 64;
