//! Real use of datagrams: one QUIC connection over which hashed bodies go both ways, one
//! after another in each direction.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyrelay_lab::quic::{BYTES_MAX, Client, Connection, Identity, Way, move_body, runtime};
use anyrelay_lab::{LabError, Result};

use crate::record::{Progress, Record};

/// What QUIC has shown.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Bodies begun.
    pub transfers: u64,
    /// Bodies that did not come to their end.
    pub broken: u64,
    /// Bodies that came complete but were not what was sent.
    pub corrupt: u64,
    pub longest_stall: Duration,
    /// As the client's QUIC says.
    pub lost_packets: u64,
    pub sent_packets: u64,
    pub round_trip: Duration,
}

/// Moves bodies both ways over one connection until the run is over. What arrives, or is given to
/// QUIC, counts as traffic of this kind.
pub fn move_bodies(
    at: SocketAddr,
    identity: &Identity,
    record: &Arc<Record>,
    kind: usize,
) -> Result<Outcome> {
    runtime()?.block_on(async {
        let any: IpAddr = match at {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let any = SocketAddr::new(any, 0);
        let client = match Client::connect(any, at, identity).await? {
            Ok(client) => client,
            Err(error) => {
                record.note(format!("QUIC: no connection: {error}"));
                return Ok(Outcome { transfers: 1, broken: 1, ..Outcome::default() });
            }
        };
        let moving = |way| keep_moving(client.connection.clone(), way, record.clone(), kind);
        let down = tokio::spawn(moving(Way::Down));
        let up = moving(Way::Up).await;
        let unexpected = |error| LabError::Unexpected(format!("QUIC: {error}"));
        let down = down.await.map_err(unexpected)?;
        let stats = client.connection.stats();
        client.close().await;
        Ok(Outcome {
            transfers: down.transfers + up.transfers,
            broken: down.broken + up.broken,
            corrupt: down.corrupt + up.corrupt,
            longest_stall: down.longest_stall.max(up.longest_stall),
            lost_packets: stats.path.lost_packets,
            sent_packets: stats.path.sent_packets,
            round_trip: stats.path.rtt,
        })
    })
}

async fn keep_moving(
    connection: Connection,
    way: Way,
    record: Arc<Record>,
    kind: usize,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut progress = Progress::start();
    for seed in 1.. {
        if record.is_over() {
            break;
        }
        outcome.transfers += 1;
        let seen = |bytes| {
            record.moved(kind, bytes);
            progress.made();
        };
        let seed = seed << 1 | u64::from(way == Way::Up);
        let moving = move_body(&connection, way, (seed, BYTES_MAX), seen);
        match tokio::time::timeout(record.time_left(), moving).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                outcome.corrupt += 1;
                record.note("QUIC: wrong body".to_owned());
            }
            broken => {
                let why = match broken {
                    Ok(Err(error)) => error.to_string(),
                    _ => "did not end".to_owned(),
                };
                outcome.broken += 1;
                record.note(format!("QUIC: {why}"));
                break;
            }
        }
    }
    progress.made();
    outcome.longest_stall = progress.longest();
    outcome
}
