//! The two threads: one for all connections, and one that computes the page that takes long.

use std::collections::BTreeMap;
use std::io;
use std::iter;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use super::connection::{Connection, Next};
use super::request::{Encoded, encode};
use super::{COMPUTED_MAX, Limits, Site};

/// A connection's number, in the order of arrival.
type Number = u64;

/// The computed page, and who asked for it.
type Computed = (Vec<Number>, Encoded);

pub(super) fn start(listener: TcpListener, limits: Limits, site: impl Site) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    // So that connections that come all at once are not lost.
    rustix::net::listen(&listener, BACKLOG)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    epoll::add(&epoll, &*wake, EventData::new_u64(WAKE), EventFlags::IN)?;
    let site = Arc::new(site);
    let (wanted, to_compute) = unbounded();
    let (done, computed) = unbounded();
    let (for_compute, to_wake) = (Arc::clone(&site), Arc::clone(&wake));
    thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || compute_all(&to_compute, &done, &to_wake, &*for_compute))?;
    let server = Server {
        listener,
        limits,
        site,
        epoll,
        wake,
        wanted,
        computed,
        connections: BTreeMap::new(),
        next: FIRST,
    };
    thread::Builder::new().name("http".to_owned()).spawn(move || server.run())?;
    Ok(())
}

/// Computes the page once for all who wait for it, again and again.
fn compute_all(
    wanted: &Receiver<Number>,
    done: &Sender<Computed>,
    wake: &OwnedFd,
    site: &impl Site,
) {
    while let Ok(first) = wanted.recv() {
        let numbers = iter::once(first).chain(wanted.try_iter()).collect();
        if done.send((numbers, encode(&site.compute()))).is_err() {
            return;
        }
        // It cannot be full: the other thread empties it.
        let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
    }
}

struct Server<S> {
    listener: TcpListener,
    limits: Limits,
    site: Arc<S>,
    epoll: OwnedFd,
    /// Readable when a page was computed.
    wake: Arc<OwnedFd>,
    wanted: Sender<Number>,
    computed: Receiver<Computed>,
    /// In the order of arrival, and so of their deadlines.
    connections: BTreeMap<Number, Connection>,
    next: Number,
}

impl<S: Site> Server<S> {
    fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_AT_ONCE);
        loop {
            let timeout = self.until_deadline();
            // An error, which only a signal can cause, is an empty turn.
            let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref());
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    WAKE => self.send_computed(),
                    number => self.go_on(number),
                }
            }
            self.expire(Instant::now());
        }
    }

    fn until_deadline(&self) -> Option<Timespec> {
        let (_, oldest) = self.connections.first_key_value()?;
        let left = oldest.deadline.saturating_duration_since(Instant::now());
        // Not just before it.
        Timespec::try_from(left + Duration::from_millis(1)).ok()
    }

    fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.connections.first_entry()
            && oldest.get().deadline <= now
        {
            oldest.remove();
        }
    }

    /// Takes new connections, a bounded number in each turn.
    fn accept(&mut self) {
        for _ in 0..ACCEPTS_AT_ONCE {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => return self.recover(&error),
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.connections.len() >= self.limits.connections {
                self.give_way();
            }
            let connection = Connection::new(stream, Instant::now() + self.limits.deadline);
            let number = self.next;
            let data = EventData::new_u64(number);
            if epoll::add(&self.epoll, &connection.stream, data, connection.interest()).is_ok() {
                self.connections.insert(number, connection);
                self.next += 1;
            }
        }
    }

    /// After an error of `accept`: probably no descriptor is left.
    fn recover(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted => {}
            _ if !self.connections.is_empty() => self.give_way(),
            // Not without a pause.
            _ => thread::sleep(ACCEPT_PAUSE),
        }
    }

    /// Ends the oldest connection, at first of those that have not sent their whole request.
    fn give_way(&mut self) {
        let mut reading = self.connections.iter().filter(|(_, other)| other.is_reading());
        match reading.next().map(|(number, _)| *number) {
            Some(number) => drop(self.connections.remove(&number)),
            None => drop(self.connections.pop_first()),
        }
    }

    fn go_on(&mut self, number: Number) {
        // It may have given way in this turn.
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let before = connection.interest();
        let next = connection.go_on(&*self.site);
        self.after(number, before, next);
        if next == Next::Compute {
            self.want_computed(number);
        }
    }

    /// Does what is next for a connection, which waited for `before`.
    fn after(&mut self, number: Number, before: EventFlags, next: Next) {
        let Some(connection) = self.connections.get(&number) else { return };
        let interest = connection.interest();
        let data = EventData::new_u64(number);
        let is_lost = interest != before
            && epoll::modify(&self.epoll, &connection.stream, data, interest).is_err();
        if next == Next::Close || is_lost {
            self.connections.remove(&number);
        }
    }

    fn want_computed(&mut self, number: Number) {
        let of_computed = || self.connections.iter().filter(|(_, other)| other.is_of_computed());
        let oldest = of_computed().next().map(|(number, _)| *number);
        if of_computed().count() > COMPUTED_MAX
            && let Some(oldest) = oldest
        {
            self.connections.remove(&oldest);
        }
        if self.wanted.send(number).is_err() {
            self.connections.remove(&number);
        }
    }

    fn send_computed(&mut self) {
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        while let Ok((numbers, page)) = self.computed.try_recv() {
            for number in numbers {
                let Some(connection) = self.connections.get_mut(&number) else { continue };
                let before = connection.interest();
                let next = connection.respond(page.clone());
                self.after(number, before, next);
            }
        }
    }
}

const LISTENER: Number = 0;
const WAKE: Number = 1;
const FIRST: Number = 2;

/// Connections that the kernel keeps until they are accepted; it may have a lower limit.
const BACKLOG: i32 = 1024;
const ACCEPTS_AT_ONCE: usize = 64;
const EVENTS_AT_ONCE: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
