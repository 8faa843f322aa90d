//! The command line: `connect`, `serve`, `run`, `check`, `status`, `keygen`, `pubkey`.
//!
//! Exit codes: 0 done, 1 failed at run time, 2 wrong usage or a config that does not check. What a
//! command answers goes to stdout; mistakes, warnings and the log go to stderr.

mod keygen;
mod run;
mod status;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use anyrelay_core::keys::AgentKey;
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::engine::{self, Options};
use crate::outer::check_vip;
use crate::peers::PeerSource;
use crate::publish::Target;
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
        /// Where the peer is: token:TOKEN, file:PATH or dns:NAME.
        #[arg(long, value_name = "SOURCE")]
        peer: PeerSource,
        /// Where programs on this host send their datagrams; each source gets its own channel.
        #[arg(long, value_name = "ADDRESS:PORT")]
        udp_listen: SocketAddr,
    },
    /// Forward datagrams from peers to a UDP server, each channel from a socket of its own.
    Serve {
        #[command(flatten)]
        outer: OuterArguments,
        /// The UDP server.
        #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
        udp_target: SocketAddr,
    },
    /// Run an agent as a config file says; the TUN device is only had in this way.
    Run {
        /// The agent's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a config and its keys; every mistake is told as FILE: KEY: REASON.
    Check {
        /// The agent's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make a private key for the TUN side and print its public key. Never overwrites a file.
    Keygen {
        /// Where to write it, readable by its owner alone; without it, it is printed.
        file: Option<PathBuf>,
        /// Make a pre-shared key for two peers instead.
        #[arg(long)]
        preshared: bool,
    },
    /// Print the public key of a private key.
    Pubkey {
        /// The private key file; without it, standard input.
        file: Option<PathBuf>,
    },
    /// Show how a running agent is.
    Status {
        /// The agent's control socket.
        #[arg(long, value_name = "SOCKET")]
        control: PathBuf,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

/// How a command ended, but for success.
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

/// What every agent needs towards the POPs.
#[derive(Debug, Args)]
struct OuterArguments {
    /// The POPs' address and port for tunnels.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = vip)]
    vip: SocketAddr,
    /// The agent's key file, as `anyrelay agent issue` writes it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Tell the own token, at each change: into a file (PATH or file:PATH), or to a command
    /// (command:COMMAND, where $1 and standard input are the token). May be given several times.
    #[arg(long, value_name = "TARGET")]
    publish: Vec<Target>,
    /// Keep port and base in this file, so that tokens given out stay valid over a restart.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Answer `status` on this socket.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
}

/// Reads the process's command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are not errors; clap knows where each goes.
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
            let options = outer.into_options(vec![peer])?;
            let local = UdpConnect::new(udp_listen, u64::from_be_bytes(session))
                .with_context(|| format!("--udp-listen {udp_listen}"))?;
            Ok(engine::run(options, local)?)
        }
        Command::Serve { outer, udp_target } => {
            log_to_stderr();
            let options = outer.into_options(Vec::new())?;
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
    fn into_options(self, peers: Vec<PeerSource>) -> Result<Options, Failure> {
        let OuterArguments { vip, key, publish, state, control } = self;
        let key = read_key(&key).map_err(Failure::Usage)?;
        Ok(Options { vip, key, publish, state, control, own_device: None, peers })
    }
}

/// Reads an agent's key file, and warns when others can read it too.
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

/// Writes a line to stdout. A reader that has gone, such as `head`, wants no more and is no error.
fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("stdout cannot be written to: {error}"))
        }
        _ => Ok(()),
    }
}

/// Where to send something.
fn address(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    address.ok_or_else(|| "not ADDRESS:PORT, such as 192.0.2.1:443 or [2001:db8::1]:443".to_owned())
}

/// Where POPs may be.
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
