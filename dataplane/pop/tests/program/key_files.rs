//! `keygen`, `rotate-token`, `tenant` and `agent`, through the binary: the contents and modes of
//! files, and that no change is lost or incomplete.
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::common::{Config, Folder, anyrelay, stderr, stdout};
use anyrelay_core::keys::{AgentEntry, AgentKey, EPOCH_GRACE_MS, KeyFile, Tenants, agent_key};
use anyrelay_core::time::{UnixTime, format_time};
use serde_json::{Value, json};

struct Files {
    folder: Folder,
    tenants: PathBuf,
}

impl Files {
    /// A tenants file with the tenants acme and zorg.
    fn new() -> Files {
        let folder = Folder::new();
        let files = Files { tenants: folder.path("tenants.toml"), folder };
        for name in ["acme", "zorg"] {
            let added = files.tenant("add", &[name]);
            assert_eq!(added.status.code(), Some(0), "{}", stderr(&added));
        }
        files
    }

    fn tenant(&self, what: &str, arguments: &[&str]) -> Output {
        anyrelay(&[&["tenant", what, text(&self.tenants)], arguments].concat())
    }

    fn issue(&self, tenant: &str, name: &str, out: &str) -> Output {
        let (file, out) = (text(&self.tenants), self.folder.path(out));
        let arguments = ["--tenant", tenant, "--name", name, "--out", text(&out)];
        anyrelay(&[&["agent", "issue", file], &arguments[..]].concat())
    }

    fn revoke(&self, tenant: &str, agent: &str) -> Output {
        let file = text(&self.tenants);
        anyrelay(&["agent", "revoke", file, "--tenant", tenant, "--agent", agent])
    }

