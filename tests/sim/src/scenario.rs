//! What happens in a run, drawn from its seed before it begins.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::net::{IpEndpoint, Protocol};
use anyrelay_kit::rng::Rng;

use crate::app::{Ending, NUMBER_LEN, Plan};
use crate::hints::HintWeather;
use crate::middlebox::Habits;
use crate::network::Weather;
use crate::pops;
use crate::setup::{Mode, Revision, Rollout, Setup, Targets};
use crate::strays::Strays;
use crate::traits::Traits;

/// How the network chooses the POP for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// Anew for each.
    Spray,
    /// One for each direction, which changes now and then.
    Flips,
    /// By a hash of the addresses, which changes now and then.
    Hashed,
    /// One for each direction.
    Steady,
}

/// Something that is done to a POP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It begins anew; frames of so many microseconds are lost.
    Restart(u64),
    /// One of its workers does.
    Worker,
    /// It takes over another version of the config.
    Reload(u32),
    /// It learns of so many changes of targets.
    Targets(usize),
}

/// A run.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub setup: Setup,
    /// When it begins, in milliseconds since 1970.
    pub unix_ms: u64,
    /// How many changes of targets each POP knows of at the beginning.
    pub known: Vec<usize>,
    /// How far each POP's wall clock is ahead.
    pub ahead_ms: Vec<i64>,
    pub weather: Weather,
    pub routing: Routing,
    pub flip_us: u64,
    /// How long workers take to look at a port again.
    pub poll_us: u64,
    /// When faults end.
    pub calm_us: u64,
    pub deeds: Vec<(u64, usize, Deed)>,
    pub plans: Vec<Plan>,
    pub twins: Option<Twins>,
    /// Sites with an agent, each with an IPv6 one or not.
    pub sites: Vec<bool>,
    /// So many connections over open addresses.
    pub talks: u64,
    /// So many forged datagrams.
    pub forged: u64,
    /// What happens to hints, and how many datagrams somebody without the key sends.
    pub hint_weather: HintWeather,
    pub forged_hints: u64,
    pub strays: Strays,
    /// In a thousand: SYNs with options that no relay may pass, datagrams with IPv4 options.
    pub exotic: u64,
}

impl Scenario {
    pub fn new(seed: u64) -> Result<(Self, Rng), String> {
        let mut rng = Rng(seed ^ 0x616e_7972_656c_6179);
        rng.next();
        let pops = 1 + rng.below(5) as usize;
        let unix_ms = match rng.below(8) {
            // Soon the seconds need another bit.
            wrap @ 0..2 => (1000 << (31 + wrap)) - rng.below(20_000),
            _ => 1_700_000_000_000 + rng.below(100_000_000_000),
        };
        let setup = Setup::new(&mut rng, pops, unix_ms)?;
        let calm_us = 1_000_000 + rng.below(9_000_000);
        let mut plans = plans(&mut rng, &setup, calm_us);
        let twins = Twins::find(&mut rng, &setup)?;
        if let Some(Twins { clients, .. }) = twins {
            let service = setup.moving_pool();
            let twin = |client| plan(&mut rng, &setup, service, client, calm_us);
            plans.extend(clients.map(twin));
        }
        let sites = sites(&mut rng);
        let mut deeds = deeds(&mut rng, pops, calm_us);
        let known = rollout(&mut rng, &setup, unix_ms, &mut deeds);
        let mut scenario = Scenario {
            unix_ms,
            known,
            // No two are further apart than the skew.
            ahead_ms: (0..pops).map(|_| rng.below(SPREAD_MS + 1) as i64 - 1000).collect(),
            weather: weather(&mut rng),
            routing: rng.pick(&ROUTINGS),
            flip_us: 10_000 + rng.below(1_000_000),
            // What comes in the same microsecond is a burst anyway.
            poll_us: [0, 50, 1000, 20_000][rng.below(4) as usize],
            calm_us,
            deeds,
            plans,
            twins,
            sites,
            talks: 0,
            forged: rng.below(40),
            hint_weather: HintWeather::random(&mut rng),
            forged_hints: if setup.hints.is_some() { rng.below(30) } else { 0 },
            strays: Strays::random(&mut rng),
            exotic: [0, 20, 300][rng.below(3) as usize],
            setup,
        };
        match seed % EACH {
            QUIET => scenario.hush(),
            OPEN => scenario.open(&mut rng),
            _ => {}
        }
        Ok((scenario, rng))
    }

