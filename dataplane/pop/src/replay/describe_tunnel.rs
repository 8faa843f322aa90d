//! The segments of tunnels as text, for `--explain`.
//!
//! Ticks are printed relative to the POP's: `+0` is its own, `-2` two earlier.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use anyrelay_core::pop::Note;
use anyrelay_core::time::Tick;
use anyrelay_core::tunnel::open::OpenAgent;
use anyrelay_core::tunnel::{KeepaliveRequest, Return, SegmentKind};

/// Appends the text of a `note` about a tunnel to a line; ignores other notes.
pub(super) fn reason(line: &mut String, note: &Note<'_>) -> fmt::Result {
    match note {
        Note::Tunnelled { agent, vip, tick, incoming, acked } => {
            segment(line, (*agent, *vip), *tick, *incoming, *acked)
        }
        Note::Keepalive { request, named } => {
            let KeepaliveRequest { tenant, agent, nonce, last_tick: Tick(tick), public } = request;
            write!(line, " | claims to be agent {agent} of tenant {tenant}, nonce {nonce:016x}")?;
            match (public.port(), named) {
                (0, _) => line.write_str(", names no address: no token"),
                (_, true) => write!(line, ", names {public} at tick {tick}"),
                (_, false) => write!(line, ", names {public} at tick {tick}: no token"),
            }
        }
        Note::Sender { holds, sent } => {
            token(line, "own token", holds)?;
            write!(line, ", seq of {}", Ticks(*sent))
        }
        Note::Destination { holds } => token(line, "destination's token", holds),
        Note::OpenAddress { address, agent } => {
            write!(line, " | open address {address}")?;
            open_agent(line, agent)
        }
        Note::OpenPacket { src, agent, dst, sent } => {
            write!(line, " | packet from {src}")?;
            match agent {
                Some(agent) => open_agent(line, agent)?,
                None => line.write_str(": no open address")?,
            }
            write!(line, " to {dst}, seq of {}", Ticks(*sent))
        }
        Note::TunnelQuote { vip, agent, sender } => {
            write!(line, " | quotes a segment from {vip} to agent {agent}")?;
            match sender {
                // A host outside of the tunnel sent a packet, and no port is read.
                Some(sender) if sender.port() == 0 => {
                    write!(line, ", a packet of {}", sender.ip())
                }
                Some(sender) => write!(line, ", a datagram of agent {sender}"),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn segment(
    line: &mut String,
    (agent, vip): (SocketAddr, SocketAddr),
    Tick(tick): Tick,
    incoming: Option<SegmentKind>,
    acked: Option<i32>,
) -> fmt::Result {
    let what = match incoming {
        Some(SegmentKind::Syn) => "SYN",
        Some(SegmentKind::Empty) => "no data",
        Some(SegmentKind::Keepalive) => "keepalive",
        Some(SegmentKind::Data) => "datagram",
        Some(SegmentKind::Open) => "open packet",
        None => "no message",
    };
    write!(line, " | {what} of agent {agent} at {vip}, tick {tick}")?;
    match incoming {
        Some(SegmentKind::Keepalive | SegmentKind::Data | SegmentKind::Open) => {
            write!(line, ", acks {}", Ticks(acked))
        }
        _ => Ok(()),
    }
}

fn open_agent(line: &mut String, agent: &OpenAgent) -> fmt::Result {
    let OpenAgent { at, base_high } = agent;
    write!(line, ": agent {at} base {base_high:04x}8000")
}

fn token(line: &mut String, whose: &str, holds: &Return) -> fmt::Result {
    let Return { agent, base_high, tenant, epoch, pop } = holds;
    write!(
        line,
        " | {whose}: agent {agent} tenant {tenant} base {base_high:04x}8000 epoch {epoch} from POP \
         {pop}"
    )
}

/// The tick of a sequence number.
struct Ticks(Option<i32>);

impl fmt::Display for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ticks) => write!(f, "tick {ticks:+}"),
            None => f.write_str("no tick"),
        }
    }
}
