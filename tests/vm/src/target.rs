//! A guest that is a target in a lab, for what this machine's kernel cannot do.

use std::path::PathBuf;

use anyrelay_lab::registry::{self, WorkDir};
use anyrelay_lab::{Namespace, Result};

use crate::image::Further;
use crate::machine::Hardware;
use crate::system::System;
use crate::{Files, Guest, Machine, Model, NicOptions};

/// A running guest, without a POP in it; gone when dropped, before its namespace.
#[derive(Debug)]
pub struct Target {
    /// Commands in it.
    pub guest: Guest,
    _machine: Machine,
    _work: WorkDir,
}

impl Target {
    /// Starts a guest whose kernel has the devices of tunnels, beside iproute2, and waits until it
    /// runs commands. Its second NIC, `eth1`, is the interface `lan` of `router`; neither has an
    /// address.
    ///
    /// # Errors
    /// If not root, or something is missing or does not start: with its log.
    pub fn start(router: &Namespace) -> Result<Target> {
        let files = Files::find(Model::VirtioNet)?;
        let work = WorkDir::create(&registry::new_lab_id())?;
        let further = Further { programs: vec![PathBuf::from(IP)], modules: MODULES };
        let system = System::small(&files, work.path(), 0, &further)?;
        let nics = NicOptions::new(Model::VirtioNet);
        let hardware = Hardware { nics, iommu: false, counts: false };
        let mut machine = Machine::start(&files, &system, work.path(), router, &hardware)?;
        let guest = machine.guest()?;
        Ok(Target { guest, _machine: machine, _work: work })
    }
}

/// iproute2.
const IP: &str = "/usr/bin/ip";
const MODULES: &[&str] = &["virtio_net", "ipip", "sit", "ip6_tunnel", "fou", "fou6"];
