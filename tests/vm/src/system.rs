//! The systems that a guest can be.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyrelay_lab::{Result, command};

use crate::image::{Further, Image};
use crate::{Debian, Files};

/// A system to boot: a kernel, its first file system, and disks.
#[derive(Debug, Clone)]
pub(crate) struct System {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// The kernel's command line, beside what all guests have.
    pub cmdline: String,
    /// Disks in order, `/dev/vda` first. The guest's changes to them are lost with it.
    pub disks: Vec<PathBuf>,
    pub memory_mib: u32,
    /// How long it may take to start.
    pub start_max: Duration,
}

impl System {
    /// Busybox and the POP, all in memory: 3 to 9 s to start on an idle machine.
    pub fn small(
        files: &Files,
        folder: &Path,
        hugepages: u32,
        further: &Further,
    ) -> Result<System> {
        Ok(System {
            kernel: files.kernel.clone(),
            initrd: Image::write(files, folder, further)?.path,
            cmdline: format!("panic=-1 hugepages={hugepages}"),
            disks: Vec::new(),
            memory_mib: 1024,
            start_max: Duration::from_secs(60),
        })
    }

    /// Debian 12 with systemd, and a second disk that is an archive of this project: 30 to 70 s to
    /// start.
    pub fn debian(files: &Files, folder: &Path) -> Result<System> {
        let debian = Debian::find()?;
        let project = folder.join("project.tar");
        archive_project(files, folder, &project)?;
        Ok(System {
            kernel: debian.file("vmlinuz"),
            initrd: debian.file("initrd"),
            cmdline: "root=/dev/vda rw".into(),
            disks: vec![debian.file("disk"), project],
            memory_mib: 3072,
            start_max: Duration::from_secs(240),
        })
    }
}

/// Packs what an operator copies to a POP, with the program that cargo built in the place of a
/// release.
fn archive_project(files: &Files, folder: &Path, archive: &Path) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let release = folder.join("target/release");
    command::run(Command::new("mkdir").arg("-p").arg(&release))?;
    let program = release.join("anyrelay");
    command::run(Command::new("strip").arg("-o").arg(program).arg(&files.anyrelay))?;
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(archive).arg("-C").arg(root).args(["scripts", "deploy", "docs"]);
    command::run(tar.arg("-C").arg(folder).arg("target")).map(drop)
}
