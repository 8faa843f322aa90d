//! Changes of a frame, and their repair.

use anyrelay_kit::frames::{put_word, repair_header, repair_payload};

/// Offsets of the fields that decide, from the start of the frame: those of Ethernet, IPv4 and the
/// TCP header behind it, then those of IPv6.
const FIELDS: [usize; 48] = [
    0, 5, 6, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 26, 27, 28, 29, 30, 31, 32, 33, 34,
    35, 36, 37, 38, 41, 42, 45, 46, 47, 48, 52, 54, 55, 56, 57, 58, 59, 61, 62, 66, 67, 68, 69, 74,
];
/// Values that decide: protocol numbers, versions, lengths, flags.
const VALUES: [u8; 16] =
    [0, 1, 2, 4, 5, 6, 8, 0x10, 0x12, 0x3a, 0x45, 0x50, 0x60, 0x80, 0xf0, 0xff];

/// Applies one edit: a kind and three arguments.
pub fn apply(frame: &mut Vec<u8>, edit: [u8; 4]) {
    let [kind, a, b, c] = edit;
    let at = usize::from(u16::from_be_bytes([a & 7, b]));
    let field = FIELDS[usize::from(a) % FIELDS.len()];
    match kind % 12 {
        0 => change(frame, at, |byte| byte ^ c),
        1 => change(frame, at, |_| c),
        2 => change(frame, field, |byte| byte ^ (1 << (b & 7))),
        3 => change(frame, field, |_| VALUES[usize::from(b) % VALUES.len()]),
        4 => {
            change(frame, field, |_| b);
            change(frame, field + 1, |_| c);
        }
        5 => frame.truncate(at),
        6 => frame.extend(std::iter::repeat_n(b, usize::from(c))),
        // Bytes inserted or removed in the middle, as options and extension headers are.
        7 if at <= frame.len() => {
            let more = [b; 40];
            let more = &more[..usize::from(c % 11) * 4];
            frame.splice(at..at, more.iter().copied());
        }
        8 if at < frame.len() => {
            let end = frame.len().min(at + usize::from(c % 32));
            frame.drain(at..end);
        }
        // Source and destination swapped.
        9 => swap(frame),
        10 => {
            let from = usize::from(c);
            for i in 0..4 {
                if let Some(&byte) = frame.get(from + i) {
                    change(frame, field + i, |_| byte);
                }
            }
        }
        // Options of IPv4 or TCP, up to the longest header.
        11 => {
            let (ip, len) = if a & 1 == 0 { (14, 20) } else { (14 + header_len(frame), 20) };
            let words = usize::from(b % 11);
            if frame.len() >= ip + len {
                let options = vec![c; words * 4];
                frame.splice(ip + len..ip + len, options);
                let place = if a & 1 == 0 { ip } else { ip + 12 };
                match a & 1 {
                    0 => change(frame, place, |_| 0x45 + words as u8),
                    _ => change(frame, place, |_| (0x50 + (words << 4)) as u8),
                }
            }
        }
        _ => {}
    }
}

fn change(frame: &mut [u8], at: usize, to: impl FnOnce(u8) -> u8) {
    if let Some(byte) = frame.get_mut(at) {
        *byte = to(*byte);
    }
}

fn header_len(frame: &[u8]) -> usize {
    frame.get(14).map_or(20, |byte| usize::from(byte & 15) * 4)
}

fn swap(frame: &mut [u8]) {
    let (ip, len, tcp) = match frame.get(12..14) {
        Some([0x08, 0x00]) => (26, 4, 14 + header_len(frame)),
        Some([0x86, 0xdd]) => (22, 16, 54),
        _ => return,
    };
    if frame.len() >= tcp + 4 && tcp >= ip + 2 * len {
        for i in 0..len {
            frame.swap(ip + i, ip + len + i);
        }
        frame.swap(tcp, tcp + 2);
        frame.swap(tcp + 1, tcp + 3);
    }
}

/// Repairs what the bits of `what` select: 1 the length, 2 the header checksum, 4 the checksum of
/// the payload.
pub fn repair(frame: &mut [u8], what: u8) {
    let Some(l3) = super::check::l3(frame) else { return };
    let v6 = frame[l3 - 2] == 0x86;
    let datagram = &mut frame[l3..];
    if datagram.len() < if v6 { 40 } else { 20 } {
        return;
    }
    if what & 1 != 0 {
        match v6 {
            true => put_word(datagram, 4, (datagram.len() - 40) as u16),
            false => put_word(datagram, 2, datagram.len() as u16),
        }
    }
    if what & 2 != 0 {
        repair_header(datagram);
    }
    if what & 4 != 0 {
        repair_payload(datagram);
    }
}
