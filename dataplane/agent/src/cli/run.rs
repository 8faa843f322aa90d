//! `run` and `check`: an agent from a config file.

use std::path::Path;

use anyhow::Context;

use super::{Failure, say};
use crate::config::{Loaded, LoadedLocal, load};
use crate::engine;
use crate::inner::TunSide;
use crate::local::NoSide;
use crate::outer::capability;
use crate::udp::{UdpConnect, UdpServe};

/// Runs an agent until a signal arrives.
pub(super) fn run(config: &Path) -> Result<(), Failure> {
    let Loaded { options, local, exposed } = checked(config)?;
    for path in exposed {
        let name = path.display();
        tracing::warn!("{name}: other users can read this key; set the file's mode to 0600");
    }
    // Before the device is created, whose error would be less helpful.
    capability::check()?;
    match local {
        LoadedLocal::Tun { device, private, peers } => {
            let random = Box::new(|bytes: &mut [u8]| getrandom::fill(bytes).is_ok());
            let side = TunSide::open(&device, private, peers, random)?;
            Ok(engine::run(options, side)?)
        }
        LoadedLocal::UdpListen(listen) => {
            let mut session = [0; 8];
            getrandom::fill(&mut session)?;
            let side = UdpConnect::new(listen, u64::from_be_bytes(session))
                .with_context(|| format!("udp.listen {listen}"))?;
            Ok(engine::run(options, side)?)
        }
        LoadedLocal::UdpTarget(target) => Ok(engine::run(options, UdpServe::new(target))?),
        LoadedLocal::None => Ok(engine::run(options, NoSide::default())?),
    }
}

/// Checks a config and the files that it names; changes nothing.
pub(super) fn check(config: &Path) -> Result<(), Failure> {
    let loaded = checked(config)?;
    for path in loaded.exposed {
        eprintln!("{}: other users can read this key; set the file's mode to 0600", path.display());
    }
    Ok(say(format_args!("{}: no mistakes", config.display()))?)
}

fn checked(config: &Path) -> Result<Loaded, Failure> {
    load(config).map_err(|problems| {
        Failure::Usage(anyhow::anyhow!("the config does not check\n{problems}"))
    })
}
