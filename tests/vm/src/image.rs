//! The guest's first and only file system, in memory: busybox, the POP, DPDK's drivers, modules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyrelay_lab::{LabError, Result, command};

use crate::Files;
use crate::archive::Archive;

/// An initramfs in a file.
#[derive(Debug)]
pub(crate) struct Image {
    /// The file.
    pub path: PathBuf,
}

impl Image {
    /// Writes the archive to `folder`, with `further` contents. It is not compressed: an emulated
    /// processor would take longer to unpack it than to read it.
    ///
    /// # Errors
    /// With the file or program that is missing.
    pub fn write(files: &Files, folder: &Path, further: &Further) -> Result<Image> {
        let mut archive = Archive::default();
        // The root is writable by all unless it is an entry, and EAL refuses to load from it then.
        for name in [".", "dev", "proc", "sys", "tmp", "run", "root", "etc", "usr/lib64"] {
            archive.folder(name);
        }
        for (link, target) in LINKS {
            archive.link(link, target);
        }
        archive.file("init", 0o755, INIT.as_bytes());
        archive.file("etc/agent", 0o755, AGENT.as_bytes());
        busybox(&mut archive, &files.busybox, &further.programs)?;
        let stripped = folder.join("anyrelay");
        command::run(Command::new("strip").arg("-o").arg(&stripped).arg(&files.anyrelay))?;
        archive.file("usr/bin/anyrelay", 0o755, &read(&stripped)?);
        let mut wanted = libraries(&mut archive, &stripped)?;
        for program in &further.programs {
            wanted.extend(ldd(program)?);
            match name(program) {
                Some(name) => archive.file(&format!("usr/bin/{name}"), 0o755, &read(program)?),
                None => _ = wanted.insert(program.to_string_lossy().into_owned()),
            }
        }
        for library in wanted {
            archive.file(&in_usr(&library), 0o755, &read(Path::new(&library))?);
        }
        archive.file("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\nnobody:x:1:1::/:/bin/sh\n");
        archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:1:\n");
        modules(&mut archive, &files.modules, &[MODULES, further.modules].concat())?;
        let path = folder.join("initramfs.cpio");
        let write = std::fs::write(&path, archive.finish());
        write.map_err(LabError::io(format!("write {}", path.display())))?;
        Ok(Image { path })
    }
}

/// What an image has besides what all have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Further {
    /// Programs of this machine, and libraries that these load.
    pub programs: Vec<PathBuf>,
    /// Kernel modules.
    pub modules: &'static [&'static str],
}

/// The name of a program; `None` for a library.
fn name(program: &Path) -> Option<String> {
    let name = program.file_name()?.to_string_lossy().into_owned();
    Some(name).filter(|name| !name.contains(".so"))
}

/// Busybox, and a link for each of its programs but these.
fn busybox(archive: &mut Archive, path: &Path, others: &[PathBuf]) -> Result<()> {
    archive.file("usr/bin/busybox", 0o755, &read(path)?);
    let applets = command::run(Command::new(path).arg("--list"))?;
    let others: Vec<String> = others.iter().filter_map(|other| name(other)).collect();
    let is_linked = |applet: &&str| *applet != "busybox" && others.iter().all(|it| it != applet);
    for applet in applets.lines().filter(is_linked) {
        archive.link(&format!("usr/bin/{applet}"), "busybox");
    }
    Ok(())
}

/// Links to DPDK's drivers where EAL looks for them; what they and the POP are linked with.
fn libraries(archive: &mut Archive, anyrelay: &Path) -> Result<BTreeSet<String>> {
    let of_dpdk = ldd(anyrelay)?.into_iter().find(|path| path.contains("/librte_eal.so"));
    let eal = of_dpdk.ok_or_else(|| LabError::Unexpected("anyrelay is linked without DPDK".into()));
    let eal = eal?;
    let (folder, abi) = eal.rsplit_once("/librte_eal.so.").unwrap_or(("", ""));
    let mut wanted: BTreeSet<String> = ldd(anyrelay)?.into_iter().collect();
    let plugins = format!("{}/dpdk/pmds-{abi}.0", in_usr(folder));
    for driver in DRIVERS {
        let library = format!("{folder}/librte_{driver}.so.{abi}");
        wanted.extend(ldd(Path::new(&library))?);
        // A link, so that the loader knows it as the library that others are linked with.
        archive.link(&format!("{plugins}/librte_{driver}.so.{abi}.0"), &library);
        wanted.insert(library);
    }
    Ok(wanted)
}

