//! The EAL arguments derived from the config.

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
    fn lcore_zero_floats() {
        assert_eq!(lcore_zero(&[0, 1, 5]), "0@(0,1,5)");
    }
}
