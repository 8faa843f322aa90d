//! Test vectors in JSON, which a second implementation wrote.

use serde_json::Value;

/// The array under a name.
pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap()
}

/// The string under a name.
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

/// The number under a name.
pub fn number<T: TryFrom<u64>>(value: &Value, name: &str) -> T {
    T::try_from(value[name].as_u64().unwrap()).ok().unwrap()
}
