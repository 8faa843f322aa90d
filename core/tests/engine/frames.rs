//! Frames written by hand, field by field, so that any of them can lie.

/// An IPv4 address from its dotted form.
pub fn ip(text: &str) -> u32 {
    text.parse::<std::net::Ipv4Addr>().unwrap().to_bits()
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

pub type Mac = [u8; 6];

/// The Internet checksum of RFC 1071, the plain way.
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) * 256 + u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 header.
#[derive(Clone, Debug)]
pub struct Ip {
    pub src: u32,
    pub dst: u32,
    pub ttl: u8,
    pub tos: u8,
    pub id: u16,
    /// The word of flags and offset.
    pub fragment: u16,
    pub protocol: u8,
    pub options: Vec<u8>,
}

impl Ip {
    pub fn new(src: u32, dst: u32) -> Ip {
        let options = Vec::new();
        Ip { src, dst, ttl: 57, tos: 0xb9, id: 0x1234, fragment: 0x4000, protocol: 6, options }
    }

    /// The datagram with this payload.
    pub fn with(&self, payload: &[u8]) -> Vec<u8> {
        assert!(self.options.len().is_multiple_of(4));
        let header_len = 20 + self.options.len();
        let mut bytes = vec![0x40 | (header_len / 4) as u8, self.tos];
        bytes.extend(((header_len + payload.len()) as u16).to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(self.src.to_be_bytes());
        bytes.extend(self.dst.to_be_bytes());
        bytes.extend(&self.options);
        let sum = internet_checksum(&[&bytes]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(payload);
        bytes
    }
}

/// A TCP segment in its datagram.
#[derive(Clone, Debug)]
pub struct Tcp {
    pub ip: Ip,
    pub sport: u16,
    pub dport: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub data: Vec<u8>,
}

impl Tcp {
    pub fn new(src: (u32, u16), dst: (u32, u16), flags: u8) -> Tcp {
        Tcp {
            ip: Ip::new(src.0, dst.0),
            sport: src.1,
            dport: dst.1,
            seq: 0x0102_0304,
            ack: if flags & ACK != 0 { 0x0a0b_0c0d } else { 0 },
            flags,
            window: 0x7210,
            options: Vec::new(),
            data: Vec::new(),
        }
    }

    pub fn options(mut self, options: &[u8]) -> Tcp {
        self.options = options.to_vec();
        self
    }

    /// With `NOP NOP TS` as the only options.
    pub fn stamped(self, value: u32, echo: u32) -> Tcp {
        self.options(&timestamps(value, echo))
    }

    pub fn data(mut self, data: &[u8]) -> Tcp {
        self.data = data.to_vec();
        self
    }

    pub fn numbers(mut self, seq: u32, ack: u32) -> Tcp {
        (self.seq, self.ack) = (seq, ack);
        self
    }

    pub fn edit(mut self, edit: impl FnOnce(&mut Tcp)) -> Tcp {
        edit(&mut self);
        self
    }

    /// The segment without its datagram, checksum right.
    pub fn segment(&self) -> Vec<u8> {
        assert!(self.options.len().is_multiple_of(4) && self.options.len() <= 40);
        let mut bytes = Vec::new();
        bytes.extend(self.sport.to_be_bytes());
        bytes.extend(self.dport.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.push(((20 + self.options.len()) * 4) as u8); // in words, in the high half
        bytes.push(self.flags);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes.extend(&self.data);
        let sum = tcp_checksum(self.ip.src, self.ip.dst, &bytes);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// The IPv4 datagram.
    pub fn datagram(&self) -> Vec<u8> {
        self.ip.with(&self.segment())
    }
}

/// The checksum of a TCP segment whose own field is zero; 0 for one whose field is right.
pub fn tcp_checksum(src: u32, dst: u32, segment: &[u8]) -> u16 {
    let mut pseudo = Vec::new();
    pseudo.extend(src.to_be_bytes());
    pseudo.extend(dst.to_be_bytes());
    pseudo.extend([0, 6]);
    pseudo.extend((segment.len() as u16).to_be_bytes());
    internet_checksum(&[&pseudo, segment])
}

/// `NOP NOP TS`.
pub fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    let mut bytes = vec![1, 1, 8, 10];
    bytes.extend(value.to_be_bytes());
    bytes.extend(echo.to_be_bytes());
    bytes
}

/// What Linux puts into a SYN: MSS, SACK permitted, timestamps, window scale.
pub fn linux_syn_options(mss: u16, value: u32, echo: u32) -> Vec<u8> {
    let mut bytes = vec![2, 4];
    bytes.extend(mss.to_be_bytes());
    bytes.extend([4, 2, 8, 10]);
    bytes.extend(value.to_be_bytes());
    bytes.extend(echo.to_be_bytes());
    bytes.extend([1, 3, 3, 7]);
    bytes
}

/// What Linux puts into a SYN with `tcp_timestamps=0`.
pub fn plain_syn_options(mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    vec![2, 4, high, low, 1, 1, 4, 2, 1, 3, 3, 7]
}

/// An Ethernet frame.
pub fn ethernet(dst: Mac, src: Mac, vlan: Option<u16>, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [dst, src].concat();
    if let Some(vlan) = vlan {
        bytes.extend([0x81, 0]);
        bytes.extend(vlan.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// An ICMP message with its checksum; `rest` is the second word of its header.
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest);
    bytes.extend(payload);
    let sum = internet_checksum(&[&bytes]);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// A frag-needed datagram that quotes the first `quoted` bytes of a datagram.
pub fn frag_needed(src: u32, dst: u32, mtu: u16, datagram: &[u8], quoted: usize) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let quote = &datagram[..quoted.min(datagram.len())];
    let message = icmp(3, 4, [0, 0, high, low], quote);
    Ip { protocol: 1, tos: 0xc0, ..Ip::new(src, dst) }.with(&message)
}

/// An ARP packet for IPv4 over Ethernet: 1 is a request, 2 a reply.
pub fn arp(operation: u16, sender: (Mac, u32), target: (Mac, u32)) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    bytes.extend(sender.0);
    bytes.extend(sender.1.to_be_bytes());
    bytes.extend(target.0);
    bytes.extend(target.1.to_be_bytes());
    bytes
}
