//! Configurations in JSON whose fields are taken one by one: each is used, known to change no numbers, or refused by its name, and what
//! is left at the end is not known.

use crate::error::{Error, Result};
use crate::files::read_small;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Configurations have some thousand bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// An object of a file.
#[derive(Clone)]
pub(super) struct Fields {
    path: PathBuf,
    /// Where it stands in the file, such as `model_cfg.text_cfg.`.
    place: String,
    fields: Map<String, Value>,
}

impl Fields {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let text = read_small(path, "a CLIP's configuration", MAX_CONFIG)?;
        let fields = serde_json::from_slice(&text).map_err(|e| Error::format(path, e.to_string()))?;
        Ok(Self { path: path.to_path_buf(), place: String::new(), fields })
    }

    /// The object `key`; without fields where there is none.
    pub(super) fn part(&mut self, key: &str) -> Result<Self> {
        let place = format!("{}{key}.", self.place);
        Ok(Self { fields: self.take(key)?.unwrap_or_default(), path: self.path.clone(), place })
    }

    /// The value of `key`, or None where it is missing or null. `Format` where it is of another kind.
    pub(super) fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        match self.fields.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                serde_json::from_value(value.clone()).map(Some).map_err(|e| self.format(format!("{} is {value}: {e}", self.name(key))))
            }
        }
    }

    /// The side of a square: one number, or the same twice. Errors as [`Fields::take`]; `Unsupported` for sides that differ.
    pub(super) fn take_side(&mut self, key: &str) -> Result<Option<usize>> {
        match self.peek(key).and_then(Value::as_array).map(Vec::as_slice) {
            Some([a, b]) if a == b => {
                let side = a.clone();
                self.fields.insert(key.into(), side);
            }
            Some(sides) => return Err(self.refuse(key, sides.to_vec(), "a square")),
            None => {}
        }
        self.take(key)
    }

    /// Fields that change no embedding.
    pub(super) fn harmless(&mut self, keys: &[&str]) {
        for key in keys {
            self.fields.remove(*key);
        }
    }

    /// `Unsupported` where `key` is there and is neither null nor one of `supported`; the error says so of the first.
    pub(super) fn only(&mut self, key: &str, supported: &[Value]) -> Result<()> {
        match self.take::<Value>(key)? {
            Some(value) if !supported.contains(&value) => Err(self.refuse(key, value, &supported[0].to_string())),
            _ => Ok(()),
        }
    }

    /// As [`Fields::only`] of switches that must be off, and of what counts as off: 0, and nothing.
    pub(super) fn off(&mut self, keys: &[&str]) -> Result<()> {
        let off = [false.into(), 0.into(), 0.0.into(), Value::Array(vec![]), Value::Object(Map::new())];
        keys.iter().try_for_each(|key| self.only(key, &off))
    }

    /// `supported` in words.
    pub(super) fn refuse(&self, key: &str, value: impl Into<Value>, supported: &str) -> Error {
        let message = format!("{} {} is not supported, only {supported} is", self.name(key), value.into());
        Error::unsupported(self.path.display().to_string(), message)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The value of `key`, which stays.
    pub(super) fn peek(&self, key: &str) -> Option<&Value> {
        self.fields.get(key)
    }

    /// What the file calls `key`.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.place)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn format(&self, message: impl Into<String>) -> Error {
        Error::format(&self.path, message)
    }

    /// The names of the fields that nobody took.
    pub(super) fn unknown(self) -> Vec<String> {
        self.fields.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| self.name(key)).collect()
    }
}

/// The one warning about fields that are not known; None where there are none.
pub(super) fn warning(path: &Path, unknown: &[String]) -> Option<String> {
    let (fields, are) = if unknown.len() == 1 { ("the field", "is") } else { ("the fields", "are") };
    (!unknown.is_empty()).then(|| {
        let names = unknown.join(", ");
        format!("{}: {fields} {names} {are} not known and passed over, so numbers may be others than where it was written", path.display())
    })
}
