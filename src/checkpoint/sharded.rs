//! A checkpoint in several files, as Hugging Face writes large ones: `<name>.index.json` says which file has which tensor.

use super::{Checkpoint, Format};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The index of a network with a thousand layers has 0.1 MB.
const MAX_INDEX: u64 = 2 << 20;
const MAX_FILES: usize = 1024;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".index.json"))
}

/// Opens the index and every file that it names, all of which lie beside it.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let error = |message: String| Error::format(path, message);
    let length = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if length > MAX_INDEX {
        return Err(error(format!("has {length} bytes, which no index of a checkpoint has")));
    }
    let text = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let index: Index = serde_json::from_slice(&text).map_err(|e| error(format!("not an index of a checkpoint in several files: {e}")))?;
    let mut files: BTreeMap<&str, usize> = BTreeMap::new();
    for name in index.weight_map.values() {
        // A plain name stays in the folder.
        if name.is_empty() || name.contains(['/', '\\', ':']) || name == "." || name == ".." {
            return Err(error(format!("names the file '{name}', where only files beside it may be named")));
        }
        let next = files.len();
        files.entry(name).or_insert(next);
        if files.len() > MAX_FILES {
            return Err(error(format!("names more than {MAX_FILES} files")));
        }
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut parts = Vec::with_capacity(files.len());
    let mut in_order: Vec<(&str, usize)> = files.iter().map(|(name, i)| (*name, *i)).collect();
    in_order.sort_by_key(|&(_, i)| i);
    for (name, _) in in_order {
        let part = folder.join(name);
        if is_index(&part) {
            return Err(error(format!("names the file '{name}', an index again")));
        }
        parts.push(super::open(&part)?);
    }
    let mut entries = BTreeMap::new();
    for (key, name) in &index.weight_map {
        let file = files[name.as_str()];
        let mut entry = parts[file]
            .entries
            .get(key)
            .cloned()
            .ok_or_else(|| error(format!("places tensor '{key}' in '{name}', which has no such tensor")))?;
        entry.file = file;
        entries.insert(key.clone(), entry);
    }
    let mut metadata = BTreeMap::new();
    for part in &parts {
        metadata.extend(part.metadata.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let mut sources = Vec::with_capacity(parts.len());
    for part in parts {
        sources.extend(Arc::try_unwrap(part.sources).map_err(|_| Error::Internal("a shard that is still in use".into()))?);
    }
    Ok(Checkpoint {
        path: path.to_path_buf(),
        format: Format::Sharded,
        metadata: Arc::new(metadata),
        sources: Arc::new(sources),
        entries: Arc::new(entries),
        prefix: String::new(),
    })
}
