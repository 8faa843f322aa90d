//! Requests to the kernel by netlink(7), each with one answer.

mod route;

use std::io;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto,
    socket_with,
};

pub use route::{RouteQuestion, is_own};

/// A request: a message header, the header of its kind, and attributes.
#[derive(Debug)]
pub struct Request(Vec<u8>);

impl Request {
    /// A request of this kind (the message type) with this header of the kind.
    pub fn new(kind: u16, header: &[u8]) -> Self {
        // struct nlmsghdr: length, type, flags, sequence, port.
        let mut message = vec![0; 4];
        message.extend(kind.to_ne_bytes());
        message.extend(NLM_F_REQUEST.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(header);
        Request(message)
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(attribute(kind, value));
        self
    }

    /// Sends the request and returns the body of the answer, which must be of the kind `answer`:
    /// what follows its message header.
    ///
    /// # Errors
    /// The kernel's error, or `InvalidData` for an answer of another kind or form.
    pub fn ask(mut self, protocol: Option<Protocol>, answer: u16) -> io::Result<Vec<u8>> {
        let len = self.0.len() as u32;
        if let Some(place) = self.0.first_chunk_mut() {
            *place = len.to_ne_bytes();
        }
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::RAW, flags, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        sendto(&socket, &self.0, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut buffer = vec![0; ANSWER_MAX];
        let (len, _) = recv(&socket, &mut *buffer, RecvFlags::empty())?;
        buffer.truncate(len);
        body(&buffer, answer).map(<[u8]>::to_vec)
    }
}

/// The bytes of one attribute; a nested one has the bytes of its own as its value.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes in `bytes`, up to the first that is cut off.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [a, b, c, d] = *rest.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(ATTRIBUTE_HEADER..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & KIND, value))
    })
}

/// The value of the first attribute of this kind.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// The attribute of this kind, a number of 32 bits.
pub fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The body of the first message in `bytes`, which must be of the kind `wanted`.
fn body(bytes: &[u8], wanted: u16) -> io::Result<&[u8]> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let half = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(u16::from_ne_bytes(*bytes))
    };
    let body = bytes.get(MESSAGE_HEADER..).ok_or_else(invalid)?;
    match half(4).ok_or_else(invalid)? {
        NLMSG_ERROR => {
            let errno = body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
            let errno = errno.ok_or_else(invalid)?;
            Err(io::Error::from_raw_os_error(errno.saturating_neg()))
        }
        kind if kind == wanted => Ok(body),
        _ => Err(invalid()),
    }
}

// linux/netlink.h
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// Without the flags "nested" and "network byte order".
const KIND: u16 = 0x3fff;
const MESSAGE_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// A link with its statistics takes some 2 KiB.
const ANSWER_MAX: usize = 32 << 10;
/// The kernel answers at once; nobody may wait for ever if it does not.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_end_at_the_first_that_is_cut_off() {
        let bytes = [attribute(1, &[7; 5]), attribute(2, &9u32.to_ne_bytes())].concat();
        assert_eq!(bytes.len(), 12 + 8);
        assert_eq!(find(&bytes, 1), Some(&[7; 5][..]));
        assert_eq!(number(&bytes, 2), Some(9));
        for len in 0..bytes.len() {
            assert_eq!(number(&bytes[..len], 2), None, "{len} bytes");
        }
        // A length below that of the header, as a broken message has it, ends the loop.
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }

    #[test]
    fn errors_and_other_kinds_are_no_answer() {
        let message = |kind: u16, body: &[u8]| {
            let mut message = Request::new(kind, body).0;
            message.resize(message.len().max(MESSAGE_HEADER), 0);
            message
        };
        assert_eq!(body(&message(24, &[1, 2]), 24).unwrap(), [1, 2]);
        assert!(body(&message(25, &[1, 2]), 24).is_err());
        let error = body(&message(NLMSG_ERROR, &(-113i32).to_ne_bytes()), 24).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(113));
        for len in 0..MESSAGE_HEADER {
            assert!(body(&message(24, &[])[..len], 24).is_err(), "{len} bytes");
        }
    }
}
