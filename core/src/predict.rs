//! The server's sequence numbers of a tunnel, which every POP computes from a key and the clock
//! (the draft, section 1.3: an agreed interval, from which the sequence number is calculated).
//!
//! ```text
//! K    = HKDF(sequence secret, "sequence", VIP address, VIP port)
//! H    = first 4 bytes of AES-CMAC(K, agent's address 4 or 16 | agent's port 2)
//! S(n) = H + STRIDE * n  (mod 2^32)           n: the tick, floor(unix time / T)
//! ```

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;

use crate::crypto::{Block, Cmac, HkdfError};
use crate::keys::{Secret, sequence_key};
use crate::seq::SeqNum;
use crate::time::Tick;

/// The constants that the POPs and agents of a tunnel share; agents learn them from keepalive
/// replies. A change ends every tunnel of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Constants {
    /// T, the length of a tick, in milliseconds.
    pub tick_ms: u32,
    /// STRIDE, the distance of the sequence numbers of successive ticks, in bytes.
    pub stride: u32,
    /// LAG, the number of ticks that the acks of data stay behind.
    pub lag: u16,
    /// OFFSET, the range beyond a tick's number that sequence numbers of data vary in, in bytes.
    pub offset: u16,
}

impl Constants {
    /// Checks that each constant is in its range, that `payload_max`, the largest TCP payload in
    /// bytes, fits into OFFSET, and that the sum of all fits into the window.
    ///
    /// # Errors
    /// The first condition that does not hold.
    pub const fn check(&self, payload_max: u16) -> Result<(), ConstantsError> {
        let Constants { tick_ms, stride, lag, offset } = *self;
        if tick_ms < TICK_MS_MIN || tick_ms > TICK_MS_MAX {
            return Err(ConstantsError::TickMs);
        }
        if stride < STRIDE_MIN || stride > STRIDE_MAX {
            return Err(ConstantsError::Stride);
        }
        if lag < LAG_MIN || lag > LAG_MAX {
            return Err(ConstantsError::Lag);
        }
        if offset % OFFSET_STEP != 0 || offset > OFFSET_MAX {
            return Err(ConstantsError::Offset);
        }
        if offset < payload_max {
            return Err(ConstantsError::OffsetBelowPayload { payload_max });
        }
        let sum = self.window_sum();
        if sum > WINDOW { Err(ConstantsError::Window { sum }) } else { Ok(()) }
    }

    /// The greatest distance of the end of a segment from the agent's last ack, in bytes: the agent
    /// was silent for LAG + [`SILENT_TICKS`] ticks, the POP's clock is [`SKEW_TICKS`] ahead, the
    /// ack was LAG strides behind, and the segment ends at OFFSET. Firewalls drop segments that end
    /// beyond the window.
    pub const fn window_sum(&self) -> u32 {
        let ticks = 2 * self.lag as u32 + SILENT_TICKS + SKEW_TICKS;
        ticks.saturating_mul(self.stride).saturating_add(self.offset as u32)
    }
}

impl Default for Constants {
    fn default() -> Self {
        Constants { tick_ms: 8000, stride: 4096, lag: 4, offset: 16384 }
    }
}

/// Constants that do not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstantsError {
    /// T out of its range.
    #[error("tick_ms must be {TICK_MS_MIN}..={TICK_MS_MAX}")]
    TickMs,
    /// STRIDE out of its range.
    #[error("stride must be {STRIDE_MIN}..={STRIDE_MAX}")]
    Stride,
    /// LAG out of its range.
    #[error("lag must be {LAG_MIN}..={LAG_MAX}")]
    Lag,
    /// OFFSET out of its range.
    #[error("offset is not a multiple of {OFFSET_STEP}, or more than {OFFSET_MAX}")]
    Offset,
    /// No datagram of full size fits into OFFSET.
    #[error("offset must be at least {payload_max}, the payload of the largest datagram")]
    OffsetBelowPayload {
        /// That payload, in bytes.
        payload_max: u16,
    },
    /// The window is too small for the sum.
    #[error(
        "(2 * lag + {}) * stride + offset is {sum}, beyond the window of {WINDOW} that firewalls \
         keep; make lag, stride or offset smaller",
        SILENT_TICKS + SKEW_TICKS
    )]
    Window {
        /// The sum.
        sum: u32,
    },
}

/// Predicts the sequence numbers of one VIP.
#[derive(Clone, Debug)]
pub struct Predictor(Cmac);

