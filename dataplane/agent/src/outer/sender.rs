//! Sending segments to the VIP: a raw socket, for which the kernel makes the IP header (raw(7),
//! ipv6(7)). They go out in batches, with the don't-fragment rule of a TCP connection.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, setsockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::segment::PseudoHeader;
use super::{BATCH, Ends, SEGMENT_LEN_MAX};

/// Sends segments to the VIP.
pub struct Sender {
    socket: Socket,
    pseudo: PseudoHeader,
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<u8>,
    lens: Vec<usize>,
    counts: SendCounts,
}

/// What became of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounts {
    /// The kernel took them.
    pub sent: u64,
    /// The way to the VIP takes only smaller ones (path MTU).
    pub too_big: u64,
    /// The send queue stayed full.
    pub queue_full: u64,
    /// The kernel refused them for another reason.
    pub refused: u64,
    /// That reason, the last time.
    pub last_error: Option<Errno>,
}

impl Sender {
    /// Sends from `ends.local` to `ends.vip`.
    ///
    /// # Errors
    /// The system's; above all when CAP_NET_RAW is missing.
    pub fn open(ends: &Ends) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(ends.vip), Type::RAW, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // The port of an address of a raw socket means nothing, and IPv6 wants it to be 0.
        socket.bind(&SocketAddr::new(ends.local.ip(), 0).into())?;
        socket.connect(&SocketAddr::new(ends.vip.ip(), 0).into())?;
        socket.attach_filter(&only_to_port(ends.local.port(), ends.vip.is_ipv4()))?;
        if ends.vip.is_ipv4() {
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?;
        } else {
            sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO)?;
            setsockopt(&socket, nix::sys::socket::sockopt::Ipv6DontFrag, &true)?;
        }
        if sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER).is_err() {
            sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER)?;
        }
        Ok(Sender {
            socket,
            pseudo: PseudoHeader::new(ends),
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![0; BATCH * SEGMENT_LEN_MAX],
            lens: Vec::with_capacity(BATCH),
            counts: SendCounts::default(),
        })
    }

    /// Adds a segment, made of `parts` one after the other, and writes its checksum. A full batch
    /// goes out by itself.
    pub fn push(&mut self, parts: &[&[u8]]) {
        let at = self.lens.len() * SEGMENT_LEN_MAX;
        let Some(slot) = self.buffers.get_mut(at..at + SEGMENT_LEN_MAX) else { return };
        let mut len = 0;
        for part in parts {
            let Some(place) = slot.get_mut(len..len + part.len()) else {
                self.counts.too_big += 1;
                return;
            };
            place.copy_from_slice(part);
            len += part.len();
        }
        self.pseudo.fill(slot.get_mut(..len).unwrap_or_default());
        self.lens.push(len);
        if self.lens.len() == BATCH {
            self.flush();
        }
    }

    /// Hands the batch to the kernel. What it does not take is lost, and counted, like anything
    /// on the wire.
    pub fn flush(&mut self) {
        let (mut done, mut tries) = (0, 0);
        while done < self.lens.len() {
            match self.send_from(done) {
                Ok(count) => {
                    self.counts.sent += count as u64;
                    (done, tries) = (done + count, 0);
                }
                Err(Errno::EMSGSIZE) => {
                    self.counts.too_big += 1;
                    (done, tries) = (done + 1, 0);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) if tries < QUEUE_TRIES => {
                    tries += 1;
                    self.wait_for_room();
                }
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    self.counts.queue_full += (self.lens.len() - done) as u64;
                    break;
                }
                // The first may be the echo of an ICMP error, and then nothing was sent.
                Err(_) if tries == 0 => tries = 1,
                Err(error) => {
                    self.counts.refused += 1;
                    self.counts.last_error = Some(error);
                    (done, tries) = (done + 1, 0);
                }
            }
        }
        self.lens.clear();
    }

    /// What became of segments so far.
    pub fn counts(&self) -> SendCounts {
        self.counts
    }

    /// Takes off what the kernel gave this socket although the firewall table should have dropped
    /// it before; whether there was anything. That is how a flushed table shows.
    pub fn saw_leak(&mut self) -> bool {
        let mut byte = [0];
        let mut leaked = false;
        for _ in 0..LEAKS_MAX {
            match rustix::net::recv(&self.socket, &mut byte, rustix::net::RecvFlags::DONTWAIT) {
                Ok(_) => leaked = true,
                Err(rustix::io::Errno::AGAIN) => break,
                // An ICMP error, told once: the next call goes on.
                Err(_) => {}
            }
        }
        leaked
    }

    fn send_from(&mut self, first: usize) -> Result<usize, Errno> {
        let slots = self.buffers.chunks_exact(SEGMENT_LEN_MAX);
        let mut segments = slots.zip(&self.lens).skip(first);
        let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|_| {
            let (slot, len) = segments.next().unwrap_or((&[], &0));
            [IoSlice::new(slot.get(..*len).unwrap_or_default())]
        });
        let count = self.lens.len() - first;
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

/// Lets through segments to the agent's port: raw sockets of IPv4 see the IP header, those of IPv6
/// do not.
fn only_to_port(port: u16, is_v4: bool) -> [SockFilter; 5] {
    const LDX_HEADER_LEN: u16 = 0xb1;
    const LDX_NUMBER: u16 = 0x01;
    const LD_HALF_INDEXED: u16 = 0x48;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let start = if is_v4 { LDX_HEADER_LEN } else { LDX_NUMBER };
    [
        SockFilter::new(start, 0, 0, 0),
        SockFilter::new(LD_HALF_INDEXED, 0, 0, 2),
        SockFilter::new(JUMP_EQUAL, 0, 1, port.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

const SEND_BUFFER: usize = 4 << 20;
const QUEUE_TRIES: u32 = 5;
const ROOM_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
const LEAKS_MAX: usize = 256;
