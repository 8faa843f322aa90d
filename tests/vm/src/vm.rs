//! One guest with its network: what tests and `scripts/vm` begin with.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyrelay_lab::registry::{self, WorkDir};
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{LabError, Result};

use crate::image::Further;
use crate::machine::Hardware;
use crate::network::{PORTS, TARGETS};
use crate::system::System;
use crate::{Files, Guest, Machine, Model, Network, NicOptions};

/// What a guest is to be.
#[derive(Debug, Clone)]
pub struct VmBuilder {
    hardware: Hardware,
    hugepages: u32,
    further: Further,
    debian: bool,
}

impl VmBuilder {
    /// Pairs of queues of each NIC; 1 if not said.
    #[must_use]
    pub fn queues(mut self, queues: u16) -> Self {
        self.hardware.nics.queues = queues;
        self
    }

    /// Puts a device that the guest's kernel drives into the IOMMU group of the second NIC.
    #[must_use]
    pub fn companion(mut self) -> Self {
        self.hardware.nics.companion = true;
        self
    }

    /// Makes the NICs two ports of one card, in one IOMMU group.
    #[must_use]
    pub fn one_card(mut self) -> Self {
        self.hardware.nics.one_card = true;
        self
    }

    /// Gives the guest one CPU whose clock advances by a nanosecond for each instruction: CPU time
    /// is a count of instructions.
    #[must_use]
    pub fn counting(mut self) -> Self {
        self.hardware.counts = true;
        self
    }

    /// Has virtio-net hand frames to the guest as they are on a wire, and not several at once.
    #[must_use]
    pub fn wire(mut self) -> Self {
        self.hardware.nics.wire = true;
        self
    }

    /// Leaves the NICs of a small guest to its kernel, and adds programs of this machine to it, and
    /// libraries that they load.
    #[must_use]
    pub fn programs(mut self, programs: &[&str]) -> Self {
        let programs = programs.iter().map(PathBuf::from).collect();
        self.further = Further { programs, modules: &["virtio_net"] };
        self
    }

    /// Leaves the IOMMU out.
    #[must_use]
    pub fn without_iommu(mut self) -> Self {
        self.hardware.iommu = false;
        self
    }

    /// Boots Debian 12 with systemd, on which nothing of this project is installed, and leaves the
    /// NICs to its kernel. The project is an archive on its second disk.
    #[must_use]
    pub fn debian(mut self) -> Self {
        self.debian = true;
        self
    }

    /// Hugepages of 2 MiB of the small guest; 200 if not said.
    #[must_use]
    pub fn hugepages(mut self, pages: u32) -> Self {
        self.hugepages = pages;
        self
    }

    /// Starts the guest, waits until it runs commands, and binds the NICs of a small guest to
    /// vfio-pci.
    ///
    /// # Errors
    /// If not root, or something is missing or does not start: with its log.
    pub fn start(self) -> Result<Vm> {
        registry::prepare()?;
        let files = Files::find(self.hardware.nics.model)?;
        let id = registry::new_lab_id();
        let work = WorkDir::create(&id)?;
        let system = match self.debian {
            true => System::debian(&files, work.path())?,
            false => System::small(&files, work.path(), self.hugepages, &self.further)?,
        };
        let network = Network::create(&id)?;
        let (space, hardware) = (&network.machine, self.hardware);
        let mut machine = Machine::start(&files, &system, work.path(), space, &hardware)?;
        network.connect()?;
        let servers = TARGETS.map(|target| Server::start(&network.target, target));
        let guest = machine.guest()?;
        let [v4, v6] = servers;
        let nics = hardware.nics;
        let mut vm = Vm { guest, machine, network, nics, _servers: [v4?, v6?], work };
        if !self.debian && self.further.programs.is_empty() {
            vm.bind()?;
        }
        Ok(vm)
    }
}

/// A running guest with its network; everything is gone when it is dropped.
#[derive(Debug)]
pub struct Vm {
    /// Commands in it.
    pub guest: Guest,
    /// Its hardware.
    pub machine: Machine,
    /// What is connected to it.
    pub network: Network,
    /// Its NICs.
    pub nics: NicOptions,
    _servers: [Server; 2],
    work: WorkDir,
}

impl Vm {
    /// A guest with two NICs of this model, to be changed before it starts.
    #[must_use]
    pub fn builder(model: Model) -> VmBuilder {
        let hardware = Hardware { nics: NicOptions::new(model), iommu: true, counts: false };
        VmBuilder { hardware, hugepages: 200, further: Further::default(), debian: false }
    }

    /// Where its files are on the host.
    #[must_use]
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// The addresses of the NICs on the guest's bus, in the order of the ports.
    #[must_use]
    pub fn addresses(&self) -> [String; 2] {
        [self.nics.address(0), self.nics.address(1)]
    }

    /// Unpacks the project on the Debian guest, to `/opt/anyrelay`.
    ///
    /// # Errors
    /// If the guest cannot.
    pub fn unpack_project(&mut self) -> Result<()> {
        self.guest.run("mkdir -p /opt/anyrelay && tar -xf /dev/vdb -C /opt/anyrelay").map(drop)
    }

    /// Reboots the guest in order, and waits until it runs commands again.
    ///
    /// # Errors
    /// If it does not stop or start.
    pub fn reboot(&mut self) -> Result<()> {
        // Later, for what runs the command is stopped too, and could not answer.
        self.guest.run("(sleep 1; systemctl reboot) >/dev/null 2>&1 &")?;
        self.machine.rebooted(&mut self.guest)
    }

    /// Binds both NICs to vfio-pci, as an operator does.
    ///
    /// # Errors
    /// If the guest's kernel refuses.
    pub fn bind(&mut self) -> Result<()> {
        let list = self.addresses().join(" ");
        let script = BIND.replace("ADDRESSES", &list);
        self.guest.run(&script).map(drop)
    }

    /// Downloads a body from a service, over a new connection, and checks it.
    ///
    /// # Errors
    /// If the connection fails, or stands still for longer than `limit`.
    pub fn download(&self, vip: SocketAddr, bytes: usize, limit: Duration) -> Result<()> {
        let fetch = move || {
            let mut connection = Connection::open_here(vip, limit)?;
            connection.stream().set_read_timeout(Some(limit))?;
            connection.download(7, bytes)
        };
        let result = self.network.client.run(fetch)?;
        result.map_err(LabError::io(format!("download {bytes} bytes from {vip}")))
    }

    /// Downloads a small body from a service of IPv4 with each of the first `count` clients, 1 to
    /// 254, one after another.
    ///
    /// # Errors
    /// With the first that fails.
    pub fn download_by_clients(&self, vip: SocketAddrV4, count: u8) -> Result<()> {
        let fetch = move || {
            (1..=count).try_for_each(|client| {
                let from = SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, client), 0);
                Connection::open_from(from, vip)?.download(u64::from(client), 3000)
            })
        };
        let result = self.network.client.run(fetch)?;
        result.map_err(LabError::io(format!("downloads of {count} clients from {vip}")))
    }

    /// The names of the ports, in order.
    #[must_use]
    pub fn ports(&self) -> [&'static str; 2] {
        PORTS
    }
}

const BIND: &str = "for address in ADDRESSES; do
    device=/sys/bus/pci/devices/$address
    [ ! -e $device/driver ] || echo $address >$device/driver/unbind
    echo vfio-pci >$device/driver_override
    echo $address >/sys/bus/pci/drivers_probe
    [ \"$(basename \"$(readlink $device/driver)\")\" = vfio-pci ] || exit 1
done";
