//! QEMU as a process, with its monitor and the channel for commands.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyrelay_lab::{LabError, Namespace, Process, Result};
use serde_json::json;

use crate::qmp::Qmp;
use crate::system::System;
use crate::{Files, Guest, NicOptions};

/// A running machine; ended by its process id when dropped.
#[derive(Debug)]
pub struct Machine {
    qemu: Process,
    qmp: Qmp,
    folder: PathBuf,
    start_max: Duration,
}

/// What is built into a machine.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// Its two NICs.
    pub nics: NicOptions,
    /// Whether it has an IOMMU.
    pub iommu: bool,
    /// Whether its clock counts instructions, of a single CPU.
    pub counts: bool,
}

impl Machine {
    /// Starts QEMU inside a namespace, in which it makes the tap of each port. Its sockets and
    /// logs are in `folder`.
    ///
    /// # Errors
    /// If QEMU does not start: with its message.
    pub(crate) fn start(
        files: &Files,
        system: &System,
        folder: &Path,
        namespace: &Namespace,
        hardware: &Hardware,
    ) -> Result<Machine> {
        let mut command = namespace.command(&files.qemu);
        if let Some(root) = &files.qemu_root {
            let inside = |path: &str| root.join(path);
            for data in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(inside(data));
            }
            let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(inside);
            let libraries = libraries.map(|path| path.display().to_string()).join(":");
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let socket = |name: &str| format!("path={},server=on,wait=off", file(folder, name));
        command.args(FIXED);
        command.args(if hardware.counts { COUNTING } else { FAST });
        if hardware.iommu {
            command.args(IOMMU);
        }
        command.args(["-m", &system.memory_mib.to_string()]);
        command.arg("-kernel").arg(&system.kernel).arg("-initrd").arg(&system.initrd);
        command.args(["-append", &format!("{CMDLINE} {}", system.cmdline)]);
        for (number, disk) in system.disks.iter().enumerate() {
            let drive =
                format!("file={},format=raw,if=none,snapshot=on,id=disk{number}", disk.display());
            let device = format!("virtio-blk-pci,drive=disk{number},addr={:x}.0", 0x1c + number);
            command.args(["-drive", &drive, "-device", &device]);
        }
        // Where QEMU keeps what the guest changes on its disks.
        command.env("TMPDIR", folder);
        command.args(["-serial", &format!("file:{}", file(folder, CONSOLE))]);
        command.args(["-chardev", &format!("socket,id=monitor,{}", socket(MONITOR))]);
        command.args(["-mon", "chardev=monitor,mode=control"]);
        command.args(["-chardev", &format!("socket,id=guest,{}", socket(CHANNEL))]);
        command.args(["-device", "virtio-serial-pci,addr=1e.0"]);
        command.args(["-device", "virtserialport,chardev=guest,name=guest"]);
        for (number, port) in crate::network::PORTS.iter().enumerate() {
            command.args(hardware.nics.arguments(number, port));
        }
        let mut qemu = Process::spawn("QEMU", &mut command, Some(&folder.join(LOG)))?;
        let qmp = Qmp::new(connect(&mut qemu, &folder.join(MONITOR))?)?;
        let (folder, start_max) = (folder.to_owned(), system.start_max);
        Ok(Machine { qemu, qmp, folder, start_max })
    }

    /// Waits until the guest runs commands.
    ///
    /// # Errors
    /// If it does not in time: with its console.
    pub fn guest(&mut self) -> Result<Guest> {
        let mut guest = Guest::new(connect(&mut self.qemu, &self.folder.join(CHANNEL))?);
        self.wait_for(&mut guest)?;
        Ok(guest)
    }

    /// Waits until the guest has stopped for a reboot and runs commands again.
    ///
    /// # Errors
    /// As [`Self::guest`].
    pub fn rebooted(&mut self, guest: &mut Guest) -> Result<()> {
        self.qmp.wait_event("RESET", STOP_MAX)?;
        self.wait_for(guest)
    }

    fn wait_for(&mut self, guest: &mut Guest) -> Result<()> {
        let waited = self.start_max;
        guest.output("true", waited).map(drop).map_err(|error| LabError::NotReady {
            what: format!("the guest ({error})"),
            waited,
            detail: format!("{}\n{}", self.qemu.log_tail(10), self.console()),
        })
    }

    /// The guest's console.
    #[must_use]
    pub fn console(&self) -> String {
        std::fs::read_to_string(self.folder.join(CONSOLE)).unwrap_or_default()
    }

    /// Connects or disconnects the cable of a port.
    ///
    /// # Errors
    /// If QEMU refuses.
    pub fn set_link(&mut self, port: &str, up: bool) -> Result<()> {
        let arguments = json!({ "name": format!("nic-{port}"), "up": up });
        self.qmp.execute("set_link", &arguments).map(drop)
    }

    /// Asks the guest to give up the NIC of a port, as a hot unplug does.
    ///
    /// # Errors
    /// If QEMU refuses.
    pub fn unplug(&mut self, port: &str) -> Result<()> {
        self.qmp.execute("device_del", &json!({ "id": format!("nic-{port}") })).map(drop)
    }
}

fn file(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

/// Connects to a socket of QEMU's, as soon as there is one.
fn connect(qemu: &mut Process, path: &Path) -> Result<UnixStream> {
    let start = Instant::now();
    loop {
        let error = match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if let Some(status) = qemu.status()? {
            let (command, status) = ("QEMU".to_owned(), status.to_string());
            return Err(LabError::Command { command, status, output: qemu.log_tail(20) });
        }
        if start.elapsed() > SOCKET_MAX {
            return Err(LabError::io(format!("connect to {}", path.display()))(error));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The emulated machine.
const FIXED: &[&str] =
    &["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-cpu", "max"];
const FAST: &[&str] = &["-accel", "tcg,thread=multi", "-smp", "2"];
/// A nanosecond of the guest's for each instruction.
const COUNTING: &[&str] = &["-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=0"];
/// It stands before all devices: those before it are not behind it.
const IOMMU: &[&str] = &["-device", "intel-iommu,intremap=on"];
const CMDLINE: &str = "console=ttyS0 quiet";
const LOG: &str = "qemu.log";
const CONSOLE: &str = "console";
const MONITOR: &str = "monitor";
const CHANNEL: &str = "guest";

/// How long QEMU may take until it listens.
const SOCKET_MAX: Duration = Duration::from_secs(20);
/// How long a guest may take to stop.
const STOP_MAX: Duration = Duration::from_secs(120);
