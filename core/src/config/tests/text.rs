//! Texts of configs, composed of tables, and edits of them.

/// `[[port]]`.
pub(crate) fn port(
    (name, device, side): (&str, &str, &str),
    addresses: &[&str],
    gateways: &[&str],
) -> String {
    let (addresses, gateways) = (list(addresses), list(gateways));
    format!(
        "\n[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\nside = \"{side}\"\n\
         addresses = {addresses}\ngateways = {gateways}\n"
    )
}

/// `[[worker]]` on the CPU `core`.
pub(crate) fn worker(core: usize, rx: &[&str]) -> String {
    format!("\n[[worker]]\ncore = {core}\nrx = {}\n", list(rx))
}

/// `[[relay]]`; `egress` is written as it is.
pub(crate) fn relay(name: &str, vip: &str, targets: &[&str], egress: &str) -> String {
    let targets = list(targets);
    format!(
        "\n[[relay]]\nname = \"{name}\"\nvip = \"{vip}\"\ntargets = {targets}\n\
         egress = {egress}\n"
    )
}

/// The `number`th of many relays, which differ in their ports alone.
pub(crate) fn relay_number(name: &str, number: usize) -> String {
    let port = number + 1;
    let (vip, target) = (format!("203.0.113.1:{port}"), format!("198.51.100.1:{port}"));
    relay(&format!("{name}{number}"), &vip, &[&target], "{ pool = \"100.64.0.0/16\" }")
}

fn list(texts: &[&str]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| format!("\"{text}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// `text` with the first `from`, which must be in it, replaced by `to`.
pub(crate) fn edit(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the config");
    text.replacen(from, to, 1)
}
