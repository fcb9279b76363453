//! Files are written to a temporary name in the same folder, synced and renamed: a crash leaves the old file or the new one.

use super::safetensors;
use crate::error::{Error, Result};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// `write` fills the temporary file; its outer error is its own, its inner one belongs to the file.
pub(super) fn atomically(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<io::Result<()>>) -> Result<()> {
    let io = |e: io::Error| Error::io(path, e);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".nada-").suffix(".tmp");
    // Temporary files are private by default; this one becomes an ordinary file, with the rights that the umask gives.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(folder).map_err(io)?;
    let mut out = BufWriter::new(temporary.as_file());
    write(&mut out)?.map_err(io)?;
    out.flush().map_err(io)?;
    drop(out);
    temporary.as_file().sync_all().map_err(io)?;
    temporary.persist(path).map_err(|e| io(e.error))?;
    // The rename itself lasts only once the folder is on the disk. Some file systems cannot sync a folder, which loses nothing.
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
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
