//! `map`: the stateless mapping on the command line, in both directions.
//!
//! Forward it prints a client's egress endpoint at the target; backward the client of an egress
//! address, port and TSval, for instance for an abuse report (`map_relay`). For tunnels it prints
//! the contents of a token or an open address, and an agent's sequence numbers (`map_tunnel`). An
//! input that does not decode ends with the label of the POP's drop reason and exit code 1.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::PublicToken;
use anyrelay_core::verdict::DropReason;
use clap::Args;
use serde::Serialize;

use super::map_relay::{self, Line};
use super::map_tunnel::{self, Moment, Query};
use super::{Failure, print_json, say, time};
use crate::control::load_offline;
use crate::worker::unix_now;

/// The arguments of `map`: a client, an egress endpoint, a token, an agent, or its open address.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct MapArguments {
    /// The POP's config.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The client to map forward.
    #[arg(long, value_name = "IP:PORT")]
    client: Option<SocketAddr>,
    /// The service of the client or agent; without it, all.
    #[arg(long, value_name = "NAME", conflicts_with = "egress")]
    service: Option<String>,
    /// The address and port at the target, to map backward.
    #[arg(long, value_name = "IP:PORT", conflicts_with = "client", requires = "target")]
    egress: Option<SocketAddr>,
    /// The timestamp (TSval) at the target, for an address of a pool.
    #[arg(long, value_name = "N", requires = "egress")]
    tsval: Option<u32>,
    /// The target.
    #[arg(long, value_name = "IP:PORT", requires = "egress")]
    target: Option<SocketAddr>,
    /// The token of an agent, to decode.
    #[arg(long, conflicts_with_all = ["client", "egress"])]
    token: Option<PublicToken>,
    /// The agent's address as POPs see it.
    #[arg(long, value_name = "IP:PORT", conflicts_with_all = ["client", "egress", "token"])]
    agent: Option<SocketAddr>,
    /// The open address of an agent, to decode.
    #[arg(
        long,
        value_name = "IPV6",
        conflicts_with_all = ["client", "egress", "token", "agent", "service"]
    )]
    open: Option<Ipv6Addr>,
    /// The tick of the sequence numbers; without it, the current one.
    #[arg(long, value_name = "N", conflicts_with_all = ["client", "egress"])]
    tick: Option<u64>,
    /// The time at which the client sends; without it, now.
    #[arg(long, value_name = "TIME", value_parser = time, requires = "client")]
    at: Option<UnixTime>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Why there is no answer: the POP's drop reason.
#[derive(Debug, Serialize)]
struct Drop {
    drop: &'static str,
    text: &'static str,
}

#[derive(Serialize)]
struct Mappings {
    mappings: Vec<Line>,
}

#[derive(Serialize)]
struct Tunnels {
    tunnels: Vec<map_tunnel::TunnelAnswer>,
}

/// Prints the answer for `arguments`.
pub(super) fn map(arguments: &MapArguments) -> Result<(), Failure> {
    let snapshot = load_offline(&arguments.config)?;
    let query = arguments.token.map(Query::Token).or(arguments.agent.map(Query::Agent));
    if let Some(query) = query.or(arguments.open.map(Query::Open)) {
        return map_tunnel(&snapshot, query, arguments);
    }
    let answer = match (arguments.client, arguments.egress, arguments.target) {
        (Some(client), ..) => {
            let now = || unix_now(snapshot.config.pop.clock_offset_ms);
            let time = arguments.at.unwrap_or_else(now);
            map_relay::forward(&snapshot, arguments.service.as_deref(), client, time)?
        }
        (None, Some(egress), Some(target)) => {
            let found = map_relay::backward(&snapshot, egress, arguments.tsval, target)?;
            found.map(|found| vec![found])
        }
        // clap requires one of them.
        _ => {
            return Err(Failure::Config(
                "give --client, or --egress, --target and of a pool --tsval, or --token, or \
                 --agent, or --open"
                    .into(),
            ));
        }
    };
    tell(answer, arguments.json)
}

fn tell(answer: Result<Vec<Line>, DropReason>, json: bool) -> Result<(), Failure> {
    match answer {
        Ok(mappings) if json => print_json(&Mappings { mappings }),
        Ok(mappings) => mappings.iter().map(Line::text).try_for_each(say),
        Err(reason) => tell_drop(reason, json),
    }
}

fn tell_drop(reason: DropReason, json: bool) -> Result<(), Failure> {
    let drop = Drop { drop: reason.label(), text: reason.text() };
    if json {
        print_json(&drop)?;
    } else {
        say(format_args!("drop {}: {}", drop.drop, drop.text))?;
    }
    Err(Failure::Printed)
}

/// Prints the answer about a tunnel.
fn map_tunnel(snapshot: &Snapshot, query: Query, arguments: &MapArguments) -> Result<(), Failure> {
    let now = unix_now(snapshot.config.pop.clock_offset_ms);
    let moment = Moment { now, tick: arguments.tick };
    match map_tunnel::answer(snapshot, arguments.service.as_deref(), query, moment)? {
        Ok(tunnels) if arguments.json => print_json(&Tunnels { tunnels }),
        Ok(tunnels) => tunnels.iter().flat_map(map_tunnel::TunnelAnswer::lines).try_for_each(say),
        Err(reason) => tell_drop(reason, arguments.json),
    }
}
