//! `map` for tunnels: the contents of a token or an open address, and the sequence numbers between
//! a POP and an agent at a tick.

use std::net::{Ipv6Addr, SocketAddr};

use anyrelay_core::net::Family;
use anyrelay_core::snapshot::{Destination, Snapshot, Tunnel};
use anyrelay_core::time::{Tick, UnixTime};
use anyrelay_core::tunnel::numbers::{ACK_TICKS, Numbers, SENT_TICKS};
use anyrelay_core::tunnel::open::OpenAgent;
use anyrelay_core::tunnel::token::TokenError;
use anyrelay_core::tunnel::{PublicToken, Return, TunnelVip};
use anyrelay_core::verdict::DropReason;
use serde::Serialize;

use super::Failure;

/// The subject of the query.
#[derive(Clone, Copy, Debug)]
pub(super) enum Query {
    /// The contents of the token, and its agent's numbers.
    Token(PublicToken),
    /// The numbers of the agent with this address, as POPs see it.
    Agent(SocketAddr),
    /// The agent with this open address, and its numbers.
    Open(Ipv6Addr),
}

/// The time of the query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Selects the lifetimes of token keys, and the tick if none is given.
    pub now: UnixTime,
    /// The tick.
    pub tick: Option<u64>,
}

/// The answer for one tunnel.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct TunnelAnswer {
    service: String,
    vip: String,
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Holds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<OfBase>,
    tick: u64,
    start: u32,
    /// Sequence numbers of the POP's SYN-ACK, of its keepalive reply, and of data at the first and
    /// the last offset.
    syn_ack_seq: u32,
    reply_seq: u32,
    data_down_seq: [u32; 2],
    /// Acknowledgment numbers that it accepts, within some strides.
    keepalive_acks: [u32; 2],
    data_ack: u32,
    stride: u32,
    ack_ticks: [i32; 2],
}

/// The contents of a token, and derived values.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Holds {
    epoch: u8,
    pop: u8,
    tenant: u16,
    /// Whether the tunnel serves the tenant.
    tenant_may_use_it: bool,
    #[serde(flatten)]
    of_base: OfBase,
}

/// What follows from the base in a token or an open address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct OfBase {
    base: u32,
    /// Sequence numbers of data that the POP accepts, at the first and the last offset.
    data_up_seq: [u32; 2],
    sent_ticks: [i32; 2],
    /// The acknowledgment number of data to the agent.
    data_down_ack: u32,
}

/// What tells the base of an agent.
#[derive(Clone, Copy, Debug)]
enum Holding {
    Token(Return),
    Open(OpenAgent),
}

impl Holding {
    fn base_high(self) -> u16 {
        match self {
            Holding::Token(holds) => holds.base_high,
            Holding::Open(holds) => holds.base_high,
        }
    }
}

/// The answers for the requested tunnels: `service`, or all.
///
/// # Errors
/// The POP's drop reason.
pub(super) fn answer(
    snapshot: &Snapshot,
    service: Option<&str>,
    query: Query,
    moment: Moment,
) -> Result<Result<Vec<TunnelAnswer>, DropReason>, Failure> {
    let tunnels = wanted(snapshot, service)?;
    Ok(match query {
        Query::Open(ip) => of_open(snapshot, ip, moment).map(|answer| vec![answer]),
        Query::Token(token) => of_token(&tunnels, token, moment).map(|answer| vec![answer]),
        Query::Agent(agent) => {
            if !snapshot.client_ok(agent.ip()) {
                return Ok(Err(DropReason::SourceNotAllowed));
            }
            let family = Family::of(agent.ip());
            let vips =
                tunnels.iter().filter_map(|tunnel| Some((tunnel, tunnel.service.vip(family)?)));
            let answers: Vec<_> = vips
                .map(|(tunnel, vip)| TunnelAnswer::new(tunnel, vip, agent, None, moment))
                .collect();
            if answers.is_empty() { Err(DropReason::DestinationFamily) } else { Ok(answers) }
        }
    })
}

/// The requested tunnels: the named one, or all.
fn wanted<'a>(snapshot: &'a Snapshot, name: Option<&str>) -> Result<Vec<&'a Tunnel>, Failure> {
    let is_wanted = |tunnel: &&Tunnel| name.is_none_or(|name| tunnel.name == name);
    let wanted: Vec<_> = snapshot.tunnels().filter(is_wanted).collect();
    if !wanted.is_empty() {
        return Ok(wanted);
    }
    let file = &snapshot.config.file;
    let names: Vec<_> = snapshot.tunnels().map(|tunnel| tunnel.name.as_str()).collect();
    Err(Failure::Config(match name {
        Some(name) if !names.is_empty() => {
            format!("{file}: tunnel: no service {name}; there are: {}", names.join(", "))
        }
        _ => format!("{file}: tunnel: there is none; tokens and agents are of [[tunnel]] services"),
    }))
}

/// Decodes the open address `ip` by the keys of the tunnel whose prefix it is in.
fn of_open(snapshot: &Snapshot, ip: Ipv6Addr, moment: Moment) -> Result<TunnelAnswer, DropReason> {
    let Destination::Open(index) = snapshot.classify(ip.to_bits()) else {
        return Err(DropReason::NotOurs);
    };
    let tunnel = snapshot.tunnel(index).ok_or(DropReason::NotOurs)?;
    let (open, vip) = tunnel.service.open_side().ok_or(DropReason::NotOurs)?;
    let found = open.addresses.decode(moment.now, ip.to_bits())?;
    let holds = Some(Holding::Open(found));
    Ok(TunnelAnswer::new(tunnel, vip, SocketAddr::V4(found.at), holds, moment))
}

