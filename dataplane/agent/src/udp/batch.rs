//! Datagrams of UDP sockets in batches: one call to the system for up to [`BATCH`] of them.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use crate::outer::BATCH;

/// Datagrams taken off a socket.
pub(super) struct Incoming {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<u8>,
    /// Length and source of each.
    list: Vec<(usize, Option<SocketAddr>)>,
}

impl Incoming {
    /// Room for a batch.
    pub(super) fn new() -> Self {
        Incoming {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![0; BATCH * SLOT],
            list: Vec::with_capacity(BATCH),
        }
    }

    /// Takes a batch off `socket`, in place of the one before; how many there are.
    ///
    /// # Errors
    /// The system's, but for "nothing there". An ICMP error is told once.
    pub(super) fn fill(&mut self, socket: &UdpSocket) -> Result<usize, Errno> {
        self.list.clear();
        let mut slots = self.buffers.chunks_exact_mut(SLOT);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
        let flags = MsgFlags::MSG_DONTWAIT;
        match recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(results) => {
                let message = results.map(|one| (one.bytes, one.address.and_then(from_storage)));
                self.list.extend(message);
                Ok(self.list.len())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The datagrams with their sources.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<SocketAddr>)> {
        let slots = self.buffers.chunks_exact(SLOT);
        slots.zip(&self.list).map(|(slot, (len, from))| (slot.get(..*len).unwrap_or(slot), *from))
    }
}

/// Datagrams kept back to be sent together.
pub(super) struct Outgoing {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<u8>,
    list: Vec<usize>,
    to: [Option<SockaddrStorage>; BATCH],
}

/// What became of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// The kernel took them.
    pub(super) sent: u64,
    /// It did not: a full queue, or nobody listens there.
    pub(super) refused: u64,
}

impl Outgoing {
    /// Room for a batch.
    pub(super) fn new() -> Self {
        Outgoing {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![0; BATCH * SLOT],
            list: Vec::with_capacity(BATCH),
            to: [const { None }; BATCH],
        }
    }

    /// Whether the next datagram needs a flush before it.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() == BATCH
    }

    /// Whether nothing is kept back.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a datagram to `to`, or to where the socket is connected. One too many is lost.
    pub(super) fn push(&mut self, to: Option<SocketAddr>, body: &[u8]) {
        let index = self.list.len();
        let Some(slot) = self.buffers.get_mut(index * SLOT..(index + 1) * SLOT) else { return };
        let (Some(place), Some(address)) = (slot.get_mut(..body.len()), self.to.get_mut(index))
        else {
            return;
        };
        place.copy_from_slice(body);
        *address = to.map(SockaddrStorage::from);
        self.list.push(body.len());
    }

    /// Sends all through `socket`. What it does not take is lost and counted.
    pub(super) fn flush(&mut self, socket: &UdpSocket, counts: &mut Counts) {
        let (mut done, mut tries) = (0, 0);
        while done < self.list.len() {
            match self.send_from(done, socket) {
                Ok(count) => {
                    counts.sent += count as u64;
                    (done, tries) = (done + count, 0);
                }
                // The first may be the echo of an ICMP error, and then nothing was sent.
                Err(_) if tries == 0 => tries = 1,
                Err(_) => {
                    counts.refused += 1;
                    (done, tries) = (done + 1, 0);
                }
            }
        }
        self.list.clear();
    }

    fn send_from(&mut self, first: usize, socket: &UdpSocket) -> Result<usize, Errno> {
        let mut datagrams = self.buffers.chunks_exact(SLOT).zip(&self.list).skip(first);
        let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|_| {
            let (slot, len) = datagrams.next().unwrap_or((&[], &0));
            [IoSlice::new(slot.get(..*len).unwrap_or_default())]
        });
        let slices = slices.get(..self.list.len() - first).unwrap_or_default();
        let to = self.to.get(first..).unwrap_or_default();
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmmsg(socket.as_raw_fd(), &mut self.headers, slices, to, [], flags).map(Iterator::count)
    }
}

fn from_storage(storage: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddrV4::from(*address).into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddrV6::from(*address).into()))
}

/// The longest body that any link carries; a longer datagram is cut, and refused by the tunnel.
const SLOT: usize = crate::outer::SEGMENT_LEN_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_go_from_socket_to_socket() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let (a, b) = (UdpSocket::bind(host).unwrap(), UdpSocket::bind(host).unwrap());
            let (mut out, mut counts) = (Outgoing::new(), Counts::default());
            let mut incoming = Incoming::new();
            assert_eq!(incoming.fill(&b), Ok(0));
            // Twice: the system wrote into the headers of the first batch.
            for turn in 0..2u8 {
                for byte in 0..BATCH as u8 {
                    assert!(!out.is_full());
                    out.push(Some(b.local_addr().unwrap()), &vec![byte; usize::from(byte + turn)]);
                }
                assert!(out.is_full());
                out.flush(&a, &mut counts);
                assert!(out.is_empty());
                assert_eq!(incoming.fill(&b), Ok(BATCH));
                for (byte, (body, from)) in (0..).zip(incoming.iter()) {
                    assert_eq!(body, vec![byte; usize::from(byte + turn)]);
                    assert_eq!(from, a.local_addr().ok());
                }
            }
            assert_eq!(counts, Counts { sent: 2 * BATCH as u64, refused: 0 });
        }
    }

    #[test]
    fn nobody_there_is_counted_and_stops_nothing() {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0"));
        let b = b.unwrap();
        a.connect(b.local_addr().unwrap()).unwrap();
        let (mut out, mut counts) = (Outgoing::new(), Counts::default());
        for _ in 0..4 {
            out.push(None, b"x");
        }
        out.flush(&a, &mut counts);
        assert_eq!(counts.sent, 4);
        let mut incoming = Incoming::new();
        assert_eq!(incoming.fill(&b), Ok(4));
        drop(b);
        for _ in 0..3 {
            out.push(None, b"x");
            out.flush(&a, &mut counts);
        }
        assert_eq!(counts.sent + counts.refused, 7);
    }
}
