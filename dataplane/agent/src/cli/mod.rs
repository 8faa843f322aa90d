//! The command line: `connect`, `serve`, `run`, `status`, `keygen`.
//!
//! Exit codes: 0 done, 1 failed at run time, 2 wrong usage or a config that does not check. What a
//! command answers goes to stdout; mistakes, warnings and the log go to stderr.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::outer::{Firewall, Port, capability};
use crate::peers::PeerSource;
use crate::publish::Target;

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
        #[arg(long, value_name = "ADDRESS:PORT")]
        udp_target: SocketAddr,
    },
}

/// What every agent needs towards the POPs.
#[derive(Debug, Args)]
struct OuterArguments {
    /// The POPs' address and port for tunnels.
    #[arg(long, value_name = "ADDRESS:PORT")]
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
    log_to_stderr();
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anyrelay-agent: {error:#}");
            ExitCode::from(RUN_TIME)
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    let (Command::Connect { outer, .. } | Command::Serve { outer, .. }) = command;
    capability::check()?;
    Firewall::remove_stale(outer.vip);
    let port = Port::keep(outer.vip, 0)?;
    let _firewall = Firewall::install(outer.vip, &port)?;
    anyhow::bail!("not there yet")
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
