//! What a probe finds at a target, as data: what was seen, and nothing of what it means.

use std::net::{IpAddr, SocketAddr};

use anyrelay_core::config::Encapsulate;
use anyrelay_core::relay::mapping::Tag;
use serde::Serialize;

/// All that a probe finds at one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// The target.
    pub target: SocketAddr,
    /// The address of this host that it was probed from; `None` without a route to the target.
    pub from: Option<IpAddr>,
    /// Why not all was looked at: mostly since CAP_NET_RAW is missing, so that the kernel's TCP
    /// alone told what there is.
    pub limited: Option<String>,
    /// What became of a SYN.
    pub opening: Opening,
    /// The timestamps that it echoes.
    pub echoes: Echoes,
    /// RSTs of the target.
    pub reset: Reset,
    /// The path to the target.
    pub path: Option<Path>,
    /// Tunnels to the target, if a VIP was given.
    pub tunnels: Vec<Tunnel>,
}

impl Findings {
    /// Nothing seen yet of `target`.
    pub fn new(target: SocketAddr) -> Self {
        Findings {
            target,
            from: None,
            limited: None,
            opening: Opening::Silent,
            echoes: Echoes::default(),
            reset: Reset::Unseen,
            path: None,
            tunnels: Vec::new(),
        }
    }

    /// The options of its SYN-ACK, if there was one.
    pub fn options(&self) -> Option<&Options> {
        match &self.opening {
            Opening::Open { options } => Some(options),
            _ => None,
        }
    }
}

/// Why not all was looked at, without the capability for raw sockets.
pub const NO_CAPABILITY: &str = "CAP_NET_RAW is missing";

/// What became of a SYN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Opening {
    /// It was answered by a SYN-ACK.
    Open {
        /// Those of the SYN-ACK.
        options: Options,
    },
    /// It was answered by a RST.
    Refused,
    /// An ICMP error, or the host's own kernel, says why it cannot be reached.
    Unreachable {
        /// In words.
        reason: String,
    },
    /// There was no answer.
    Silent,
}

/// What a SYN-ACK agrees to, of what the SYN offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Options {
    /// Whether it has timestamps (RFC 7323); `None` where that could not be seen.
    pub timestamps: Option<bool>,
    /// Its MSS in bytes, if it has one and that could be seen.
    pub mss: Option<u16>,
    /// Its window scale.
    pub window_scale: Option<u8>,
    /// Whether it permits SACK; `None` where that could not be seen.
    pub sack: Option<bool>,
    /// Whether it agrees to ECN; `None` where that could not be seen.
    pub ecn: Option<bool>,
}

/// The timestamps that come back from the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Echoes {
    /// In the SYN-ACK, of the TSval of a SYN as a POP sends it for a client without timestamps.
    pub syn_ack: Echo,
    /// In the answer to a later segment, whose TSval has the low bit set.
    pub later: Echo,
}

/// A TSecr, beside the TSval that was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Echo {
    /// It was not looked for.
    #[default]
    Unseen,
    /// It came back as it was sent.
    Exact,
    /// The segment that should have it has no timestamps.
    Absent,
    /// Another number came back.
    Changed {
        /// The TSval that was sent.
        sent: u32,
        /// The TSecr that came.
        came: u32,
    },
    /// No segment came.
    Silent,
    /// The connection was reset instead.
    Reset,
}

impl Echo {
    /// That of a SYN-ACK, of which all 32 bits count.
    pub fn of_syn_ack(sent: u32, came: Option<u32>) -> Self {
        match came {
            None => Echo::Absent,
            Some(came) if came == sent => Echo::Exact,
            Some(came) => Echo::Changed { sent, came },
        }
    }

    /// That of a later segment, whose low bit a POP does not read.
    pub fn of_later(sent: u32, came: Option<u32>) -> Self {
        match came {
            Some(came) if Tag::of_timestamp(came) == Tag::of_timestamp(sent) => Echo::Exact,
            came => Echo::of_syn_ack(sent, came),
        }
    }
}

/// Whether RSTs of the target for connections that it does not know have timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// None was seen.
    Unseen,
    /// With timestamps that echo the tag.
    Tagged,
    /// With timestamps that do not echo the tag.
    OtherTag,
    /// Without timestamps.
    Bare,
}

/// The path to the target, in bytes of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Path {
    /// The length of a datagram that carries a segment of the MSS that the target announced, or
    /// less, if the relay or this host's link takes less.
    pub wanted: u16,
    /// The MTU of this host's link to the target.
    pub link: u16,
    /// The longest datagram that arrived.
    pub passes: Option<u16>,
    /// The shortest that did not.
    pub fails: Option<u16>,
    /// The MTU that an ICMP error announced, the last one.
    pub told: Option<u16>,
}

impl Path {
    /// Whether datagrams of the wanted length arrive.
    pub fn is_whole(&self) -> bool {
        self.passes == Some(self.wanted)
    }
}

/// A tunnel to the target, for one VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// `ipip` or `gue`.
    #[serde(serialize_with = "name")]
    pub protocol: Encapsulate,
    /// The VIP inside.
    pub vip: SocketAddr,
    /// The source of the outer header.
    pub from: IpAddr,
    /// Why answers in the tunnel, to `from`, could not be received here, and what to do; `None` if
    /// they could.
    pub deaf: Option<String>,
    /// What became of a SYN inside.
    pub answer: TunnelAnswer,
}

/// What became of a SYN in a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum TunnelAnswer {
    /// A SYN-ACK came back in the tunnel.
    Through {
        /// Those of the SYN-ACK.
        options: Options,
    },
    /// A SYN-ACK came by itself, from the VIP.
    Direct {
        /// Those of the SYN-ACK.
        options: Options,
    },
    /// A RST came from the VIP: the tunnel works, and nothing listens on the VIP's port.
    Refused {
        /// Whether it came in the tunnel.
        through: bool,
    },
    /// An ICMP error says that the target does not take the tunnel's protocol, or why else not.
    Unreachable {
        /// In words.
        reason: String,
    },
    /// There was no answer.
    Silent,
    /// It could not be tried.
    Untried {
        /// Why.
        reason: String,
    },
}

fn name<S: serde::Serializer>(protocol: &Encapsulate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(protocol.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_bit_of_an_echo_counts_in_syn_acks_alone() {
        let (bare, plain) = (Tag(77).of_bare_syn(), Tag(77).timestamp());
        assert_eq!(Echo::of_syn_ack(bare, Some(bare)), Echo::Exact);
        let other = Echo::Changed { sent: bare, came: plain };
        assert_eq!(Echo::of_syn_ack(bare, Some(plain)), other);
        assert_eq!(Echo::of_later(plain, Some(bare)), Echo::Exact);
        assert_eq!(Echo::of_later(plain, Some(0)), Echo::Changed { sent: plain, came: 0 });
        for of in [Echo::of_syn_ack, Echo::of_later] {
            assert_eq!(of(plain, None), Echo::Absent);
        }
    }
}
