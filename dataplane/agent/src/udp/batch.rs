//! Batches of UDP datagrams: one system call for up to [`BATCH`] of them.
//!
//! Datagrams of one length and destination are passed to the kernel as one buffer, which it
//! segments as late as possible (UDP_SEGMENT, udp(7)), so that they traverse its stack once.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, sendmsg,
};

use crate::outer::BATCH;

/// Datagrams received from a socket.
pub(super) struct ReceiveBatch {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<u8>,
    /// Length and source of each datagram.
    list: Vec<(usize, Option<SocketAddr>)>,
}

impl ReceiveBatch {
    /// An empty batch.
    pub(super) fn new() -> Self {
        ReceiveBatch {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![0; BATCH * SLOT],
            list: Vec::with_capacity(BATCH),
        }
    }

    /// Replaces the batch by one received from `socket`; returns the number of datagrams.
    ///
    /// # Errors
    /// The error of the system call; an empty queue is not an error. An ICMP error is reported
    /// once.
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

/// Datagrams to be sent together.
pub(super) struct SendBatch {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<u8>,
    list: Vec<usize>,
    to: [Option<SockaddrStorage>; BATCH],
    /// Whether UDP_SEGMENT works, as far as known.
    segments: bool,
}

/// Outcomes of sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DatagramCounts {
    /// Accepted by the kernel.
    pub(super) sent: u64,
    /// Refused: a full queue, or a port without a listener.
    pub(super) refused: u64,
}

impl SendBatch {
    /// An empty batch.
    pub(super) fn new() -> Self {
        SendBatch {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![0; BATCH * SLOT],
            list: Vec::with_capacity(BATCH),
            to: [const { None }; BATCH],
            segments: true,
        }
    }

    /// Whether the batch must be flushed before the next datagram.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() == BATCH
    }

    /// Whether the batch is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a datagram to `to`, or to the socket's peer. Drops it if the batch is full.
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

    /// Sends the batch through `socket`. Datagrams that the kernel refuses are lost and counted.
    pub(super) fn flush(&mut self, socket: &UdpSocket, counts: &mut DatagramCounts) {
        let (mut done, mut tries) = (0, 0);
        // Datagrams before this one are sent one by one, as they were refused together.
        let mut singly = 0;
        while done < self.list.len() {
            let run = if self.segments && done >= singly { self.run_at(done) } else { 1 };
            let result = if run > 1 {
                self.send_run(done, run, socket).map(|()| run)
            } else {
                self.send_from(done, self.singles_at(done, singly), socket)
            };
            match result {
                Ok(count) => {
                    counts.sent += count as u64;
                    (done, tries) = (done + count, 0);
                }
                // The first error may report an earlier ICMP error, and then nothing was sent.
                Err(_) if tries == 0 => tries = 1,
                Err(error) if run > 1 => {
                    // EINVAL and EIO mean that UDP_SEGMENT does not work at all. Other errors
                    // concern these datagrams: they exceed the MTU and need fragmentation, or the
                    // queue is too full for all of them.
                    self.segments = !matches!(error, Errno::EINVAL | Errno::EIO);
                    (singly, tries) = (done + run, 0);
                }
                Err(_) => {
                    counts.refused += 1;
                    (done, tries) = (done + 1, 0);
                }
            }
        }
        self.list.clear();
    }

    /// The number of datagrams from `first` on that can be sent as one buffer: all of one length
    /// and destination; the last may be shorter.
    fn run_at(&self, first: usize) -> usize {
        let (Some(&len), Some(to)) = (self.list.get(first), self.to.get(first)) else { return 1 };
        // An empty datagram would disappear.
        if len == 0 {
            return 1;
        }
        let most = (RUN_BYTES_MAX / len).min(BATCH);
        let rest = self.list.iter().zip(&self.to).skip(first).take(most);
        let mut run = 0;
        for (&next, next_to) in rest {
            if next > len || next == 0 || next_to != to {
                break;
            }
            run += 1;
            if next < len {
                break;
            }
        }
        run.max(1)
    }

    /// The number of datagrams from `first` on to send one by one.
    fn singles_at(&self, first: usize, singly: usize) -> usize {
        let is_run = |at: &usize| self.segments && *at >= singly && self.run_at(*at) > 1;
        (first + 1..self.list.len()).find(is_run).unwrap_or(self.list.len()) - first
    }

    fn send_run(&self, first: usize, run: usize, socket: &UdpSocket) -> Result<(), Errno> {
        let slices = slices(&self.buffers, &self.list, first).map(|[slice]| slice);
        let len = self.list.get(first).copied().unwrap_or_default();
        let len = u16::try_from(len).map_err(|_| Errno::EMSGSIZE)?;
        let to = self.to.get(first).and_then(Option::as_ref);
        let (control, flags) = ([ControlMessage::UdpGsoSegments(&len)], MsgFlags::MSG_DONTWAIT);
        let slices = slices.get(..run).unwrap_or_default();
        sendmsg(socket.as_raw_fd(), slices, &control, flags, to).map(drop)
    }

    fn send_from(
        &mut self,
        first: usize,
        count: usize,
        socket: &UdpSocket,
    ) -> Result<usize, Errno> {
        let slices = slices(&self.buffers, &self.list, first);
        let slices = slices.get(..count).unwrap_or_default();
        let to = self.to.get(first..).unwrap_or_default();
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmmsg(socket.as_raw_fd(), &mut self.headers, slices, to, [], flags).map(Iterator::count)
    }
}

