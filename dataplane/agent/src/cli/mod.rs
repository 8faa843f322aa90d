//! The command line: `connect`, `serve`, `run`, `check`, `status`, `keygen`, `pubkey`.
//!
//! Exit codes: 0 success, 1 failure at run time, 2 wrong usage or an invalid config. Results go to
//! stdout; errors, warnings and the log go to stderr.

mod keygen;
mod run;
mod status;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use anyrelay_core::keys::AgentKey;
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::engine::{self, AgentOptions};
use crate::outer::steering::{check_interface, parse_mark};
use crate::outer::{Carried, Steering, check_vip};
use crate::peers::PeerSource;
use crate::publish::PublishTarget;
use crate::udp::{UdpConnect, UdpServe};

/// An agent of an anycast tunnel: datagrams to other agents, through any POP, in what looks like
/// one long TCP connection.
#[derive(Debug, Parser)]
#[command(name = "anyrelay-agent", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forward datagrams that arrive at a local UDP address to a peer.
    Connect {
        #[command(flatten)]
        outer: OuterArguments,
        /// The source of the peer's location: token:TOKEN, file:PATH or dns:NAME.
        #[arg(long, value_name = "SOURCE")]
        peer: PeerSource,
        /// The address that programs on this host send datagrams to; each source gets a channel.
        #[arg(long, value_name = "ADDRESS:PORT")]
        udp_listen: SocketAddr,
    },
    /// Forward datagrams from peers to a UDP server, each channel from its own socket.
    Serve {
        #[command(flatten)]
        outer: OuterArguments,
        /// The UDP server.
        #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
        udp_target: SocketAddr,
    },
    /// Run an agent from a config file. The TUN device is available only in this way.
    Run {
        /// The agent's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a config and its keys; all problems are printed as FILE: KEY: REASON.
    Check {
        /// The agent's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Generate a private key for the TUN side and print its public key. Never overwrites a file.
    Keygen {
        /// The file to write, readable by its owner alone; without it, the key is printed.
        file: Option<PathBuf>,
        /// Generate a pre-shared key for two peers instead.
        #[arg(long)]
        preshared: bool,
    },
    /// Print the public key of a private key.
    Pubkey {
        /// The private key file; without it, standard input.
        file: Option<PathBuf>,
    },
    /// Show the status of a running agent.
    Status {
        /// The agent's control socket.
        #[arg(long, value_name = "SOCKET")]
        control: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// At run time: exit code 1.
    RunTime(anyhow::Error),
    /// Usage or a file that does not check: exit code 2.
    Usage(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::RunTime(error.into())
    }
}

/// The options of every agent towards the POPs.
#[derive(Debug, Args)]
struct OuterArguments {
    /// The POPs' address and port for tunnels.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = vip)]
    vip: SocketAddr,
    /// The agent's key file, as `anyrelay agent issue` writes it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Publish the agent's own token, at start and at each change: to a file (PATH or file:PATH),
    /// or to a command (command:COMMAND, which gets the token as $1 and on standard input). May be
    /// repeated.
    #[arg(long, value_name = "TARGET")]
    publish: Vec<PublishTarget>,
    /// Keep port and base in this file, so that published tokens stay valid over a restart.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Answer `status` on this socket.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Mark the agent's own traffic (SO_MARK), for policy rules: the FwMark of a WireGuard
    /// interface that has the default route and that this agent carries.
    #[arg(long, value_name = "N", value_parser = parse_mark)]
    mark: Option<NonZeroU32>,
    /// Send the agent's own traffic by this interface alone (SO_BINDTODEVICE).
    #[arg(long, value_name = "NAME", value_parser = check_interface)]
    interface: Option<String>,
}

/// Runs the command in the process's arguments.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are not errors; clap knows the stream of each.
            let code = if error.use_stderr() { USAGE_OR_CONFIG } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let (error, code) = match dispatch(arguments.command) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::RunTime(error)) => (error, RUN_TIME),
        Err(Failure::Usage(error)) => (error, USAGE_OR_CONFIG),
    };
    eprintln!("anyrelay-agent: {error:#}");
    ExitCode::from(code)
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Connect { outer, peer, udp_listen } => {
            log_to_stderr();
            let mut session = [0; 8];
            getrandom::fill(&mut session)?;
            let options = outer.into_options(vec![peer], Carried::Listen(udp_listen))?;
            let local = UdpConnect::new(udp_listen, u64::from_be_bytes(session))
                .with_context(|| format!("--udp-listen {udp_listen}"))?;
            Ok(engine::run(options, local)?)
        }
        Command::Serve { outer, udp_target } => {
            log_to_stderr();
            let options = outer.into_options(Vec::new(), Carried::Target(udp_target))?;
            Ok(engine::run(options, UdpServe::new(udp_target))?)
        }
        Command::Run { config } => {
            log_to_stderr();
            run::run(&config)
        }
        Command::Check { config } => run::check(&config),
        Command::Keygen { file, preshared } => Ok(keygen::keygen(file.as_deref(), preshared)?),
        Command::Pubkey { file } => Ok(keygen::pubkey(file.as_deref())?),
        Command::Status { control, json } => Ok(status::status(&control, json)?),
    }
}

impl OuterArguments {
    fn into_options(
        self,
        peers: Vec<PeerSource>,
        carried: Carried,
    ) -> Result<AgentOptions, Failure> {
        let OuterArguments { vip, key, publish, state, control, mark, interface } = self;
        let key = read_key(&key).map_err(Failure::Usage)?;
        let steering = Steering { mark, interface };
        let open = None;
        Ok(AgentOptions { vip, key, publish, state, control, steering, carried, peers, open })
    }
}

/// Reads an agent's key file, and warns when other users can read it.
fn read_key(path: &Path) -> anyhow::Result<AgentKey> {
    use std::os::unix::fs::PermissionsExt;
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{name} cannot be read; `anyrelay agent issue` writes it"))?;
    let key = AgentKey::parse(&text).with_context(|| name.to_string())?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!("{name}: other users can read this key; set the file's mode to 0600");
    }
    Ok(key)
}

/// Writes a line to stdout. A reader that has ended, such as `head`, is not an error.
fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("stdout cannot be written to: {error}"))
        }
        _ => Ok(()),
    }
}

/// Parses an address with a port that is not 0.
fn address(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    address.ok_or_else(|| "not ADDRESS:PORT, such as 192.0.2.1:443 or [2001:db8::1]:443".to_owned())
}

/// Parses the address of a VIP.
fn vip(text: &str) -> Result<SocketAddr, String> {
    check_vip(address(text)?).map_err(str::to_owned)
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

const RUN_TIME: u8 = 1;
const USAGE_OR_CONFIG: u8 = 2;
