//! Writes the seeds of the fuzz corpus: see [`anyrelay_fuzz_cases::corpus`].

fn main() -> std::io::Result<()> {
    anyrelay_fuzz_cases::corpus::write()
}
