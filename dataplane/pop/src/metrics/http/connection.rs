//! One connection: its socket, and how far it has come. Nothing here waits.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use rustix::event::epoll::EventFlags;

use super::request::{Encoded, answer, encode, too_long};
use super::{HEAD_MAX, Page, Site};

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// When it ends.
    pub(super) deadline: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Its request head so far.
    Reading(Vec<u8>),
    /// Its page is being computed.
    Waiting { with_body: bool },
    /// Its response, of which `sent` bytes are sent.
    Writing { response: Encoded, with_body: bool, sent: usize, is_computed: bool },
    /// The response is sent, and the input is read to its end: for unread bytes the kernel would
    /// send a RST, which could make the peer discard the response. So many bytes may come.
    Draining(usize),
}

/// What is next for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits for its socket.
    Wait,
    /// It waits for the computed page.
    Compute,
    /// It ends.
    Close,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, deadline: Instant) -> Self {
        Connection { stream, deadline, state: State::Reading(Vec::new()) }
    }

    /// The events of its socket that it waits for.
    pub(super) fn interest(&self) -> EventFlags {
        match self.state {
            State::Reading(_) | State::Draining(_) => EventFlags::IN,
            // Errors are reported in any case.
            State::Waiting { .. } => EventFlags::empty(),
            State::Writing { .. } => EventFlags::OUT,
        }
    }

    /// Whether it has not sent its whole request.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// Whether it waits for a computed page, or receives one.
    pub(super) fn is_of_computed(&self) -> bool {
        matches!(self.state, State::Waiting { .. } | State::Writing { is_computed: true, .. })
    }

    /// Goes on after an event of its socket.
    pub(super) fn go_on(&mut self, site: &impl Site) -> Next {
        match self.state {
            State::Reading(_) => self.read(site),
            // Without interest in anything, the event is an error.
            State::Waiting { .. } => Next::Close,
            State::Writing { .. } => self.write(),
            State::Draining(_) => self.drain(),
        }
    }

    /// Starts to send the computed page.
    pub(super) fn respond(&mut self, response: Encoded) -> Next {
        let State::Waiting { with_body } = self.state else { return Next::Wait };
        self.state = State::Writing { response, with_body, sent: 0, is_computed: true };
        self.write()
    }

    /// Reads what has come of the request head.
    fn read(&mut self, site: &impl Site) -> Next {
        let State::Reading(head) = &mut self.state else { return Next::Close };
        let mut bytes = [0; READ_AT_ONCE];
        let room = bytes.len().min(HEAD_MAX - head.len());
        let read = self.stream.read(bytes.get_mut(..room).unwrap_or_default());
        let count = match read {
            Ok(0) => return Next::Close,
            Ok(count) => count,
            Err(error) => return unless_later(error.kind()),
        };
        // The blank line may span two reads.
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(bytes.get(..count).unwrap_or_default());
        let fresh = head.get(from..).unwrap_or_default();
        let (page, with_body) = if fresh.windows(4).any(|four| four == b"\r\n\r\n") {
            answer(head, site)
        } else if head.len() < HEAD_MAX {
            return Next::Wait;
        } else {
            (Page::Ready(too_long()), true)
        };
        match page {
            Page::Computed => {
                self.state = State::Waiting { with_body };
                Next::Compute
            }
            Page::Ready(response) => {
                let response = encode(&response);
                self.state = State::Writing { response, with_body, sent: 0, is_computed: false };
                self.write()
            }
        }
    }

    /// Sends what the socket takes.
    fn write(&mut self) -> Next {
        let State::Writing { response, with_body, sent, .. } = &mut self.state else {
            return Next::Close;
        };
        let bytes = response.bytes(*with_body);
        while *sent < bytes.len() {
            match self.stream.write(bytes.get(*sent..).unwrap_or_default()) {
                Ok(0) => return Next::Close,
                Ok(count) => *sent += count,
                Err(error) => return unless_later(error.kind()),
            }
        }
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return Next::Close;
        }
        self.state = State::Draining(DRAIN_MAX);
        Next::Wait
    }

    /// Reads a part of the input behind the request.
    fn drain(&mut self) -> Next {
        let State::Draining(left) = &mut self.state else { return Next::Close };
        match self.stream.read(&mut [0; READ_AT_ONCE]) {
            Ok(count) if count > 0 && count < *left => {
                *left -= count;
                Next::Wait
            }
            Ok(_) => Next::Close,
            Err(error) => unless_later(error.kind()),
        }
    }
}

fn unless_later(kind: ErrorKind) -> Next {
    match kind {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Next::Wait,
        _ => Next::Close,
    }
}

const READ_AT_ONCE: usize = 2048;
/// The most bytes that are read behind a request.
const DRAIN_MAX: usize = 64 * 1024;
