//! UDP forwarding: the local side of `connect` and `serve`.
//!
//! A connecting agent listens at one address; each source there gets a channel of its own, and one
//! random session stands for the process. A serving agent has a socket for each session and
//! channel, so that the server sees each source as a source of its own; answers go to the token
//! that the session's newest datagram came from, so a session outlives a change of token. Channels
//! are bounded: the one unused longest makes room; of those of others, the one of who has the most.

mod batch;
mod channels;
mod connect;
mod lru;
mod serve;

pub use connect::UdpConnect;
pub use serve::UdpServe;

/// Channels kept at a time.
pub const CHANNELS_MAX: usize = 4096;

/// Of the sockets that an application's bursts go through: Linux gives up to net.core.rmem_max.
const SOCKET_BUFFER: usize = 4 << 20;

fn enlarge_buffers(socket: &std::net::UdpSocket) {
    use rustix::net::sockopt;
    // With CAP_NET_ADMIN beyond the system's limit; without, what it allows.
    if sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BUFFER).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER);
    }
}
