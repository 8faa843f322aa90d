//! The POP daemon.

fn main() {}
