//! numpy's .npz files: zip archives of .npy files. An array's key is its file's name without the ending.

use super::source::Source;
use super::zip::Archive;
use super::{npy, Contents, Format};
use crate::error::Result;
use std::collections::BTreeMap;

pub(super) fn is_npz(archive: &Archive) -> bool {
    archive.names().any(|name| name.ends_with(".npy"))
}

pub(super) fn read(source: &Source, archive: &Archive) -> Result<Contents> {
    let mut entries = BTreeMap::new();
    for name in archive.names() {
        let Some(key) = name.strip_suffix(".npy") else { continue };
        let block = archive.block(name).map_err(|e| source.error(e))?;
        match npy::entry(source, block) {
            Ok(entry) => entries.insert(key.to_string(), entry),
            Err(e) => return Err(source.error(format!("array '{key}': {e}"))),
        };
    }
    Ok(Contents { format: Format::Npz, entries, metadata: BTreeMap::new() })
}
