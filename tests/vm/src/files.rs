//! The files that a guest is made of, and QEMU.

use std::path::{Path, PathBuf};

use anyrelay_lab::{LabError, Result, lab};

use crate::Model;

/// Where QEMU, the kernel, busybox and the POP are.
#[derive(Debug, Clone)]
pub struct Files {
    /// `anyrelay`, as cargo built it.
    pub anyrelay: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
    /// The kernel's image.
    pub kernel: PathBuf,
    /// The folder with the kernel's modules.
    pub modules: PathBuf,
    /// QEMU for x86-64.
    pub qemu: PathBuf,
    /// Where QEMU's own files and libraries are, if it is not installed.
    pub qemu_root: Option<PathBuf>,
}

impl Files {
    /// Finds them: installed, or in `vm/` of cargo's target folder, where `scripts/setup` unpacks
    /// Debian's packages, and for `igb` QEMU in `vm-backports/`, as `scripts/setup --full` does.
    ///
    /// # Errors
    /// With the file that is missing, and how to get it.
    pub fn find(model: Model) -> Result<Files> {
        let anyrelay = lab::anyrelay_binary()?;
        let target = target_folder(&anyrelay);
        let root = target.join("vm");
        // One that emulates igb may be beside an older one that is installed.
        let newer = Some(target.join("vm-backports")).filter(|_| model == Model::Igb);
        let unpacked = |root: &PathBuf| root.join("usr/bin/qemu-system-x86_64");
        let installed = Path::new(QEMU);
        let (qemu, qemu_root) = match newer.filter(|root| unpacked(root).is_file()) {
            Some(newer) => (unpacked(&newer), Some(newer)),
            None if installed.is_file() => (installed.to_owned(), None),
            None if unpacked(&root).is_file() => (unpacked(&root), Some(root.clone())),
            None => return Err(missing("QEMU", QEMU)),
        };
        let busybox = root.join("bin/busybox");
        let busybox = if busybox.is_file() { busybox } else { first(BUSYBOX, "static busybox")? };
        Ok(Files {
            anyrelay,
            busybox,
            kernel: entry(&root.join("boot"), "vmlinuz-")?,
            modules: entry(&root.join("lib/modules"), "")?.join("kernel"),
            qemu,
            qemu_root,
        })
    }
}

/// The large guest: a disk with Debian 12, its kernel and its initramfs.
#[derive(Debug, Clone)]
pub struct Debian {
    folder: PathBuf,
}

impl Debian {
    /// Finds it in `vm-debian/` of cargo's target folder, where `scripts/setup --full` makes it.
    ///
    /// # Errors
    /// If it is missing: with how to get it.
    pub fn find() -> Result<Debian> {
        let folder = target_folder(&lab::anyrelay_binary()?).join("vm-debian");
        if folder.join("disk").is_file() {
            return Ok(Debian { folder });
        }
        let place = folder.display();
        let text =
            format!("no Debian guest in {place}: run ./scripts/setup --full, which makes it");
        Err(LabError::Unexpected(text))
    }

    /// The path of one of its files: `disk`, `initrd` or `vmlinuz`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Cargo's target folder, from the path of a program in it.
fn target_folder(program: &Path) -> &Path {
    program.parent().and_then(Path::parent).unwrap_or(Path::new("."))
}

/// The first of these paths that is a file.
fn first(paths: &[&str], what: &str) -> Result<PathBuf> {
    let found = paths.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| missing(what, &paths.join(", ")))
}

/// The last entry of a folder, by name, that begins so.
fn entry(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    let last = named.map(|entry| entry.path()).max();
    last.ok_or_else(|| missing("kernel for guests", &folder.display().to_string()))
}

fn missing(what: &str, place: &str) -> LabError {
    LabError::Unexpected(format!("no {what} in {place}: run ./scripts/setup, which gets it"))
}

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const BUSYBOX: &[&str] = &["/usr/bin/busybox", "/bin/busybox"];