    fn read(&self) -> Tenants {
        Tenants::parse(&fs::read_to_string(&self.tenants).unwrap()).unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn now() -> UnixTime {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixTime::from_millis(since_1970.as_millis() as u64)
}

#[test]
fn tenants_are_added_and_listed_without_their_keys() {
    let files = Files::new();
    assert_eq!(mode(&files.tenants), 0o600);
    let tenants = files.read().tenants;
    assert_eq!(
        tenants.iter().map(|t| (t.id, t.name.as_str())).collect::<Vec<_>>(),
        [(1, "acme"), (2, "zorg")]
    );
    assert_ne!(tenants[0].key, tenants[1].key);
    assert!(files.issue("acme", "laptop", "laptop.key").status.success());
    assert!(files.issue("acme", "server", "server.key").status.success());
    assert!(files.revoke("acme", "laptop").status.success());

    let listed = stdout(&files.tenant("list", &[]));
    assert_eq!(
        listed,
        "tenant 1 acme\n  agent 1 laptop revoked\n  agent 2 server\ntenant 2 zorg\n"
    );
    let listed: Value = serde_json::from_str(&stdout(&files.tenant("list", &["--json"]))).unwrap();
    assert_eq!(
        listed,
        json!({"tenants": [
            {"id": 1, "name": "acme", "agents": [
                {"id": 1, "name": "laptop", "revoked": true},
                {"id": 2, "name": "server", "revoked": false}]},
            {"id": 2, "name": "zorg", "agents": []}]})
    );
}

#[test]
fn an_agents_key_is_the_one_that_pops_derive() {
    let files = Files::new();
    let issued = files.issue("zorg", "laptop", "laptop.key");
    assert_eq!(issued.status.code(), Some(0), "{}", stderr(&issued));
    let path = files.folder.path("laptop.key");
    assert_eq!(mode(&path), 0o600);
    let key = AgentKey::parse(&fs::read_to_string(&path).unwrap()).unwrap();
    let zorg = &files.read().tenants[1];
    assert_eq!((key.tenant, key.agent), (zorg.id, zorg.agents[0].id));
    assert_eq!(key.key, agent_key(&zorg.key, key.agent).unwrap());
    assert_eq!(zorg.agents[0].name, "laptop");

    for (agent, revoked) in [("laptop", "is revoked"), ("1", "was revoked already")] {
        let output = files.revoke("zorg", agent);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let expected = format!("agent laptop (number 1) of tenant zorg {revoked}");
        assert!(stdout(&output).contains(&expected), "{}", stdout(&output));
        assert!(files.read().tenants[1].agents[0].revoked);
    }
    // Its number is not assigned again.
    assert!(files.issue("zorg", "phone", "phone.key").status.success());
    assert_eq!(files.read().tenants[1].agents[1].id, 2);
}

#[test]
fn a_tenant_may_have_many_agents() {
    let files = Files::new();
    let mut tenants = files.read();
    tenants.tenants[0].agents = (1..=20_000)
        .map(|id| AgentEntry { id, name: format!("sensor-{id}"), revoked: false })
        .collect();
    fs::write(&files.tenants, tenants.serialize()).unwrap();
    let issued = files.issue("acme", "one-more", "one-more.key");
    assert_eq!(issued.status.code(), Some(0), "{}", stderr(&issued));
    assert_eq!(files.read().tenants[0].agents.len(), 20_001);
}

#[test]
fn refused_commands_change_nothing() {
    let files = Files::new();
    assert!(files.issue("acme", "laptop", "laptop.key").status.success());
    let before = fs::read(&files.tenants).unwrap();
    let key = fs::read(files.folder.path("laptop.key")).unwrap();
    for (output, code, reason) in [
        (files.tenant("add", &["acme"]), 1, "tenant acme: there is a tenant with this name"),
        (files.tenant("add", &["a b"]), 2, "tenant a b: the name must be"),
        (files.tenant("add", &["7"]), 2, "must not be a number alone"),
        (files.issue("acme", "laptop", "new.key"), 1, "tenant acme: agent laptop: the tenant has"),
        (files.issue("nobody", "x", "new.key"), 1, "there is no tenant with this name"),
        (files.issue("acme", "", "new.key"), 2, "the name must be"),
        (files.issue("acme", "x", "laptop.key"), 1, "exists and is left as it is"),
        (files.issue("acme", "x", "none/x.key"), 1, "cannot be created"),
        (files.revoke("acme", "x"), 1, "has no agent with this name or number"),
        (files.revoke("nobody", "laptop"), 1, "there is no tenant with this name"),
    ] {
        assert_eq!(output.status.code(), Some(code), "{reason}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{reason} in {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{reason}");
        assert_eq!(fs::read(&files.tenants).unwrap(), before, "{reason}");
        assert!(!files.folder.path("new.key").exists(), "{reason}");
    }
    assert_eq!(fs::read(files.folder.path("laptop.key")).unwrap(), key);

    // A file with problems is not changed, and each problem is reported with its place.
    let broken = String::from_utf8(before).unwrap().replace("id = 2", "id = 1");
    fs::write(&files.tenants, &broken).unwrap();
    let place = format!("{}: tenant[1].id: ", files.tenants.display());
    for output in [
        files.tenant("add", &["new"]),
        files.tenant("list", &[]),
        files.issue("acme", "x", "new.key"),
        files.revoke("acme", "laptop"),
    ] {
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).starts_with(&place), "{}", stderr(&output));
    }
    assert_eq!(fs::read_to_string(&files.tenants).unwrap(), broken);
    fs::remove_file(&files.tenants).unwrap();
    let output = files.issue("acme", "x", "new.key");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("`anyrelay tenant add` makes it"), "{}", stderr(&output));
}

#[test]
fn a_changed_file_keeps_its_owner_and_link_and_gets_no_wider_mode() {
    let files = Files::new();
    let real = files.folder.path("real.toml");
    fs::rename(&files.tenants, &real).unwrap();
    symlink("real.toml", &files.tenants).unwrap();
    let is_root = fs::metadata(&real).unwrap().uid() == 0;
    if is_root {
        chown(&real, Some(4321), Some(8765)).unwrap();
    }
    for (number, (before, after)) in
        [(0o600, 0o600), (0o640, 0o600), (0o666, 0o600), (0o400, 0o400)].into_iter().enumerate()
    {
        fs::set_permissions(&real, Permissions::from_mode(before)).unwrap();
        let added = files.tenant("add", &[&format!("t{number}")]);
        assert_eq!(added.status.code(), Some(0), "{}", stderr(&added));
        assert_eq!(mode(&real), after, "{before:o}");
    }
    assert_eq!(files.read().tenants.len(), 6);
    assert!(fs::symlink_metadata(&files.tenants).unwrap().is_symlink());
    if is_root {
        let about = fs::metadata(&real).unwrap();
        assert_eq!((about.uid(), about.gid()), (4321, 8765));
    }
    // No temporary file is left.
    let left = fs::read_dir(real.parent().unwrap()).unwrap().count();
    assert_eq!(left, 2);
}

