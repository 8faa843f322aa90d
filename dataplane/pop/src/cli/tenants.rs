//! `tenant` and `agent`: the tenants file, and the key files of agents.

use std::path::{Path, PathBuf};

use anyrelay_core::keys::{ChangeError, Tenants};
use clap::Subcommand;
use serde::Serialize;

use super::files::{self, Content, Locked, New};
use super::{Failure, keygen, print_json, say};
use crate::control::parse_tenants;

/// The commands of `tenant`.
#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// Add a tenant with a new key. Creates the file if it does not exist.
    Add {
        /// The tenants file.
        file: PathBuf,
        /// The tenant's name.
        name: String,
    },
    /// List tenants and their agents, without keys.
    List {
        /// The tenants file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The commands of `agent`.
#[derive(Debug, Subcommand)]
pub(super) enum AgentCommand {
    /// Add an agent to a tenant, and write the agent's key file.
    Issue {
        /// The tenants file.
        file: PathBuf,
        /// The tenant's name.
        #[arg(long, value_name = "NAME")]
        tenant: String,
        /// The agent's name.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// The agent's key file, which must not exist yet.
        #[arg(long, value_name = "KEYFILE")]
        out: PathBuf,
    },
    /// Revoke the key of an agent.
    Revoke {
        /// The tenants file.
        file: PathBuf,
        /// The tenant's name.
        #[arg(long, value_name = "NAME")]
        tenant: String,
        /// The agent's name or number.
        #[arg(long, value_name = "NAME|ID")]
        agent: String,
    },
}

/// Runs a command of `tenant`.
pub(super) fn tenant(command: &TenantCommand) -> Result<(), Failure> {
    match command {
        TenantCommand::Add { file, name } => add(file, name),
        TenantCommand::List { file, json } => list(file, *json),
    }
}

/// Runs a command of `agent`.
pub(super) fn agent(command: &AgentCommand) -> Result<(), Failure> {
    match command {
        AgentCommand::Issue { file, tenant, name, out } => issue(file, tenant, name, out),
        AgentCommand::Revoke { file, tenant, agent } => revoke(file, tenant, agent),
    }
}

fn add(file: &Path, name: &str) -> Result<(), Failure> {
    let locked = Locked::open(file)?;
    let mut tenants = match &locked {
        Locked::Present(existing) => parse(file, existing.text())?,
        Locked::Missing(_) => Tenants::default(),
    };
    let id = tenants
        .add(name, keygen::new_secret()?)
        .map_err(|error| refused(file, &format!("tenant {name}"), error))?;
    let text = tenants.serialize();
    match locked {
        Locked::Present(existing) => existing.replace(Content::Secret, &text)?,
        Locked::Missing(missing) => missing.create(Content::Secret, &text)?,
    }
    let file = file.display();
    say(format_args!("{file}: tenant {name} added, number {id}; {ROLLOUT}"))
}

fn list(file: &Path, json: bool) -> Result<(), Failure> {
    let tenants = parse(file, &files::read(file)?)?;
    let listed: Vec<_> = tenants.tenants.iter().map(Listed::from).collect();
    if json {
        return print_json(&Listing { tenants: listed });
    }
    for tenant in listed {
        say(format_args!("tenant {} {}", tenant.id, tenant.name))?;
        for agent in tenant.agents {
            let revoked = if agent.revoked { " revoked" } else { "" };
            say(format_args!("  agent {} {}{revoked}", agent.id, agent.name))?;
        }
    }
    Ok(())
}

fn issue(file: &Path, tenant: &str, name: &str, out: &Path) -> Result<(), Failure> {
    let existing = Locked::existing(file, ADD_FIRST)?;
    let mut tenants = parse(file, existing.text())?;
    let key = tenants
        .issue(tenant, name)
        .map_err(|error| refused(file, &format!("tenant {tenant}: agent {name}"), error))?;
    // The agent is listed before its key is written: an interruption between the two leaves an
    // agent without a key file, and not a key whose number the next agent would get.
    let key_file = New::make(out, "it may be another agent's key; name a new file")?;
    if let Err(error) = existing.replace(Content::Secret, &tenants.serialize()) {
        key_file.remove();
        return Err(error.into());
    }
    key_file.write(&key.serialize())?;
    let (id, tenant_id) = (key.agent, key.tenant);
    let out = out.display();
    say(format_args!(
        "{out}: key of agent {name} (number {id}) of tenant {tenant} (number {tenant_id}), mode \
         0600"
    ))?;
    say(format_args!("{}: agent {name} added; {ROLLOUT}", file.display()))
}

fn revoke(file: &Path, tenant: &str, agent: &str) -> Result<(), Failure> {
    let existing = Locked::existing(file, ADD_FIRST)?;
    let mut tenants = parse(file, existing.text())?;
    let before = tenants.clone();
    let revoked = tenants
        .revoke(tenant, agent)
        .map_err(|error| refused(file, &format!("tenant {tenant}: agent {agent}"), error))?;
    let who = format!("agent {} (number {}) of tenant {tenant}", revoked.name, revoked.id);
    let file = file.display();
    if tenants == before {
        return say(format_args!("{file}: {who} was revoked already"));
    }
    existing.replace(Content::Secret, &tenants.serialize())?;
    say(format_args!("{file}: {who} is revoked; {ROLLOUT}"))
}

fn parse(file: &Path, text: &str) -> Result<Tenants, Failure> {
    Ok(parse_tenants(&file.display().to_string(), text)?)
}

fn refused(file: &Path, what: &str, error: ChangeError) -> Failure {
    let text = format!("{}: {what}: {error}", file.display());
    match error {
        ChangeError::Name(_) => Failure::Config(text),
        _ => Failure::RunTime(anyhow::anyhow!(text)),
    }
}

#[derive(Serialize)]
struct Listing {
    tenants: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    id: u16,
    name: String,
    agents: Vec<ListedAgent>,
}

#[derive(Serialize)]
struct ListedAgent {
    id: u32,
    name: String,
    revoked: bool,
}

impl From<&anyrelay_core::keys::Tenant> for Listed {
    fn from(tenant: &anyrelay_core::keys::Tenant) -> Self {
        let agents = tenant.agents.iter().map(|agent| ListedAgent {
            id: agent.id,
            name: agent.name.clone(),
            revoked: agent.revoked,
        });
        Listed { id: tenant.id, name: tenant.name.clone(), agents: agents.collect() }
    }
}

const ADD_FIRST: &str = "`anyrelay tenant add` makes it";
const ROLLOUT: &str = "put this same file on every POP and reload each";
