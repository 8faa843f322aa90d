//! The event loop that joins a local side to the tunnel.
//!
//! One thread receives batches from the VIP's packet socket and from the local side's descriptors,
//! runs the core's state machine over them, and sends batches. Files, DNS and commands have threads
//! of their own. Its clock is CLOCK_BOOTTIME, which advances while the host sleeps.

mod error;
mod flow;
pub(crate) mod log_limit;
mod nat;
mod open;
mod signals;
mod status;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyrelay_core::keys::AgentKey;
use anyrelay_core::time::{Instant, Now, UnixTime};
use anyrelay_core::tunnel::agent::{Agent, AgentSetup, FlowProblem, FlowState};
use rustix::time::{ClockId, clock_gettime};

pub use self::error::RunError;
use self::error::system;
use self::flow::{Arrived, Flow};
use self::log_limit::{LogLimiter, SendWarnings};
use self::nat::NatView;
use crate::control::Control;
use crate::local::{LOCAL_KEYS_END, LocalSide, PublicToken};
use crate::open::{OpenConfig, OpenSide};
use crate::outer::{Carried, Firewall, SEGMENT_LEN_MAX, Steering, UplinkConfig, capability};
use crate::peers::{LookupResult, PeerSource, Watcher};
use crate::poller::{Poller, Waker};
use crate::publish::{PublishTarget, Publisher};
use crate::state::StateFile;

/// The settings of an agent, except those of its local side.
#[derive(Debug)]
pub struct AgentOptions {
    /// The address of the POPs.
    pub vip: SocketAddr,
    /// The agent's key.
    pub key: AgentKey,
    /// Targets for the agent's own token.
    pub publish: Vec<PublishTarget>,
    /// The state file, with port and base.
    pub state: Option<PathBuf>,
    /// The control socket, which answers `status`.
    pub control: Option<PathBuf>,
    /// The mark and interface of the agent's own traffic.
    pub steering: Steering,
    /// What the local side carries: a route into it does not lead to the VIP.
    pub carried: Carried,
    /// Sources of the peers' locations; a local side refers to them by
    /// [`crate::local::SourceIndex`].
    pub peers: Vec<PeerSource>,
    /// The open side, if it has one.
    pub open: Option<OpenConfig>,
}

/// Runs an agent until SIGTERM, SIGINT or SIGHUP.
///
/// # Errors
/// When it does not start, or a system call fails that it cannot do without. The firewall table and
/// the control socket are removed in any case.
pub fn run(options: AgentOptions, local: impl LocalSide) -> Result<(), RunError> {
    capability::check()?;
    Firewall::remove_stale(options.vip);
    Engine::start(options, local)?.serve()
}

/// A peer as `status` shows it.
#[derive(Debug)]
struct PeerState {
    source: PeerSource,
    found: Option<Result<PublicToken, String>>,
}

struct Engine<L> {
    poller: Poller,
    waker: Arc<Waker>,
    /// Readable after a signal.
    _signals: UnixStream,
    control: Option<Control>,
    publisher: Publisher,
    published: u64,
    state: StateFile,
    logged: Option<(FlowState, Option<FlowProblem>)>,
    peers: Vec<PeerState>,
    flow: Flow,
    local: L,
    open: Option<OpenSide>,
    was_ready: bool,
    next_second: Instant,
    next_restore: Instant,
    leaks: u64,
    leak_log: LogLimiter,
    warnings: SendWarnings,
    nat: NatView,
}