impl Predictor {
    /// The predictor of `vip`.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn new(sequence: &Secret, vip: SocketAddr) -> Result<Self, HkdfError> {
        Ok(Predictor(Cmac::new(&sequence_key(sequence, vip)?)))
    }

    /// H: the sequence number towards `agent` at tick 0.
    #[inline]
    pub fn start(&self, agent: SocketAddr) -> SeqNum {
        self.starts::<1>(&[agent]).first().copied().unwrap_or_default()
    }

    /// [`Predictor::start`] of each of `agents`, at most of the first `N`.
    #[inline]
    pub fn starts<const N: usize>(&self, agents: &[SocketAddr]) -> ArrayVec<SeqNum, N> {
        let mut starts = ArrayVec::new();
        // MACs of one family are computed side by side; at one VIP, all are of one family.
        for agents in agents.chunk_by(|a, b| a.is_ipv4() == b.is_ipv4()) {
            match agents.first() {
                Some(SocketAddr::V4(_)) => self.side_by_side(agents, padded4, &mut starts),
                _ => self.side_by_side(agents, padded6, &mut starts),
            }
        }
        starts
    }

    #[inline]
    fn side_by_side<const BLOCKS: usize, const N: usize>(
        &self,
        agents: &[SocketAddr],
        padded: impl Fn(&SocketAddr) -> [u128; BLOCKS],
        starts: &mut ArrayVec<SeqNum, N>,
    ) {
        let room = starts.remaining_capacity();
        let messages: ArrayVec<_, N> = agents.iter().take(room).map(padded).collect();
        let mut macs = [[0; 16]; N];
        self.0.macs_of_padded(&messages, &mut macs);
        let first = |&[a, b, c, d, ..]: &Block| SeqNum(u32::from_be_bytes([a, b, c, d]));
        starts.extend(macs.iter().take(messages.len()).map(first));
    }
}

/// Address and port of an IPv4 agent, padded for [`Cmac::macs_of_padded`].
#[inline]
fn padded4(agent: &SocketAddr) -> [u128; 1] {
    [address(agent) << 96 | u128::from(agent.port()) << 80 | 0x80 << 72]
}

/// Address and port of an IPv6 agent, padded for [`Cmac::macs_of_padded`].
#[inline]
fn padded6(agent: &SocketAddr) -> [u128; 2] {
    [address(agent), u128::from(agent.port()) << 112 | 0x80 << 104]
}

