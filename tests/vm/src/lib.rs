//! Virtual machines with emulated PCI NICs, in which a POP runs: QEMU without KVM (TCG), an
//! emulated IOMMU, and the lab's namespaces at both NICs.
//!
//! ```text
//! client namespace -- tap `wan` -- NIC 1 --+-- POP in the guest
//! target namespace -- tap `lan` -- NIC 2 --+
//! ```
//!
//! A guest may also be a target of POPs in a lab ([`Target`]).
//!
//! What it promises:
//! - the small guest has what is installed on this machine and nothing else: the built `anyrelay`,
//!   DPDK's drivers, busybox and Debian's cloud kernel ([`Files`] finds them, `scripts/setup` gets
//!   them); the large one is Debian 12 as its installer leaves it ([`Debian`]);
//! - every wait has a bound, and its error has the log of the guest;
//! - nothing outlives it: QEMU, namespaces and files are the lab's ([`anyrelay_lab::registry`]).
//!
//! It needs root. An emulated NIC has the registers of the real one and none of its speed: what is
//! shown here is that a driver and the POP work together, not how fast.

mod archive;
mod files;
mod guest;
mod image;
mod machine;
mod network;
mod nic;
mod pop;
mod qmp;
mod system;
mod target;
mod vm;

pub use files::{Debian, Files};
pub use guest::{Guest, Output};
pub use machine::Machine;
pub use network::Network;
pub use nic::{Model, NicOptions};
pub use pop::{VIP, VIP4, VIP6};
pub use target::Target;
pub use vm::{Vm, VmBuilder};
