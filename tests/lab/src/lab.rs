//! The whole laboratory: topology, POPs that forward, routes to move.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyrelay_core::config::TargetList;

use crate::config::{Device, Egress, Layout, RelayConfig, Service};
use crate::haproxy;
use crate::hints::HintNetwork;
use crate::middlebox::Trouble;
use crate::nftables::{self, Kernel};
use crate::nginx::{make_directory, stream_text};
use crate::pop::{Forwarder, Pop};
use crate::registry::{self, WorkDir};
use crate::targets::TargetsFile;
use crate::topology::Shape;
use crate::{LabError, Result, Routes, Topology, command};

/// A running laboratory; everything it made is gone when it is dropped.
#[derive(Debug)]
pub struct Lab {
    /// The POPs, all ready at first.
    pub pops: Vec<Pop>,
    /// The routes, both through the first POP at first.
    pub routes: Routes,
    /// The namespaces.
    pub topology: Arc<Topology>,
    work: WorkDir,
}

impl Lab {
    /// A lab of three relaying POPs with one pool service, to be changed before it is built.
    #[must_use]
    pub fn builder() -> LabBuilder {
        LabBuilder {
            shape: Shape::default(),
            forwarder: Forwarder::Relay,
            device: Device::AfPacket,
            layout: Layout::RunToCompletion,
            services: Vec::new(),
            client_timestamps: true,
            target_timestamps: true,
            drop_copies: false,
            overlay: String::new(),
            keys: None,
            targets: None,
            clock_offsets_ms: Vec::new(),
        }
    }

    /// The network of hints.
    ///
    /// # Errors
    /// If the lab was built without.
    pub fn hints(&self) -> Result<&HintNetwork> {
        let none = || LabError::Unexpected("this lab has no network of hints".into());
        self.topology.hints.as_ref().ok_or_else(none)
    }

    /// The file of the targets of its first service, if it was built with one.
    #[must_use]
    pub fn targets_file(&self) -> TargetsFile {
        TargetsFile::in_directory(self.work())
    }

    /// Where its files are.
    #[must_use]
    pub fn work(&self) -> &Path {
        self.work.path()
    }
}

/// What a lab is to be.
#[derive(Debug, Clone)]
pub struct LabBuilder {
    shape: Shape,
    forwarder: Forwarder,
    device: Device,
    layout: Layout,
    services: Vec<Service>,
    client_timestamps: bool,
    target_timestamps: bool,
    drop_copies: bool,
    overlay: String,
    keys: Option<String>,
    targets: Option<TargetList>,
    clock_offsets_ms: Vec<i64>,
}

impl LabBuilder {
    /// How many POPs; 3 if not said.
    #[must_use]
    pub fn pops(mut self, pops: usize) -> Self {
        self.shape.pops = pops;
        self
    }

    /// The egress pool; 100.64.8.0/24 if not said.
    #[must_use]
    pub fn pool(mut self, pool: &str) -> Self {
        pool.clone_into(&mut self.shape.pool);
        self
    }

    /// What forwards in the POPs; the relay if not said.
    #[must_use]
    pub fn forwarder(mut self, forwarder: Forwarder) -> Self {
        self.forwarder = forwarder;
        self.shape.kernel_pops = matches!(forwarder, Forwarder::HaProxy | Forwarder::NginxStream);
        self.shape.routing_pops = matches!(forwarder, Forwarder::Nftables | Forwarder::Stateless);
        self
    }

    /// What the relay's ports are; af_packet if not said.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Puts a link of this MTU between the hosts and the POPs, for IPv4: routers cut datagrams that
    /// may be cut in fragments, and send errors about others.
    #[must_use]
    pub fn path_mtu(mut self, mtu: u32) -> Self {
        self.shape.path_mtu = Some(mtu);
        self
    }

    /// Cuts IPv6 segments of both hosts in fragments of at most this many bytes, which routers
    /// never do: boxes beside the hosts do.
    #[must_use]
    pub fn cut_ipv6(mut self, mtu: usize) -> Self {
        let trouble = Trouble { cut_ipv6: Some(mtu), ..Trouble::NONE };
        self.shape.boxes = [Some(trouble); 2];
        self
    }