impl<L: LocalSide> Engine<L> {
    fn start(options: AgentOptions, mut local: L) -> Result<Self, RunError> {
        let AgentOptions { vip, key, publish, state, control, steering, carried, peers, open } =
            options;
        let poller = Poller::new().map_err(system("no epoll"))?;
        let waker = Waker::new(&poller, WAKER).map_err(system("no eventfd"))?;
        let waker = Arc::new(waker);
        let signals = signals::signals().map_err(system("signal handlers"))?;
        poller.add(&signals, SIGNALS).map_err(system("signal handlers"))?;
        let control = match control {
            Some(path) => Some(listen(&path, &poller)?),
            None => None,
        };
        let state = StateFile::open(state)?;
        let mut agent = AgentSetup::new(vip, key, random()?);
        agent.saved = state.saved();
        // The POPs limit the size of datagrams, by their tunnel_mtu.
        agent.mtu = TUNNEL_MTU_MAX;
        let now = clock();
        let watcher = Watcher::start(peers.clone(), &steering, Arc::clone(&waker));
        let config = UplinkConfig { vip, steering, carried };
        let flow = Flow::new(Agent::new(agent, now), config, now.instant);
        let publisher = Publisher::start("token", publish).map_err(system("no thread"))?;
        local.start(&poller).map_err(RunError::Local)?;
        let open = open.map(OpenSide::open).transpose()?;
        open.as_ref()
            .map_or(Ok(()), |open| open.start(&poller, OPEN))
            .map_err(system("no epoll"))?;
        let mut engine = Engine {
            poller,
            waker,
            _signals: signals,
            control,
            publisher,
            published: 0,
            state,
            logged: None,
            peers: peers.into_iter().map(|source| PeerState { source, found: None }).collect(),
            flow: flow.watching(watcher.map_err(system("no thread"))?),
            local,
            open,
            was_ready: false,
            next_second: now.instant.plus_millis(SECOND_MS),
            next_restore: now.instant,
            leaks: 0,
            leak_log: LogLimiter::default(),
            warnings: SendWarnings::default(),
            nat: NatView::default(),
        };
        // A permanent error stops the agent here; a missing network does not.
        match engine.flow.open_uplink(&engine.poller) {
            Err(error) if error.is_temporary() => engine.flow.log_uplink_error(&error),
            other => other?,
        }
        Ok(engine)
    }

    /// Runs the loop until a signal arrives.
    fn serve(mut self) -> Result<(), RunError> {
        let mut ready = Vec::new();
        loop {
            let timeout = self.timeout();
            self.poller.wait(timeout, &mut ready).map_err(system("epoll"))?;
            self.flow.now = clock().instant;
            for &key in &ready {
                match key {
                    RECEIVER => self.receive(),
                    SENDER => {
                        self.flow.handle_errors();
                        self.check_leaks();
                    }
                    WAKER => self.locate_peers(),
                    CONTROL => self.answer_status(),
                    OPEN => self.read_open(),
                    SIGNALS => {
                        self.stop();
                        return Ok(());
                    }
                    local => {
                        self.local.readable(local, &self.poller, &mut self.flow.tunnel());
                    }
                }
            }
            let open_failure = self.open.as_ref().and_then(OpenSide::failure);
            if let Some(error) = self.local.failure().or(open_failure) {
                self.stop();
                return Err(RunError::Stopped(error));
            }
            self.notify_ready();
            self.run_timers();
            self.flow.flush();
            self.flow.follow_port(&self.poller);
            self.publish_token();
            self.follow_open();
        }
    }

    fn timeout(&self) -> Duration {
        let now = clock().instant;
        let timers = [Some(self.flow.agent.next_timer()), self.local.next_timer()];
        let next = timers.into_iter().flatten().fold(self.next_second, Ord::min);
        Duration::from_nanos(next.nanos_since(now))
    }

    fn receive(&mut self) {
        let (local, open, poller) = (&mut self.local, &mut self.open, &self.poller);
        self.flow.receive(|arrived, tunnel| match arrived {
            Arrived::Datagram(datagram) => local.received(&datagram, poller, tunnel),
            Arrived::Open { packet, class } => {
                if let Some(open) = open {
                    open.received(packet, class);
                }
            }
        });
        self.local.flush(&mut self.flow.tunnel());
    }

    /// Restores the firewall table if the kernel's TCP has received segments, because the table was
    /// flushed. The kernel's RST may have closed the flow in firewalls on the path.
    fn check_leaks(&mut self) {
        if !self.flow.drain_leaks() || self.flow.now < self.next_restore {
            return;
        }
        self.next_restore = self.flow.now.plus_millis(SECOND_MS);
        self.leaks += 1;
        let text = match self.flow.restore_firewall() {
            Ok(()) => "the firewall table had been removed, and was restored".to_owned(),
            Err(error) => format!("the firewall table has been removed: {error}"),
        };
        if let Some(text) = self.leak_log.admit(self.flow.now, text) {
            tracing::warn!("{text}");
        }
        self.flow.rebound();
    }

    fn locate_peers(&mut self) {
        self.waker.clear();
        for LookupResult { source: index, result } in self.flow.results() {
            let Some(state) = self.peers.get_mut(index.0) else { continue };
            match &result {
                Ok(token) => {
                    tracing::info!(peer = %state.source, "the peer is at {token}");
                    self.local.located(index, *token, &mut self.flow.tunnel());
                }
                Err(error) => tracing::warn!(peer = %state.source, "not found: {error}"),
            }
            state.found = Some(result);
        }
    }

