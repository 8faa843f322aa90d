//! Sends segments to the VIP through a raw socket (raw(7), ipv6(7)), in batches, with
//! don't-fragment as TCP sets it.
//!
//! The IPv4 header is written here: that is the kernel's shortest path from a raw socket to the
//! wire, and avoids a redundant checksum.
//!
//! By default the kernel lowers its path MTU on any ICMP error that quotes the right two addresses:
//! a raw socket has no sequence numbers to compare. So it uses the interface's MTU alone
//! (IP_PMTUDISC_INTERFACE), and this module checks the port and sequence number in the quotes of
//! ICMP errors.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, getsockopt, sendmmsg, setsockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Protocol, Socket, Type};

use super::counts::SendCounts;
use super::deferred::{DEFERRED_MAX, Deferred};
use super::errors::{self, TooBig};
use super::path::PathMtu;
use super::segment::{self, PseudoHeader};
use super::{BATCH, FlowEndpoints, SEGMENT_LEN_MAX, Steering, filter};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::Instant;
use anyrelay_core::tunnel::agent::OutgoingSegment;
use anyrelay_core::wire::{ipv4, ipv6};

/// Sends segments to the VIP.
pub struct Sender {
    socket: Socket,
    port: u16,
    pseudo: PseudoHeader,
    /// Precedes each segment of IPv4; the kernel fills in length and checksum.
    ip_header: Option<[u8; ipv4::HEADER_LEN]>,
    /// The path MTU, learned from ICMP errors.
    path: PathMtu,
    /// The longest segment that fits the known path.
    segment_max: usize,
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<u8>,
    /// Slots used since the last flush.
    taken: usize,
    /// The segments of the next flush, in this order.
    entries: Vec<Entry>,
    /// Segments made while another is being made, and those from another port.
    deferred: Deferred,
    counts: SendCounts,
}

/// A segment in a slot.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: usize,
    len: usize,
}

