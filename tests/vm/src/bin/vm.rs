//! One machine by hand: a guest with NICs of a model, a POP on them, and a prompt. `scripts/vm`
//! says how to use it.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyrelay_lab::Result;
use anyrelay_vm::{Model, VIP, VIP6, Vm, VmBuilder};
use clap::Parser;

/// A guest with emulated NICs and a POP on them.
#[derive(Debug, Parser)]
#[command(name = "vm")]
struct Options {
    /// The model of both NICs.
    model: Model,
    /// Queues of each port, each with a worker; several need virtio-net or igb.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    queues: u16,
    /// MTU of both links.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..))]
    mtu: u16,
    /// Debian 12 with systemd, without a POP, to follow the guide in.
    #[arg(long)]
    debian: bool,
    /// Both NICs are ports of one card, in one IOMMU group.
    #[arg(long)]
    one_card: bool,
    /// A machine without IOMMU; with --debian.
    #[arg(long, requires = "debian")]
    without_iommu: bool,
    /// A command for the guest's shell, instead of a prompt.
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("vm: {error}");
            ExitCode::from(1)
        }
    }
}

fn run(options: &Options) -> Result<u8> {
    eprintln!("vm: starting a guest with two {} NICs", options.model);
    let mut vm = builder(options).start()?;
    vm.network.set_mtu(options.mtu)?;
    if options.debian {
        vm.unpack_project()?;
        if options.command.is_empty() {
            eprint!("{DEBIAN}");
            return prompt(&mut vm);
        }
        return execute(&mut vm, &options.command.join(" "));
    }
    let mut config = vm.config(options.queues, usize::from(options.queues.min(CORES)));
    for port in &mut config.ports {
        port.set("mtu", options.mtu);
    }
    eprintln!("vm: starting the POP");
    vm.start_pop(&config)?;
    if !options.command.is_empty() {
        return execute(&mut vm, &options.command.join(" "));
    }
    explain(&vm);
    prompt(&mut vm)
}

fn builder(options: &Options) -> VmBuilder {
    let mut builder = Vm::builder(options.model).queues(options.queues);
    if options.debian {
        builder = builder.debian();
    }
    if options.one_card {
        builder = builder.one_card();
    }
    if options.without_iommu {
        builder = builder.without_iommu();
    }
    builder
}

/// Runs each line of the standard input in the guest, until it ends.
fn prompt(vm: &mut Vm) -> Result<u8> {
    let mut lines = std::io::stdin().lock().lines();
    loop {
        eprint!("guest# ");
        let _ = std::io::stderr().flush();
        let Some(Ok(line)) = lines.next() else { return Ok(0) };
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => {}
            ["exit" | "quit"] => return Ok(0),
            ["download"] => download(vm),
            ["forget"] => vm.network.flush_neighbours()?,
            ["link", port, state @ ("up" | "down")] => vm.machine.set_link(port, *state == "up")?,
            ["unplug", port] => vm.machine.unplug(port)?,
            ["reboot"] => vm.reboot()?,
            _ => drop(execute(vm, &line)?),
        }
    }
}

/// Downloads 1 MiB from each service, and prints how long it took.
fn download(vm: &Vm) {
    for vip in [VIP, VIP6] {
        let start = Instant::now();
        match vm.download(vip, 1 << 20, DOWNLOAD_MAX) {
            Ok(()) => println!("1 MiB from {vip} in {:?}", start.elapsed()),
            Err(error) => println!("{error}"),
        }
    }
}

/// Runs a line in the guest and prints its output; gives its exit status.
fn execute(vm: &mut Vm, line: &str) -> Result<u8> {
    let output = vm.guest.output(line, COMMAND_MAX)?;
    print!("{}", output.text);
    let _ = std::io::stdout().flush();
    Ok(u8::try_from(output.status).unwrap_or(1))
}

fn explain(vm: &Vm) {
    let (client, target) = (vm.network.client.name(), vm.network.target.name());
    let [wan, lan] = vm.ports();
    eprintln!(
        "
The POP is ready. In another terminal, as root:
  ip netns exec {client} ping 192.0.2.2
  ip netns exec {client} tcpdump -ni {wan}       # what the first NIC sends and receives
  ip netns exec {target} tcpdump -ni {lan}       # the second
  ip -n {client} neigh
Here, each line is run by the guest's shell:
  printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 9100
  cat /run/pop.log
  kill -9 $(cat /run/pop.pid); anyrelay run --config /etc/anyrelay/pop.toml >/run/pop.log 2>&1 &
and these are the machine's:
  download                                       # 1 MiB from {VIP} and {VIP6}
  forget                                         # both routers forget their neighbours
  link {wan} down, link {lan} up                 # the cable of a port
  unplug {lan}                                   # the NIC of a port
  exit                                           # ends the guest and removes everything
"
    );
}

const DEBIAN: &str = "
Debian 12 runs, with its kernel's drivers on both NICs, without network. What an operator copies to
a POP is in /opt/anyrelay; docs/operations.md says how to install it. Each line is run by the
guest's shell; these are the machine's:
  download                                       # 1 MiB from each service, once a POP runs
  forget, link NAME up|down, unplug NAME         # NAME is wan or lan
  reboot
  exit                                           # ends the guest and removes everything
";
/// Processors of the guest.
const CORES: u16 = 2;
/// How long a command at the prompt may take.
const COMMAND_MAX: Duration = Duration::from_secs(600);
/// How long a download may stand still.
const DOWNLOAD_MAX: Duration = Duration::from_secs(10);