/// Opens `token` with the keys of each of `tunnels`: those of at most one fit.
fn of_token(
    tunnels: &[&Tunnel],
    token: PublicToken,
    moment: Moment,
) -> Result<TunnelAnswer, DropReason> {
    let family = token.token.family();
    let mut why = DropReason::DestinationFamily;
    for tunnel in tunnels {
        let Some(vip) = tunnel.service.vip(family) else { continue };
        match vip.tokens.open(moment.now, token.epoch % 2 == 1, &token.token) {
            Ok(holds) if holds.epoch == token.epoch => {
                let agent = holds.agent;
                let holds = Some(Holding::Token(holds));
                return Ok(TunnelAnswer::new(tunnel, vip, agent, holds, moment));
            }
            Err(TokenError::Epoch) if why != DropReason::DestinationToken => {
                why = DropReason::DestinationTokenEpoch;
            }
            // Made with another key, or prefixed with the byte of another epoch.
            Ok(_) | Err(_) => why = DropReason::DestinationToken,
        }
    }
    Err(why)
}

impl TunnelAnswer {
    fn new(
        tunnel: &Tunnel,
        vip: &TunnelVip,
        agent: SocketAddr,
        holds: Option<Holding>,
        moment: Moment,
    ) -> Self {
        let service = &tunnel.service;
        let constants = service.constants;
        let tick = moment.tick.map_or_else(|| moment.now.tick(constants.tick_ms), Tick);
        let base_high = holds.map(Holding::base_high);
        let numbers = Numbers::new(service, vip, agent, base_high, tick);
        // Offsets are multiples of 64, and no datagram passes OFFSET.
        let last = u32::from(constants.offset).saturating_sub(64);
        let range = |first: anyrelay_core::seq::SeqNum| [first.0, first.plus(last).0];
        let of_base = numbers.of_token.map(|numbers| OfBase {
            base: numbers.base.0,
            data_up_seq: range(numbers.up),
            sent_ticks: [*SENT_TICKS.start(), *SENT_TICKS.end()],
            data_down_ack: numbers.down_ack.0,
        });
        let (token, open) = match (holds, of_base) {
            (Some(Holding::Token(holds)), Some(of_base)) => {
                let Return { epoch, pop, tenant, .. } = holds;
                let tenant_may_use_it = service.has_tenant(tenant);
                (Some(Holds { epoch, pop, tenant, tenant_may_use_it, of_base }), None)
            }
            (Some(Holding::Open(_)), of_base) => (None, of_base),
            _ => (None, None),
        };
        TunnelAnswer {
            service: tunnel.name.clone(),
            vip: vip.addr.to_string(),
            agent: agent.to_string(),
            token,
            open,
            tick: tick.0,
            start: numbers.start.0,
            syn_ack_seq: numbers.syn_ack.0,
            reply_seq: numbers.down.0,
            data_down_seq: range(numbers.down),
            keepalive_acks: numbers.keepalive_acks.map(|ack| ack.0),
            data_ack: numbers.data_ack.0,
            stride: constants.stride,
            ack_ticks: [*ACK_TICKS.start(), *ACK_TICKS.end()],
        }
    }

    /// The answer as lines of text.
    pub(super) fn lines(&self) -> Vec<String> {
        let TunnelAnswer { service, vip, agent, tick, start, stride, .. } = self;
        let mut head = format!("service {service} vip {vip} agent {agent}");
        if let Some(Holds { epoch, pop, tenant, tenant_may_use_it, of_base }) = &self.token {
            let base = of_base.base;
            head += &format!(" tenant {tenant} token of epoch {epoch} from POP {pop} base {base}");
            if !tenant_may_use_it {
                head += " (this tunnel does not serve the tenant)";
            }
        }
        if let Some(OfBase { base, .. }) = self.open {
            head += &format!(" open address, base {base}");
        }
        let range = |[first, last]: [u32; 2]| format!("{first} to {last}");
        let ticks = |[first, last]: [i32; 2]| format!("+ {stride} * ({first} to {last})");
        let (syn_ack, reply) = (self.syn_ack_seq, self.reply_seq);
        let down = range(self.data_down_seq);
        let [after_syn, after_reply] = self.keepalive_acks;
        let (data_ack, acked) = (self.data_ack, ticks(self.ack_ticks));
        let mut lines = vec![
            head,
            format!("  tick {tick} start {start}"),
            format!("  sends: SYN-ACK seq {syn_ack}, keepalive reply seq {reply}, data seq {down}"),
            format!(
                "  takes: keepalive ack {after_syn} or {after_reply}, data ack {data_ack}; each \
                 {acked}"
            ),
        ];
        if let Some(of_base) = self.token.as_ref().map(|token| token.of_base).or(self.open) {
            let (up, sent) = (range(of_base.data_up_seq), ticks(of_base.sent_ticks));
            lines.push(format!("  takes: data seq {up}, {sent}"));
            lines.push(format!("  sends: data ack {}", of_base.data_down_ack));
        }
        lines
    }
}
