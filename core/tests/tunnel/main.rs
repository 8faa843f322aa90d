//! The agent against the POP's own functions, with a model of a strict firewall between them.
//!
//! All of it is simulated, in simulated time, from a seed that a failure prints; `ANYRELAY_SEED=N`
//! runs the random ones with that seed alone. `conntrack` is the firewall, `site` an agent behind
//! it, `world` all sites and POPs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod prepare;
mod traffic;
mod world;

mod attacks;
mod chaos;
mod edge;
mod failing;
mod flows;
mod naming;
mod numbers;
mod open;
mod trouble;
