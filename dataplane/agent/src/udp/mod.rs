//! UDP forwarding: the local side of `connect` and `serve`.
//!
//! A connecting agent listens at one address; each source there gets a channel, and the process has
//! one random session. A serving agent has a socket for each session and channel, so that the
//! server distinguishes the sources. Answers go to the token of the session's newest datagram, so a
//! session survives a change of token. Channels are bounded: a new one evicts the least recently
//! used, at the serving side one of the sender with the most channels.

mod batch;
mod channels;
mod connect;
mod lru;
mod serve;

pub use connect::UdpConnect;
pub use serve::UdpServe;

/// The maximum number of channels.
pub const CHANNELS_MAX: usize = 4096;

/// Buffer sizes for the bursts of applications, in bytes: Linux allows up to net.core.rmem_max.
const SOCKET_BUFFER: usize = 4 << 20;

fn enlarge_buffers(socket: &std::net::UdpSocket) {
    use rustix::net::sockopt;
    // With CAP_NET_ADMIN beyond the system's limit, without it up to that limit.
    if sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BUFFER).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER);
    }
}
