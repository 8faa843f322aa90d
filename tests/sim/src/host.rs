//! A stock TCP stack: smoltcp, one instance for each end of a connection, so that the host finds
//! the right one by all four of addresses and ports, as kernels do.

use std::cell::Cell;
use std::net::SocketAddr;

use anyrelay_kit::frames::{ACK, FIN, Segment, timestamps};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::app::{self, Ending, Gone, NUMBER_LEN, Plan, Progress, Way};
use crate::link::Link;
use crate::stamps::Stamps;
use crate::traits::Traits;
use crate::wire::{self, Datagram, SegmentView};

/// Address and port of a stack, and of its peer.
pub type Ends = (SocketAddr, SocketAddr);

/// One end of a connection.
pub struct Stack {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Which connection; a target does not know at first.
    pub number: Option<usize>,
    pub is_client: bool,
    /// When it is to be polled; an earlier event for it is out of date.
    pub due_us: Option<u64>,
    /// What it sees of timestamps.
    pub stamps: Stamps,
    /// The number of the SYN that a target took.
    pub isn: Option<u32>,
    /// The end of what was sent, and the last ack.
    pub next: Option<(u32, u32)>,
    timestamps: bool,
    /// Whether its padding is before the timestamps.
    pads_first: bool,
    // What names the connection, as far as it came.
    first: [u8; NUMBER_LEN as usize],
    first_len: usize,
    last_ack: Option<u32>,
    /// Until when its application rests, from when it began to.
    rests_until_us: Option<u64>,
    clock: u32,
    link: Link,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    aborted: bool,
}

thread_local! {
    // smoltcp takes a plain function for the timestamps' clock.
    static TSVAL: Cell<u32> = const { Cell::new(0) };
}

fn tsval() -> u32 {
    TSVAL.get()
}

impl Stack {
    /// One that connects.
    pub fn client(number: usize, ends: Ends, traits: Traits, now_us: u64) -> Result<Self, String> {
        let (mut stack, (local, remote)) = (Self::new(ends, traits, now_us), ends);
        stack.is_client = true;
        stack.number = Some(number);
        let socket = stack.sockets.get_mut::<Socket<'_>>(stack.handle);
        let connected = socket.connect(stack.interface.context(), remote, local);
        connected.map_err(|error| format!("{local} cannot connect to {remote}: {error}"))?;
        Ok(stack)
    }

    /// One that waits for a SYN.
    pub fn target(ends: Ends, traits: Traits, now_us: u64) -> Result<Self, String> {
        let (mut stack, (local, _)) = (Self::new(ends, traits, now_us), ends);
        let listens = stack.sockets.get_mut::<Socket<'_>>(stack.handle).listen(local);
        listens.map_err(|error| format!("{local} cannot listen: {error}"))?;
        Ok(stack)
    }

