//! The models of NICs that QEMU emulates, and how a guest has them.

use std::fmt;
use std::str::FromStr;

/// A NIC of QEMU's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Intel 82540EM, as old virtual machines have it: driver net_e1000_em.
    E1000,
    /// Intel 82574L: driver net_e1000_em.
    E1000e,
    /// Intel 82576: driver net_e1000_igb. QEMU has it from 8.0.
    Igb,
    /// Virtio over PCI: driver net_virtio.
    VirtioNet,
    /// VMware's: driver net_vmxnet3.
    Vmxnet3,
}

impl Model {
    /// All of them.
    pub const ALL: [Model; 5] =
        [Model::E1000, Model::E1000e, Model::Igb, Model::VirtioNet, Model::Vmxnet3];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Model::E1000 => "e1000",
            Model::E1000e => "e1000e",
            Model::Igb => "igb",
            Model::VirtioNet => "virtio-net",
            Model::Vmxnet3 => "vmxnet3",
        }
    }

    /// QEMU's device.
    fn device(self) -> &'static str {
        match self {
            Model::VirtioNet => "virtio-net-pci",
            other => other.name(),
        }
    }
}

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Model, String> {
        let names = Model::ALL.map(Model::name).join(", ");
        let model = Model::ALL.into_iter().find(|model| model.name() == text);
        model.ok_or_else(|| format!("{text:?} is none of: {names}"))
    }
}

/// What a guest's two NICs are.
#[derive(Debug, Clone)]
pub struct NicOptions {
    /// The model.
    pub model: Model,
    /// Pairs of queues that virtio-net is built with; with several it has RSS. igb always has them.
    pub queues: u16,
    /// Whether the second NIC shares its IOMMU group with a device that the kernel drives.
    pub companion: bool,
    /// Whether virtio-net hands frames to the guest as they are on a wire, and not several at once.
    pub wire: bool,
    /// Whether they are two functions of one device, as the ports of most cards are, and so in one
    /// IOMMU group.
    pub one_card: bool,
}

impl NicOptions {
    /// Two separate NICs of a model, with one pair of queues each.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model, queues: 1, companion: false, wire: false, one_card: false }
    }

    /// QEMU's arguments for the NIC with this number. On a slot of its own it can be unplugged, and
    /// is alone in its IOMMU group.
    pub(crate) fn arguments(&self, number: usize, port: &str) -> Vec<String> {
        let mut tap = format!("tap,id={port},ifname={port},script=no,downscript=no");
        let mut device = self.model.device().to_owned();
        let mac = mac(number);
        let on = if self.one_card { 0 } else { number };
        device += &format!(",netdev={port},id=nic-{port},bus=slot{on},mac={mac},romfile=");
        if self.one_card {
            device += &format!(",addr=0.{number},multifunction=on");
        }
        if self.model == Model::VirtioNet {
            device += ",disable-legacy=on,iommu_platform=on";
            if self.wire {
                device += ",guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off";
            }
            if self.queues > 1 {
                tap += &format!(",queues={}", self.queues);
                // An interrupt for each queue, the control queue and changes of the configuration.
                device += &format!(",mq=on,rss=on,vectors={}", 2 * self.queues + 2);
            }
        }
        let slot = format!("pcie-root-port,id=slot{number},slot={number},addr={}.0", number + 2);
        let mut words = vec!["-netdev", &tap];
        if on == number {
            words.extend(["-device", &slot]);
        }
        let companion = format!("virtio-rng-pci,bus=slot{number},addr=0.1");
        if self.companion && number == 1 {
            device += ",addr=0.0,multifunction=on";
            words.extend(["-device", &companion]);
        }
        words.extend(["-device", &device]);
        words.into_iter().map(str::to_owned).collect()
    }

    /// The address of the device that shares the second NIC's IOMMU group.
    #[must_use]
    pub fn companion_address() -> &'static str {
        "0000:02:00.1"
    }

    /// The address of the NIC with this number on the guest's bus.
    #[must_use]
    pub fn address(&self, number: usize) -> String {
        let (bus, function) = if self.one_card { (1, number) } else { (number + 1, 0) };
        format!("0000:{bus:02x}:00.{function}")
    }
}

/// The Ethernet address of the NIC with this number.
fn mac(number: usize) -> String {
    format!("52:54:00:00:00:{:02x}", number + 1)
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
