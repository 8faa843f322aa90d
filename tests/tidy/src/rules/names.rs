//! Crates and keywords that only some folders name.

use std::collections::HashSet;

use crate::code::{self, Token};
use crate::{Tree, Violation};

const RULE: &str = "names";

/// Crates, and where they may be named.
struct Confined {
    crates: &'static [&'static str],
    within: &'static [&'static str],
    remedy: &'static str,
}

const CONFINED: &[Confined] = &[
    Confined {
        crates: &["dpdk"],
        within: &["bindings/", "dataplane/pop/src/ports/"],
        remedy: "only dataplane/pop/src/ports names it: use the types of that module",
    },
    Confined {
        crates: &["dpdk_sys"],
        within: &["bindings/dpdk/"],
        remedy: "only bindings/dpdk names it: add a safe function there",
    },
    Confined {
        crates: CIPHERS,
        within: &[
            "bindings/vector/src/aes128",
            "core/src/crypto",
            "dataplane/agent/src/inner/noise",
            "tests/",
        ],
        remedy: "only bindings/vector, core's crypto and the agent's noise name crates of \
                 cryptography: use theirs",
    },
];

const CIPHERS: &[&str] = &[
    "aead",
    "aes",
    "aes_gcm",
    "blake2",
    "blake3",
    "chacha20",
    "chacha20poly1305",
    "cipher",
    "cmac",
    "ctr",
    "curve25519_dalek",
    "ed25519_dalek",
    "ghash",
    "hkdf",
    "hmac",
    "md5",
    "poly1305",
    "ring",
    "rustls",
    "sha1",
    "sha2",
    "sha3",
    "siphasher",
    "snow",
    "x25519_dalek",
];

/// Keywords that may stand before a path which begins with `::`.
const BEFORE_PATH: &[&str] = &["use", "impl", "for", "dyn", "as", "in", "mut", "return"];

/// The only folder with `unsafe`.
const UNSAFE_WITHIN: &str = "bindings/";

/// Checks all Rust files.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let masked = file.code();
        let tokens = code::tokens(&masked);
        let own = own_names(&tokens);
        for (at, token) in tokens.iter().enumerate() {
            if token.text == "unsafe" && !file.path.starts_with(UNSAFE_WITHIN) {
                let text = "`unsafe` is only in bindings/: add a safe function there";
                found.push(Violation::new(RULE, &*file.path, token.line, text));
            }
            if !names_crate(&tokens, at) || own.contains(token.text) {
                continue;
            }
            for confined in CONFINED.iter().filter(|one| one.crates.contains(&token.text)) {
                if !confined.within.iter().any(|folder| file.path.starts_with(folder)) {
                    let text = format!("names the crate {}; {}", token.text, confined.remedy);
                    found.push(Violation::new(RULE, &*file.path, token.line, text));
                }
            }
        }
    }
    found
}

/// Names that the file declares as modules, or imports from other paths: they are not crates.
fn own_names<'a>(tokens: &[Token<'a>]) -> HashSet<&'a str> {
    let mut own = HashSet::new();
    let mut imports = false;
    for three in tokens.windows(3) {
        let [a, b, c] = three else { continue };
        match (a.text, b.text) {
            ("mod", name) => drop(own.insert(name)),
            ("use", "::") => {}
            ("use", _) => imports = true,
            (_, ";") => imports = false,
            _ => {}
        }
        if imports && b.text != "use" {
            own.insert(c.text);
        }
    }
    own
}

/// Whether the word at `at` begins a path, or is all that a `use` or `extern crate` names.
fn names_crate(tokens: &[Token<'_>], at: usize) -> bool {
    let text = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map_or("", |token| token.text);
    let before = text(at.checked_sub(1));
    let start = text(at.checked_sub(2));
    let absolute = before == "::" && (!code::is_word(start) || BEFORE_PATH.contains(&start));
    match text(Some(at + 1)) {
        "::" => absolute || !matches!(before, "::" | "."),
        ";" | "as" => matches!(before, "use" | "crate"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn crates_are_named_where_they_belong() {
        assert!(run("dataplane/pop/src/ports/queue.rs", "use dpdk::Mbuf;").is_empty());
        assert!(run("core/src/crypto/mod.rs", "use aes::Aes128Enc;").is_empty());
        assert!(
            run("core/src/relay/feistel.rs", "self.aes.run(); aes: Aes128 // aes::").is_empty()
        );
        assert!(run("core/src/a.rs", "use crate::cipher::X; // unsafe\n\"unsafe\"").is_empty());
        assert!(run("core/src/a.rs", "mod cmac; use cmac::X; fn f(x: cmac::Y) {}").is_empty());
        assert!(run("core/src/a.rs", "use super::{b, cmac}; fn f(x: cmac::Y) {}").is_empty());
    }

    #[test]
    fn crates_named_elsewhere_fail() {
        for text in
            ["\nuse dpdk::Mbuf;", "\nfn f(m: dpdk::Mbuf) {}", "\nuse dpdk;", "\nuse ::dpdk::A;"]
        {
            let found = run("dataplane/pop/src/worker/mod.rs", text);
            assert_eq!(found.len(), 1);
            assert!(found[0].starts_with("dataplane/pop/src/worker/mod.rs:2: names: "));
        }
        assert_eq!(run("core/src/relay/prefix.rs", "use sha2::{Digest, Sha256};").len(), 1);
        assert_eq!(run("dataplane/agent/src/udp/mod.rs", "extern crate ring as r;").len(), 1);
    }

    #[test]
    fn unsafe_outside_of_bindings_fails() {
        assert_eq!(run("tests/lab/src/lib.rs", "unsafe { f() }").len(), 1);
        assert!(run("bindings/tun/src/lib.rs", "unsafe { f() }").is_empty());
    }
}
