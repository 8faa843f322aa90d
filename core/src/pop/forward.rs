//! Does what was decided: segments are rewritten and sent on.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::ingress::{Packet, Step};
use super::lanes::{self, Lane, Lanes, Up};
use super::run::Run;
use super::{Note, Output};
use crate::frame::Frame;
use crate::net::Endpoint;
use crate::net::Towards;
use crate::relay::options::{INSERTED_LEN, MssRule, TimestampsOption};
use crate::relay::pending_rst::{self, Place};
use crate::relay::permutation::{Client, ClientTimestamps, DecodeError, Mapped};
use crate::relay::translate::{self, Endpoints, Rewrite, Segment, Timestamps};
use crate::snapshot::{Egress, Service};
use crate::verdict::{DropReason, Verdict};
use crate::wire::{ethernet, ipv4, tcp};

impl<O> Run<'_, O> {
    /// Sends, answers or drops `frame`, as `packet` says.
    #[inline]
    pub fn finish<F: Frame>(&mut self, packet: &Packet, frame: F, lanes: &Lanes)
    where
        O: Output<F>,
    {
        if O::EXPLAINS
            && let Some((name, _)) = packet.of.and_then(|of| self.snapshot.name_and_slot(of))
        {
            self.note(Note::Service(name));
        }
        match packet.step {
            Step::Up(lane) => self.up(packet, frame, lanes, lane),
            Step::Down(lane) => self.down(packet, frame, lanes, lane),
            Step::UpTransparent => self.up_transparent(packet, frame),
            Step::DownTransparent => self.down_transparent(packet, frame),
            Step::UpPrefix => self.up_prefix(packet, frame),
            Step::DownPrefix => self.down_prefix(packet, frame),
            Step::UpTransparent6 => self.up_transparent6(packet, frame),
            Step::DownTransparent6 => self.down_transparent6(packet, frame),
            Step::UpBothCases => self.up_both_cases(packet, frame),
            Step::DownUntagged => self.untagged(packet, frame),
            Step::UnservedSyn => self.unserved_syn(packet, frame),
            Step::UnservedSyn6 => self.unserved_syn6(packet, frame),
            Step::Arp => self.arp(packet, frame),
            Step::Echo => self.echo(packet, frame),
            Step::Echo6 => self.echo6(packet, frame),
            Step::Solicited => self.solicited(packet, frame),
            Step::Advertised => self.advertised(packet, frame),
            Step::Error { mtu, to } => self.icmp_error(packet, frame, mtu, to),
            Step::Error6 { mtu, to } => self.icmp_error6(packet, frame, mtu, to),
            Step::Tunnel(family) => self.tunnel(packet, frame, family),
            Step::Datagram(family, lane) => self.datagram(packet, frame, family, lanes, lane),
            Step::Drop(reason) => self.drop(packet.of, reason, frame),
        }
    }

    #[inline]
    fn up<F: Frame>(&mut self, packet: &Packet, frame: F, lanes: &Lanes, lane: Lane)
    where
        O: Output<F>,
    {
        let found = packet.of.and_then(|of| self.service(of)).zip(lanes.up_at(lane));
        let Some((service, (client, up))) = found else {
            return self.drop(packet.of, DropReason::CycleLimit, frame);
        };
        self.up_mapped(packet, frame, service, client, up);
    }

    /// False when the segment was dropped.
    #[inline]
    fn up_mapped<F: Frame>(
        &mut self,
        packet: &Packet,
        frame: F,
        service: &Service,
        client: Client,
        up: Up,
    ) -> bool
    where
        O: Output<F>,
    {
        let Ok(rewrite) = up_rewrite(packet, service, client, up) else {
            self.drop(packet.of, DropReason::CycleLimit, frame);
            return false;
        };
        if O::EXPLAINS
            && let (Ok(mapped), Some(target)) = (up.mapped, target(service, up))
        {
            let egress_ip = rewrite.endpoints.src;
            self.note(Note::Mapped { client, mapped, egress_ip, target });
        }
        if !self.soft.pending_rsts.is_empty()
            && let Some(rst) = self.pending_rst(packet, &frame, service, &rewrite.endpoints)
        {
            self.answer_with_rst(packet, frame, rst);
            return true;
        }
        self.forward(packet, frame, service, &rewrite, Towards::Targets)
    }

    /// A target's RST that this client segment should be answered with. A damaged segment is not
    /// answered, and the RST goes on waiting: which one it is of cannot be believed.
    fn pending_rst<F: Frame>(
        &self,
        packet: &Packet,
        frame: &F,
        service: &Service,
        egress: &Endpoints,
    ) -> Option<pending_rst::Rst> {
        let Segment { ip, tcp, .. } = packet.segment;
        if tcp.has(tcp::RST) {
            return None;
        }
        let place = Place { service: service.slot.0, address: egress.src, port: egress.src_port };
        let ack = tcp.has(tcp::ACK).then_some(tcp.ack);
        let end = tcp.end(ip.total_len - ip.header_len);
        let segment = pending_rst::Segment { ack, end };
        let rst = self.soft.pending_rsts.take(self.now, place, segment)?;
        if !self.tcp_checksum_holds(packet, frame) {
            self.soft.pending_rsts.keep(self.now, place, rst);
            return None;
        }
        Some(rst)
    }

    /// A RST without timestamps may belong to a connection with or without them: it goes out in
    /// two variants, each to the egress endpoint that the connection of that kind would have.
    fn up_both_cases<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        let Some(service) = packet.of.and_then(|of| self.service(of)) else {
            return self.drop(packet.of, DropReason::UnservedPort, frame);
        };
        if !self.buckets.variants.take(self.now, self.snapshot.config.limits.variant_per_second) {
            return self.drop(packet.of, DropReason::RateVariants, frame);
        }
        let Segment { ip, tcp, .. } = packet.segment;
        let client = |timestamps| Client { timestamps, ip: ip.src, port: tcp.src_port };
        let clients = [client(ClientTimestamps::Present), client(ClientTimestamps::Absent)];
        let mut ups = [Up::NONE; 2];
        lanes::map_up(service, &clients, &mut ups);
        match self.copy(&frame) {
            // What drops one variant would drop the other: it is counted, and told, once.
            Some(copy) => {
                if !self.up_mapped(packet, copy, service, clients[0], ups[0]) {
                    return;
                }
            }
            None => self.count_drop::<F>(packet.of, DropReason::NoBuffer),
        }
        self.up_mapped(packet, frame, service, clients[1], ups[1]);
    }

    /// A second frame with the same contents.
    pub(super) fn copy<F: Frame>(&mut self, frame: &F) -> Option<F>
    where
        O: Output<F>,
    {
        let mut copy = self.out.allocate()?;
        if !copy.append(frame.bytes().len()) {
            return None;
        }
        copy.bytes_mut().copy_from_slice(frame.bytes());
        Some(copy)
    }

    #[inline]
    fn down<F: Frame>(&mut self, packet: &Packet, frame: F, lanes: &Lanes, lane: Lane)
    where
        O: Output<F>,
    {
        let found = packet.of.and_then(|of| self.service(of)).zip(lanes.down_at(lane));
        let Some((service, (mapped, decoded))) = found else {
            return self.drop(packet.of, DropReason::CycleLimit, frame);
        };
        let client = match self.checked_client(decoded) {
            Ok(client) => client,
            Err(reason) => return self.drop(packet.of, reason, frame),
        };
        let Segment { ip, tcp, .. } = packet.segment;
        if O::EXPLAINS {
            let target = Endpoint { ip: ip.src, port: tcp.src_port };
            self.note(Note::Mapped { client, mapped, egress_ip: ip.dst, target });
        }
        let timestamps = match (client.timestamps, packet.timestamps) {
            (ClientTimestamps::Present, Some(at)) => Timestamps::SetEcho(at, 0),
            (ClientTimestamps::Present, None) => Timestamps::Keep,
            (ClientTimestamps::Absent, _) => Timestamps::Strip,
        };
        let less = match client.timestamps {
            ClientTimestamps::Present => 0,
            ClientTimestamps::Absent => INSERTED_LEN as u16,
        };
        let rewrite = Rewrite {
            endpoints: Endpoints {
                src: service.vip.ip,
                src_port: service.vip.port,
                dst: client.ip,
                dst_port: client.port,
            },
            timestamps,
            syn: mss_rule(packet, service, less),
        };
        self.forward(packet, frame, service, &rewrite, Towards::Clients);
    }

    /// A decoded client, if it can be one.
    pub(super) fn checked_client(
        &self,
        decoded: Result<Client, DecodeError>,
    ) -> Result<Client, DropReason> {
        match decoded {
            Ok(client) if self.snapshot.client_ok(client.ip) => Ok(client),
            Ok(_) | Err(DecodeError::BadTag) => Err(DropReason::BadTag),
            Err(DecodeError::CycleLimit) => Err(DropReason::CycleLimit),
        }
    }

    fn up_transparent<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        let Segment { ip, tcp, .. } = packet.segment;
        let client = Endpoint { ip: ip.src, port: tcp.src_port };
        let service = packet.of.and_then(|of| self.service(of));
        let chosen = service.and_then(|service| Some((service, chosen_target(service, client)?)));
        let Some((service, target)) = chosen else {
            return self.drop(packet.of, DropReason::UnservedPort, frame);
        };
        self.note(Note::Passed { client, target });
        let rewrite = Rewrite {
            endpoints: Endpoints {
                src: client.ip,
                src_port: client.port,
                dst: target.ip,
                dst_port: target.port,
            },
            timestamps: Timestamps::Keep,
            syn: mss_rule(packet, service, 0),
        };
        self.forward(packet, frame, service, &rewrite, Towards::Targets);
    }

    fn down_transparent<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        let Some(service) = packet.of.and_then(|of| self.service(of)) else {
            return self.drop(packet.of, DropReason::NotOurs, frame);
        };
        let Segment { ip, tcp, .. } = packet.segment;
        let client = Endpoint { ip: ip.dst, port: tcp.dst_port };
        let target = Endpoint { ip: ip.src, port: tcp.src_port };
        self.note(Note::Passed { client, target });
        let rewrite = Rewrite {
            endpoints: Endpoints {
                src: service.vip.ip,
                src_port: service.vip.port,
                dst: client.ip,
                dst_port: client.port,
            },
            timestamps: Timestamps::Keep,
            syn: mss_rule(packet, service, 0),
        };
        self.forward(packet, frame, service, &rewrite, Towards::Clients);
    }

    /// Rewrites and sends, unless the TTL is used up, the next hop is not known, or it does not fit.
    /// False when the segment was dropped.
    #[inline]
    fn forward<F: Frame>(
        &mut self,
        packet: &Packet,
        mut frame: F,
        service: &Service,
        rewrite: &Rewrite,
        towards: Towards,
    ) -> bool
    where
        O: Output<F>,
    {
        let segment = &packet.segment;
        if segment.ip.ttl <= 1 {
            self.time_exceeded(packet, frame);
            return false;
        }
        let hop = match self.hop(towards, rewrite.endpoints.dst) {
            Ok(hop) => hop,
            Err(reason) => {
                self.drop(packet.of, reason, frame);
                return false;
            }
        };
        let at = segment.l3 + segment.ip.header_len;
        let options = frame.bytes().get(at + tcp::HEADER_LEN..at + segment.tcp.header_len);
        let planned = translate::plan(segment, options.unwrap_or_default(), rewrite);
        // Looked at where it is: a copy of what was just written would wait for the writes.
        let plan = match &planned {
            Ok(plan) => plan,
            Err(reason) => {
                self.drop(packet.of, *reason, frame);
                return false;
            }
        };
        let mtu = self.mtu(hop.port);
        let fits = plan.total_len <= mtu;
        if !fits && segment.ip.dont_fragment() {
            let grows = plan.total_len as isize - segment.ip.total_len as isize;
            let fits = (mtu as isize - grows).clamp(ipv4::MTU_MIN, u16::MAX as isize);
            self.too_big(packet, frame, fits as u16);
            return false;
        }
        let id = if fits { 0 } else { fragment_id(packet, &frame, service, rewrite, towards) };
        let l3 = match translate::apply(&mut frame, segment, rewrite, plan) {
            Ok(l3) => l3,
            Err(reason) => {
                self.drop(packet.of, reason, frame);
                return false;
            }
        };
        let sent = if !fits {
            self.send_in_fragments(&frame, l3, hop, id)
        } else if self.send(frame, l3, hop, ethernet::TYPE_IPV4) {
            Ok(())
        } else {
            Err(DropReason::NoRoom)
        };
        if let Err(reason) = sent {
            self.count_drop::<F>(packet.of, reason);
            return false;
        }
        self.count_forwarded(service.slot, towards, plan.total_len);
        self.note(Note::Verdict(Verdict::Forward(hop.port)));
        true
    }
}

