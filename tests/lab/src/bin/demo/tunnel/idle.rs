//! A tunnel that is used, rests for most of the run, and is used again by the same sockets; and for
//! comparison a plain TCP connection through the same NAT that rests as long.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyrelay_lab::tunnel::{Agent, TunnelTopology};
use anyrelay_lab::{LabError, Result};

use super::net::{CONNECTING, IDLE, Pair, SERVING};

/// Questions asked before and after the rest.
const QUESTIONS: u32 = 20;
/// As many as must be answered: one may be lost as any datagram may.
const ANSWERS_MIN: u32 = 19;
/// The router's own address as the connecting place sees it, and a port of no other use.
const PLAIN: ([u8; 4], u16) = ([198, 18, 2, 1], 9000);

/// How the rest ended.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// How long nothing but keepalives went through the tunnel.
    pub rested: Duration,
    /// The same flow, from the same ports, carried data again at once.
    pub survived: bool,
    /// What was asked after the rest, and answered.
    pub asked: u32,
    pub answered: u32,
    /// Whether the NAT has forgotten the plain TCP connection by then.
    pub plain_forgotten: bool,
}

/// An idle flow.
pub struct Idle {
    client: UdpSocket,
    stop: Arc<AtomicBool>,
    echo: Option<JoinHandle<Result<Vec<SocketAddr>>>>,
    /// The flows of the two agents, by place.
    flows: Vec<Option<Flow>>,
    since: Instant,
    /// Its ends stay open; neither says anything.
    _plain: (TcpStream, TcpStream),
}

impl Idle {
    /// Uses the tunnel, and lets it rest.
    pub fn start(topology: &TunnelTopology, pair: &Pair) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let echo = echo(topology, stop.clone())?;
        let client = topology.sites[CONNECTING].host.run(|| {
            let socket = UdpSocket::bind(("127.0.0.1", 0))?;
            socket.connect(IDLE.listen())?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            Ok(socket)
        })?;
        let client = client.map_err(LabError::io("bind for the idle flow"))?;
        let plain = plain(topology)?;
        let mut idle = Self {
            client,
            stop,
            echo: Some(echo),
            flows: Vec::new(),
            since: Instant::now(),
            _plain: plain,
        };
        if idle.ask() < ANSWERS_MIN {
            return Err(LabError::Unexpected("the tunnel that is to rest carries nothing".into()));
        }
        idle.flows = flows(topology, pair)?;
        idle.since = Instant::now();
        Ok(idle)
    }

    /// Uses it again.
    pub fn wake(&mut self, topology: &TunnelTopology, pair: &Pair) -> Result<Outcome> {
        let rested = self.since.elapsed();
        let entries = topology.sites[CONNECTING].nat.entries()?;
        let plain = format!("dport={} ", PLAIN.1);
        let plain_forgotten = !entries.iter().any(|entry| entry.line.contains(&plain));
        let same_flows = flows(topology, pair)? == self.flows && !self.flows.contains(&None);
        let answered = self.ask();
        self.stop.store(true, Ordering::Relaxed);
        let echo = self.echo.take().ok_or(LabError::Unexpected("no echo".into()))?;
        let peers = echo.join().map_err(|_| LabError::Unexpected("the echo died".into()))??;
        // To the server it is one client, too.
        let survived = same_flows && peers.len() == 1 && answered >= ANSWERS_MIN;
        Ok(Outcome { rested, survived, asked: QUESTIONS, answered, plain_forgotten })
    }

    fn ask(&self) -> u32 {
        let mut answered = 0;
        let mut buffer = [0; 64];
        for n in 0..QUESTIONS {
            let question = n.to_be_bytes();
            let _ = self.client.send(&question);
            while let Ok(size) = self.client.recv(&mut buffer) {
                if buffer[..size] == question {
                    answered += 1;
                    break;
                }
            }
        }
        answered
    }
}

/// Answers everything; gives the addresses that it was asked from.
fn echo(
    topology: &TunnelTopology,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<Result<Vec<SocketAddr>>>> {
    let host = &topology.sites[SERVING].host;
    let socket = host.run(|| UdpSocket::bind(IDLE.target()))?;
    let socket = socket.map_err(LabError::io("bind for the idle flow"))?;
    let timeout = socket.set_read_timeout(Some(Duration::from_millis(50)));
    timeout.map_err(LabError::io("set a timeout"))?;
    Ok(std::thread::spawn(move || {
        let mut peers = Vec::new();
        let mut buffer = [0; 64];
        while !stop.load(Ordering::Relaxed) {
            let Ok((size, from)) = socket.recv_from(&mut buffer) else { continue };
            let _ = socket.send_to(&buffer[..size], from);
            if !peers.contains(&from) {
                peers.push(from);
            }
        }
        Ok(peers)
    }))
}

/// A connection from the connecting place through its NAT to the router.
fn plain(topology: &TunnelTopology) -> Result<(TcpStream, TcpStream)> {
    let listener = topology.router.run(|| TcpListener::bind(SocketAddr::from(PLAIN)))?;
    let listener = listener.map_err(LabError::io("listen for the plain connection"))?;
    let connected =
        topology.sites[CONNECTING].host.run(|| TcpStream::connect(SocketAddr::from(PLAIN)))?;
    let connected = connected.map_err(LabError::io("make the plain connection"))?;
    let (accepted, _) = listener.accept().map_err(LabError::io("accept the plain connection"))?;
    Ok((connected, accepted))
}

/// A flow of an agent that its NAT knows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flow {
    public_port: u16,
    /// How many handshakes the agent has made: one more, and it is another flow.
    handshakes: u64,
}

/// The flows of two agents, as far as the NATs remember them.
fn flows(topology: &TunnelTopology, pair: &Pair) -> Result<Vec<Option<Flow>>> {
    let of = |site: usize, agent: &Agent| {
        let status = agent.status()?;
        let local = status["local"].as_str().and_then(|text| text.parse::<SocketAddr>().ok());
        let entries = topology.sites[site].nat.entries()?;
        let own = |port| entries.iter().find(|e| e.source_port == port && e.state == "ESTABLISHED");
        let entry = local.and_then(|local| own(local.port()));
        let handshakes = status["counters"]["handshakes"].as_u64().unwrap_or(0);
        Ok(entry.map(|entry| Flow { public_port: entry.public_port, handshakes }))
    };
    Ok(vec![of(SERVING, &pair.serving)?, of(CONNECTING, &pair.connecting)?])
}
