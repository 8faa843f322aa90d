//! Watches the links of ports, and the kernel's interfaces below them.

use anyrelay_core::config::PortConfig;

use crate::interfaces::{self, Described, Interface};
use crate::metrics::LinkSample;
use crate::ports::PortHandle;

/// The links of all ports, in the order of the config.
#[derive(Debug)]
pub struct LinkWatch {
    links: Vec<Watched>,
}

/// One port's link.
#[derive(Debug)]
struct Watched {
    port: String,
    mtu: u16,
    interface: Option<Interface>,
    /// What is wrong with it.
    fault: Option<String>,
    losses: u64,
    /// Whether it was logged that the kernel does not tell.
    is_untold: bool,
}

impl LinkWatch {
    /// For ports that were just opened, none of which has a fault that is known.
    pub fn new(ports: &[PortConfig]) -> Self {
        let watched = |port: &PortConfig| Watched {
            port: port.name.clone(),
            mtu: port.mtu,
            interface: interface(port),
            fault: None,
            losses: 0,
            is_untold: false,
        };
        LinkWatch { links: ports.iter().map(watched).collect() }
    }

    /// Looks at all links, and logs what changed. Call it several times a second. Returns whether
    /// anything changed.
    pub fn observe(&mut self, ports: &[PortHandle]) -> bool {
        let mut has_changed = false;
        for (link, port) in self.links.iter_mut().zip(ports) {
            let fault = match port.is_up() {
                true => link.interface_fault(),
                false => Some("the link is down".to_owned()),
            };
            has_changed |= link.note(fault);
        }
        has_changed
    }

    /// The reasons why links do not carry traffic.
    pub fn reasons(&self) -> impl Iterator<Item = String> {
        self.links.iter().filter_map(|link| {
            let fault = link.fault.as_ref()?;
            Some(format!("port {}: {fault}", link.port))
        })
    }

    /// For metrics, in the order of the config.
    pub fn samples(&self) -> Vec<LinkSample> {
        let sample =
            |link: &Watched| LinkSample { is_up: link.fault.is_none(), losses: link.losses };
        self.links.iter().map(sample).collect()
    }
}

impl Watched {
    fn interface_fault(&mut self) -> Option<String> {
        let interface = self.interface.as_ref()?;
        match interface.fault(self.mtu) {
            Ok(fault) => fault.map(|fault| Described(&interface.name, &fault).to_string()),
            Err(error) => {
                if !std::mem::replace(&mut self.is_untold, true) {
                    let (port, interface) = (&self.port, &interface.name);
                    tracing::warn!(port, interface, %error, "the kernel does not tell its state");
                }
                // What was known is still the best that is known.
                self.fault.clone()
            }
        }
    }

    /// Keeps and logs the state of now; whether it is a new one.
    fn note(&mut self, fault: Option<String>) -> bool {
        if self.fault == fault {
            return false;
        }
        let port = &self.port;
        match &fault {
            Some(because) => {
                if self.fault.is_none() {
                    self.losses += 1;
                }
                tracing::warn!(port, because, "the link of a port fails");
            }
            None => tracing::info!(port, "the link of a port is back"),
        }
        self.fault = fault;
        true
    }
}

/// The interface below a port, if there is one.
fn interface(port: &PortConfig) -> Option<Interface> {
    let name = interfaces::of_device(&port.device)?;
    match Interface::of_name(name) {
        Ok(interface) => Some(interface),
        Err(error) => {
            let port = &port.name;
            tracing::warn!(port, interface = name, %error, "its state cannot be watched");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_counts_once_and_says_why() {
        let mut link = Watched {
            port: "wan".to_owned(),
            mtu: 1500,
            interface: None,
            fault: None,
            losses: 0,
            is_untold: false,
        };
        let down = || Some("down".to_owned());
        assert!(!link.note(None));
        assert!(link.note(down()) && !link.note(down()));
        assert!(link.note(Some("gone".to_owned())), "another reason");
        assert_eq!(link.losses, 1);
        let mut watch = LinkWatch { links: vec![link] };
        assert_eq!(watch.reasons().collect::<Vec<_>>(), ["port wan: gone"]);
        assert_eq!(watch.samples(), [LinkSample { is_up: false, losses: 1 }]);
        assert!(watch.links[0].note(None));
        assert_eq!(watch.reasons().count(), 0);
        assert!(watch.links[0].note(down()));
        assert_eq!(watch.samples(), [LinkSample { is_up: false, losses: 2 }]);
    }
}
