//! The EAL arguments derived from the config.

use std::fs;
use std::path::Path;

use anyrelay_core::config::DpdkConfig;
use dpdk::Device;
use rustix::thread::{CpuSet, sched_getaffinity};

/// EAL's arguments. Those of `[dpdk] args` come last, so that they take precedence.
///
/// The calling thread becomes DPDK's only lcore and may run on all CPUs of the process: workers are
/// separate threads, which pin themselves.
pub(super) fn arguments(config: &DpdkConfig, devices: &[Device]) -> Vec<String> {
    let mut arguments = Vec::new();
    let own_lcores =
        |word: &String| ["--lcores", "-l", "-c"].iter().any(|option| word.starts_with(option));
    if !config.args.iter().any(own_lcores) {
        arguments.extend(["--lcores".to_owned(), lcore_zero(&allowed_cpus())]);
    }
    if config.hugepages {
        // Without files: needs no mount, and a kill leaves none behind.
        arguments.push("--in-memory".to_owned());
    } else {
        arguments.extend(["--no-huge", "--no-shconf"].map(str::to_owned));
    }
    // The name of a folder that EAL creates and never removes. It stays empty in both modes, so all
    // POPs of a machine share one.
    arguments.push("--file-prefix=anyrelay".to_owned());
    arguments.extend(["-m".to_owned(), config.memory_mb.to_string()]);
    arguments.push("--no-telemetry".to_owned());
    let pci = devices.iter().filter(|device| matches!(device, Device::Pci { .. }));
    let allowed: Vec<String> =
        pci.flat_map(|device| ["-a".to_owned(), device.to_string()]).collect();
    if allowed.is_empty() {
        arguments.push("--no-pci".to_owned());
    }
    arguments.extend(allowed);
    arguments.extend(config.args.iter().cloned());
    arguments
}

/// The remedy if there are too few free hugepages for `config`; empty otherwise.
pub(super) fn hugepage_advice(config: &DpdkConfig) -> String {
    let free = free_hugepages(Path::new("/sys/kernel/mm/hugepages"));
    if config.hugepages { shortage(config.memory_mb.into(), free) } else { String::new() }
}

fn shortage(wanted: u64, free: u64) -> String {
    if free >= wanted {
        return String::new();
    }
    format!(
        ". dpdk.hugepages = true and dpdk.memory_mb = {wanted}, but the kernel has {free} MiB of \
         free hugepages: reserve them with `scripts/hugepages reserve {wanted}M`, lower \
         dpdk.memory_mb, or set dpdk.hugepages = false if no port is a NIC"
    )
}

/// MiB of free hugepages of all sizes; 0 if the kernel has none.
fn free_hugepages(folder: &Path) -> u64 {
    let sizes = fs::read_dir(folder).into_iter().flatten().flatten();
    let free = sizes.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let pages = fs::read_to_string(entry.path().join("free_hugepages")).ok()?;
        Some(kib * pages.trim().parse::<u64>().ok()? / 1024)
    });
    free.sum()
}

/// Lcore 0 on any of `cpus`, in EAL's syntax.
fn lcore_zero(cpus: &[usize]) -> String {
    let list: Vec<String> = cpus.iter().map(usize::to_string).collect();
    format!("0@({})", list.join(","))
}

/// The CPUs of the process; CPU 0 if the kernel does not answer.
fn allowed_cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(hugepages: bool, args: &[&str]) -> DpdkConfig {
        let args = args.iter().map(|&word| word.to_owned()).collect();
        DpdkConfig { hugepages, memory_mb: 128, mbufs: 8192, args }
    }

    #[test]
    fn without_hugepages_and_nics_nothing_of_the_machine_is_touched() {
        let arguments = arguments(&config(false, &[]), &["net_null0".parse().unwrap()]);
        let line = arguments.join(" ");
        for part in ["--no-huge", "-m 128", "--no-pci", "--no-shconf", "--no-telemetry"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(line.contains("--file-prefix=anyrelay"), "{line}");
        assert!(!line.contains("--in-memory"), "{line}");
    }

    #[test]
    fn nics_are_allowed_one_by_one_and_own_arguments_win() {
        let devices = ["0000:01:00.0", "net_null0"].map(|text| text.parse().unwrap());
        let arguments = arguments(&config(true, &["-l", "3"]), &devices);
        let line = arguments.join(" ");
        assert!(line.contains("-a 0000:01:00.0") && line.contains("--in-memory"), "{line}");
        assert!(!line.contains("--no-pci") && !line.contains("--no-huge"), "{line}");
        assert!(!line.contains("--lcores") && line.ends_with("-l 3"), "{line}");
    }

    #[test]
    fn a_shortage_of_hugepages_names_both_amounts() {
        assert_eq!(shortage(256, 256), "");
        let text = shortage(256, 254);
        assert!(text.contains("254 MiB") && text.contains("reserve 256M"), "{text}");
        assert_eq!(free_hugepages(Path::new("/nonexistent")), 0);
    }

    #[test]
    fn lcore_zero_floats() {
        assert_eq!(lcore_zero(&[0, 1, 5]), "0@(0,1,5)");
    }
}
