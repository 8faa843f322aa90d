use super::*;

fn sample() -> Tenants {
    let mut tenants = Tenants::default();
    assert_eq!(tenants.add("acme", Secret::new([0x11; 32])), Ok(1));
    assert_eq!(tenants.add("other", Secret::new([0x22; 32])), Ok(2));
    tenants.issue("acme", "laptop").unwrap();
    tenants.issue("acme", "server.1").unwrap();
    tenants.revoke("acme", "laptop").unwrap();
    tenants
}

#[test]
fn reads_what_it_writes() {
    assert_eq!(Tenants::parse(&sample().serialize()), Ok(sample()));
    assert_eq!(Tenants::parse(""), Ok(Tenants::default()));
    let without = sample().serialize().replace("revoked = false\n", "");
    assert_eq!(Tenants::parse(&without), Ok(sample()));
}

#[test]
fn agents_are_issued_and_revoked() {
    let mut tenants = sample();
    let issued = tenants.issue("acme", "third").unwrap();
    assert_eq!((issued.tenant, issued.agent), (1, 3));
    assert_eq!(issued.key, agent_key(&Secret::new([0x11; 32]), 3).unwrap());
    assert!(!tenants.tenants[0].agents[1].revoked);
    assert_eq!(tenants.revoke("acme", "2").unwrap().name, "server.1");
    assert!(tenants.tenants[0].agents[1].revoked);
    assert_eq!(tenants.issue("acme", "third"), Err(ChangeError::AgentExists));
    assert_eq!(tenants.issue("nobody", "third"), Err(ChangeError::NoTenant));
    assert_eq!(tenants.revoke("acme", "9"), Err(ChangeError::NoAgent));
    assert_eq!(tenants.add("acme", Secret::new([3; 32])), Err(ChangeError::TenantExists));
    for name in ["", "77", "a b", "a\"b", &"a".repeat(32)] {
        assert!(matches!(tenants.issue("acme", name), Err(ChangeError::Name(_))), "{name}");
    }
    tenants.tenants[1].id = u16::MAX;
    assert_eq!(tenants.add("more", Secret::new([3; 32])), Err(ChangeError::Full));
}

#[test]
fn every_mistake_is_reported_and_no_secret_shown() {
    let hex = "11".repeat(32);
    let text = format!(
        "[[tenant]]\nid = 70000\nname = \"{hex}\"\nkey = \"{hex}0\"\n\
         [[tenant]]\nid = 1\nname = \"a\"\nkey = \"{hex}\"\n\"{hex}\" = 1\n\
         [[tenant.agent]]\nid = 1\nname = \"x\"\n\
         [[tenant.agent]]\nid = 1\nname = \"x\"\nrevoked = \"no\"\n\
         [[tenant]]\nid = 1\nname = \"a\"\nkey = \"{hex}\"\nagent = 3\n"
    );
    let mistakes = Tenants::parse(&text).unwrap_err();
    let keys: Vec<_> = mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "tenant[0].id",
            "tenant[0].name",
            "tenant[0].key",
            "tenant[1]",
            "tenant[1].agent[1].id",
            "tenant[1].agent[1].name",
            "tenant[1].agent[1].revoked",
            "tenant[2].id",
            "tenant[2].name",
            "tenant[2].key",
            "tenant[2].agent",
        ]
    );
    let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    assert!(!mistakes.join("\n").contains("1111"), "{mistakes:?}");
    assert_eq!(mistakes[7], "tenant[2].id: is also that of tenant[1]");

    let broken = sample().serialize().replace("key = \"11", "key = 11");
    let mistakes = Tenants::parse(&broken).unwrap_err();
    assert_eq!(mistakes.len(), 1);
    assert!(mistakes[0].to_string().starts_with("line 7 is not TOML"), "{}", mistakes[0]);
    assert!(!mistakes[0].reason.contains("1111"));
}
