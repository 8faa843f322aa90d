//! The commands that only read and write files, run as the binary.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder that is removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("anyrelay-agent-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.file(name), text).unwrap();
        self.file(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn agent(arguments: &[&str], file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_anyrelay-agent")).args(arguments).arg(file).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn keygen_creates_a_private_file_and_never_overwrites_it() {
    let folder = Folder::new("keygen");
    let file = folder.file("tun.key");
    let made = agent(&["keygen"], &file);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let public = agent(&["pubkey"], &file);
    assert_eq!(public.stdout, made.stdout);
    assert_eq!(text(&public.stdout).trim().len(), 64);
    let before = std::fs::read(&file).unwrap();
    let again = agent(&["keygen"], &file);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("left as it is"), "{again:?}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    // The public key is not secret; the private one is not printed.
    let secret = text(&before).lines().last().unwrap().split('"').nth(1).unwrap();
    assert!(!text(&made.stdout).contains(secret));
}

#[test]
fn without_a_file_keys_pass_through_pipes() {
    let binary = env!("CARGO_BIN_EXE_anyrelay-agent");
    let script = format!("{binary} keygen | {binary} pubkey");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(text(&output.stdout).trim().len(), 64, "{output:?}");
}

#[test]
fn check_reports_problems_and_exits_2() {
    let folder = Folder::new("check");
    let key = folder.file("tun.key");
    let public = text(&agent(&["keygen"], &key).stdout).trim().to_owned();
    let other = text(&agent(&["keygen"], &folder.file("other.key")).stdout).trim().to_owned();
    let shared = agent(&["keygen", "--preshared"], &folder.file("peer.psk"));
    assert!(shared.status.success());
    let agent_key = "tenant = 1\nagent = 7\nkey = \"000102030405060708090a0b0c0d0e0f\"\n";
    folder.write("agent.key", agent_key);
    let config = |public: &str, private: &str| {
        format!(
            "[agent]\nvip = \"203.0.113.20:443\"\nkey = \"agent.key\"\n[tun]\nname = \"t0\"\n\
             addresses = [\"10.9.0.1/24\"]\nprivate_key = \"{private}\"\n[[peer]]\nname = \"p\"\n\
             public_key = \"{public}\"\npreshared_key = \"peer.psk\"\nallowed = [\"10.9.0.2/32\"]\n"
        )
    };
    let good = folder.write("good.toml", &config(&other, "tun.key"));
    let output = agent(&["check", "--config"], &good);
    assert!(output.status.success(), "{output:?}");
    // The agent's own key as the peer's, a key of the wrong kind, and a missing file.
    for (public, private, reason) in [
        (&public, "tun.key", "peer[0].public_key: this is the public key of this agent itself"),
        (&other, "peer.psk", "a preshared key, but a private one is needed"),
        (&other, "none.key", "tun.private_key: "),
    ] {
        let bad = folder.write("bad.toml", &config(public, private));
        for command in [&["check", "--config"], &["run", "--config"]] {
            let output = agent(command, &bad);
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            assert!(text(&output.stderr).contains(reason), "{reason}: {output:?}");
        }
    }
}
