//! The files that a guest is made of, and QEMU.

use std::path::{Path, PathBuf};

use anyrelay_lab::{LabError, Result, lab};

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
    /// Debian's packages.
    ///
    /// # Errors
    /// With the file that is missing, and how to get it.
    pub fn find() -> Result<Files> {
        let anyrelay = lab::anyrelay_binary()?;
        let target = anyrelay.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        let root = target.join("vm");
        let unpacked = root.join("usr/bin/qemu-system-x86_64");
        let installed = Path::new(QEMU);
        let (qemu, qemu_root) = match (installed.is_file(), unpacked.is_file()) {
            (true, _) => (installed.to_owned(), None),
            (false, true) => (unpacked, Some(root.clone())),
            (false, false) => return Err(missing("QEMU", QEMU)),
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