    /// Makes it a quiet run, in which POPs have little to remember of targets, and bursts are
    /// large: connections are to services in pool mode, as far as they are over IPv4, and transfer
    /// more; nobody refuses or resets one; no targets change, and no copy comes when all is over.
    fn hush(&mut self) {
        for plan in &mut self.plans {
            let is_v4 = plan.client.is_ipv4();
            // What a client does without timestamps, it does to a pool alone.
            let pooled = is_v4 || self.setup.services[plan.service].is_pool();
            let fits = |at: &usize| {
                let service = &self.setup.services[*at];
                let works = service.targets_are == Targets::Open && service.changes.is_none();
                works && service.vip.is_ipv4() == is_v4 && service.is_pool() == pooled
            };
            let all: Vec<usize> = (0..self.setup.services.len()).filter(fits).collect();
            // Those of one client are to one service.
            plan.service = all[usize::from(plan.client.port()) % all.len()];
            plan.may_be_refused = false;
            plan.up = plan.up.saturating_mul(8).min(LARGE);
            plan.down = plan.down.saturating_mul(8).min(LARGE).min(40 * plan.traits.buffer as u32);
            if plan.ending != Ending::TargetCloses {
                plan.ending = Ending::ClientCloses;
            }
        }
        self.weather = Weather { doubled: 0, held: 0, ..self.weather };
        self.sites.clear();
        self.twins = None;
        self.poll_us = 20_000;
    }
}

/// Two clients with one egress endpoint, in a small pool whose targets change. What becomes of
/// their connections is not judged: at the same target they would be one (`docs/limits.md`).
#[derive(Clone, Copy, Debug)]
pub struct Twins {
    pub clients: [SocketAddr; 2],
    pub egress: SocketAddr,
}

impl Twins {
    /// Not in each run.
    fn find(rng: &mut Rng, setup: &Setup) -> Result<Option<Self>, String> {
        let service = &setup.services[setup.moving_pool()];
        let is_small = matches!(service.mode, Mode::Pool(_, ..=4));
        if !is_small || rng.happens(500) {
            return Ok(None);
        }
        let snapshot = pops::snapshot(setup, 0, Revision::default(), &setup.keys)?;
        let IpEndpoint::V4(vip) = IpEndpoint::from(service.vip) else { return Ok(None) };
        let found = snapshot.service_at(Protocol::Tcp, vip.ip, vip.port);
        let relay = found.and_then(|index| snapshot.relay(index)).ok_or("no relay at its VIP")?;
        let mut seen = BTreeMap::new();
        for _ in 0..TWINS_TRIED {
            let (net, port) = (1 + rng.below(200) as u8, 1 + rng.below(65_535) as u16);
            let client = SocketAddr::from(([198, 18, net, 77], port));
            let side = relay.egress_of(client.into()).map_err(|reason| reason.to_string())?;
            let egress = SocketAddr::from(side.egress);
            if let Some(other) = seen.insert(egress, client).filter(|other| *other != client) {
                return Ok(Some(Twins { clients: [other, client], egress }));
            }
        }
        Ok(None)
    }
}

