//! Sockets and threads of flows.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{LabError, Result};

/// A bound socket whose receive times out.
pub fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    use rustix::net::sockopt;
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    // Half a second at 20,000 datagrams a second.
    sockopt::set_socket_recv_buffer_size_force(&socket, 16 << 20)?;
    Ok(socket)
}

/// Hands on what a socket receives until told to stop.
pub fn receive(socket: &UdpSocket, stop: &AtomicBool, mut take: impl FnMut(&[u8], SocketAddr)) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // An error is the timeout, or an ICMP error of something sent before.
        if let Ok((size, from)) = socket.recv_from(&mut buffer) {
            take(&buffer[..size], from);
        }
    }
}

/// Another handle of a socket.
pub fn clone(socket: &UdpSocket) -> Result<UdpSocket> {
    socket.try_clone().map_err(LabError::io("clone a socket"))
}

/// A named thread.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map_err(LabError::io("start a thread"))
}
