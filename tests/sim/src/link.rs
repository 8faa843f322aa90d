//! The link between a smoltcp stack and the simulation: whole datagrams.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// The stack's link: datagrams in and out.
#[derive(Debug)]
pub struct Link {
    mtu: usize,
    /// Datagrams for the stack.
    pub received: VecDeque<Vec<u8>>,
    /// Datagrams of the stack.
    pub sent: VecDeque<Vec<u8>>,
}

impl Link {
    /// An empty link with this MTU.
    pub fn new(mtu: usize) -> Self {
        Link { mtu, received: VecDeque::new(), sent: VecDeque::new() }
    }
}

/// A datagram for the stack.
pub struct Received(Vec<u8>);

/// Room for a datagram of the stack.
pub struct Sender<'a>(&'a mut VecDeque<Vec<u8>>);

impl Device for Link {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }

    fn receive(&mut self, _: Instant) -> Option<(Received, Sender<'_>)> {
        let datagram = self.received.pop_front()?;
        Some((Received(datagram), Sender(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        Some(Sender(&mut self.sent))
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut datagram = vec![0; len];
        let result = write(&mut datagram);
        self.0.push_back(datagram);
        result
    }
}
