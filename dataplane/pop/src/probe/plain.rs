//! What the kernel's own TCP says of a connection, for a probe without CAP_NET_RAW: what was agreed
//! on (sock_diag(7), TCP_INFO), and whether it opens.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyrelay_netlink::{self as netlink, Request};
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::netlink as protocols;

use super::findings::{Opening, Options};

/// Opens a connection to `target` and closes it.
pub(super) fn open(target: SocketAddr, timeout: Duration) -> Opening {
    let stream = match TcpStream::connect_timeout(&target, timeout) {
        Ok(stream) => stream,
        Err(error) => return failure(&error),
    };
    let info = stream.local_addr().and_then(|own| info(own, target));
    let mut options = info.map(|info| agreed(&info)).unwrap_or_default();
    if options.timestamps == Some(false) && !offers_timestamps() {
        options.timestamps = None;
    }
    Opening::Open { options }
}

fn failure(error: &io::Error) -> Opening {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Opening::Refused,
        // connect_timeout has no number of the system's for its own limit.
        io::ErrorKind::TimedOut if error.raw_os_error().is_none() => Opening::Silent,
        _ if error.raw_os_error() == Some(Errno::TIMEDOUT.raw_os_error()) => Opening::Silent,
        _ => Opening::Unreachable { reason: error.to_string() },
    }
}

/// What the first bytes of `struct tcp_info` (linux/tcp.h) say.
fn agreed(info: &[u8]) -> Options {
    let Some(&[.., options, scales]) = info.first_chunk::<7>() else { return Options::default() };
    let has = |bit: u8| Some(options & bit != 0);
    Options {
        timestamps: has(TIMESTAMPS),
        // The kernel tells what it sends, not what the SYN-ACK announced.
        mss: None,
        window_scale: (options & WINDOW_SCALE != 0).then_some(scales & 0x0f),
        sack: has(SACK),
        ecn: has(ECN),
    }
}

/// `struct tcp_info` of the connection.
fn info(own: SocketAddr, target: SocketAddr) -> io::Result<Vec<u8>> {
    let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // struct inet_diag_req_v2 (linux/inet_diag.h): one connection, of any state.
    let mut request = vec![family.as_raw() as u8, TCP, 1 << (INFO - 1), 0];
    request.extend([u8::MAX; 4]);
    request.extend(own.port().to_be_bytes());
    request.extend(target.port().to_be_bytes());
    request.extend(padded(own.ip()));
    request.extend(padded(target.ip()));
    request.extend([0; 4]);
    request.extend([u8::MAX; 8]);
    let body = Request::new(BY_FAMILY, &request).ask(Some(protocols::SOCK_DIAG), BY_FAMILY)?;
    let attributes = body.get(ANSWER_LEN..).unwrap_or_default();
    let found = netlink::find(attributes, INFO).map(<[u8]>::to_vec);
    found.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn padded(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96).to_be_bytes(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Whether this host's own SYNs offer timestamps.
fn offers_timestamps() -> bool {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_timestamps");
    setting.is_ok_and(|setting| setting.trim() != "0")
}

/// SOCK_DIAG_BY_FAMILY, and INET_DIAG_INFO.
const BY_FAMILY: u16 = 20;
const INFO: u16 = 2;
/// Length of `struct inet_diag_msg`.
const ANSWER_LEN: usize = 72;
const TCP: u8 = 6;
// TCPI_OPT_* of linux/tcp.h.
const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WINDOW_SCALE: u8 = 4;
const ECN: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn ports_are_open_or_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let timeout = Duration::from_secs(2);
        assert!(matches!(open(target, timeout), Opening::Open { .. }));
        drop(listener);
        assert_eq!(open(target, timeout), Opening::Refused);
    }

    #[test]
    fn options_are_those_of_tcp_info() {
        let bits = TIMESTAMPS | WINDOW_SCALE;
        let options = agreed(&[1, 0, 0, 0, 0, bits, 0x97, 0]);
        let wanted = Options {
            timestamps: Some(true),
            mss: None,
            window_scale: Some(7),
            sack: Some(false),
            ecn: Some(false),
        };
        assert_eq!(options, wanted);
        assert_eq!(agreed(&[1, 0, 0, 0, 0, bits]), Options::default());
    }
}
