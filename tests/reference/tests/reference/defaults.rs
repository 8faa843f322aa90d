//! Defaults against the programs: a key with its default is as good as none.

use toml::Value;

use super::bases::BASES;
use super::keys;
use super::ranges::number;

#[test]
fn defaults_are_those_of_the_programs() {
    let mut tested = 0;
    for base in &BASES {
        for (path, key) in keys(base.file) {
            let Some(value) = value(&key.default) else { continue };
            // A list of them has another key in its place.
            if path == "relay.targets" {
                continue;
            }
            let (with, without) = (base.with(&path, Some(value)), base.with(&path, None));
            let (with, without) = ((base.read)(&with), (base.read)(&without));
            if let (Ok(with), Ok(without)) = (&with, &without) {
                assert_eq!(with, without, "{path}: {}", key.default);
                tested += 1;
                continue;
            }
            // Without it the base has a mistake: the same with the default.
            assert_eq!(with.is_err(), without.is_err(), "{path}: {with:?} {without:?}");
        }
    }
    assert!(tested > 55, "only {tested} defaults");
}

/// The value that the text of a default begins with.
fn value(default: &str) -> Option<Value> {
    if default == "`[200, 399]`" {
        return Some(vec![200, 399].into());
    }
    match default.split([',', ';']).next()? {
        "true" => Some(true.into()),
        "false" => Some(false.into()),
        "`[]`" => Some(Value::Array(Vec::new())),
        text if text.starts_with('`') => {
            let text = text.trim_matches('`');
            // Of a default that is another key.
            (text != "until` and the memory").then(|| text.trim_matches('"').into())
        }
        text => number(text).map(|(number, _)| number.into()),
    }
}