    fn run_timers(&mut self) {
        self.flow.poll();
        let now = self.flow.now;
        if self.local.next_timer().is_some_and(|at| now >= at) {
            self.local.timers(&mut self.flow.tunnel());
        }
        if now < self.next_second {
            return;
        }
        self.next_second = now.plus_millis(SECOND_MS);
        self.flow.follow_route(&self.poller);
        self.observe_nat();
        self.log_state();
        for text in self.warnings.due(now, &self.flow.counts().sender) {
            tracing::warn!("{text}");
        }
        if let Some(saved) = self.flow.agent.saved() {
            self.state.save(saved);
        }
    }

    /// Records which address and port the POPs see.
    fn observe_nat(&mut self) {
        let status = self.flow.agent.status(self.flow.now);
        if let (FlowState::Ready, Some(uplink), Some(public)) =
            (status.state, &self.flow.uplink, status.public)
        {
            self.nat.observe(uplink.local(), public, status.counters.handshakes);
        }
    }

    /// Notifies the local side when the tunnel comes up.
    fn notify_ready(&mut self) {
        let ready = self.flow.agent.state() == FlowState::Ready;
        if ready && !self.was_ready {
            self.local.ready(&mut self.flow.tunnel());
        }
        self.was_ready = ready;
    }

    /// Publishes the agent's own token after a change.
    fn publish_token(&mut self) {
        let version = self.flow.agent.token_version();
        if version == self.published {
            return;
        }
        self.log_state();
        if let Some(token) = self.flow.agent.token() {
            self.published = version;
            if let Some(saved) = self.flow.agent.saved() {
                self.state.save(saved);
            }
            // The only output to stdout, in the form that `--peer` takes.
            let _ = writeln!(io::stdout(), "token:{token}");
            self.publisher.publish(&format!("token:{token}"));
        }
    }

    /// Logs changes of the tunnel's state.
    fn log_state(&mut self) {
        let status = self.flow.agent.status(self.flow.now);
        let (state, problem) = (status.state, status.problem);
        if self.logged == Some((state, problem)) {
            return;
        }
        self.logged = Some((state, problem));
        match problem {
            Some(problem) => {
                let host = self.host_problem(problem);
                tracing::warn!(%state, "{}", host.unwrap_or_else(|| problem.to_string()));
            }
            None => {
                let public = status.public.map(|address| address.to_string());
                tracing::info!(%state, public, pop = status.pop);
            }
        }
    }

    fn answer_status(&self) {
        if let Some(control) = &self.control {
            control.answer(&self.status());
        }
    }

    fn stop(mut self) {
        tracing::info!("stopping");
        if let Some(saved) = self.flow.agent.saved() {
            self.state.save_last(saved);
        }
    }
}

fn listen(path: &Path, poller: &Poller) -> Result<Control, RunError> {
    let listen = || {
        let control = Control::listen(path)?;
        poller.add(&control, CONTROL)?;
        Ok(control)
    };
    listen().map_err(|source| RunError::Control { path: path.to_owned(), source })
}

fn random() -> Result<[u8; 32], RunError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(RunError::Random)?;
    Ok(seed)
}

/// The current time of both clocks.
fn clock() -> Now {
    let nanos = |id| {
        let time = clock_gettime(id);
        time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
    };
    Now {
        instant: Instant::from_nanos(nanos(ClockId::Boottime)),
        unix: UnixTime::from_millis(nanos(ClockId::Realtime) / 1_000_000),
    }
}

const RECEIVER: u64 = LOCAL_KEYS_END;
const SENDER: u64 = LOCAL_KEYS_END + 1;
const WAKER: u64 = LOCAL_KEYS_END + 2;
const CONTROL: u64 = LOCAL_KEYS_END + 3;
const SIGNALS: u64 = LOCAL_KEYS_END + 4;
const OPEN: u64 = LOCAL_KEYS_END + 5;
const SECOND_MS: u64 = 1000;
/// The largest tunnel_mtu of POPs; the buffers here hold its segments.
const TUNNEL_MTU_MAX: u16 = 9216;
const _: () = assert!(TUNNEL_MTU_MAX as usize <= SEGMENT_LEN_MAX);