/// How many changes of targets each POP knows of, and when it learns of the others: at the latest
/// so long before they are in force that its clock and the skew permit it, or too late.
fn rollout(
    rng: &mut Rng,
    setup: &Setup,
    unix_ms: u64,
    deeds: &mut Vec<(u64, usize, Deed)>,
) -> Vec<usize> {
    let all = setup.changes();
    let mut known = Vec::new();
    for pop in 0..setup.pops {
        let knows = setup.rollout == Rollout::Known || rng.happens(400);
        known.push(if knows { all } else { 0 });
        let mut after_us = 0;
        for change in (0..all).filter(|_| !knows) {
            let dates = setup.dates_ms(change);
            let first_us =
                dates.into_iter().min().unwrap_or(unix_ms).saturating_sub(unix_ms) * 1000;
            let latest_us = first_us.saturating_sub(1000 * (3000 + SPREAD_MS));
            let at_us = match setup.rollout {
                Rollout::Late => latest_us + rng.below(12_000_000),
                _ => rng.below(latest_us + 1),
            };
            after_us = at_us.max(after_us);
            deeds.push((after_us, pop, Deed::Targets(change + 1)));
        }
    }
    known
}

fn weather(rng: &mut Rng) -> Weather {
    // Some runs have no fault of a kind, most a few, some many.
    let mut grade = |most: u64| match rng.below(4) {
        0 => 0,
        1 | 2 => rng.below(most / 5 + 1),
        _ => rng.below(most + 1),
    };
    Weather {
        lost: grade(200),
        doubled: grade(200),
        damaged: grade(60),
        cut: grade(60),
        expired: grade(20),
        reported: grade(40),
        delay_us: 200 + grade(40_000),
        jitter_us: grade(100_000),
        held: grade(20),
    }
}

fn plans(rng: &mut Rng, setup: &Setup, calm_us: u64) -> Vec<Plan> {
    let count = 5 + rng.below(rng.clone().below(26) + 1) as usize;
    let hosts: Vec<[IpAddr; 2]> = (0..1 + rng.below(6))
        .map(|number| {
            let (net, host) = (1 + number as u8, rng.below(256) as u8);
            let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0x55, net.into(), 0, 0, 0, host.into());
            [Ipv4Addr::new(198, 18, net, host).into(), v6.into()]
        })
        .collect();
    let mut taken: Vec<SocketAddr> = Vec::new();
    let mut plans = Vec::new();
    while plans.len() < count {
        let host = hosts[rng.below(hosts.len() as u64) as usize];
        let service = service(rng, setup);
        let v6 = setup.services[service].vip.is_ipv6();
        let client = SocketAddr::new(host[usize::from(v6)], 1 + rng.below(65_535) as u16);
        if !taken.contains(&client) {
            taken.push(client);
            plans.push(plan(rng, setup, service, client, calm_us));
            // The next ones from that port, if there are any. Who is refused tries again.
            let again = match setup.services[service].targets_are {
                Targets::Shut | Targets::Late => 600,
                Targets::Open | Targets::Old => 300,
            };
            while rng.happens(again) {
                let after = plans.len() - 1;
                let first: Plan = plans[after];
                let next = plan(rng, setup, service, client, calm_us);
                let most_us = if rng.happens(500) { 3000 } else { 3_000_000 };
                let start_us = rng.below(most_us);
                // The same host.
                let traits = Traits { seed: next.traits.seed, ..first.traits };
                let habits = first.habits;
                plans.push(Plan { start_us, after: Some(after), traits, habits, ..next });
            }
        }
    }
    plans
}

fn service(rng: &mut Rng, setup: &Setup) -> usize {
    let of = |kind| setup.services.iter().position(|service| service.targets_are == kind);
    match rng.below(40) {
        0..4 => of(Targets::Shut).unwrap_or(0),
        4 => of(Targets::Old).unwrap_or(0),
        5..8 => of(Targets::Late).unwrap_or(0),
        place => {
            let moves = place < 18;
            let works = |at: &usize| {
                let service = &setup.services[*at];
                service.targets_are == Targets::Open && service.changes.is_some() == moves
            };
            let open: Vec<usize> = (0..setup.services.len()).filter(works).collect();
            open[rng.below(open.len() as u64) as usize]
        }
    }
}

