//! Key files, tenants files and an agent's saved state: any text is read or refused, and a written
//! file reads as it was written.
//!
//! Input: the text.

use anyrelay_core::keys::{AgentKey, KeyFile, Tenants};
use anyrelay_core::tunnel::agent::Saved;

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(keys) = KeyFile::parse(text) {
        let written = keys.serialize();
        assert_eq!(KeyFile::parse(&written).unwrap().serialize(), written);
    }
    match Tenants::parse(text) {
        Ok(tenants) => {
            let written = tenants.serialize();
            assert_eq!(Tenants::parse(&written).unwrap().serialize(), written);
        }
        Err(mistakes) => assert!(!mistakes.is_empty()),
    }
    if let Ok(saved) = Saved::parse(text) {
        assert_eq!(Saved::parse(&saved.serialize()), Ok(saved));
    }
    let _ = AgentKey::parse(text);
}
