//! docs/operations.md, "Install", word by word on a fresh Debian 12 with systemd: what it says is
//! run as it stands. Minutes long, so `scripts/test --full` alone runs it.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use anyrelay_lab::traffic::Connection;
use anyrelay_vm::{Model, VIP, Vm, VmBuilder};

use common::{BODY, LIMIT};

/// How long one line of the guide may take: packages are unpacked by an emulated processor.
const STEP_MAX: Duration = Duration::from_secs(900);
/// How long a POP may take from its start until it is ready.
const READY_MAX: Duration = Duration::from_secs(60);
const GUIDE: &str = include_str!("../../../docs/operations.md");
const READYZ: &str = "curl -s http://127.0.0.1:9100/readyz";

#[test]
fn the_guide_makes_a_pop_that_survives_a_boot() {
    let mut vm = installed(Vm::builder(Model::E1000e));
    nics_in_use_are_refused(&mut vm);
    follow(&mut vm, "NICs");
    adapt_the_example(&mut vm);
    follow(&mut vm, "Config");
    follow(&mut vm, "Start");
    wait_ready(&mut vm);
    // EAL's lines come once.
    let count = "journalctl -b -o cat --no-pager | grep -c 'VFIO support initialized'";
    assert_eq!(run(&mut vm, count).trim(), "1");
    vm.download(VIP, BODY, LIMIT).unwrap();
    systemd_restarts_a_killed_pop(&mut vm);
    a_nic_in_use_is_not_given_back(&mut vm);

    vm.reboot().unwrap();
    wait_ready(&mut vm);
    vm.download(VIP, BODY, LIMIT).unwrap();

    nics_need_no_capabilities(&mut vm);
    nics_work_without_hugepages(&mut vm);
    follow(&mut vm, "Remove");
    let nics = run(&mut vm, "scripts/bind-nic show");
    assert_eq!(nics.matches("e1000e").count(), 2, "{nics}");
    let at_boot = run(&mut vm, "grep -v '^#' /etc/dpdk/interfaces || true");
    assert_eq!(at_boot, "");
}

#[test]
fn uio_serves_where_there_is_no_iommu() {
    let mut vm = installed(Vm::builder(Model::E1000e).without_iommu());
    let refusal = refused(&mut vm, "scripts/bind-nic bind 0000:01:00.0");
    assert!(refusal.contains("this machine has no IOMMU, or it is off"), "{refusal}");
    adapt_the_example(&mut vm);
    follow(&mut vm, "Config");
    an_unprivileged_pop_is_told_what_it_lacks(&mut vm);
    follow(&mut vm, "Machines without an IOMMU");
    follow(&mut vm, "Start");
    wait_ready(&mut vm);
    vm.download(VIP, BODY, LIMIT).unwrap();
    follow(&mut vm, "Remove");
}

/// A Debian guest with two ports of one card, on which the guide was followed up to its NICs.
fn installed(builder: VmBuilder) -> Vm {
    let mut vm = builder.debian().one_card().start().unwrap();
    vm.unpack_project().unwrap();
    follow(&mut vm, "Files");
    follow(&mut vm, "Hugepages");
    vm
}

