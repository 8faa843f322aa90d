//! The open device in the tests' own network namespaces. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use anyrelay_agent::open::device::{OpenDevice, OpenDeviceError, Setting};
use anyrelay_core::tunnel::agent::OpenAddresses;

/// The output of `ip`.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `test` in a namespace of its own, whose host has a native IPv6 network.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let run = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        ip("link add up0 type veth peer name up1");
        ip("link set up1 up");
        ip("link set up0 up");
        test();
    };
    std::thread::spawn(run).join().unwrap();
}

fn addresses(current: &str, deprecated: Option<&str>) -> OpenAddresses {
    OpenAddresses {
        current: Some(current.parse().unwrap()),
        deprecated: deprecated.map(|text| text.parse().unwrap()),
    }
}

/// The device by which packets to a host outside leave.
fn way(from: &str) -> String {
    let route = ip(&format!("-6 route get 2600::1{from}"));
    let mut words = route.split_whitespace().skip_while(|word| *word != "dev");
    words.nth(1).unwrap().to_owned()
}

const OLD: &str = "2001:db8:a::1";
const NEW: &str = "2001:db8:a:8000::2";

#[test]
fn addresses_and_routes_are_as_they_should_be() {
    in_namespace(|| {
        ip("address add 2001:db8:b::1/64 dev up0 nodad");
        ip("-6 route add default via 2001:db8:b::2 dev up0");
        let mut device =
            OpenDevice::open("open0", vec!["2001:db8:c::/48".parse().unwrap()]).unwrap();
        assert!(device.setting().is_none() && !ip("link show open0").contains(",UP"));
        let first = Setting { addresses: addresses(OLD, None), mtu: 1356 };
        device.set(Some(&first)).unwrap();
        assert_eq!(device.setting(), Some(&first));
        assert!(ip("link show open0").contains("mtu 1356"));
        assert!(ip("-6 address show dev open0").contains(&format!("inet6 {OLD}/128 scope global")));
        // No address of the link: the kernel sends nothing by itself.
        assert!(!ip("-6 address show dev open0").contains("fe80"));
        // What comes from the address, and what goes to the routes of the config; nothing else.
        assert_eq!((way(&format!(" from {OLD}")), way("")), ("open0".into(), "up0".into()));
        let route = ip("-6 route get 2001:db8:c::7");
        assert!(route.contains("dev open0") && route.contains(&format!("src {OLD}")), "{route}");

        // Another epoch: both work, new connections use the new one.
        let second = Setting { addresses: addresses(NEW, Some(OLD)), mtu: 1300 };
        device.set(Some(&second)).unwrap();
        let shown = ip("-6 -oneline address show dev open0");
        for line in shown.lines() {
            assert_eq!(line.contains("deprecated"), line.contains(OLD), "{shown}");
        }
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(ip("link show open0").contains("mtu 1300"));
        assert!(ip("-6 route get 2001:db8:c::7").contains(&format!("src {NEW}")));
        for from in [OLD, NEW] {
            assert_eq!(way(&format!(" from {from}")), "open0");
        }
        // The old epoch ends.
        let third = Setting { addresses: addresses(NEW, None), mtu: 1300 };
        device.set(Some(&third)).unwrap();
        let shown = ip("-6 -oneline address show dev open0");
        assert!(shown.lines().count() == 1 && shown.contains(NEW), "{shown}");
        assert!(!ip("-6 route show").contains(OLD));

        // Down, and up again.
        device.set(None).unwrap();
        assert!(device.setting().is_none() && device.is(None));
        assert_eq!(way(""), "up0");
        assert!(!ip("-6 route show").contains("open0"));
        device.set(Some(&third)).unwrap();
        assert_eq!(way(&format!(" from {NEW}")), "open0");
        assert!(ip("-6 route get 2001:db8:c::7").contains("dev open0"));
        // No route of IPv4 leads there.
        assert_eq!(ip("-4 route show dev open0"), "");
        drop(device);
        assert!(!ip("link show").contains("open0"));
    });
}

/// Somebody else removed its address: the next change begins anew.
#[test]
fn after_an_error_the_device_is_made_anew() {
    in_namespace(|| {
        let mut device = OpenDevice::open("open0", Vec::new()).unwrap();
        let first = Setting { addresses: addresses(OLD, None), mtu: 1356 };
        device.set(Some(&first)).unwrap();
        ip(&format!("-6 address del {OLD}/128 dev open0"));
        let second = Setting { addresses: addresses(NEW, None), mtu: 1356 };
        let error = device.set(Some(&second)).unwrap_err();
        assert!(error.to_string().starts_with("`ip -6 "), "{error}");
        assert!(device.setting().is_none() && !device.is(Some(&second)));
        device.set(Some(&second)).unwrap();
        assert_eq!(way(&format!(" from {NEW}")), "open0");
    });
}

#[test]
fn without_ipv6_the_remedy_is_told() {
    in_namespace(|| {
        let mut device = OpenDevice::open("open0", Vec::new()).unwrap();
        // Of this thread's namespace.
        std::fs::write("/proc/sys/net/ipv6/conf/open0/disable_ipv6", "1").unwrap();
        let setting = Setting { addresses: addresses(OLD, None), mtu: 1356 };
        let error = device.set(Some(&setting)).unwrap_err();
        assert!(matches!(error, OpenDeviceError::NoIpv6(_)), "{error}");
        assert!(error.to_string().contains("net.ipv6.conf.all.disable_ipv6"), "{error}");
    });
}
