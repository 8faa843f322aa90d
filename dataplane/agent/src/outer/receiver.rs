//! Receives segments from the VIP through a packet socket with a filter (packet(7)).
//!
//! The socket is bound to no interface, so it keeps working when the host moves to another one. It
//! gets packets before the firewall drops them. It yields whole TCP segments with a correct
//! checksum.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with, sockopt};
use socket2::SockRef;

use anyrelay_core::wire::ip;

use super::segment::{self, PseudoHeader};
use super::{BATCH, FlowEndpoints, SEGMENT_LEN_MAX, filter};

/// Receives segments from the VIP.
pub struct Receiver {
    socket: OwnedFd,
    pseudo: PseudoHeader,
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<u8>,
    damaged: u64,
}

impl Receiver {
    /// Receives segments that arrive from now on.
    ///
    /// # Errors
    /// The error of the system call, mostly because CAP_NET_RAW is missing.
    pub fn open(endpoints: &FlowEndpoints) -> io::Result<Self> {
        let ether_type: u16 = if endpoints.vip.is_ipv4() { 0x0800 } else { 0x86dd };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Protocol::from_raw(
            std::num::NonZeroU32::new(u32::from(ether_type.to_be()))
                .ok_or(io::ErrorKind::InvalidInput)?,
        );
        let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, Some(protocol))?;
        SockRef::from(&socket).attach_filter(&filter::program(endpoints))?;
        // CAP_NET_ADMIN allows more than the kernel's limit for ordinary sockets.
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        }
        let mut receiver = Receiver {
            socket,
            pseudo: PseudoHeader::new(endpoints),
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![0; BATCH * SLOT],
            damaged: 0,
        };
        receiver.discard_unfiltered()?;
        Ok(receiver)
    }

    /// Calls `each` with the segments that have arrived, at most [`BATCH`] of them, and the class
    /// (DSCP and ECN) of their packets.
    ///
    /// # Errors
    /// The error of the system call; an empty queue is not an error.
    pub fn receive(&mut self, mut each: impl FnMut(&[u8], u8)) -> io::Result<()> {
        let mut lens = [0; BATCH];
        let packets = self.fill(&mut lens)?;
        for (buffer, &len) in self.buffers.chunks_exact(SLOT).zip(&lens).take(packets) {
            let Some(segment) = buffer.get(..len).and_then(segment::of_packet) else {
                self.damaged += 1;
                continue;
            };
            if self.pseudo.holds(segment) {
                each(segment, ip::class(buffer));
            } else {
                self.damaged += 1;
            }
        }
        Ok(())
    }

    /// Segments discarded because of a wrong length or checksum.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    fn fill(&mut self, lens: &mut [usize; BATCH]) -> io::Result<usize> {
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = split(&mut self.buffers);
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let results = match recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(results) => results,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(0),
            // The interface was removed or is down: the socket still works.
            Err(Errno::ENETDOWN) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut count = 0;
        for (len, message) in lens.iter_mut().zip(results) {
            *len = message.bytes.min(SLOT);
            count += 1;
        }
        Ok(count)
    }

    /// Discards packets that arrived before the filter was attached.
    fn discard_unfiltered(&mut self) -> io::Result<()> {
        for _ in 0..DISCARD_TURNS_MAX {
            if self.fill(&mut [0; BATCH])? == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One slice for each slot of `buffers`.
pub(super) fn split(buffers: &mut [u8]) -> [[IoSliceMut<'_>; 1]; BATCH] {
    let mut slots = buffers.chunks_exact_mut(SLOT);
    std::array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())])
}

/// An IP header and a segment.
const SLOT: usize = SEGMENT_LEN_MAX + 64;
const RECEIVE_BUFFER: usize = 8 << 20;
const DISCARD_TURNS_MAX: usize = 1000;