impl Sender {
    /// Sends from `endpoints.local` to `endpoints.vip`, by the mark and interface of `steering`.
    ///
    /// # Errors
    /// The error of the system call, mostly because CAP_NET_RAW is missing.
    pub fn open(endpoints: &FlowEndpoints, steering: &Steering) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(endpoints.vip), Type::RAW, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        steering.apply(&socket)?;
        // The port in the address of a raw socket has no meaning, and must be 0 for IPv6.
        socket.bind(&SocketAddr::new(endpoints.local.ip(), 0).into())?;
        socket.connect(&SocketAddr::new(endpoints.vip.ip(), 0).into())?;
        socket.attach_filter(&filter::to_port(endpoints.local.port(), endpoints.vip.is_ipv4()))?;
        let mut ip_header = None;
        if let (IpAddr::V4(local), IpAddr::V4(vip)) = (endpoints.local.ip(), endpoints.vip.ip()) {
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::INTERFACE)?;
            setsockopt(&socket, nix::sys::socket::sockopt::Ipv4RecvErr, &true)?;
            socket.set_header_included_v4(true)?;
            let ttl = u8::try_from(sockopt::ip_ttl(&socket)?).unwrap_or(u8::MAX);
            ip_header = Some(segment::ipv4_header(local, vip, ttl));
        } else {
            sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::INTERFACE)?;
            setsockopt(&socket, nix::sys::socket::sockopt::Ipv6RecvErr, &true)?;
            setsockopt(&socket, nix::sys::socket::sockopt::Ipv6DontFrag, &true)?;
        }
        if sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER).is_err() {
            sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER)?;
        }
        let mut sender = Sender {
            socket,
            port: endpoints.local.port(),
            pseudo: PseudoHeader::new(endpoints),
            ip_header,
            path: PathMtu::new(endpoints.vip.is_ipv4()),
            segment_max: SEGMENT_LEN_MAX,
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![0; SLOTS * SLOT],
            taken: 0,
            entries: Vec::with_capacity(SLOTS),
            deferred: Deferred::default(),
            counts: SendCounts::default(),
        };
        sender.update_path(Instant::default());
        Ok(sender)
    }

    /// Updates the longest segment of the path. Call it regularly: a learned path MTU expires, and
    /// the route may change to another interface.
    pub fn update_path(&mut self, now: Instant) {
        // For IPv6 the kernel checks against the interface's MTU itself.
        let interface = self.ip_header.and_then(|_| {
            let mtu = getsockopt(&self.socket, nix::sys::socket::sockopt::IpMtu).ok()?;
            usize::try_from(mtu).ok()
        });
        let mtu = [interface, self.path.get(now)].into_iter().flatten().min();
        let header_len = if self.is_v4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        self.segment_max = mtu.map_or(SEGMENT_LEN_MAX, |mtu| mtu.saturating_sub(header_len));
    }

    /// Handles the ICMP errors about the size of segments whose sequence numbers `bears` recognises
    /// as this flow's.
    pub fn handle_errors(&mut self, now: Instant, bears: impl Fn(SeqNum) -> bool) {
        let is_v4 = self.is_v4();
        let Sender { socket, port: own, path, counts, .. } = self;
        errors::drain(&*socket, is_v4, |TooBig { mtu, port, seq }| {
            if port == *own && bears(seq) {
                counts.icmp_taken += 1;
                path.lower(now, mtu);
            } else {
                counts.icmp_refused += 1;
            }
        });
        self.update_path(now);
    }

    /// The longest segment that fits the known path, in bytes.
    pub fn segment_max(&self) -> usize {
        self.segment_max
    }

    /// The learned path MTU, in bytes of IP.
    pub fn path_mtu(&self, now: Instant) -> Option<usize> {
        self.path.get(now)
    }

    /// Adds a segment and writes its checksum. A full batch is sent first; a segment from another
    /// port than this sender's is deferred.
    pub fn push(&mut self, outgoing: &OutgoingSegment<'_>) {
        if outgoing.port == self.port {
            self.add(outgoing.segment);
        } else {
            self.deferred.push(outgoing);
        }
    }

    /// Makes a segment in place: `make` gets a buffer with `body` at `headroom`, writes the headers
    /// before it, and returns the length of the segment, which ends with the body. Segments that it
    /// defers are sent first.
    ///
    /// # Errors
    /// The error of `make`; only the deferred segments are sent then.
    pub fn compose<E>(
        &mut self,
        headroom: usize,
        body: &[u8],
        make: impl FnOnce(&mut [u8], &mut Deferred) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.make_room();
        let at = self.taken * SLOT;
        let end = at + headroom + body.len();
        let whole = self.buffers.get_mut(at..at + SLOT).and_then(|slot| {
            let whole = slot.get_mut(..headroom + body.len())?;
            whole.get_mut(headroom..)?.copy_from_slice(body);
            Some(whole)
        });
        let Some(whole) = whole else {
            self.counts.too_big += 1;
            return Ok(());
        };
        let made = make(whole, &mut self.deferred);
        self.taken += 1;
        self.add_deferred();
        let len = made?;
        if len > self.segment_max {
            self.counts.too_big += 1;
            return Ok(());
        }
        let start = end.saturating_sub(len);
        self.pseudo.fill(self.buffers.get_mut(start..end).unwrap_or_default());
        self.entries.push(Entry { at: start, len });
        Ok(())
    }

    /// Removes the deferred segments from other ports; the agent has changed its port.
    pub fn take_deferred(&mut self) -> Vec<(u16, Vec<u8>)> {
        self.add_deferred();
        self.deferred.take_all()
    }

    /// Sends the batch. Segments that the kernel does not accept are lost and counted, as on the
    /// wire.
    pub fn flush(&mut self) {
        let (mut done, mut tries) = (0, 0);
        while done < self.entries.len() {
            match self.send_from(done) {
                Ok(count) => {
                    self.counts.sent += count as u64;
                    (done, tries) = (done + count, 0);
                }
                // The first error may report an earlier ICMP error, which can be forged; see below.
                Err(Errno::EMSGSIZE) if tries > 0 => {
                    self.counts.too_big += 1;
                    (done, tries) = (done + 1, 0);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) if tries < QUEUE_TRIES => {
                    tries += 1;
                    self.wait_for_room();
                }
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    self.counts.queue_full += (self.entries.len() - done) as u64;
                    break;
                }
                // The first error may report an earlier ICMP error, and then nothing was sent.
                Err(_) if tries == 0 => tries = 1,
                Err(error) => {
                    self.counts.refused += 1;
                    self.counts.last_error = Some(error);
                    (done, tries) = (done + 1, 0);
                }
            }
        }
        self.entries.clear();
        self.taken = 0;
    }

    /// The counters so far.
    pub fn counts(&self) -> SendCounts {
        self.counts
    }

    /// Drains the segments that the kernel passed to this socket although the firewall table should
    /// have dropped them; returns whether there were any, which means that the table was flushed.
    pub fn drain_leaks(&mut self) -> bool {
        let mut byte = [0];
        let mut leaked = false;
        for _ in 0..LEAKS_MAX {
            match rustix::net::recv(&self.socket, &mut byte, rustix::net::RecvFlags::DONTWAIT) {
                Ok(_) => leaked = true,
                Err(rustix::io::Errno::AGAIN) => break,
                // An ICMP error, reported once: the next call goes on.
                Err(_) => {}
            }
        }
        leaked
    }

    fn is_v4(&self) -> bool {
        self.ip_header.is_some()
    }

    fn make_room(&mut self) {
        if self.taken >= BATCH {
            self.flush();
        }
    }

    fn add(&mut self, segment: &[u8]) {
        if self.taken >= SLOTS {
            self.flush();
        }
        let at = self.taken * SLOT;
        let Some(place) = self.buffers.get_mut(at..at + SLOT).and_then(|slot| {
            let place = slot.get_mut(..segment.len())?;
            place.copy_from_slice(segment);
            Some(place)
        }) else {
            self.counts.too_big += 1;
            return;
        };
        self.pseudo.fill(place);
        self.taken += 1;
        self.entries.push(Entry { at, len: segment.len() });
    }

    fn add_deferred(&mut self) {
        for segment in self.deferred.take_from(self.port) {
            self.add(&segment);
        }
    }

    fn send_from(&mut self, first: usize) -> Result<usize, Errno> {
        let mut entries = self.entries.iter().skip(first);
        let ip_header = self.ip_header.as_ref().map_or(&[][..], <[u8; _]>::as_slice);
        let slices: [[IoSlice<'_>; 2]; BATCH] = std::array::from_fn(|_| {
            let entry = entries.next().unwrap_or(&Entry { at: 0, len: 0 });
            let segment = self.buffers.get(entry.at..entry.at + entry.len);
            [IoSlice::new(ip_header), IoSlice::new(segment.unwrap_or_default())]
        });
        let count = (self.entries.len() - first).min(BATCH);
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let slices = slices.get(..count).unwrap_or_default();
        sendmmsg(fd, &mut self.headers, slices, [const { None }; BATCH], [], flags)
            .map(Iterator::count)
    }

    fn wait_for_room(&self) {
        let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&ROOM_WAIT));
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A segment, and the headroom that short tokens leave unused.
const SLOT: usize = SEGMENT_LEN_MAX + 64;
/// More than a batch, for segments that precede one that is being made.
const SLOTS: usize = BATCH + DEFERRED_MAX;
const SEND_BUFFER: usize = 4 << 20;
const QUEUE_TRIES: u32 = 5;
const ROOM_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
const LEAKS_MAX: usize = 256;
