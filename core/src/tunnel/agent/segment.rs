//! Writing the agent's outer segments: TCP headers without a checksum, which the caller fills in,
//! as only it knows the local address.

use crate::predict::WINDOW;
use crate::seq::SeqNum;
use crate::wire::{put_u16, put_u32, tcp};

/// PSH.
pub(super) const PSH: u8 = 0x08;
/// Bytes of the options of a SYN.
pub(super) const SYN_OPTIONS_LEN: usize = 8;

/// What a segment's header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
    pub(super) seq: SeqNum,
    pub(super) ack: SeqNum,
    pub(super) flags: u8,
    pub(super) options_len: usize,
}

impl Head {
    /// Writes the 20 bytes before the options at the start of `segment`.
    #[inline]
    pub(super) fn write(&self, segment: &mut [u8]) {
        let Some(head) = segment.first_chunk_mut::<{ tcp::HEADER_LEN }>() else { return };
        put_u16(head, tcp::field::SRC_PORT, self.src_port);
        put_u16(head, tcp::field::DST_PORT, self.dst_port);
        put_u32(head, tcp::field::SEQ, self.seq.0);
        put_u32(head, tcp::field::ACK, self.ack.0);
        head[tcp::field::DATA_OFFSET] = (((tcp::HEADER_LEN + self.options_len) / 4) << 4) as u8;
        head[tcp::field::FLAGS] = self.flags;
        put_u16(head, tcp::field::WINDOW, WINDOW as u16);
        put_u16(head, tcp::field::CHECKSUM, 0);
        put_u16(head, URGENT, 0);
    }
}

/// The options of a SYN: MSS, and a window scale of 8.
pub(super) const fn syn_options(mss: u16) -> [u8; SYN_OPTIONS_LEN] {
    let [high, low] = mss.to_be_bytes();
    [tcp::kind::MSS, 4, high, low, tcp::kind::NOP, WINDOW_SCALE, 3, 8]
}

const URGENT: usize = 18;
/// The kind of the window scale option (RFC 7323).
const WINDOW_SCALE: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::{Options, Tcp};

    #[test]
    fn what_is_written_parses() {
        let mut bytes = [0xee; 28];
        let (seq, ack) = (SeqNum(7), SeqNum(u32::MAX));
        let flags = tcp::SYN;
        let options_len = SYN_OPTIONS_LEN;
        Head { src_port: 4, dst_port: 443, seq, ack, flags, options_len }.write(&mut bytes);
        bytes[20..].copy_from_slice(&syn_options(1360));
        let tcp = Tcp::parse(&bytes).unwrap();
        assert_eq!((tcp.src_port, tcp.dst_port, tcp.seq, tcp.ack), (4, 443, seq, ack));
        assert_eq!((tcp.flags, tcp.header_len), (flags, 28));
        assert_eq!(bytes[14..20], [0xff, 0xff, 0, 0, 0, 0]);
        let kinds: Vec<_> = Options::new(&bytes[20..]).map(|option| option.unwrap().kind).collect();
        assert_eq!(kinds, [tcp::kind::MSS, WINDOW_SCALE]);
    }
}