#[test]
fn concurrent_changes_are_all_kept_and_files_always_complete() {
    let files = Files::new();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut agents = 0;
            while !is_done.load(Ordering::Relaxed) {
                // Fails on a truncated file, and on lost changes.
                let now = files.read().tenants[0].agents.len();
                assert!(now >= agents);
                agents = now;
            }
        });
        let issue = |n| files.issue("acme", &format!("agent{n}"), &format!("{n}.key"));
        let issuers: Vec<_> = (0..12).map(|n| scope.spawn(move || issue(n))).collect();
        for issuer in issuers {
            let output = issuer.join().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        }
        is_done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    let mut ids: Vec<_> = files.read().tenants[0].agents.iter().map(|agent| agent.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_command_waits_for_another_in_the_same_folder() {
    let files = Files::new();
    let folder = File::open(files.tenants.parent().unwrap()).unwrap();
    folder.lock().unwrap();
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_anyrelay"))
        .args(["tenant", "add", text(&files.tenants), "late"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(files.read().tenants.len(), 2);
    folder.unlock().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(files.read().tenants.len(), 3);
}

#[test]
fn the_token_secret_gets_a_new_epoch() {
    let folder = Folder::new();
    let config = folder.pop(&Config::new());
    let path = folder.path("keys.toml");
    let read = || KeyFile::parse(&fs::read_to_string(&path).unwrap()).unwrap();
    let rotate =
        |arguments: &[&str]| anyrelay(&[&["rotate-token", text(&path)], arguments].concat());
    let digest = || stdout(&anyrelay(&["check", "--config", text(&config)]));
    let (before, first_digest) = (read(), digest());

    // The default lead time is a day.
    let start = now();
    let output = rotate(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(mode(&path), 0o600);
    let after = read();
    assert_eq!((&after.relay, &after.sequence), (&before.relay, &before.sequence));
    let epochs: Vec<_> = after.tokens.iter().collect();
    assert_eq!((epochs[0].number, epochs[1].number), (0, 1));
    assert_eq!(epochs[0].secret, before.tokens.iter().next().unwrap().secret);
    let lead = epochs[1].not_before.as_millis() - start.as_millis();
    assert!((86_400_000..86_400_000 + 60_000).contains(&lead), "{lead}");
    for time in [epochs[1].not_before, epochs[1].not_before.plus_millis(EPOCH_GRACE_MS)] {
        assert!(stdout(&output).contains(&format_time(time)), "{}", stdout(&output));
    }
    assert_ne!(digest(), first_digest, "POPs with and without it must be told apart");

    // Two epochs are in use: a third must wait.
    let text_before = fs::read(&path).unwrap();
    let output = rotate(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("wait until "), "{}", stderr(&output));
    for time in ["tomorrow", "2026-11-22", "2026-11-22T10:00:00"] {
        let output = rotate(&["--not-before", time]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("2026-11-22T10:00:00Z"), "{}", stderr(&output));
    }
    assert_eq!(fs::read(&path).unwrap(), text_before);
}

#[test]
fn an_epoch_that_is_over_makes_room() {
    let folder = Folder::new();
    // A file that predates epochs.
    let hex = |byte: u8| format!("{byte:02x}").repeat(32);
    let old =
        format!("relay = \"{}\"\nsequence = \"{}\"\ntoken = \"{}\"\n", hex(1), hex(2), hex(3));
    let path = folder.write("keys.toml", old);
    let rotate = |time| anyrelay(&["rotate-token", text(&path), "--not-before", time]);
    let numbers = || {
        let keys = KeyFile::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        keys.tokens.iter().map(|epoch| epoch.number).collect::<Vec<_>>()
    };
    // The tokens of all agents would be refused at once.
    let output = rotate("2001-01-01T00:00:00Z");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("name a later time"), "{}", stderr(&output));
    let just_now = format_time(UnixTime::from_millis(now().as_millis() - 1000));
    let output = rotate(&just_now);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("current already"), "{}", stdout(&output));
    assert_eq!(numbers(), [0, 1]);
    // Years later.
    let later = fs::read_to_string(&path).unwrap().replace(&just_now, "2001-01-01T00:00:00Z");
    fs::write(&path, later).unwrap();
    let output = rotate(&just_now);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(numbers(), [1, 2]);
    fs::write(&path, fs::read_to_string(&path).unwrap().replace(&just_now, "2002-01-01T00:00:00Z"))
        .unwrap();
    let output = rotate("2001-06-01T00:00:00Z");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("must become current later"), "{}", stderr(&output));
}
