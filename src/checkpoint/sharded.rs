//! A checkpoint in several files, as Hugging Face writes large ones: `<name>.index.json` says which file has which tensor.

use super::source::{memory_limit, MAX_KEPT, PER_ENTRY};
use super::{Checkpoint, Format};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::files::read_small_unless;
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
pub(super) fn open(path: &Path, cancel: &Cancel) -> Result<Checkpoint> {
    let error = |message: String| Error::format(path, message);
    let text = read_small_unless(path, "the index of a checkpoint in several files", MAX_INDEX, cancel)?;
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
    let mut in_order: Vec<(&str, usize)> = files.iter().map(|(name, i)| (*name, *i)).collect();
    in_order.sort_by_key(|&(_, i)| i);
    let (mut entries, mut metadata, mut sources) = (BTreeMap::new(), BTreeMap::new(), Vec::with_capacity(files.len()));
    // Each part keeps to its own limits; these are of all together, so that a thousand small parts take no more than one file.
    let (mut length, mut kept) = (text.len() as u64, 0u64);
    for (name, file) in in_order {
        let part = folder.join(name);
        if is_index(&part) {
            return Err(error(format!("names the file '{name}', an index again")));
        }
        let part = super::open_unless(&part, cancel)?;
        let shared = || Error::Internal("a shard that is still in use".into());
        for source in Arc::try_unwrap(part.sources).map_err(|_| shared())? {
            length += source.len;
            sources.push(source);
        }
        // What the index does not place here is not the checkpoint's.
        for (key, mut entry) in Arc::try_unwrap(part.entries).map_err(|_| shared())? {
            if index.weight_map.get(&key).is_some_and(|place| place == name) {
                kept += entry.kept(&key);
                entry.file = file;
                entries.insert(key, entry);
            }
        }
        for (key, value) in Arc::try_unwrap(part.metadata).map_err(|_| shared())? {
            kept += (key.len() + value.len()) as u64 + PER_ENTRY;
            metadata.insert(key, value);
        }
        if kept > MAX_KEPT {
            return Err(error("its files hold more values than any checkpoint".into()));
        }
    }
    if let Some((key, name)) = index.weight_map.iter().find(|(key, _)| !entries.contains_key(*key)) {
        return Err(error(format!("places tensor '{key}' in '{name}', which has no such tensor")));
    }
    super::check_sizes(&entries, memory_limit(length)).map_err(error)?;
    Ok(Checkpoint {
        path: path.to_path_buf(),
        format: Format::Sharded,
        metadata: Arc::new(metadata),
        sources: Arc::new(sources),
        entries: Arc::new(entries),
        prefix: String::new(),
        naming: None,
        device: crate::device::HOST.clone(),
        cancel: cancel.clone(),
    })
}
