//! Opening files that users and manifests name.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Opens an ordinary file and says its length. Opening a pipe would wait for its other end, and a device has no end.
///
/// Errors: `NotFound`, `Io`; `Format` where it is something else, which names what was expected: `wanted`, such as "a picture".
pub(crate) fn open_ordinary(path: &Path, wanted: &str) -> Result<(File, u64)> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if metadata.is_dir() {
        return Err(Error::format(path, format!("is a folder, where {wanted} was expected")));
    }
    if !metadata.is_file() {
        return Err(Error::format(path, format!("is a pipe or a device, where {wanted} was expected")));
    }
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    Ok((file, length))
}

/// The bytes of an ordinary file that is small where it is what it should be. Errors as [`open_ordinary`]; `Format` beyond `most` bytes.
pub(crate) fn read_small(path: &Path, wanted: &str, most: u64) -> Result<Vec<u8>> {
    let (file, length) = open_ordinary(path, wanted)?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(most + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > most {
        return Err(Error::format(path, format!("has {} bytes, where {wanted} of at most {most} was expected", length.max(most + 1))));
    }
    Ok(bytes)
}

/// Whether an ordinary file begins with `start`. Errors as [`open_ordinary`].
pub(crate) fn begins_with(path: &Path, wanted: &str, start: &[u8]) -> Result<bool> {
    let (file, _) = open_ordinary(path, wanted)?;
    let mut bytes = Vec::new();
    file.take(start.len() as u64).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    Ok(bytes == start)
}
