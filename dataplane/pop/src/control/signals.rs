//! Signals as events: SIGTERM and SIGINT stop the POP, SIGHUP reloads its config.

use std::io;
use std::thread;

use crossbeam::channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A request of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Drain and stop; a second request stops at once.
    Stop,
    /// Read the config again.
    Reload,
}

/// Converts the signals of the process to events from now on.
///
/// # Errors
/// When the handlers or the thread cannot be set up.
pub fn listen() -> io::Result<Receiver<Event>> {
    let (sender, receiver) = bounded(EVENTS_MAX);
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let event = if signal == SIGHUP { Event::Reload } else { Event::Stop };
            // A full channel has the same requests already.
            let _ = sender.try_send(event);
        }
    })?;
    Ok(receiver)
}

const EVENTS_MAX: usize = 16;
