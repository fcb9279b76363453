//! What the library's own formats have in common, so that files outlive the version that wrote them: a reader keeps what it does not know,
//! and a writer names what nobody may overlook.

use std::collections::BTreeMap;

/// This library, as files name what wrote them.
pub(crate) const THIS_VERSION: &str = concat!("libnada ", env!("CARGO_PKG_VERSION"));

/// Features that a file may require and this version has: none so far, as formats say what they hold.
const FEATURES: [&str; 0] = [];

/// What is wrong where a file requires a feature that this version has not; `requires` gives each the first version that has it.
pub(crate) fn missing_feature(requires: &BTreeMap<String, String>) -> Option<String> {
    let (feature, version) = requires.iter().find(|(feature, _)| !FEATURES.contains(&feature.as_str()))?;
    Some(format!("needs \"{feature}\", which libnada {version} and later have; this is {THIS_VERSION}"))
}
