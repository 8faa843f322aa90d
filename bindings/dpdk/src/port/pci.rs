//! Why a PCI device cannot be used, by what the kernel says of it.
//!
//! Source: Linux `Documentation/driver-api/vfio.rst`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use crate::errno::Errno;

/// What it amounts to, and the obstacle with its remedy.
type Obstacle = (Errno, String);

/// The obstacle; `None` if there is none that the kernel knows.
pub(super) fn obstacle(root: &Path, address: &str) -> Option<Obstacle> {
    let devices = root.join("sys/bus/pci/devices");
    let device = devices.join(address);
    if !device.exists() {
        let text = "this machine has no such device: check the address, `scripts/bind-nic show` \
                    lists its NICs";
        return Some((Errno::ENODEV, text.to_owned()));
    }
    let bind = format!("`scripts/bind-nic bind {address}`");
    let Some(driver) = link_name(&device.join("driver")) else {
        return Some((Errno::ENODEV, format!("it is bound to no driver: bind it with {bind}")));
    };
    if !USER_DRIVERS.contains(&driver.as_str()) {
        let text = format!(
            "the kernel's driver {driver} has it: bind it to vfio-pci with {bind}, which takes its \
             interface away from the kernel"
        );
        return Some((Errno::EBUSY, text));
    }
    if driver != "vfio-pci" {
        return closed_uio(root, &device);
    }
    let Some(group) = link_name(&device.join("iommu_group")) else {
        let text = "it has no IOMMU group: turn the IOMMU on in the firmware, and boot with \
                    intel_iommu=on or amd_iommu=on";
        return Some((Errno::ENOTSUP, text.to_owned()));
    };
    not_viable(&devices, &device, address, &group).or_else(|| taken(root, &group))
}

/// A group is viable when each of its devices is bound to vfio-pci, to a bridge's driver or to
/// none.
fn not_viable(devices: &Path, device: &Path, address: &str, group: &str) -> Option<Obstacle> {
    let mut others = Vec::new();
    for member in fs::read_dir(device.join("iommu_group/devices")).ok()?.flatten() {
        let member = member.file_name().to_string_lossy().into_owned();
        let driver = link_name(&devices.join(&member).join("driver"));
        if let Some(driver) = driver.filter(|driver| !GROUP_DRIVERS.contains(&driver.as_str()))
            && member != address
        {
            others.push(format!("{member} (driver {driver})"));
        }
    }
    others.sort();
    let text = format!(
        "its IOMMU group {group} is not viable, because the kernel uses others of the group: {}; \
         bind all of a group to vfio-pci, or to no driver",
        others.join(", ")
    );
    (!others.is_empty()).then_some((Errno::EBUSY, text))
}

/// Whether the NIC's uio device is closed to this process.
fn closed_uio(root: &Path, device: &Path) -> Option<Obstacle> {
    let uio = fs::read_dir(device.join("uio")).ok()?.flatten().next()?.file_name();
    let file = format!("/dev/{}", uio.to_string_lossy());
    let path = root.join(file.trim_start_matches('/'));
    let error = File::options().read(true).write(true).open(path).err()?;
    let text = format!(
        "this process may not open {file}: without an IOMMU a POP must run as root, for systemd as \
         deploy/systemd/anyrelay-uio.conf says"
    );
    (error.kind() == ErrorKind::PermissionDenied).then_some((Errno::EACCES, text))
}

/// Whether the group is open elsewhere, or closed to this user. A group opens once at a time.
fn taken(root: &Path, group: &str) -> Option<Obstacle> {
    let file = format!("/dev/vfio/{group}");
    let own = fs::read_dir("/proc/self/fd").ok()?.flatten();
    if own.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|path| path == *file) {
        return None;
    }
    let path = root.join(file.trim_start_matches('/'));
    match File::options().read(true).write(true).open(path).map_err(|error| error.kind()) {
        Err(ErrorKind::ResourceBusy) => {
            let text = format!(
                "another process has its IOMMU group {group}, such as another POP: `fuser -v \
                 {file}` names it; stop it first"
            );
            Some((Errno::EBUSY, text))
        }
        Err(ErrorKind::PermissionDenied) => {
            let text = format!(
                "this user may not open {file}: install deploy/udev/70-anyrelay-vfio.rules, or add \
                 the user to the group that owns it"
            );
            Some((Errno::EACCES, text))
        }
        _ => None,
    }
}

/// The last part of what a link leads to.
fn link_name(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.file_name()?.to_string_lossy().into_owned())
}

/// The kernel's drivers that hand devices over to programs.
const USER_DRIVERS: &[&str] = &["vfio-pci", "uio_pci_generic", "igb_uio", "mlx4_core", "mlx5_core"];
/// Drivers that a viable group may have.
const GROUP_DRIVERS: &[&str] = &["vfio-pci", "pci-stub", "pcieport"];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    const NIC: &str = "0000:01:00.0";

    /// A tree like the kernel's; gone when dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(test: &str) -> Tree {
            let root = std::env::temp_dir().join(format!("pci-{test}-{}", std::process::id()));
            fs::create_dir_all(root.join("sys/bus/pci/devices")).unwrap();
            Tree(root)
        }

        fn device(&self, address: &str, driver: Option<&str>, group: Option<&str>) {
            let device = self.0.join("sys/bus/pci/devices").join(address);
            fs::create_dir_all(&device).unwrap();
            if let Some(driver) = driver {
                symlink(format!("/drivers/{driver}"), device.join("driver")).unwrap();
            }
            if let Some(group) = group {
                let folder = self.0.join("groups").join(group);
                fs::create_dir_all(folder.join("devices").join(address)).unwrap();
                symlink(folder, device.join("iommu_group")).unwrap();
            }
        }

        fn obstacle(&self) -> String {
            obstacle(&self.0, NIC).map(|(_, text)| text).unwrap_or_default()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn each_obstacle_has_its_remedy() {
        for (test, driver, group, words) in [
            ("unbound", None, Some("4"), "bound to no driver: bind it with `scripts/bind-nic"),
            ("kernel", Some("e1000e"), Some("4"), "driver e1000e has it"),
            ("no-iommu", Some("vfio-pci"), None, "intel_iommu=on"),
            ("fine", Some("vfio-pci"), Some("4"), ""),
            ("uio", Some("uio_pci_generic"), None, ""),
        ] {
            let tree = Tree::new(test);
            tree.device(NIC, driver, group);
            let text = tree.obstacle();
            assert!(text.contains(words) && text.is_empty() == words.is_empty(), "{test}: {text}");
        }
        assert!(Tree::new("absent").obstacle().contains("no such device"));
    }

    #[test]
    fn the_others_of_a_group_are_named() {
        let tree = Tree::new("group");
        tree.device(NIC, Some("vfio-pci"), Some("4"));
        tree.device("0000:00:01.0", Some("pcieport"), Some("4"));
        tree.device("0000:01:00.2", None, Some("4"));
        assert_eq!(tree.obstacle(), "");
        tree.device("0000:01:00.1", Some("ixgbe"), Some("4"));
        let text = tree.obstacle();
        assert!(text.contains("group 4 is not viable"), "{text}");
        assert!(text.contains("0000:01:00.1 (driver ixgbe);"), "{text}");
    }
}