    /// Puts a box in front of the client that does this to its segments.
    #[must_use]
    pub fn client_box(mut self, trouble: Trouble) -> Self {
        self.shape.boxes[0] = Some(trouble);
        self
    }

    /// Adds a path between the hosts that passes no POP, to their own addresses.
    #[must_use]
    pub fn direct(mut self) -> Self {
        self.shape.direct = true;
        self
    }

    /// Has the POPs' kernels drop their copies of what a relay's packet sockets receive.
    #[must_use]
    pub fn drop_copies(mut self) -> Self {
        self.drop_copies = true;
        self
    }

    /// Lets POPs tell each other of refusals, over a network of their own.
    #[must_use]
    pub fn hints(mut self) -> Self {
        self.shape.hints = true;
        self
    }

    /// The layout of the relay's workers; run to completion if not said.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Adds a service. Without any, there is [`Service::default`].
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Makes the default service transparent.
    #[must_use]
    pub fn transparent(self) -> Self {
        self.service(Service { egress: Egress::Transparent, ..Service::default() })
    }

    /// Leads the first service to the targets of a file, which all POPs share and which says this
    /// at first.
    #[must_use]
    pub fn targets(mut self, list: TargetList) -> Self {
        self.targets = Some(list);
        self
    }

    /// Adds hosts that are a target each.
    #[must_use]
    pub fn target_hosts(mut self, count: usize) -> Self {
        self.shape.target_hosts = count;
        self
    }

    /// How far ahead the clock of each POP is, in milliseconds.
    #[must_use]
    pub fn clock_offsets_ms(mut self, offsets: &[i64]) -> Self {
        self.clock_offsets_ms = offsets.to_vec();
        self
    }

    /// Whether the client's kernel offers TCP timestamps; it does if not said.
    #[must_use]
    pub fn client_timestamps(mut self, on: bool) -> Self {
        self.client_timestamps = on;
        self
    }

    /// Whether the target's kernel accepts TCP timestamps; it does if not said.
    #[must_use]
    pub fn target_timestamps(mut self, on: bool) -> Self {
        self.target_timestamps = on;
        self
    }

