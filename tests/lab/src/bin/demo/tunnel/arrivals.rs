//! What the router sends from each place, and from the third party if there is one, to each POP:
//! nftables counters, all read at once by netlink (nfnetlink.h, nf_tables.h). A process of `nft`
//! for each flip would take longer than flips are apart where the machine is busy.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};

use anyrelay_lab::tunnel::TunnelTopology;
use anyrelay_lab::{LabError, Result, command};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Packets sent, by place and by POP; those of the third party are last.
pub type Sent = Vec<Vec<u64>>;

/// A reader of the counters.
pub struct Arrivals {
    socket: OwnedFd,
    /// The router's interfaces to the places.
    places: Vec<String>,
    pops: usize,
}

impl Arrivals {
    /// Adds the counters to the router.
    pub fn count(topology: &TunnelTopology) -> Result<Self> {
        let (sites, pops) = (1..=topology.sites.len(), topology.pops.len());
        let mut places: Vec<String> = sites.map(|site| format!("site{site}")).collect();
        places.extend(topology.third.iter().map(|_| "third".to_owned()));
        let mut rules = "add table inet carried\n\
            add chain inet carried passing { type filter hook forward priority 0; }\n"
            .to_owned();
        for (place, pop) in places.iter().flat_map(|place| (1..=pops).map(move |pop| (place, pop)))
        {
            let name = name(place, pop);
            rules += &format!(
                "add counter inet carried {name}\nadd rule inet carried passing iifname \
                 \"{place}\" oifname \"pop{pop}\" counter name {name}\n"
            );
        }
        let mut nft = topology.router.command("nft");
        command::run_with_input(nft.args(["-f", "-"]), &rules)?;
        let socket = topology.router.run(open)?.map_err(LabError::io("open netlink"))?;
        Ok(Self { socket, places, pops })
    }

    /// Reads the counters.
    pub fn read(&self) -> Result<Sent> {
        let counters = dump(&self.socket).map_err(LabError::io("read the router's counters"))?;
        let packets = |place: &str, pop: usize| {
            let name = name(place, pop);
            let unknown = || LabError::Unexpected(format!("the router has no counter {name}"));
            counters.get(name.as_bytes()).copied().ok_or_else(unknown)
        };
        let of_place = |place: &String| (1..=self.pops).map(|pop| packets(place, pop)).collect();
        self.places.iter().map(of_place).collect()
    }
}

fn name(place: &str, pop: usize) -> String {
    format!("{place}_pop{pop}")
}

fn open() -> std::io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkNetFilter;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(fd)
}

/// All counters of the table, by name.
fn dump(socket: &OwnedFd) -> std::io::Result<HashMap<Vec<u8>, u64>> {
    send(socket, &request(), SendFlags::empty())?;
    let mut counters = HashMap::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (size, _) = recv(socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut messages = &buffer[..size];
        while let Some(header) = messages.get(..16) {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let message = messages.get(..length.max(16)).unwrap_or_default();
            match u16::from_ne_bytes([header[4], header[5]]) {
                DONE => return Ok(counters),
                NEW_OBJECT => {
                    let attributes = message.get(20..).unwrap_or_default();
                    let (mut name, mut packets) = (Vec::new(), 0);
                    for (kind, value) in each(attributes) {
                        match kind {
                            OBJECT_NAME => {
                                name = value.split(|b| *b == 0).next().unwrap_or_default().to_vec()
                            }
                            OBJECT_DATA => packets = packets_of(value),
                            _ => {}
                        }
                    }
                    counters.insert(name, packets);
                }
                _ => return Err(std::io::Error::other("the kernel refuses to list counters")),
            }
            messages = messages.get(length.next_multiple_of(4).max(16)..).unwrap_or_default();
        }
    }
}

fn packets_of(data: &[u8]) -> u64 {
    let packets = each(data).find(|(kind, _)| *kind == COUNTER_PACKETS);
    let bytes = packets.and_then(|(_, value)| value.first_chunk().copied());
    u64::from_be_bytes(bytes.unwrap_or_default())
}

/// Netlink header, netfilter header, and the attribute that names the table.
fn request() -> Vec<u8> {
    let table = b"carried\0";
    let length = 20 + 4 + table.len();
    let mut message = (length as u32).to_ne_bytes().to_vec();
    message.extend(GET_OBJECT.to_ne_bytes());
    message.extend(REQUEST_DUMP.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([FAMILY_INET, 0, 0, 0]);
    message.extend((4 + table.len() as u16).to_ne_bytes());
    message.extend(OBJECT_TABLE.to_ne_bytes());
    message.extend(table);
    message
}

/// The attributes of a message: kind and value.
fn each(mut attributes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = attributes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]])).max(4);
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !NESTED;
        let value = attributes.get(4..length)?;
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

const DONE: u16 = 3;
const NEW_OBJECT: u16 = 10 << 8 | 18;
const GET_OBJECT: u16 = 10 << 8 | 19;
const REQUEST_DUMP: u16 = 0x301;
const FAMILY_INET: u8 = 1;
const OBJECT_TABLE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_DATA: u16 = 4;
const COUNTER_PACKETS: u16 = 2;
const NESTED: u16 = 0x8000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_nested_attributes() {
        // Bytes 7, packets 258; each attribute is its length, its kind, and the value.
        let mut data = Vec::new();
        for (kind, value) in [(1_u16, 7_u64), (2, 258)] {
            data.extend(12_u16.to_ne_bytes());
            data.extend(kind.to_ne_bytes());
            data.extend(value.to_be_bytes());
        }
        assert_eq!(packets_of(&data), 258);
        let mut object = (4 + data.len() as u16).to_ne_bytes().to_vec();
        object.extend((OBJECT_DATA | NESTED).to_ne_bytes());
        object.extend(&data);
        let found: Vec<_> = each(&object).collect();
        assert_eq!(found, [(OBJECT_DATA, data.as_slice())]);
        // Cut off anywhere, it is no attribute.
        for length in 0..object.len() {
            assert_eq!(each(&object[..length]).count(), 0, "{length}");
        }
    }
}
