//! Where the fields of a TCP segment are in a frame (RFC 791, 8200, 9293), and its checksum after a
//! change (RFC 1624).

/// Destination, source, type.
pub const ETHERNET_BYTES: usize = 14;

/// Whether a frame holds a TCP header whole: IPv4 without fragments, or IPv6 without extensions.
pub fn is_tcp(frame: &[u8]) -> bool {
    tcp_at(frame).is_some()
}

/// Where the TCP header begins.
pub fn tcp_at(frame: &[u8]) -> Option<usize> {
    let ip = ETHERNET_BYTES;
    let at = match (*frame.get(12)?, *frame.get(13)?) {
        (0x08, 0x00) if *frame.get(ip + 9)? == 6 => {
            let fragment = (frame.get(ip + 6)? & 0x3f, *frame.get(ip + 7)?);
            (fragment == (0, 0)).then_some(ip + usize::from(frame.get(ip)? & 0x0f) * 4)?
        }
        (0x86, 0xdd) if *frame.get(ip + 6)? == 6 => ip + 40,
        _ => return None,
    };
    (frame.len() >= at + 20).then_some(at)
}

/// Source address and port, and destination's, as they are in the frame.
pub fn ends(frame: &[u8], tcp: usize) -> ([u8; 18], [u8; 18]) {
    let (src, dst, len) = if frame[12] == 0x08 {
        (ETHERNET_BYTES + 12, ETHERNET_BYTES + 16, 4)
    } else {
        (ETHERNET_BYTES + 8, ETHERNET_BYTES + 24, 16)
    };
    let end = |address: usize, port: usize| {
        let mut end = [0; 18];
        end[..len].copy_from_slice(&frame[address..address + len]);
        end[16..].copy_from_slice(&frame[port..port + 2]);
        end
    };
    (end(src, tcp), end(dst, tcp + 2))
}

/// Adds to the number at `at`, which may be at an odd place, and repairs the checksum. One that
/// was wrong stays wrong.
pub fn add(frame: &mut [u8], tcp: usize, at: usize, delta: u32) {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&frame[at..at + 4]);
    let new = u32::from_be_bytes(bytes).wrapping_add(delta).to_be_bytes();
    let mut sum = u32::from(!u16::from_be_bytes([frame[tcp + 16], frame[tcp + 17]]));
    for (index, (old, new)) in bytes.into_iter().zip(new).enumerate() {
        let low = (at + index - tcp) % 2 == 1;
        let place = |byte: u8| u16::from_be_bytes(if low { [0, byte] } else { [byte, 0] });
        sum += u32::from(!place(old)) + u32::from(place(new));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[at..at + 4].copy_from_slice(&new);
    frame[tcp + 16..tcp + 18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
