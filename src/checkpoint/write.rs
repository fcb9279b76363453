//! Files are written to a temporary name in the same folder, synced and renamed: a crash leaves the old file or the new one.

use super::safetensors;
use crate::error::{Error, Result};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::NamedTempFile;

/// What temporary files are called, around random letters. A process that is killed while it writes leaves one behind.
const PREFIX: &str = ".nada-";
const SUFFIX: &str = ".tmp";

/// The folder that `path` is in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A temporary file beside `path`, on the disk. `write` fills it; its outer error is its own, its inner one belongs to the file.
fn temporary(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<io::Result<()>>) -> Result<NamedTempFile> {
    let io = |e: io::Error| Error::io(path, e);
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    // Temporary files are private by default; this one becomes an ordinary file, with the rights that the umask gives.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(folder(path)).map_err(io)?;
    let mut out = BufWriter::new(temporary.as_file());
    write(&mut out)?.map_err(io)?;
    out.flush().map_err(io)?;
    drop(out);
    temporary.as_file().sync_all().map_err(io)?;
    Ok(temporary)
}

/// A rename lasts only once its folder is on the disk. Some file systems cannot sync a folder, which loses nothing.
fn sync_folder(path: &Path) {
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder(path)) {
        let _ = folder.sync_all();
    }
}

fn atomically(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<io::Result<()>>) -> Result<()> {
    temporary(path, write)?.persist(path).map_err(|e| Error::io(path, e.error))?;
    sync_folder(path);
    Ok(())
}

/// Writes `bytes` to a temporary name in the same folder, syncs, renames.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    atomically(path, |out| Ok(out.write_all(bytes)))
}

/// Writes tensors (any element type that safetensors has) and text metadata, to a temporary name in the same folder first.
pub fn save_safetensors(path: &Path, tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<()> {
    atomically(path, |out| safetensors::write(out, tensors, metadata))
}

/// As [`save_safetensors`], under the first of `paths`, all in one folder, that is not taken; also where other processes take them at the
/// same time. Returns that path.
pub fn save_safetensors_as_new(
    mut paths: impl Iterator<Item = PathBuf>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<PathBuf> {
    let none = || Error::Internal("no name is free".into());
    let mut path = paths.next().ok_or_else(none)?;
    let mut file = temporary(&path, |out| safetensors::write(out, tensors, metadata))?;
    loop {
        match file.persist_noclobber(&path) {
            Ok(_) => break,
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {
                file = e.file;
                path = paths.next().ok_or_else(none)?;
            }
            Err(e) => return Err(Error::io(&path, e.error)),
        }
    }
    sync_folder(&path);
    Ok(path)
}

/// Removes temporary files in `folder` that were last written more than `age` ago: their processes were killed. What cannot be removed is
/// left.
pub fn remove_stale(folder: &Path, age: Duration) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|n| n.starts_with(PREFIX) && n.ends_with(SUFFIX));
        let old = || entry.metadata()?.modified().map(|t| t.elapsed().is_ok_and(|e| e > age));
        if ours && old().unwrap_or(false) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