/// One slice for each datagram from `first` on.
fn slices<'a>(buffers: &'a [u8], list: &[usize], first: usize) -> [[IoSlice<'a>; 1]; BATCH] {
    let mut datagrams = buffers.chunks_exact(SLOT).zip(list).skip(first);
    std::array::from_fn(|_| {
        let (slot, len) = datagrams.next().unwrap_or((&[], &0));
        [IoSlice::new(slot.get(..*len).unwrap_or_default())]
    })
}

fn from_storage(storage: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddrV4::from(*address).into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddrV6::from(*address).into()))
}

/// The longest body of any link; a longer datagram is truncated, and then refused by the tunnel.
const SLOT: usize = crate::outer::SEGMENT_LEN_MAX;
/// The largest UDP payload, with room for an IPv6 header.
const RUN_BYTES_MAX: usize = 65_535 - 8 - 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_go_from_socket_to_socket() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let (a, b) = (UdpSocket::bind(host).unwrap(), UdpSocket::bind(host).unwrap());
            let (mut out, mut counts) = (SendBatch::new(), DatagramCounts::default());
            let mut incoming = ReceiveBatch::new();
            assert_eq!(incoming.fill(&b), Ok(0));
            // Twice: the kernel wrote into the headers of the first batch.
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
            assert_eq!(counts, DatagramCounts { sent: 2 * BATCH as u64, refused: 0 });
        }
    }

    #[test]
    fn datagrams_of_all_lengths_arrive_unchanged() {
        let a = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let sizes = [0, 1, 3, 7, 7, 7, 5, 5, 0, 0, 9, 9, 4, 8, 8, 8, 8, 0, 2, 1200, 1200, 9000];
        for segments in [true, false] {
            let (mut out, mut counts) = (SendBatch::new(), DatagramCounts::default());
            out.segments = segments;
            let mut expected = [const { Vec::new() }; 2];
            for (byte, &len) in (0..BATCH as u8).zip(sizes.iter().cycle()) {
                let which = usize::from(byte / 16 % 2);
                let body = vec![byte; len];
                out.push(Some(to[which].local_addr().unwrap()), &body);
                expected[which].push(body);
            }
            out.flush(&a, &mut counts);
            assert_eq!(counts, DatagramCounts { sent: BATCH as u64, refused: 0 });
            assert_eq!(out.segments, segments, "loopback knows it");
            for (socket, expected) in to.iter().zip(expected) {
                let mut incoming = ReceiveBatch::new();
                assert_eq!(incoming.fill(socket), Ok(expected.len()));
                let bodies: Vec<_> = incoming.iter().map(|(body, _)| body.to_vec()).collect();
                assert_eq!(bodies, expected, "segments: {segments}");
            }
        }
    }

    #[test]
    fn runs_have_one_length_and_end_with_a_shorter_one() {
        let mut out = SendBatch::new();
        let to = ["127.0.0.1:1", "127.0.0.1:2"].map(|to| to.parse::<SocketAddr>().unwrap());
        let all = [(5, 0), (5, 0), (3, 0), (3, 0), (4, 0), (4, 1), (4, 1), (0, 1), (0, 1)];
        for (len, which) in all {
            out.push(Some(to[which]), &vec![1; len]);
        }
        let runs: Vec<_> = (0..all.len()).map(|at| out.run_at(at)).collect();
        assert_eq!(runs, [3, 2, 2, 1, 1, 2, 1, 1, 1]);
        assert_eq!(out.singles_at(3, 0), 2);
        assert_eq!(out.singles_at(7, 0), 2);
        assert_eq!(
            out.singles_at(0, 3),
            5,
            "past those that were refused together, up to the next run"
        );
        // At most one UDP payload.
        let mut out = SendBatch::new();
        (0..BATCH).for_each(|_| out.push(None, &[1; 9000]));
        assert_eq!(out.run_at(0), 7);
    }

    #[test]
    fn a_closed_port_is_counted_and_stops_nothing() {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0"));
        let b = b.unwrap();
        a.connect(b.local_addr().unwrap()).unwrap();
        let (mut out, mut counts) = (SendBatch::new(), DatagramCounts::default());
        for _ in 0..4 {
            out.push(None, b"x");
        }
        out.flush(&a, &mut counts);
        assert_eq!(counts.sent, 4);
        let mut incoming = ReceiveBatch::new();
        assert_eq!(incoming.fill(&b), Ok(4));
        drop(b);
        for _ in 0..3 {
            out.push(None, b"x");
            out.flush(&a, &mut counts);
        }
        assert_eq!(counts.sent + counts.refused, 7);
    }
}
