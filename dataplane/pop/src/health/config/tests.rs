use super::*;

fn problems(text: &str) -> Vec<String> {
    let found = HealthConfig::parse("/etc/anyrelay/health.toml", text);
    let strip = |problem: &Problem| format!("{}: {}", problem.key, problem.reason);
    found.err().map_or_else(Vec::new, |problems| problems.0.iter().map(strip).collect())
}

const EXAMPLE: &str = include_str!("../../../../../deploy/examples/health.toml");

#[test]
fn the_example_is_a_config() {
    let config = HealthConfig::parse("/etc/anyrelay/health.toml", EXAMPLE).unwrap();
    assert!(config.listen.is_some());
    let kinds: Vec<_> = config.checks.iter().map(|check| check.probe.kind()).collect();
    assert_eq!(kinds, ["http", "tcp", "command"]);
    assert!(config.checks.iter().any(|check| check.after.is_some()));
    assert!(config.checks.iter().all(|check| check.path.starts_with("/etc/anyrelay")));
}

#[test]
fn what_is_left_out_has_a_default() {
    let text = "[[check]]\ntargets_file = \"web.toml\"\nkind = \"http\"\n";
    let config = HealthConfig::parse("/etc/anyrelay/health.toml", text).unwrap();
    assert_eq!(config.listen, None);
    let expected = CheckConfig {
        file: "web.toml".to_owned(),
        path: "/etc/anyrelay/web.toml".into(),
        probe: Probe::Http(HttpProbe { path: "/".to_owned(), host: None, status: (200, 399) }),
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        floor: Floor::Targets(1),
        lead_ms: 10_000,
        hold_ms: 60_000,
        after: None,
    };
    assert_eq!(config.checks, [expected]);
}

#[test]
fn all_mistakes_are_reported_with_their_keys() {
    let text = r#"
        [health]
        listen = "here"
        [[check]]
        targets_file = ""
        kind = "tcp"
        interval = "1s"
        timeout = "2s"
        rise = 0
        fall = 101
        floor = 65
        lead = "2h"
        hold = "soon"
        path = "/"
        command = ["x"]
        after = " "
        [[check]]
        targets_file = "b"
        kind = "http"
        path = "a b"
        host = ""
        status = [200]
        floor = "101%"
        after_timeout = "10s"
        [[check]]
        targets_file = "c"
        kind = "command"
        interval = "soon"
        floor = "half"
    "#;
    let found = problems(text);
    for start in [
        "health.listen: \"here\" is not ADDRESS:PORT",
        "check[0].targets_file: is empty",
        "check[0].timeout: longer than the interval",
        "check[0].rise: 0 is out of range",
        "check[0].fall: 101 is out of range",
        "check[0].floor: 65 is out of range",
        "check[0].lead: \"2h\" is out of range",
        "check[0].hold: \"soon\" is no length of time",
        "check[0].path: only a check of kind \"http\"",
        "check[0].command: only a check of kind \"command\"",
        "check[0].after: is empty",
        "check[1].path: is not a path",
        "check[1].host: is not a name",
        "check[1].status: is not [LOWEST, HIGHEST]",
        "check[1].floor: \"101%\" is no share",
        "check[1].after_timeout: there is no `after`",
        "check[2].interval: \"soon\" is no length of time",
        "check[2].command: names no program",
        "check[2].floor: \"half\" is no share",
    ] {
        let count = found.iter().filter(|problem| problem.starts_with(start)).count();
        assert_eq!(count, 1, "{start}: {found:#?}");
    }
    assert_eq!(found.len(), 19, "{found:#?}");
}

#[test]
fn texts_of_another_form_are_refused() {
    let check = "[[check]]\ntargets_file = \"a\"\nkind = \"tcp\"\n";
    for (text, expected) in [
        (String::new(), "check: there is none"),
        (check.repeat(MAX_CHECKS + 1), "check: 17 checks are more than the 16"),
        (format!("{check}flor = 1\n"), "check[0].flor: unknown field `flor`"),
        (check.replace("tcp", "udp"), "check[0].kind: unknown variant `udp`"),
        (format!("{check}floor = true\n"), "a number of targets such as 2, or a share"),
        ("x".to_owned(), "line 1: "),
    ] {
        let found = problems(&text);
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
}

#[test]
fn a_share_is_rounded_up() {
    let numbers = [(50, 3), (50, 4), (1, 64), (100, 3), (34, 3), (33, 0)];
    let floors = numbers.map(|(percent, all)| Floor::Percent(percent).of(all));
    assert_eq!(floors, [2, 2, 1, 3, 2, 1]);
    assert_eq!(Floor::Targets(3).of(2), 3);
}

#[test]
fn the_files_that_are_named_must_be_there_and_each_once() {
    let folder = std::env::temp_dir().join(format!("anyrelay-health-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("good.toml", "serial = 1\n[[target]]\naddress = \"198.51.100.1:80\"\n");
    write("bad.toml", "serial = 1\n[[target]]\naddress = \"198.51.100.1\"\n");
    write("bad.toml.health", "x = 1\n");
    std::os::unix::fs::symlink("good.toml", folder.join("link.toml")).unwrap();
    let check = |name: &str| format!("[[check]]\ntargets_file = \"{name}\"\nkind = \"tcp\"\n");
    write("health.toml", &check("good.toml"));
    assert!(load(&folder.join("health.toml")).is_ok());
    let names = ["good.toml", "link.toml", "bad.toml", "missing.toml"];
    write("health.toml", &names.map(check).concat());
    let text = load(&folder.join("health.toml")).unwrap_err().to_string();
    let lines: Vec<_> = text.lines().collect();
    for (line, (file, part)) in lines.iter().zip([
        ("health.toml", "check[1].targets_file: the same file as that of check[0]"),
        ("bad.toml", "is not ADDRESS:PORT"),
        ("bad.toml.health", "unknown field `x`"),
        ("health.toml", "check[3].targets_file: "),
    ]) {
        let start = folder.join(file).display().to_string();
        assert!(line.starts_with(&start) && line.contains(part), "{text}");
    }
    assert_eq!(lines.len(), 4, "{text}");
    std::fs::remove_dir_all(&folder).unwrap();
}