    /// TOML to lay over each relay's configuration: tables merge, all else is replaced.
    #[must_use]
    pub fn overlay(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.overlay);
        self
    }

    /// The text of the key file; made anew for each lab if not said.
    #[must_use]
    pub fn keys(mut self, toml: &str) -> Self {
        self.keys = Some(toml.to_owned());
        self
    }

    /// Builds it and waits until all POPs are ready.
    ///
    /// # Errors
    /// If not root, a tool or the binary is missing, or a POP does not come up: with its log.
    pub fn build(mut self) -> Result<Lab> {
        registry::prepare()?;
        if self.services.is_empty() {
            self.services.push(Service::default());
        }
        self.shape.ipv6 = self.services.iter().any(Service::has_ipv6);
        let id = registry::new_lab_id();
        let work = WorkDir::create(&id)?;
        let topology = Arc::new(Topology::build(&id, &self.shape)?);
        let hosts = [
            (&topology.client, self.client_timestamps),
            (&topology.target, self.target_timestamps),
        ];
        for (host, timestamps) in hosts {
            host.sysctl("net.ipv4.tcp_timestamps", if timestamps { "1" } else { "0" })?;
        }
        let routes = topology.routes(&self.shape, &work.path().join("routes.log"))?;
        let mut pops = match self.forwarder {
            Forwarder::Relay => self.relays(&topology, work.path())?,
            Forwarder::HaProxy => self.haproxies(&topology, work.path())?,
            Forwarder::NginxStream => self.nginxes(&topology, work.path())?,
            Forwarder::Nftables => self.kernels(&topology, work.path(), true),
            Forwarder::Stateless => self.kernels(&topology, work.path(), false),
        };
        pops.iter_mut().try_for_each(Pop::start)?;
        pops.iter_mut().try_for_each(|pop| pop.wait_ready(Duration::from_secs(30)))?;
        Ok(Lab { pops, routes, topology, work })
    }

    fn relays(&self, topology: &Arc<Topology>, work: &Path) -> Result<Vec<Pop>> {
        let binary = anyrelay_binary()?;
        let keys = work.join("keys.toml");
        match &self.keys {
            Some(text) => write_private(&keys, text)?,
            None => drop(command::run(Command::new(&binary).arg("keygen").arg(&keys))?),
        }
        if let Some(list) = &self.targets {
            TargetsFile::in_directory(work).write(list)?;
        }
        let config = RelayConfig {
            targets_file: self.targets.is_some(),
            clock_offsets_ms: self.clock_offsets_ms.clone(),
            pool: self.shape.pool.clone(),
            ipv6: self.shape.ipv6,
            device: self.device,
            layout: self.layout,
            services: self.services.clone(),
            hinting: if self.shape.hints { self.shape.pops } else { 0 },
            overlay: self.overlay.parse().map_err(|e| LabError::Overlay(format!("{e}")))?,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let make = |index: usize| {
            let path = work.join(format!("pop{}.toml", index + 1));
            write(&path, &config.text(index, cores)?)?;
            if self.drop_copies {
                nftables::drop_copies(&topology.pops[index])?;
            }
            let mut arguments = vec![binary.to_string_lossy().into_owned()];
            arguments.extend(["run", "--config"].map(str::to_owned));
            arguments.push(path.to_string_lossy().into_owned());
            Ok(Pop::new(topology.pops[index].clone(), index, arguments, path))
        };
        (0..self.shape.pops).map(make).collect()
    }

    fn haproxies(&self, topology: &Arc<Topology>, work: &Path) -> Result<Vec<Pop>> {
        let make = |index: usize| {
            let path = work.join(format!("pop{}.cfg", index + 1));
            write(&path, &haproxy::config_text(&self.services, &path.with_extension("sock")))?;
            let mut arguments = ["haproxy", "-db", "-q", "-f"].map(str::to_owned).to_vec();
            arguments.push(path.to_string_lossy().into_owned());
            Ok(Pop::new(topology.pops[index].clone(), index, arguments, path))
        };
        (0..self.shape.pops).map(make).collect()
    }

    fn nginxes(&self, topology: &Arc<Topology>, work: &Path) -> Result<Vec<Pop>> {
        let make = |index: usize| {
            let path = work.join(format!("pop{}.conf", index + 1));
            write(&path, &stream_text(&self.services, &path))?;
            make_directory(&path.with_extension("temp"))?;
            let log = path.with_extension("log").to_string_lossy().into_owned();
            let path_text = path.to_string_lossy().into_owned();
            let arguments = ["nginx", "-e", &log, "-c", &path_text].map(str::to_owned).to_vec();
            Ok(Pop::new(topology.pops[index].clone(), index, arguments, path))
        };
        (0..self.shape.pops).map(make).collect()
    }

    fn kernels(&self, topology: &Arc<Topology>, work: &Path, tracks: bool) -> Vec<Pop> {
        let make = |index: usize| {
            let path = work.join(format!("pop{}.nft", index + 1));
            let kernel = Kernel::new(&self.services, tracks);
            Pop::of_kernel(topology.pops[index].clone(), index, kernel, path)
        };
        (0..self.shape.pops).map(make).collect()
    }
}

/// The relay's binary: `ANYRELAY_BIN`, or where cargo puts it beside the running test or program.
///
/// # Errors
/// [`LabError::MissingBinary`], which says how to build it.
pub fn anyrelay_binary() -> Result<PathBuf> {
    binary("anyrelay", "ANYRELAY_BIN")
}

/// A binary of the workspace: what the variable says, or where cargo puts it.
pub(crate) fn binary(name: &'static str, variable: &str) -> Result<PathBuf> {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => {
            let own = std::env::current_exe().map_err(LabError::io("find the own executable"))?;
            let mut directory = own.parent().unwrap_or(Path::new("."));
            if directory.ends_with("deps") {
                directory = directory.parent().unwrap_or(directory);
            }
            directory.join(name)
        }
    };
    if path.is_file() { Ok(path) } else { Err(LabError::MissingBinary { path, package: name }) }
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(LabError::io(format!("write {}", path.display())))
}

pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = std::fs::File::options();
    let file = options.create_new(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(LabError::io(format!("write {}", path.display())))
}
