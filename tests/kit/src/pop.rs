//! A harness around a POP: it takes frames, and keeps all that comes of them.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyrelay_core::counters::Counters;
use anyrelay_core::frame::{Frame, HeapFrame};
use anyrelay_core::net::{IpEndpoint, PortIndex};
use anyrelay_core::pop::{BURST, Note, Output, Pop, SoftState, Standing};
use anyrelay_core::relay::hints::Hint;
use anyrelay_core::relay::mapping::Mapping;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::Now;
use anyrelay_core::tunnel::Return;
use anyrelay_core::tunnel::open::OpenAgent;
use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};
use anyrelay_core::wire::MacAddr;
use arrayvec::ArrayVec;

use crate::frames::Mac;

/// Frames that were sent, each behind the port that it left through.
pub type Sent = Vec<(PortIndex, Vec<u8>)>;

/// A running POP: its snapshot, state, counters and workers.
#[derive(Debug)]
pub struct RunningPop {
    /// What it is configured with.
    pub snapshot: Arc<Snapshot>,
    /// What its workers share.
    pub soft: Arc<SoftState>,
    /// Counters of all its workers.
    pub counters: Arc<Counters>,
    /// Its workers, of which any may take any frame.
    pub workers: Vec<Pop>,
    macs: Vec<Mac>,
}

impl RunningPop {
    /// A POP with `workers` workers, whose ports have these hardware addresses.
    pub fn new(snapshot: impl Into<Arc<Snapshot>>, macs: Vec<Mac>, workers: usize) -> RunningPop {
        let snapshot = snapshot.into();
        let soft = soft_state(&snapshot, &macs);
        let counters = Arc::new(Counters::new(snapshot.slots()));
        let worker = || Pop::new(Arc::clone(&soft), Arc::clone(&counters));
        let workers = (0..workers).map(|_| worker()).collect();
        RunningPop { snapshot, soft, counters, workers, macs }
    }

    /// A POP with one worker, whose ports have the hardware addresses of the config.
    pub fn single(snapshot: impl Into<Arc<Snapshot>>) -> RunningPop {
        let snapshot = snapshot.into();
        let macs = snapshot
            .config
            .ports
            .iter()
            .zip(0_u8..)
            .map(|(port, at)| port.mac.map_or([2, 0, 0, 0, 0, 0x10 + at], |mac| mac.octets()));
        let macs = macs.collect();
        RunningPop::new(snapshot, macs, 1)
    }

    /// The hardware address of a port.
    pub fn mac(&self, port: PortIndex) -> Mac {
        self.macs[usize::from(port.0)]
    }

    /// Starts all workers again, with nothing remembered but the counters.
    pub fn restart(&mut self) {
        self.soft = soft_state(&self.snapshot, &self.macs);
        (0..self.workers.len()).for_each(|worker| self.restart_worker(worker));
    }

    /// Goes over to another snapshot while it runs.
    pub fn reload(&mut self, snapshot: Arc<Snapshot>) {
        self.counters.make_room(snapshot.slots());
        self.snapshot = snapshot;
    }

    /// Starts one worker again; what all workers share stays.
    pub fn restart_worker(&mut self, worker: usize) {
        self.workers[worker] = Pop::new(Arc::clone(&self.soft), Arc::clone(&self.counters));
    }

    /// Hands a hint of another POP to a worker.
    pub fn hint(&mut self, now: Now, worker: usize, hint: &Hint, out: &mut impl Output<HeapFrame>) {
        self.workers[worker].take_hint(now, &self.snapshot, hint, out);
    }

    /// Hands a burst to a worker.
    pub fn burst<F: Frame, O: Output<F>>(
        &mut self,
        now: Now,
        worker: usize,
        port: PortIndex,
        frames: impl IntoIterator<Item = F>,
        out: &mut O,
    ) {
        let mut burst: ArrayVec<F, BURST> = frames.into_iter().collect();
        self.workers[worker].handle_burst(now, &self.snapshot, port, &mut burst, out);
        assert!(burst.is_empty(), "frames stay in the burst");
    }

    /// Lets a worker do what is due without a frame.
    pub fn poll(&mut self, now: Now, worker: usize, out: &mut impl Output<HeapFrame>) {
        self.workers[worker].poll(now, &self.snapshot, out);
    }
}

fn soft_state(snapshot: &Snapshot, macs: &[Mac]) -> Arc<SoftState> {
    let macs: Vec<_> = macs.iter().copied().map(MacAddr::new).collect();
    Arc::new(SoftState::new(snapshot, &macs))
}

