//! Tests of the snapshot: what it answers, and what a reload may change.

mod lookups;
mod reload;

use super::*;
use crate::config::tests::{GOOD, NOW, good, ip, keys, snapshot, tenants, with};