/// Runs the lines of a subsection of the guide's installation.
fn follow(vm: &mut Vm, title: &str) {
    let (_, section) = GUIDE.split_once("\n## Install\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let (_, rest) = section.split_once(&format!("\n### {title}")).unwrap();
    let rest = rest.split_once("\n### ").map_or(rest, |(this, _)| this);
    let lines: Vec<&str> = rest.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(!lines.is_empty(), "{title} has no lines to run");
    for line in lines {
        let output = run(vm, line);
        eprintln!("# {line}\n{output}");
    }
}

fn run(vm: &mut Vm, line: &str) -> String {
    let output = vm.guest.output(&format!("cd /opt/anyrelay && {line}"), STEP_MAX).unwrap();
    assert_eq!(output.status, 0, "`{line}` says: {}\n{}", output.text, journal(vm));
    output.text
}

/// What a command says that must fail.
fn refused(vm: &mut Vm, line: &str) -> String {
    let output = vm.guest.output(&format!("cd /opt/anyrelay && {line}"), STEP_MAX).unwrap();
    assert_eq!(output.status, 1, "`{line}` says: {}", output.text);
    output.text
}

fn journal(vm: &mut Vm) -> String {
    let line = "journalctl --no-pager -b -n 30 -u dpdk -u anyrelay@ams1";
    vm.guest.output(line, STEP_MAX).unwrap().text
}

/// Puts the machine's own values into the example, before the guide copies it.
fn adapt_the_example(vm: &mut Vm) {
    let edits = [
        // The second worker goes: this NIC has one queue.
        "/^\\[\\[worker\\]\\]$/{N;/core = 3/{N;d}}",
        "s/core = 2$/core = 0/",
        "s/^queues = 2/queues = 1/",
        "s/^idle = \"spin\"/idle = \"backoff\"/",
        "s/^targets = .*/targets = [\"198.51.100.10:8443\"]/",
    ];
    let edits = edits.map(|edit| format!("-e '{edit}'")).join(" ");
    run(vm, &format!("sed -i {edits} deploy/examples/bare-metal.toml"));
}

fn wait_ready(vm: &mut Vm) {
    let start = Instant::now();
    while vm.guest.output(READYZ, READY_MAX).unwrap().text.trim() != "ready" {
        assert!(start.elapsed() < READY_MAX, "{}", journal(vm));
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn nics_in_use_are_refused(vm: &mut Vm) {
    let [first, second] = vm.addresses();
    let both = format!("scripts/bind-nic bind {first} {second}");

    let refusal = refused(vm, &format!("scripts/bind-nic bind {first}"));
    assert!(refusal.contains(&format!("Take {second} with it, in one call")), "{refusal}");

    let interface = run(vm, &format!("ls /sys/bus/pci/devices/{first}/net")).trim().to_owned();
    run(vm, &format!("ip link set {interface} up && ip route add default dev {interface}"));
    let refusal = refused(vm, &both);
    assert!(refusal.contains("a default route or your SSH session"), "{refusal}");
    run(vm, "ip route del default");

    // The session's environment is that of a parent, as under sudo.
    run(vm, &format!("ip address add 192.0.2.9/24 dev {interface}"));
    let session = "SSH_CONNECTION='192.0.2.1 5000 192.0.2.9 22'";
    let refusal = refused(vm, &format!("{session} sh -c 'env -u SSH_CONNECTION {both}; exit $?'"));
    assert!(refusal.contains("a default route or your SSH session"), "{refusal}");
    run(vm, &format!("ip address flush dev {interface} && ip link set {interface} down"));

    run(vm, &format!("ip link add br0 type bridge && ip link set {interface} master br0"));
    let refusal = refused(vm, &both);
    assert!(refusal.contains(&format!("{interface} is a part of br0")), "{refusal}");
    run(vm, "ip link del br0");

    let nics = run(vm, "scripts/bind-nic show");
    assert!(nics.contains("82574L"), "{nics}");
    assert_eq!(nics.matches("e1000e").count(), 2, "{nics}");
}

/// A connection lives on: the next POP knows as much of it as the one that was killed.
fn systemd_restarts_a_killed_pop(vm: &mut Vm) {
    let mut connection = Connection::open(&vm.network.client, VIP, LIMIT).unwrap().unwrap();
    connection.download(1, BODY).unwrap();
    run(vm, "systemctl kill -s KILL anyrelay@ams1");
    std::thread::sleep(Duration::from_secs(2));
    wait_ready(vm);
    connection.download(2, BODY).unwrap();
    run(vm, "systemctl reload anyrelay@ams1");
}

fn a_nic_in_use_is_not_given_back(vm: &mut Vm) {
    let refusal = refused(vm, "scripts/bind-nic undo");
    let pid = run(vm, "systemctl show --value -p MainPID anyrelay@ams1");
    let words = format!("not given back, process {} has it open", pid.trim());
    assert!(refusal.contains(&words), "{refusal}");
}

/// The unit's user may not open a NIC without IOMMU, and the POP's last line says what does.
fn an_unprivileged_pop_is_told_what_it_lacks(vm: &mut Vm) {
    let nics = vm.addresses().join(" ");
    run(vm, &format!("scripts/bind-nic bind --driver uio_pci_generic {nics}"));
    run(vm, "systemctl start anyrelay@ams1");
    let line = "for i in $(seq 60); do journalctl --no-pager -o cat -u anyrelay@ams1 | \
                grep 'may not open /dev/uio0' && break; sleep 0.5; done";
    let log = run(vm, line);
    assert!(log.contains("deploy/systemd/anyrelay-uio.conf"), "{}", journal(vm));
    run(vm, "systemctl stop anyrelay@ams1");
}

fn nics_need_no_capabilities(vm: &mut Vm) {
    let folder = "/etc/systemd/system/anyrelay@.service.d";
    let lines = "[Service]\\nAmbientCapabilities=\\nCapabilityBoundingSet=\\n";
    run(vm, &format!("mkdir -p {folder} && printf '{lines}' >{folder}/none.conf"));
    run(vm, "systemctl daemon-reload && systemctl restart anyrelay@ams1");
    wait_ready(vm);
    vm.download(VIP, BODY, LIMIT).unwrap();
    let status = "grep CapEff /proc/$(systemctl show --value -p MainPID anyrelay@ams1)/status";
    let status = run(vm, status);
    assert!(status.contains("0000000000000000"), "{status}");
}

fn nics_work_without_hugepages(vm: &mut Vm) {
    // Less memory: an emulated IOMMU takes long to map it page by page.
    let edits = "-e 's/^hugepages = .*/hugepages = false/' -e 's/^memory_mb = .*/memory_mb = 128/' \
                 -e 's/^mbufs = .*/mbufs = 8192/'";
    run(vm, &format!("sed -i {edits} /etc/anyrelay/ams1.toml"));
    run(vm, "systemctl restart anyrelay@ams1");
    wait_ready(vm);
    vm.download(VIP, BODY, LIMIT).unwrap();
}