/// The ID of a segment that is to be sent in fragments. `frame` is as it came.
#[cold]
fn fragment_id<F: Frame>(
    packet: &Packet,
    frame: &F,
    service: &Service,
    rewrite: &Rewrite,
    towards: Towards,
) -> u16 {
    let Segment { l3, ip, tcp } = packet.segment;
    let (client, port) = match towards {
        Towards::Targets => (ip.src, tcp.src_port),
        Towards::Clients => (rewrite.endpoints.dst, rewrite.endpoints.dst_port),
    };
    let client = SocketAddrV4::new(Ipv4Addr::from_bits(client), port);
    let id = ipv4::id(frame.bytes().get(l3..).unwrap_or_default());
    (service.fragment_ids.of(client, id, tcp.seq) >> 16) as u16
}

/// What a client's segment becomes.
#[inline]
fn up_rewrite(
    packet: &Packet,
    service: &Service,
    client: Client,
    up: Up,
) -> Result<Rewrite, DropReason> {
    let Egress::Pool { pool, .. } = &service.egress else { return Err(DropReason::UnservedPort) };
    let mapped = up.mapped.map_err(|_| DropReason::CycleLimit)?;
    let target = target(service, up).ok_or(DropReason::UnservedPort)?;
    let timestamps = match (client.timestamps, packet.timestamps) {
        (ClientTimestamps::Present, Some(at)) => Timestamps::SetValue(at, mapped.tag),
        _ => Timestamps::Insert(TimestampsOption { value: mapped.tag, echo: 0 }),
    };
    Ok(Rewrite {
        endpoints: egress_endpoints(pool.address(mapped.index), mapped, target),
        timestamps,
        syn: mss_rule(packet, service, 0),
    })
}

fn egress_endpoints(src: u32, mapped: Mapped, target: Endpoint) -> Endpoints {
    Endpoints { src, src_port: mapped.port, dst: target.ip, dst_port: target.port }
}

fn target(service: &Service, up: Up) -> Option<Endpoint> {
    service.targets().get(usize::from(up.target)).copied()
}

/// The target of one client, chosen on its own.
pub(super) fn chosen_target(service: &Service, client: Endpoint) -> Option<Endpoint> {
    let mut target = [0];
    service.rendezvous.choose(&[client], &mut target);
    service.targets().get(usize::from(target[0])).copied()
}

/// For a SYN or SYN-ACK, what happens to its MSS.
#[inline]
fn mss_rule(packet: &Packet, service: &Service, less: u16) -> Option<MssRule> {
    let syn = packet.segment.tcp.has(tcp::SYN);
    syn.then_some(MssRule { clamp: service.mss, less })
}
