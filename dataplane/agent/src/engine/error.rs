//! The errors of an agent that does not start, or stops.

use std::io;
use std::path::PathBuf;

use crate::open::OpenError;
use crate::outer::{UplinkError, capability};
use crate::state::StateInUse;

/// Why an agent did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A capability is missing.
    #[error(transparent)]
    Capability(#[from] capability::CapabilityError),
    /// The uplink to the VIP cannot be opened.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The control socket cannot be opened.
    #[error("{path}: {source}", path = .path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// Another agent uses the state file.
    #[error(transparent)]
    State(#[from] StateInUse),
    /// The local side did not start.
    #[error("the local side does not start: {0}")]
    Local(io::Error),
    /// The open side did not start.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The local or the open side stopped.
    #[error("the agent cannot go on: {0}")]
    Stopped(io::Error),
    /// No random numbers.
    #[error("no random numbers from the system: {0}")]
    Random(getrandom::Error),
    /// Another system call failed.
    #[error("{what}: {source}")]
    System {
        /// The operation.
        what: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
}

/// The error of the system call for `what`.
pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}