fn plan(rng: &mut Rng, setup: &Setup, service: usize, client: SocketAddr, calm_us: u64) -> Plan {
    let mut size = || match rng.below(16) {
        0..3 => 0,
        3..9 => rng.below(3_000) as u32,
        9..15 => rng.below(30_000) as u32,
        _ => rng.below(LARGE.into()) as u32,
    };
    let (up, down) = (size() + NUMBER_LEN, size());
    let at = |rng: &mut Rng, most: u32| rng.below(u64::from(most) + 1) as u32;
    let targets_are = setup.services[service].targets_are;
    let ending = match rng.below(20) {
        _ if targets_are == Targets::Shut => Ending::Refused,
        _ if targets_are == Targets::Old => Ending::NeverMade,
        0..4 if targets_are == Targets::Late => Ending::TargetCloses,
        0 => Ending::ClientResets(at(rng, up)),
        1 => Ending::TargetResets(at(rng, down)),
        2 | 3 => Ending::TargetVanishes(at(rng, down)),
        4..11 => Ending::TargetCloses,
        _ => Ending::ClientCloses,
    };
    let moves = setup.services[service].changes.is_some();
    let rest_us = if moves && rng.happens(300) { 30_000_000 } else { 4_000_000 };
    let mut traits = Traits::random(rng, client.ip());
    if matches!(ending, Ending::TargetVanishes(_)) && rng.happens(700) {
        traits.keepalive_us.get_or_insert(50_000 + rng.below(1_500_000));
    }
    // A sender that fills a small window too much goes on by time-outs alone.
    let down = down.min(40 * traits.buffer as u32);
    let ending = match ending {
        Ending::TargetResets(at) => Ending::TargetResets(at.min(down)),
        Ending::TargetVanishes(at) => Ending::TargetVanishes(at.min(down)),
        _ => ending,
    };
    Plan {
        client,
        service,
        start_us: 500_000 + rng.below(calm_us),
        after: None,
        up,
        down,
        rounds: 1 + rng.below(4) as u32,
        rest_us: if rng.happens(if moves { 600 } else { 300 }) {
            1 + rng.below(rest_us)
        } else {
            0
        },
        ending,
        may_be_refused: targets_are == Targets::Late,
        traits,
        habits: Habits::random(rng, setup.services[service].is_pool()),
    }
}

fn sites(rng: &mut Rng) -> Vec<bool> {
    match rng.below(3) {
        0 => (0..2 + rng.below(2)).map(|_| rng.happens(300)).collect(),
        _ => Vec::new(),
    }
}

fn deeds(rng: &mut Rng, pops: usize, calm_us: u64) -> Vec<(u64, usize, Deed)> {
    let count = rng.below(8);
    let mut newest = 0;
    let mut deeds: Vec<(u64, usize)> =
        (0..count).map(|_| (rng.below(calm_us), rng.below(pops as u64) as usize)).collect();
    deeds.sort_unstable();
    deeds
        .into_iter()
        .map(|(at_us, pop)| {
            let deed = match rng.below(5) {
                0 | 1 => Deed::Restart(rng.below(1_500_000)),
                2 => Deed::Worker,
                _ => {
                    newest += u32::from(rng.happens(600) || newest == 0);
                    Deed::Reload(newest)
                }
            };
            (at_us, pop, deed)
        })
        .collect()
}

/// What a connection transfers at most in a direction, in bytes.
const LARGE: u32 = 300_000;

/// Of so many runs one is quiet, and one has open addresses: those with these numbers.
const EACH: u64 = 8;
const QUIET: u64 = 6;
const OPEN: u64 = 4;

/// Clients among which two are looked for that share an egress endpoint: among 2^20 endpoints.
const TWINS_TRIED: u32 = 4000;

/// How far the clocks of two POPs are apart at most, in milliseconds.
pub const SPREAD_MS: u64 = 2000;

const ROUTINGS: [Routing; 5] =
    [Routing::Spray, Routing::Flips, Routing::Hashed, Routing::Steady, Routing::Steady];
