//! The open device, made to be as it should: its addresses, routes and MTU.
//!
//! Packets from an open address leave by the device whatever other routes the host has, by a
//! default route for that source alone, or answers to who connects to it would leave by another
//! way. All other packets take the routes of the config.

use std::net::Ipv6Addr;

use anyrelay_core::tunnel::agent::OpenAddresses;
use linux_tun::{Tun, TunError};

use crate::inner::routes::IpPrefix;
use crate::iproute::{IpError, add_route, ip, without_link_local};

/// How the device should be while it is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its addresses; at least a current one.
    pub addresses: OpenAddresses,
    /// Its MTU in bytes, 1280 or more.
    pub mtu: u16,
}

/// Why it is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum OpenDeviceError {
    /// Its MTU cannot be set.
    #[error("MTU {mtu}: {error}")]
    Mtu {
        /// The MTU.
        mtu: u16,
        /// The error of the system call.
        error: std::io::Error,
    },
    /// The host has no IPv6.
    #[error(
        "{0}; an open address needs IPv6: set net.ipv6.conf.all.disable_ipv6 and \
         net.ipv6.conf.default.disable_ipv6 to 0, and boot without ipv6.disable=1"
    )]
    NoIpv6(IpError),
    /// Its addresses or routes cannot be set.
    #[error(transparent)]
    Ip(IpError),
}

impl From<IpError> for OpenDeviceError {
    fn from(error: IpError) -> Self {
        let is_off = match &error {
            IpError::NoProgram(_) => false,
            IpError::Program { output, .. } => {
                ["IPv6 is disabled", "Permission denied", "not supported"]
                    .iter()
                    .any(|text| output.contains(text))
            }
        };
        if is_off { OpenDeviceError::NoIpv6(error) } else { OpenDeviceError::Ip(error) }
    }
}

/// The device.
#[derive(Debug)]
pub struct OpenDevice {
    /// Its packets.
    pub tun: Tun,
    routes: Vec<IpPrefix>,
    is: State,
}

/// What is known of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Up(Setting),
    /// It was left by another process, or a step failed.
    Unknown,
}

impl OpenDevice {
    /// Creates the device, which is down at first.
    ///
    /// # Errors
    /// See [`TunError`].
    pub fn open(name: &str, routes: Vec<IpPrefix>) -> Result<Self, TunError> {
        let tun = Tun::open(name)?;
        without_link_local(name);
        Ok(OpenDevice { tun, routes, is: State::Unknown })
    }

    /// How it is now, if it is up.
    pub fn setting(&self) -> Option<&Setting> {
        match &self.is {
            State::Up(setting) => Some(setting),
            State::Down | State::Unknown => None,
        }
    }

    /// Whether it is as `wanted`: up with that setting, or down.
    pub fn is(&self, wanted: Option<&Setting>) -> bool {
        self.is == wanted.map_or(State::Down, |setting| State::Up(*setting))
    }

    /// Makes it as `wanted`. After an error the next call begins anew.
    ///
    /// # Errors
    /// See [`OpenDeviceError`].
    pub fn set(&mut self, wanted: Option<&Setting>) -> Result<(), OpenDeviceError> {
        let before = std::mem::replace(&mut self.is, State::Unknown);
        match (wanted, before) {
            (None, _) => self.link("down")?,
            (Some(wanted), State::Up(before)) => self.change(&before, wanted)?,
            (Some(wanted), _) => self.bring_up(wanted)?,
        }
        self.is = wanted.map_or(State::Down, |setting| State::Up(*setting));
        Ok(())
    }

    /// The kernel forgets all addresses and routes of a device that goes down.
    fn bring_up(&self, wanted: &Setting) -> Result<(), OpenDeviceError> {
        self.link("down")?;
        self.set_mtu(wanted.mtu)?;
        self.link("up")?;
        for (address, is_deprecated) in each(&wanted.addresses) {
            self.add(address, is_deprecated)?;
        }
        for prefix in &self.routes {
            let so = "what is sent there does not leave by the open address";
            add_route(self.tun.name(), &prefix.to_string(), true, so)?;
        }
        Ok(())
    }

    fn change(&self, before: &Setting, wanted: &Setting) -> Result<(), OpenDeviceError> {
        if before.mtu != wanted.mtu {
            self.set_mtu(wanted.mtu)?;
        }
        // The new one first, so that there is one at any time.
        for (address, is_deprecated) in each(&wanted.addresses) {
            if !each(&before.addresses).any(|had| had == (address, is_deprecated)) {
                self.add(address, is_deprecated)?;
            }
        }
        for (address, _) in each(&before.addresses) {
            if !wanted.addresses.contains(address) {
                self.remove(address)?;
            }
        }
        Ok(())
    }

    /// Adds an address, or makes it deprecated: for what was begun with it (RFC 4862, section
    /// 5.5.4).
    fn add(&self, address: Ipv6Addr, is_deprecated: bool) -> Result<(), OpenDeviceError> {
        let (name, host) = (self.tun.name(), format!("{address}/128"));
        let preferred = if is_deprecated { "0" } else { "forever" };
        // No other host is on this link, so it needs no duplicate address detection.
        ip(&[
            "-6",
            "address",
            "replace",
            &host,
            "dev",
            name,
            "nodad",
            "valid_lft",
            "forever",
            "preferred_lft",
            preferred,
        ])?;
        match ip(&["-6", "route", "add", "default", "from", &host, "dev", name]) {
            Err(IpError::Program { output, .. }) if output.contains("File exists") => {}
            other => drop(other?),
        }
        Ok(())
    }

    fn remove(&self, address: Ipv6Addr) -> Result<(), OpenDeviceError> {
        let (name, host) = (self.tun.name(), format!("{address}/128"));
        ip(&["-6", "route", "del", "default", "from", &host, "dev", name])?;
        ip(&["-6", "address", "del", &host, "dev", name])?;
        Ok(())
    }

    fn link(&self, state: &str) -> Result<(), OpenDeviceError> {
        ip(&["link", "set", "dev", self.tun.name(), state])?;
        Ok(())
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), OpenDeviceError> {
        self.tun.set_mtu(mtu).map_err(|error| OpenDeviceError::Mtu { mtu, error })
    }
}

/// The addresses, and whether each is deprecated.
fn each(addresses: &OpenAddresses) -> impl Iterator<Item = (Ipv6Addr, bool)> + use<> {
    let both = [(addresses.current, false), (addresses.deprecated, true)];
    both.into_iter().filter_map(|(address, is_deprecated)| Some((address?, is_deprecated)))
}