    fn new((local, remote): Ends, traits: Traits, now_us: u64) -> Self {
        let mut link = Link::new(traits.mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = traits.seed;
        let mut interface = Interface::new(config, &mut link, instant(now_us));
        let whole = if local.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(local.ip().into(), whole));
        });
        let buffer = || SocketBuffer::new(vec![0; traits.buffer]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_hop_limit(Some(traits.ttl));
        if traits.reno {
            socket.set_congestion_control(CongestionControl::Reno);
        }
        socket.set_keep_alive(traits.keepalive_us.map(Duration::from_micros));
        socket.set_tsval_generator(traits.timestamps.then_some(tsval));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Stack {
            local,
            remote,
            number: None,
            is_client: false,
            due_us: None,
            stamps: Stamps::default(),
            isn: None,
            next: None,
            timestamps: traits.timestamps,
            // Most do.
            pads_first: traits.clock & 12 > 0,
            first: [0; NUMBER_LEN as usize],
            first_len: 0,
            last_ack: None,
            rests_until_us: None,
            clock: traits.clock,
            link,
            interface,
            sockets,
            handle,
            aborted: false,
        }
    }

    /// The timestamp that the stack would send now.
    pub fn tsval(&self, now_us: u64) -> u32 {
        self.clock.wrapping_add((now_us / 1000) as u32)
    }

    /// A datagram comes in; its segment was read already.
    ///
    /// Pure acks are left out where smoltcp 0.14 would stop for ever because of them: old or
    /// repeated ones while there is nothing but a FIN to be sent again, and those with a window of
    /// zero. So is a FIN behind more data than fits the window, with those data (README.md,
    /// "smoltcp 0.14").
    pub fn receive(&mut self, segment: &SegmentView<'_>, mut datagram: Vec<u8>) {
        if segment.flags == ACK && segment.data.is_empty() && segment.checksum_holds {
            let socket = self.sockets.get::<Socket<'_>>(self.handle);
            let only_fin = socket.send_queue() == 0
                && matches!(socket.state(), State::FinWait1 | State::Closing | State::LastAck);
            let is_news =
                self.last_ack.is_none_or(|last| (segment.ack.wrapping_sub(last) as i32) > 0);
            if is_news {
                self.last_ack = Some(segment.ack);
            }
            if (only_fin && !is_news) || segment.window == 0 {
                return;
            }
        }
        if segment.has(FIN) && segment.checksum_holds {
            let socket = self.sockets.get::<Socket<'_>>(self.handle);
            let room = socket.recv_capacity() - socket.recv_queue();
            if segment.data.len() > room {
                wire::cut_data(&mut datagram, segment.data.len() - room);
            }
        }
        self.link.received.push_back(datagram);
    }

    pub fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    /// Whether it waits for a SYN, maybe once more after a RST.
    pub fn is_listening(&self) -> bool {
        self.state() == State::Listen
    }

    /// An ack of what it has, with the number of what it would send next; `None` before it has sent
    /// anything.
    pub fn challenge(&self, now_us: u64) -> Option<Vec<u8>> {
        let (seq, ack) = self.next?;
        let options = match self.timestamps {
            true => timestamps(self.tsval(now_us), self.stamps.echo()),
            false => Vec::new(),
        };
        let segment = Segment::new(self.local, self.remote, ACK);
        Some(Segment { seq, ack, ttl: 64, options, ..segment }.from_host())
    }

    /// Whether a segment is of another connection between the same two ends, which another target
    /// has: its numbers are others, and so are its timestamps.
    pub fn is_foreign(&self, segment: &SegmentView<'_>) -> bool {
        let is_far = |own: Option<u32>, number: u32| {
            own.is_some_and(|own| (own.wrapping_sub(number) as i32).unsigned_abs() > SENT_MAX)
        };
        let sent = self.next.map(|(next, _)| next);
        let starts = segment.has(ACK) && !self.is_client && sent.is_none();
        starts
            || segment.has(ACK) && is_far(sent, segment.ack)
            || is_far(self.stamps.last_ack(), segment.seq)
    }

    /// Whether a segment that it has just sent is a keepalive probe: a byte of garbage in place of
    /// the last one that was acknowledged.
    pub fn is_probe(&self, sent: &SegmentView<'_>) -> bool {
        let all_acked = self.sockets.get::<Socket<'_>>(self.handle).send_queue() == 0;
        let old = self.next.is_some_and(|(next, _)| sent.end() == next);
        all_acked && old && sent.flags == ACK && sent.data.len() == 1
    }

    /// Nothing is left to be done.
    pub fn is_over(&self) -> bool {
        self.state() == State::Closed
    }

    /// Whether the stack only waits for old segments to die out.
    pub fn is_waiting(&self) -> bool {
        self.state() == State::TimeWait
    }

    /// Lets the stack and its application do what they can; what is sent is in `out` then.
    pub fn run(
        &mut self,
        now_us: u64,
        plans: &[Plan],
        progress: &mut [Progress],
        out: &mut Vec<Vec<u8>>,
    ) -> Result<(), String> {
        TSVAL.set(self.tsval(now_us));
        let now = instant(now_us);
        // Applications read first, so that windows are seldom shut; most clients acknowledge first.
        let acks = self.is_client && self.clock & 3 > 0 && self.state() == State::SynSent;
        self.interface.poll_ingress_single(now, &mut self.link, &mut self.sockets);
        if acks {
            self.interface.poll(now, &mut self.link, &mut self.sockets);
        }
        self.step(now_us, plans, progress)?;
        // Each round that moves something can make room for more.
        for _ in 0..ROUNDS_MAX {
            self.interface.poll(now, &mut self.link, &mut self.sockets);
            if !self.step(now_us, plans, progress)? {
                break;
            }
        }
        self.due_us = self
            .interface
            .poll_at(now, &self.sockets)
            .map(|at| at.total_micros() as u64)
            .into_iter()
            .chain(self.rests_until_us.filter(|until| *until > now_us))
            .min()
            .map(|at| at.max(now_us + 1));
        for bytes in &mut self.link.sent {
            if self.pads_first {
                wire::pad_first(bytes);
            }
            let ip = Datagram::read(bytes);
            if let Some(sent) = ip.as_ref().and_then(Datagram::segment) {
                let next = self.next.map_or(sent.end(), |(next, _)| next);
                let ahead = (sent.end().wrapping_sub(next) as i32) > 0;
                self.next = Some((if ahead { sent.end() } else { next }, sent.ack));
            }
        }
        out.extend(self.link.sent.drain(..));
        Ok(())
    }

    /// What the application does. True when it did something.
    fn step(
        &mut self,
        now_us: u64,
        plans: &[Plan],
        progress: &mut [Progress],
    ) -> Result<bool, String> {
        let (local, remote) = (self.local, self.remote);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        if !self.is_client && self.number.is_none() {
            while self.first_len < self.first.len() && socket.can_recv() {
                let rest = &mut self.first[self.first_len..];
                self.first_len += socket.recv_slice(rest).unwrap_or(0);
            }
            if self.first_len < self.first.len() {
                return Ok(false);
            }
            let number = app::number_of(self.first).filter(|number| *number < plans.len());
            let Some(number) = number else {
                return Err(format!("{local}: what {remote} sent is of no connection"));
            };
            if progress[number].accepted {
                return Err(format!("{local}: {remote} is connection {number} a second time"));
            }
            self.number = Some(number);
            progress[number].accepted = true;
            progress[number].up_received = NUMBER_LEN;
        }
        let Some(number) = self.number else { return Ok(false) };
        let (plan, progress) = (&plans[number], &mut progress[number]);
        let (out_way, in_way) =
            if self.is_client { (Way::Up, Way::Down) } else { (Way::Down, Way::Up) };
        let (sent, to_send, received, to_receive) = match self.is_client {
            true => (&mut progress.up_sent, plan.up, &mut progress.down_received, plan.down),
            false => (&mut progress.down_sent, plan.down, &mut progress.up_received, plan.up),
        };
        let (mut moved, mut wrong) = (false, false);
        while socket.can_recv() {
            let at = *received;
            let count = socket.recv(|bytes| {
                wrong |= !app::is_right(number, in_way, at, bytes);
                (bytes.len(), bytes.len())
            });
            *received += count.unwrap_or(0) as u32;
            moved = true;
        }
        if self.is_client && plan.begins_rest(*sent, *received) {
            self.rests_until_us.get_or_insert(now_us + plan.rest_us);
        }
        let rests = self.rests_until_us.is_some_and(|until| now_us < until);
        let turn = if rests { *sent } else { plan.turn(self.is_client, *received) };
        while *sent < turn && socket.can_send() {
            let at = *sent;
            let count = socket.send(|room| {
                let count = room.len().min((turn - at) as usize);
                app::fill(number, out_way, at, &mut room[..count]);
                (count, count)
            });
            *sent += count.unwrap_or(0) as u32;
            moved = true;
        }
        let (all_sent, all_received) = (*sent == to_send, *received == to_receive);
        if wrong || *received > to_receive {
            return Err(format!("{local}: connection {number} got bytes that were not sent"));
        }
        let ended = matches!(
            socket.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
        if self.is_client {
            progress.connected |= socket.may_send() || ended;
            progress.client_saw_end |= ended && all_received;
        } else {
            progress.target_saw_end |= ended && all_received;
        }
        if ended && !all_received && !socket.may_recv() {
            return Err(format!("{local}: connection {number} ended before all was delivered"));
        }
        let resets_at = match plan.ending {
            Ending::ClientResets(at) if self.is_client => Some(at),
            Ending::TargetResets(at) if !self.is_client => Some(at),
            // Its user gives up.
            Ending::TargetVanishes(_) if self.is_client && progress.target_gone.is_some() => {
                (plan.rest_us > 0 && !rests).then_some(0)
            }
            _ => None,
        };
        if let Some(at) = resets_at
            && *if self.is_client { &progress.up_sent } else { &progress.down_sent } >= at
            && !self.aborted
            && !matches!(socket.state(), State::Closed | State::Listen | State::SynSent)
        {
            socket.abort();
            self.aborted = true;
            return Ok(true);
        }
        let closes_first = match plan.ending {
            Ending::TargetCloses => !self.is_client,
            _ => self.is_client,
        };
        if all_sent && !rests && (closes_first || (ended && all_received)) && socket.may_send() {
            socket.close();
            moved = true;
        }
        Ok(moved)
    }

    /// How it ended, when it did.
    pub fn gone(&self, progress: &Progress) -> Option<Gone> {
        let whole = match self.is_client {
            true => progress.client_saw_end && progress.target_saw_end,
            false => progress.target_saw_end && progress.client_saw_end,
        };
        match self.state() {
            _ if self.aborted => Some(Gone::Aborted),
            State::TimeWait => Some(Gone::Closed),
            State::Closed if whole => Some(Gone::Closed),
            State::Closed => Some(Gone::Reset),
            _ => None,
        }
    }
}

fn instant(now_us: u64) -> Instant {
    Instant::from_micros(now_us as i64)
}

/// More than any connection transfers, or has under way.
const SENT_MAX: u32 = 1 << 19;

const ROUNDS_MAX: usize = 64;
