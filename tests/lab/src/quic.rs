//! QUIC (`quinn`): a server, and clients that move hashed bodies over one connection, each on a
//! stream of its own.
//!
//! A request is `way 1 | seed 8 | length 8`. The server answers a download with the body, and an
//! upload, whose body follows the request, with the hash of what arrived. Whoever sends a body does
//! so at a steady rate, so that other traffic has room.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use quinn::{ClientConfig, ConnectionError, Endpoint, RecvStream, SendStream, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Runtime};

use crate::body::{Body, CHUNK, Hash};
use crate::{LabError, Namespace, Result};

pub use quinn::Connection;

/// Bytes of a body at most.
pub const BYTES_MAX: usize = 1_000_000;
/// What a body's sender gives to QUIC in a second.
const BYTES_PER_SECOND: usize = 500_000;
const NAME: &str = "demo";
/// How long a server waits for clients before it looks whether it is to end.
const TURN: Duration = Duration::from_millis(100);

/// The server's certificate, which the client knows, and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn make() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(unexpected)?;
        Ok(Self { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() })
    }
}

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the server.
    Down,
    /// To the server.
    Up,
}

/// Starts a server in a namespace, which ends when `is_over`. The thread gives how many connections
/// it accepted.
///
/// # Errors
/// If it cannot be started; those of binding come from the thread.
pub fn serve(
    place: &Namespace,
    at: SocketAddr,
    identity: &Identity,
    is_over: impl Fn() -> bool + Send + 'static,
) -> Result<JoinHandle<Result<Result<u64>>>> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.clone()));
    let config = ServerConfig::with_single_cert(vec![identity.certificate.clone()], key)
        .map_err(unexpected)?;
    place.thread(move || {
        runtime()?.block_on(async {
            let endpoint = Endpoint::server(config, at).map_err(LabError::io("bind for QUIC"))?;
            let mut accepted = 0;
            while !is_over() {
                let incoming = match tokio::time::timeout(TURN, endpoint.accept()).await {
                    Ok(Some(incoming)) => incoming,
                    Ok(None) => break,
                    Err(_) => continue,
                };
                accepted += 1;
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    while let Ok((answer, request)) = connection.accept_bi().await {
                        tokio::spawn(answer_one(answer, request));
                    }
                });
            }
            Ok(accepted)
        })
    })
}

/// A client's side.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    /// Its connection.
    pub connection: Connection,
}

impl Client {
    /// Connects from `from`; what QUIC says if it cannot.
    ///
    /// # Errors
    /// If there is no socket.
    pub async fn connect(
        from: SocketAddr,
        at: SocketAddr,
        identity: &Identity,
    ) -> Result<Result<Self, ConnectionError>> {
        let mut roots = RootCertStore::empty();
        roots.add(identity.certificate.clone()).map_err(unexpected)?;
        let config = ClientConfig::with_root_certificates(Arc::new(roots)).map_err(unexpected)?;
        let mut endpoint = Endpoint::client(from).map_err(LabError::io("bind for QUIC"))?;
        endpoint.set_default_client_config(config);
        let connecting = endpoint.connect(at, NAME).map_err(unexpected)?;
        Ok(connecting.await.map(|connection| Client { endpoint, connection }))
    }

    /// Closes it, and waits until the server may know.
    pub async fn close(self) {
        self.connection.close(0_u32.into(), b"done");
        self.endpoint.wait_idle().await;
    }
}

/// Moves a body of `bytes`, no more than [`BYTES_MAX`]; `seen` hears of each piece that arrived or
/// was given to QUIC. Whether what arrived is what was sent.
///
/// # Errors
/// If it did not come to its end.
pub async fn move_body(
    connection: &Connection,
    way: Way,
    (seed, bytes): (u64, usize),
    mut seen: impl FnMut(usize),
) -> io::Result<bool> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let mut request = [if way == Way::Down { GIVE } else { TAKE }; REQUEST_BYTES];
    request[1..9].copy_from_slice(&seed.to_be_bytes());
    request[9..].copy_from_slice(&(bytes as u64).to_be_bytes());
    send.write_all(&request).await?;
    if way == Way::Down {
        let _ = send.finish();
        let (hash, length) = receive_body(&mut receive, &mut seen).await?;
        if length != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        return Ok(hash == hash_of_body(seed, bytes));
    }
    let sent = send_body(&mut send, seed, bytes, &mut seen).await?;
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
        let bytes = usize::try_from(number(9)).unwrap_or(0).min(BYTES_MAX);
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

fn hash_of_body(seed: u64, bytes: usize) -> Hash {
    let mut body = Body::new(seed, bytes);
    let mut buffer = [0; CHUNK];
    while !body.next(&mut buffer).is_empty() {}
    body.hash()
}

/// What runs QUIC on the calling thread.
///
/// # Errors
/// If the system has no room for it.
pub fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().map_err(LabError::io("start tokio"))
}

fn unexpected(error: impl std::fmt::Display) -> LabError {
    LabError::Unexpected(format!("QUIC: {error}"))
}

const GIVE: u8 = 0;
const TAKE: u8 = 1;
const REQUEST_BYTES: usize = 17;
const PIECE: usize = 8 * 1024;