/// A note of a POP on a frame, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of Note")]
pub enum Said {
    /// [`Note::Service`].
    Service(String),
    /// [`Note::Mapped`].
    Mapped(&'static str, Mapping),
    /// [`Note::Target`].
    Target(IpEndpoint, Standing),
    /// [`Note::ClientAddress`].
    ClientAddress { is_told: bool },
    /// [`Note::Tunnelled`].
    Tunnelled { agent: SocketAddr, vip: SocketAddr, tick: u64, acked: Option<i32> },
    /// [`Note::Keepalive`].
    Keepalive { tenant: u16, agent: u32, named: bool },
    /// [`Note::Sender`].
    Sender { holds: Return, sent: Option<i32> },
    /// [`Note::Destination`].
    Destination { holds: Return },
    /// [`Note::OpenAddress`].
    OpenAddress { address: Ipv6Addr, agent: OpenAgent },
    /// [`Note::OpenPacket`].
    OpenPacket { src: Ipv6Addr, agent: Option<OpenAgent>, dst: Ipv6Addr, sent: Option<i32> },
    /// [`Note::TunnelQuote`].
    TunnelQuote { agent: SocketAddr, vip: SocketAddr, sender: Option<SocketAddr> },
    /// [`Note::Sent`].
    Sent(ReplyKind),
    /// [`Note::Withheld`].
    Withheld(ReplyKind),
    /// [`Note::Verdict`].
    Verdict(Verdict),
}

impl From<Note<'_>> for Said {
    fn from(note: Note<'_>) -> Said {
        match note {
            Note::Service(name) => Said::Service(name.to_owned()),
            Note::Mapped(mode, mapping) => Said::Mapped(mode, mapping),
            Note::Target(target, standing) => Said::Target(target, standing),
            Note::ClientAddress { is_told } => Said::ClientAddress { is_told },
            Note::Tunnelled { agent, vip, tick, acked, .. } => {
                Said::Tunnelled { agent, vip, tick: tick.0, acked }
            }
            Note::Keepalive { request, named } => {
                Said::Keepalive { tenant: request.tenant, agent: request.agent, named }
            }
            Note::Sender { holds, sent } => Said::Sender { holds, sent },
            Note::Destination { holds } => Said::Destination { holds },
            Note::OpenAddress { address, agent } => Said::OpenAddress { address, agent },
            Note::OpenPacket { src, agent, dst, sent } => {
                Said::OpenPacket { src, agent, dst, sent }
            }
            Note::TunnelQuote { agent, vip, sender } => Said::TunnelQuote { agent, vip, sender },
            Note::Sent(kind) => Said::Sent(kind),
            Note::Withheld(kind) => Said::Withheld(kind),
            Note::Verdict(verdict) => Said::Verdict(verdict),
        }
    }
}

/// A frame buffer that can be made of bytes.
pub trait FromBytes: Frame {
    /// A frame with these bytes.
    fn from_bytes(bytes: &[u8]) -> Self;
}

impl FromBytes for HeapFrame {
    fn from_bytes(bytes: &[u8]) -> Self {
        HeapFrame::new(bytes)
    }
}

/// Keeps all that a POP sends and says.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// Frames that it sent.
    pub sent: Sent,
    /// Its notes.
    pub said: Vec<Said>,
    /// What other POPs are to be told.
    pub hints: Vec<Hint>,
    /// How many more frames it can allocate; `None` is no limit.
    pub frames_left: Option<usize>,
}

impl Recorder {
    /// Forgets what was sent and said.
    pub fn clear(&mut self) {
        self.sent.clear();
        self.said.clear();
        self.hints.clear();
    }

    /// Its verdicts, in order.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        self.said.iter().filter_map(|said| match said {
            Said::Verdict(verdict) => Some(*verdict),
            _ => None,
        })
    }

    /// The reasons of its drops, in order.
    pub fn drops(&self) -> impl Iterator<Item = DropReason> {
        self.verdicts().filter_map(|verdict| match verdict {
            Verdict::Drop(reason) => Some(reason),
            _ => None,
        })
    }

    /// Packets of its own that it sent, in order.
    pub fn replies(&self) -> impl Iterator<Item = ReplyKind> {
        self.said.iter().filter_map(|said| match said {
            Said::Sent(kind) => Some(*kind),
            _ => None,
        })
    }

    /// Packets of its own that a limit held back, in order.
    pub fn withheld(&self) -> impl Iterator<Item = ReplyKind> {
        self.said.iter().filter_map(|said| match said {
            Said::Withheld(kind) => Some(*kind),
            _ => None,
        })
    }

    /// The service that it named last.
    pub fn service(&self) -> Option<&str> {
        self.said.iter().rev().find_map(|said| match said {
            Said::Service(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl<F: FromBytes> Output<F> for Recorder {
    const EXPLAINS: bool = true;

    fn hint(&mut self, hint: Hint) -> bool {
        self.hints.push(hint);
        true
    }

    fn transmit(&mut self, port: PortIndex, frame: F) {
        self.sent.push((port, frame.bytes().to_vec()));
    }

    fn allocate(&mut self) -> Option<F> {
        allocate(&mut self.frames_left)
    }

    fn explain(&mut self, note: Note<'_>) {
        self.said.push(note.into());
    }
}

/// Keeps what a POP sends, without its notes: the POP then makes none, and takes the fast way with
/// what is plain.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    /// Frames that it sent.
    pub sent: Sent,
    /// What other POPs are to be told.
    pub hints: Vec<Hint>,
    /// How many more frames it can allocate; `None` is no limit.
    pub frames_left: Option<usize>,
}

impl Collector {
    /// Forgets what was sent.
    pub fn clear(&mut self) {
        self.sent.clear();
        self.hints.clear();
    }
}

impl<F: FromBytes> Output<F> for Collector {
    fn hint(&mut self, hint: Hint) -> bool {
        self.hints.push(hint);
        true
    }

    fn transmit(&mut self, port: PortIndex, frame: F) {
        self.sent.push((port, frame.bytes().to_vec()));
    }

    fn allocate(&mut self) -> Option<F> {
        allocate(&mut self.frames_left)
    }
}

/// An empty frame, if `left` allows one more.
fn allocate<F: FromBytes>(left: &mut Option<usize>) -> Option<F> {
    if let Some(left) = left {
        *left = left.checked_sub(1)?;
    }
    Some(F::from_bytes(&[]))
}
