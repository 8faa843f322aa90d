//! Loads a config together with the files that it names.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyrelay_core::keys::AgentKey;

use super::{Config, LocalConfig, PeerEntry, Problem, Problems, TunConfig};
use crate::engine::AgentOptions;
use crate::inner::device::TunDeviceConfig;
use crate::inner::keys::{PresharedKey, PrivateKey};
use crate::inner::routes::PeerIndex;
use crate::inner::{PeerConfig, TunPeers};
use crate::open::OpenConfig;
use crate::outer::Carried;
use crate::peers::PeerSource;
use crate::publish::PublishTarget;

/// The settings of `run`.
#[derive(Debug)]
pub struct Loaded {
    /// Of the event loop.
    pub options: AgentOptions,
    /// Of the local side.
    pub local: LoadedLocal,
    /// Key files that other users can read.
    pub exposed: Vec<PathBuf>,
}

/// The settings of a local side.
#[derive(Debug)]
pub enum LoadedLocal {
    /// A TUN device.
    Tun {
        /// The device.
        device: TunDeviceConfig,
        /// The private key, which identifies this agent to its peers.
        private: PrivateKey,
        /// The peers.
        peers: TunPeers,
    },
    /// A local UDP address that programs on this host send to.
    UdpListen(SocketAddr),
    /// A UDP server.
    UdpTarget(SocketAddr),
    /// None beside the open side.
    None,
}

/// Reads the config at `path` and the files that it names.
///
/// # Errors
/// All problems that can be found at once.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let file = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| {
        let reason = format!("cannot be read: {error}");
        Problems(vec![Problem { file: file.clone(), key: String::new(), reason }])
    })?;
    let config = Config::parse(&file, &text)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut files = Files { file, folder, problems: Vec::new(), exposed: Vec::new() };
    let Config { agent, local, open } = config;
    let key = files.read("agent.key", &agent.key, AgentKey::parse);
    let (local, peers) = match local {
        LocalConfig::Tun(tun) => tun_side(&mut files, tun),
        LocalConfig::UdpListen { listen, peer } => {
            (Some(LoadedLocal::UdpListen(listen)), vec![files.source(peer)])
        }
        LocalConfig::UdpTarget(target) => (Some(LoadedLocal::UdpTarget(target)), Vec::new()),
        LocalConfig::None => (Some(LoadedLocal::None), Vec::new()),
    };
    let (Some(key), Some(local), true) = (key, local, files.problems.is_empty()) else {
        return Err(Problems(files.problems));
    };
    let in_folder = |target| match target {
        PublishTarget::File(path) => PublishTarget::File(folder.join(path)),
        program => program,
    };
    let open = open.map(|open| OpenConfig {
        publish: open.publish.into_iter().map(in_folder).collect(),
        ..open
    });
    let options = AgentOptions {
        vip: agent.vip,
        key,
        publish: agent.publish.into_iter().map(in_folder).collect(),
        state: agent.state.map(|path| folder.join(path)),
        control: agent.control.map(|path| folder.join(path)),
        steering: agent.steering,
        carried: match &local {
            LoadedLocal::Tun { device, .. } => Carried::Device(device.name.clone()),
            LoadedLocal::UdpListen(listen) => Carried::Listen(*listen),
            LoadedLocal::UdpTarget(target) => Carried::Target(*target),
            LoadedLocal::None => {
                Carried::Device(open.as_ref().map(|open| open.device.clone()).unwrap_or_default())
            }
        },
        peers,
        open,
    };
    Ok(Loaded { options, local, exposed: files.exposed })
}

fn tun_side(files: &mut Files<'_>, tun: TunConfig) -> (Option<LoadedLocal>, Vec<PeerSource>) {
    let private = files.read("tun.private_key", &tun.private_key, PrivateKey::parse_file);
    let own = private.as_ref().and_then(PrivateKey::public);
    let (mut all, mut source_peers, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    for (at, peer) in (0..).zip(tun.peers) {
        let PeerEntry { name, public_key, preshared_key, at: source, allowed, keepalive_seconds } =
            peer;
        if own == Some(public_key) {
            let reason = "this is the public key of this agent itself; give the peer's";
            files.error(format!("peer[{at}].public_key"), reason.to_owned());
        }
        let preshared_key = preshared_key.and_then(|path| {
            files.read(&format!("peer[{at}].preshared_key"), &path, PresharedKey::parse_file)
        });
        if let Some(source) = source {
            source_peers.push(PeerIndex(at));
            sources.push(files.source(source));
        }
        let locator = None;
        all.push(PeerConfig {
            name,
            public_key,
            preshared_key,
            locator,
            allowed,
            keepalive_seconds,
        });
    }
    let peers = TunPeers { all, source_peers };
    let local = private.map(|private| LoadedLocal::Tun { device: tun.device, private, peers });
    (local, sources)
}

/// Reads the files that a config names.
struct Files<'a> {
    file: String,
    folder: &'a Path,
    problems: Vec<Problem>,
    exposed: Vec<PathBuf>,
}

impl Files<'_> {
    fn error(&mut self, key: String, reason: String) {
        self.problems.push(Problem { file: self.file.clone(), key, reason });
    }

    /// Reads a key file. An error never quotes the file.
    fn read<T, E: std::fmt::Display>(
        &mut self,
        key: &str,
        path: &Path,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.join(path);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                self.error(key.to_owned(), format!("{}: {error}", path.display()));
                return None;
            }
        };
        if fs::metadata(&path).is_ok_and(|data| data.permissions().mode() & 0o077 != 0) {
            self.exposed.push(path.clone());
        }
        let read = parse(&text);
        read.map_err(|error| self.error(key.to_owned(), format!("{}: {error}", path.display())))
            .ok()
    }

    fn source(&self, source: PeerSource) -> PeerSource {
        match source {
            PeerSource::File(path) => PeerSource::File(self.folder.join(path)),
            other => other,
        }
    }
}
