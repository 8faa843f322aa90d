//! Numbers that pass 2^32 a few seconds from now, on both sides of a tunnel.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyrelay_core::keys::KeyFile;
use anyrelay_core::predict::{Predictor, at};
use anyrelay_core::time::Tick;
use anyrelay_kit::rng::Rng;
use anyrelay_lab::tunnel::{Constants, Family, TunnelLab};

use super::tunnel::Tunnels;

/// What makes them so.
pub struct Wrap {
    pub tick_ms: u32,
    pub keys: String,
    port: u16,
    at: SystemTime,
}

/// Time until the wrap: for the lab to be built, agents to be ready and some data before it.
const LEAD: Duration = Duration::from_secs(14);

/// Looks for keys and a port whose server numbers wrap about [`LEAD`] from now.
pub fn find(tick_ms: u32) -> Wrap {
    let stride = Constants::default().stride;
    let wrap_at = SystemTime::now() + LEAD;
    let tick = tick_of(wrap_at, tick_ms);
    let mut rng = Rng(1);
    for _ in 0..100 {
        let mut random = [[0; 32]; 3];
        random.iter_mut().for_each(|secret| rng.fill(secret));
        let keys = KeyFile::from_random(random);
        let predictor = Predictor::new(&keys.sequence, Family::V4.vip()).unwrap();
        for port in 20_000..30_000 {
            // The second place's public address; the NAT keeps the port.
            let agent = SocketAddr::new([198, 18, 2, 2].into(), port);
            let seq = at(predictor.start(agent), stride, tick).0;
            // Within ten ticks of it.
            if seq.wrapping_add(10 * stride) < 20 * stride {
                let at = wrap_at;
                return Wrap { tick_ms, keys: keys.serialize(), port, at };
            }
        }
    }
    panic!("no port whose numbers wrap");
}

fn tick_of(time: SystemTime, tick_ms: u32) -> Tick {
    let ms = time.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    Tick(ms / u64::from(tick_ms))
}

impl Wrap {
    /// Starts agents in the two places; the connecting one has the port, and a base that wraps
    /// then.
    pub fn start(&mut self, lab: TunnelLab) -> Tunnels {
        let stride = lab.constants.stride;
        let tick = tick_of(self.at, self.tick_ms);
        // Aligned already, so that it is not moved on.
        let base = 0_u32.wrapping_sub((tick.0 as u32).wrapping_mul(stride)) & 0xffff_0000 | 0x8000;
        let mut state = String::new();
        let vip = Family::V4.vip();
        let (port, tick_ms) = (self.port, self.tick_ms);
        let _ = write!(
            state,
            "vip = \"{vip}\"\nport = {port}\nbase = {base}\nshift = 0\ntick_ms = {tick_ms}\n\
             stride = {stride}\n"
        );
        Tunnels::start_with(lab, |agent| std::fs::write(agent.state_file(), &state).unwrap())
    }

    /// Until the numbers wrap.
    pub fn remaining(&self) -> Duration {
        self.at.duration_since(SystemTime::now()).expect("agents were ready too late")
    }
}