/// The files that a program is linked with.
fn ldd(program: &Path) -> Result<Vec<String>> {
    let text = command::run(Command::new("ldd").arg(program))?;
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(str::to_owned).collect())
}

/// A path below `usr`, where /lib and /lib64 lead.
fn in_usr(path: &str) -> String {
    let path = path.trim_start_matches('/');
    if path.starts_with("usr/") { path.to_owned() } else { format!("usr/{path}") }
}

/// The modules that guests need, those that they depend on first, and a list in that order.
fn modules(archive: &mut Archive, folder: &Path, names: &[&str]) -> Result<()> {
    let mut found = Vec::new();
    collect(folder, &mut found)?;
    let mut order = Vec::new();
    for name in names {
        add_module(archive, &found, name, &mut order)?;
    }
    archive.file("etc/modules", 0o644, format!("{}\n", order.join("\n")).as_bytes());
    Ok(())
}

/// Adds a module after what it depends on. A module without a file is part of the kernel.
fn add_module(
    archive: &mut Archive,
    found: &[PathBuf],
    name: &str,
    order: &mut Vec<String>,
) -> Result<()> {
    let name = name.replace('-', "_");
    let named = |path: &&PathBuf| {
        path.file_stem().is_some_and(|stem| stem.to_string_lossy().replace('-', "_") == name)
    };
    let Some(path) = found.iter().find(named) else { return Ok(()) };
    if order.contains(&name) {
        return Ok(());
    }
    let bytes = read(path)?;
    for dependency in dependencies(&bytes) {
        add_module(archive, found, &dependency, order)?;
    }
    archive.file(&format!("usr/lib/modules/{name}.ko"), 0o644, &bytes);
    order.push(name);
    Ok(())
}

/// What a module's `.modinfo` says that it depends on.
fn dependencies(module: &[u8]) -> Vec<String> {
    let fields = module.split(|&byte| byte == 0);
    let depends = fields.filter_map(|field| field.strip_prefix(b"depends=")).next();
    let text = String::from_utf8_lossy(depends.unwrap_or_default()).into_owned();
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder);
    for entry in entries.map_err(LabError::io(format!("read {}", folder.display())))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            found.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(LabError::io(format!("read {}", path.display())))
}

const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("var/run", "../run"),
];
const INIT: &str = include_str!("../guest/init");
const AGENT: &str = include_str!("../guest/agent");

/// DPDK's drivers of the guest.
const DRIVERS: &[&str] = &[
    "bus_pci",
    "bus_vdev",
    "mempool_ring",
    "net_af_packet",
    "net_e1000",
    "net_virtio",
    "net_vmxnet3",
];

/// Kernel modules: for the channel of commands, for NICs bound to vfio-pci, and for packet sockets.
const MODULES: &[&str] =
    &["virtio_pci", "virtio_console", "vfio_iommu_type1", "vfio-pci", "af_packet"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module() {
        let module = b"\0license=GPL\0depends=vfio,irqbypass\0name=x\0";
        assert_eq!(dependencies(module), ["vfio", "irqbypass"]);
        assert!(dependencies(b"\0depends=\0").is_empty());
    }

    #[test]
    fn paths_lead_into_usr() {
        assert_eq!(in_usr("/lib/x/libc.so.6"), "usr/lib/x/libc.so.6");
        assert_eq!(in_usr("/usr/lib/x"), "usr/lib/x");
    }
}
