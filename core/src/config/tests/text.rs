//! Parts and edits of the texts of configs.

use anyrelay_kit::config::{Egress, relay};

/// The `number`th of many relays, which differ in their ports alone.
pub(crate) fn relay_number(name: &str, number: usize) -> String {
    let port = number + 1;
    let (vip, target) = (format!("203.0.113.1:{port}"), format!("198.51.100.1:{port}"));
    let pool = Egress::Pool("100.64.0.0/16");
    format!("[[relay]]\n{}", relay(&format!("{name}{number}"), vip, &[target], pool))
}

/// `text` with the first `from`, which must be in it, replaced by `to`.
pub(crate) fn edit(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the config");
    text.replacen(from, to, 1)
}
