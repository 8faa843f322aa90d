//! Real use through the UDP side: one QUIC connection (`quinn`) over which hashed bodies go both
//! ways, one after another in each direction, each on a stream of its own.
//!
//! A request is `direction 1 | seed 8 | length 8`. The server answers a download with the body, and
//! an upload, whose body follows the request, with the hash of what arrived. Whoever sends a body
//! does so at a steady rate, so that other traffic has room.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyrelay_lab::body::{Body, CHUNK, Hash};
use anyrelay_lab::{LabError, Namespace, Result};
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Runtime};

use crate::record::{Progress, Record};

/// Bytes of a body.
const BYTES: usize = 1_000_000;
/// What a body's sender gives to QUIC in a second.
const BYTES_PER_SECOND: usize = 500_000;
const NAME: &str = "demo";

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

/// The server's certificate, which the client knows, and its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    pub fn make() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(unexpected)?;
        Ok(Self { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() })
    }
}

/// Starts a server in a namespace; it ends with the run.
pub fn serve(
    place: &Namespace,
    at: SocketAddr,
    identity: &Identity,
    record: &Arc<Record>,
) -> Result<std::thread::JoinHandle<Result<Result<()>>>> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.clone()));
    let config = ServerConfig::with_single_cert(vec![identity.certificate.clone()], key)
        .map_err(unexpected)?;
    let record = record.clone();
    place.thread(move || {
        runtime()?.block_on(async {
            let endpoint = Endpoint::server(config, at).map_err(LabError::io("bind for QUIC"))?;
            while let Ok(Some(incoming)) =
                tokio::time::timeout(record.time_left(), endpoint.accept()).await
            {
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    while let Ok((answer, request)) = connection.accept_bi().await {
                        tokio::spawn(answer_one(answer, request));
                    }
                });
                if record.is_over() {
                    break;
                }
            }
            Ok(())
        })
    })
}

/// Moves bodies both ways over one connection until the run is over. What arrives, or is given to
/// QUIC, counts as traffic of this kind.
pub fn move_bodies(
    at: SocketAddr,
    identity: &Identity,
    record: &Arc<Record>,
    kind: usize,
) -> Result<Outcome> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.certificate.clone()).map_err(unexpected)?;
    let config = ClientConfig::with_root_certificates(Arc::new(roots)).map_err(unexpected)?;
    runtime()?.block_on(async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut endpoint = Endpoint::client(any).map_err(LabError::io("bind for QUIC"))?;
        endpoint.set_default_client_config(config);
        let connecting = endpoint.connect(at, NAME).map_err(unexpected)?;
        let connection = match connecting.await {
            Ok(connection) => connection,
            Err(error) => {
                record.note(format!("QUIC: no connection: {error}"));
                return Ok(Outcome { transfers: 1, broken: 1, ..Outcome::default() });
            }
        };
        let down = tokio::spawn(keep_moving(connection.clone(), GIVE, record.clone(), kind));
        let up = keep_moving(connection.clone(), TAKE, record.clone(), kind).await;
        let down = down.await.map_err(unexpected)?;
        let stats = connection.stats();
        connection.close(0_u32.into(), b"done");
        endpoint.wait_idle().await;
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
    direction: u8,
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
        let seed = seed << 1 | u64::from(direction);
        let moving = one_body(&connection, direction, seed, seen);
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

/// Whether the body is right.
async fn one_body(
    connection: &Connection,
    direction: u8,
    seed: u64,
    mut seen: impl FnMut(usize),
) -> io::Result<bool> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let mut request = [direction; REQUEST_BYTES];
    request[1..9].copy_from_slice(&seed.to_be_bytes());
    request[9..].copy_from_slice(&(BYTES as u64).to_be_bytes());
    send.write_all(&request).await?;
    if direction == GIVE {
        let _ = send.finish();
        let (hash, length) = receive_body(&mut receive, &mut seen).await?;
        if length != BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        return Ok(hash == hash_of_body(seed));
    }
    let sent = send_body(&mut send, seed, BYTES, &mut seen).await?;
    let mut arrived = [0; 32];
    receive.read_exact(&mut arrived).await.map_err(io::Error::other)?;
    seen(0);
    Ok(arrived == sent)
}

async fn answer_one(mut answer: SendStream, mut request: RecvStream) {
    let mut head = [0; REQUEST_BYTES];
    if request.read_exact(&mut head).await.is_err() {
        return;
    }
    let number = |at: usize| head[at..at + 8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    // What goes wrong is the client's to tell.
    if head[0] == GIVE {
        let bytes = usize::try_from(number(9)).unwrap_or(0).min(BYTES);
        let _ = send_body(&mut answer, number(1), bytes, &mut |_| {}).await;
    } else if let Ok((hash, _)) = receive_body(&mut request, &mut |_| {}).await {
        let _ = answer.write_all(&hash).await;
        let _ = answer.finish();
    }
}

async fn send_body(
    stream: &mut SendStream,
    seed: u64,
    bytes: usize,
    seen: &mut impl FnMut(usize),
) -> io::Result<Hash> {
    let mut body = Body::new(seed, bytes);
    let mut buffer = [0; CHUNK];
    let start = Instant::now();
    let mut given = 0;
    loop {
        let chunk = body.next(&mut buffer);
        if chunk.is_empty() {
            break;
        }
        for piece in chunk.chunks(PIECE) {
            stream.write_all(piece).await?;
            seen(piece.len());
            given += piece.len();
            let due = Duration::from_secs_f64(given as f64 / BYTES_PER_SECOND as f64);
            tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        }
    }
    let _ = stream.finish();
    Ok(body.hash())
}

async fn receive_body(
    stream: &mut RecvStream,
    seen: &mut impl FnMut(usize),
) -> io::Result<(Hash, usize)> {
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut buffer = [0; PIECE];
    while let Some(size) = stream.read(&mut buffer).await? {
        seen(size);
        hash.update(&buffer[..size]);
        length += size;
    }
    Ok((hash.finalize().into(), length))
}

fn hash_of_body(seed: u64) -> Hash {
    let mut body = Body::new(seed, BYTES);
    let mut buffer = [0; CHUNK];
    while !body.next(&mut buffer).is_empty() {}
    body.hash()
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().map_err(LabError::io("start tokio"))
}

fn unexpected(error: impl std::fmt::Display) -> LabError {
    LabError::Unexpected(format!("QUIC: {error}"))
}

const GIVE: u8 = 0;
const TAKE: u8 = 1;
const REQUEST_BYTES: usize = 17;
const PIECE: usize = 8 * 1024;