#[inline]
fn address(agent: &SocketAddr) -> u128 {
    match agent.ip() {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// S(n): the sequence number of tick `n`, where that of tick 0 is `start`.
#[inline]
pub const fn at(start: SeqNum, stride: u32, n: Tick) -> SeqNum {
    // The product is modulo 2^32, so that the high half of the tick does not matter.
    start.plus(stride.wrapping_mul(n.0 as u32))
}

/// The k nearest to 0 for which `seq` = `expected` + `stride` * k; `None` when there is none, or
/// `stride` is 0.
#[inline]
pub const fn ticks_between(seq: SeqNum, expected: SeqNum, stride: u32) -> Option<i32> {
    let distance = seq.distance_from(expected) as i64;
    let stride = stride as i64;
    if stride == 0 || distance % stride != 0 { None } else { Some((distance / stride) as i32) }
}

/// The shortest T, which is for tests only.
pub const TICK_MS_MIN: u32 = 100;
/// The longest T: NATs forget idle flows after longer.
pub const TICK_MS_MAX: u32 = 60_000;
/// The smallest STRIDE: more than the longest keepalive, so that each tick has acks of its own.
pub const STRIDE_MIN: u32 = 128;
/// The largest STRIDE: eight strides are half of the 2^16 numbers that a token omits.
pub const STRIDE_MAX: u32 = 4096;
/// The smallest LAG.
pub const LAG_MIN: u16 = 1;
/// The largest LAG.
pub const LAG_MAX: u16 = 8;
/// Offsets are multiples of this number of bytes.
pub const OFFSET_STEP: u16 = 64;
/// The largest OFFSET: one byte holds the number of steps.
pub const OFFSET_MAX: u16 = 256 * OFFSET_STEP;
/// The largest window without window scaling, which a firewall's proxy may strip.
pub const WINDOW: u32 = 65_535;
/// Ticks of an agent's silence beyond LAG that a tunnel survives.
pub const SILENT_TICKS: u32 = 2;
/// Ticks that the clocks of POPs may differ by.
pub const SKEW_TICKS: u32 = 1;

const _: () =
    assert!(Constants { tick_ms: 8000, stride: 4096, lag: 4, offset: 16384 }.check(1500).is_ok());
const _: () = assert!(STRIDE_MAX * 8 == 1 << 15);
const _: () = assert!(OFFSET_MAX / OFFSET_STEP - 1 == u8::MAX as u16);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: Constants = Constants { tick_ms: 8000, stride: 4096, lag: 4, offset: 16384 };

    #[test]
    fn constants_out_of_range_are_refused() {
        assert_eq!(GOOD, Constants::default());
        assert_eq!(GOOD.check(1316), Ok(()));
        assert_eq!(Constants { stride: 3780, lag: 5, ..GOOD }.check(1316), Ok(()));
        for (constants, error) in [
            (Constants { tick_ms: 99, ..GOOD }, ConstantsError::TickMs),
            (Constants { tick_ms: 60_001, ..GOOD }, ConstantsError::TickMs),
            (Constants { stride: 127, ..GOOD }, ConstantsError::Stride),
            (Constants { stride: 4097, ..GOOD }, ConstantsError::Stride),
            (Constants { lag: 0, ..GOOD }, ConstantsError::Lag),
            (Constants { lag: 9, ..GOOD }, ConstantsError::Lag),
            (Constants { offset: 16_383, ..GOOD }, ConstantsError::Offset),
            (Constants { offset: 16_448, ..GOOD }, ConstantsError::Offset),
            (
                Constants { offset: 1280, ..GOOD },
                ConstantsError::OffsetBelowPayload { payload_max: 1316 },
            ),
            (Constants { lag: 5, ..GOOD }, ConstantsError::Window { sum: 69_632 }),
            // One stride more than the window holds, and not.
            (Constants { stride: 3781, lag: 5, ..GOOD }, ConstantsError::Window { sum: 65_537 }),
        ] {
            assert_eq!(constants.check(1316), Err(error), "{constants:?}");
        }
        // (2 * 4 + 3) * 4096 + 16384.
        assert_eq!(GOOD.window_sum(), 61_440);
    }

    #[test]
    fn starts_differ_by_agent_and_vip() {
        let secret = Secret::new([5; 32]);
        let predictor = |vip: &str| Predictor::new(&secret, vip.parse().unwrap()).unwrap();
        let start = |vip: &str, agent: &str| predictor(vip).start(agent.parse().unwrap());
        let base = start("203.0.113.20:443", "192.0.2.1:1000");
        assert_eq!(base, start("203.0.113.20:443", "192.0.2.1:1000"));
        assert_ne!(base, start("203.0.113.20:443", "192.0.2.1:1001"));
        assert_ne!(base, start("203.0.113.20:443", "192.0.2.2:1000"));
        assert_ne!(base, start("203.0.113.20:444", "192.0.2.1:1000"));
        assert_ne!(base, start("203.0.113.21:443", "192.0.2.1:1000"));
        let v6 = start("[2001:db8::20]:443", "[2001:db8::1]:1000");
        assert_ne!(v6, start("[2001:db8::20]:443", "[2001:db8::2]:1000"));
        assert_ne!(v6, start("[2001:db8::20]:443", "[2001:db8::1]:1001"));
    }

    proptest! {
        /// The slow twin computes one MAC after the other, of bytes.
        #[test]
        fn starts_are_macs_of_addresses(
            agents in proptest::collection::vec(any::<(bool, u128, u16)>(), 0..40), mixed: bool,
        ) {
            let key = Secret::new([9; 32]);
            let predictor = Predictor::new(&key, "203.0.113.20:443".parse().unwrap()).unwrap();
            let agents: Vec<SocketAddr> = agents.iter().map(|&(v6, ip, port)| {
                let ip = match v6 && mixed {
                    false => std::net::Ipv4Addr::from_bits(ip as u32).into(),
                    true => std::net::Ipv6Addr::from_bits(ip).into(),
                };
                SocketAddr::new(ip, port)
            }).collect();
            let slow = |agent: &SocketAddr| {
                let mac = predictor.0.mac(&crate::keys::endpoint_fields(*agent));
                SeqNum(u32::from_be_bytes([mac[0], mac[1], mac[2], mac[3]]))
            };
            let expected: Vec<SeqNum> = agents.iter().map(slow).collect();
            prop_assert_eq!(&predictor.starts::<64>(&agents)[..], &expected[..]);
            let first = &expected[..expected.len().min(7)];
            prop_assert_eq!(&predictor.starts::<7>(&agents)[..], first);
            for (agent, expected) in agents.iter().zip(&expected) {
                prop_assert_eq!(predictor.start(*agent), *expected);
            }
        }

        /// Ticks count the same before and after sequence numbers wrap.
        #[test]
        fn ticks_are_matched_over_the_wrap(
            start: u32, n in 0u64..1 << 40, k in -1000i32..1000,
            stride in STRIDE_MIN..=STRIDE_MAX,
        ) {
            let expected = at(SeqNum(start), stride, Tick(n));
            let other = Tick(n.wrapping_add_signed(k.into()));
            let seq = at(SeqNum(start), stride, other);
            prop_assert_eq!(ticks_between(seq, expected, stride), Some(k));
            for off in 1..8 {
                let beside = at(SeqNum(start), stride, other).plus(off);
                prop_assert_eq!(ticks_between(beside, expected, stride), None);
            }
        }

        #[test]
        fn a_tick_is_a_stride(start: u32, n in 0u64..u64::MAX, stride in STRIDE_MIN..=STRIDE_MAX) {
            let number = |n| at(SeqNum(start), stride, Tick(n));
            let (one, next) = (number(n), number(n + 1));
            prop_assert_eq!(next.distance_from(one), stride as i32);
            prop_assert!(next.after(one));
        }

        #[test]
        fn matched_numbers_are_equal(seq: u32, expected: u32, stride in 0u32..10_000) {
            if let Some(k) = ticks_between(SeqNum(seq), SeqNum(expected), stride) {
                prop_assert_eq!(SeqNum(expected).plus(stride.wrapping_mul(k as u32)), SeqNum(seq));
            }
        }
    }
}
