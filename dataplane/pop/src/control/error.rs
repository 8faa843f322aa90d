//! Why a POP did not start, or stopped.

use std::net::SocketAddr;
use std::time::Duration;

use anyrelay_core::config::Isa;
use anyrelay_core::problem::Problems;

use crate::ports::PortsError;
use crate::worker::WorkerError;

/// The time limit for the start of workers.
pub(super) const START_MAX: Duration = Duration::from_secs(10);

/// Why a POP did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The files have problems.
    #[error(transparent)]
    Config(#[from] Problems),
    /// The metrics listener could not be opened.
    #[error("metrics.listen: {address}: {source}")]
    Listen {
        /// Its address.
        address: SocketAddr,
        /// The error of the system call.
        source: std::io::Error,
    },
    /// The socket for hints could not be opened.
    #[error(
        "hints.listen: {address}: {source}; it must be an address of this host that no other \
         program uses"
    )]
    Hints {
        /// Its address.
        address: SocketAddr,
        /// The error of the system call.
        source: std::io::Error,
    },
    /// Signal handlers or a control thread could not be set up.
    #[error("no {what}: {source}")]
    Thread {
        /// The missing part.
        what: &'static str,
        /// The error of the system call.
        source: std::io::Error,
    },
    /// The CPU lacks the configured instructions.
    #[error(
        "layout.instructions: this CPU does not have {wanted}; the most that it has is {has}: take \
         that, or \"auto\""
    )]
    Instructions {
        /// The configured set.
        wanted: Isa,
        /// The largest that the CPU has.
        has: Isa,
    },
    /// The CPU does not compute what it should with the instructions.
    #[error(
        "layout.instructions: this CPU computes wrongly with {isa}; the most that it computes \
         right with is {best}: take that, or \"auto\", and replace the CPU or its hypervisor"
    )]
    Miscomputes {
        /// The configured set.
        isa: Isa,
        /// The largest that the CPU computes right with.
        best: Isa,
    },
    /// DPDK or a port did not start.
    #[error(transparent)]
    Ports(#[from] PortsError),
    /// A worker did not start, or failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A worker did not report in time.
    #[error("worker[{worker}] did not start within {} s", START_MAX.as_secs())]
    Slow {
        /// The first such worker.
        worker: usize,
    },
    /// The NIC of a port goes away.
    #[error(
        "port {port:?}: the kernel asks for its NIC back, because it is being unplugged or \
         unbound; the POP has stopped to release it. Put a NIC in its place, bind it to vfio-pci \
         and start the POP again"
    )]
    Removed {
        /// The port.
        port: String,
    },
    /// A worker ended without an error.
    #[error("worker[{worker}] ended while the POP was running")]
    Ended {
        /// The worker.
        worker: usize,
    },
}
