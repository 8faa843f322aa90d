//! By which of this host's routes the agent's own traffic leaves: SO_MARK and SO_BINDTODEVICE
//! (socket(7)).
//!
//! Every socket that reaches beyond this host has both: that of the segments, those that ask the
//! kernel for the route, and those of DNS queries for peers. The packet socket that receives has
//! neither, so answers may come in by any interface.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use super::link;

/// The mark and interface of the agent's own traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// Selects policy rules (`ip rule ... fwmark`).
    pub mark: Option<NonZeroU32>,
    /// The only interface to leave by.
    pub interface: Option<String>,
}

/// A socket cannot be steered.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The interface does not exist.
    #[error("interface {0}: this host has none of that name; `ip link` lists those that it has")]
    NoInterface(String),
    /// The interface cannot be used.
    #[error("interface {name}: a socket cannot be bound to it: {source}")]
    Interface {
        /// The interface.
        name: String,
        /// The error of the system call.
        source: Errno,
    },
    /// The mark cannot be set.
    #[error(
        "mark {mark}: a socket cannot have it: {source}{}",
        if *source == Errno::EPERM { " (SO_MARK needs CAP_NET_ADMIN)" } else { "" }
    )]
    Mark {
        /// The mark.
        mark: NonZeroU32,
        /// The error of the system call.
        source: Errno,
    },
}

impl Steering {
    /// Whether there is a mark or an interface.
    pub fn is_set(&self) -> bool {
        self.mark.is_some() || self.interface.is_some()
    }

    /// The index of the interface, if there is one, after a trial whether sockets can be steered.
    ///
    /// # Errors
    /// See [`SteeringError`].
    pub fn bound(&self) -> Result<Option<u32>, SteeringError> {
        if self.is_set()
            && let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        {
            self.apply(&socket)?;
        }
        let Some(name) = &self.interface else { return Ok(None) };
        link::index_of(name).map(Some).map_err(|_| SteeringError::NoInterface(name.clone()))
    }

    /// Steers what `socket` sends from now on.
    ///
    /// # Errors
    /// See [`SteeringError`].
    pub fn apply(&self, socket: &impl AsFd) -> Result<(), SteeringError> {
        if let Some(mark) = self.mark {
            setsockopt(socket, sockopt::Mark, &mark.get())
                .map_err(|source| SteeringError::Mark { mark, source })?;
        }
        if let Some(name) = &self.interface {
            setsockopt(socket, sockopt::BindToDevice, &name.into()).map_err(
                |source| match source {
                    Errno::ENODEV => SteeringError::NoInterface(name.clone()),
                    _ => SteeringError::Interface { name: name.clone(), source },
                },
            )?;
        }
        Ok(())
    }
}

/// With a leading space, to follow a noun; empty if nothing is set.
impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mark) = self.mark {
            write!(f, " with the mark {mark}")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, " by the interface {interface}")?;
        }
        Ok(())
    }
}

impl From<SteeringError> for io::Error {
    fn from(error: SteeringError) -> Self {
        io::Error::other(error)
    }
}

/// Parses a mark: decimal, or hexadecimal as `ip rule` prints it.
///
/// # Errors
/// The reason and the remedy.
pub fn parse_mark(text: &str) -> Result<NonZeroU32, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.ok().and_then(NonZeroU32::new).ok_or_else(|| {
        "not a mark: give a number from 1 to 4294967295, such as 51820 or 0xca6c".to_owned()
    })
}

/// Checks the name of an interface.
///
/// # Errors
/// The reason and the remedy.
pub fn check_interface(name: &str) -> Result<String, String> {
    match linux_tun::check_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(_) => Err(format!("{name:?} cannot be an interface; `ip link` lists the host's")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_decimal_or_hexadecimal_and_not_zero() {
        assert_eq!(parse_mark("51820"), parse_mark("0xca6c"));
        assert_eq!(parse_mark("4294967295").unwrap().get(), u32::MAX);
        for text in ["", "0", "0x", "0x0", "-1", "4294967296", "ca6c", "1/2"] {
            assert!(parse_mark(text).unwrap_err().contains("not a mark"), "{text}");
        }
        assert!(check_interface("eth0").is_ok());
        for name in ["", "much-too-long-for-it", "a/b"] {
            assert!(check_interface(name).is_err(), "{name}");
        }
    }

    /// Needs root.
    #[test]
    fn sockets_get_mark_and_interface_or_the_reason_is_named() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let steer = |mark, interface: &str| {
            let interface = Some(interface.to_owned());
            Steering { mark: NonZeroU32::new(mark), interface }.apply(&socket)
        };
        steer(7, "lo").unwrap();
        assert_eq!(nix::sys::socket::getsockopt(&socket, sockopt::Mark).unwrap(), 7);
        let error = steer(7, "no-such-if").unwrap_err().to_string();
        assert!(error.contains("no-such-if: this host has none"), "{error}");
    }
}
