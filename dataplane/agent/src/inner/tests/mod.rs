//! Complete inner sides against each other.

mod handshakes;
mod refusals;
mod world;

/// Runs `test` with several seeds and prints the one that failed; `ANYRELAY_SEED=N` runs one.
fn with_seeds(test: impl Fn(u64)) {
    let one = std::env::var("ANYRELAY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = one.map_or(1..=8, |seed: u64| seed..=seed);
    for seed in seeds {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed)));
        if let Err(panic) = run {
            eprintln!("failed with ANYRELAY_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
