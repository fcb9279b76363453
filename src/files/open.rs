//! Opening files that users and manifests name.

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes read, converted and checked at a time: they stay in the cache of a core, and a slow disk brings them soon enough for a request to
/// stop to be heard.
pub(crate) const PIECE: usize = 128 << 10;

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
    read_small_unless(path, wanted, most, &Cancel::new())
}

/// As [`read_small`]; `Cancelled` once the flag is raised, which is looked at between pieces.
pub(crate) fn read_small_unless(path: &Path, wanted: &str, most: u64, cancel: &Cancel) -> Result<Vec<u8>> {
    let (mut file, length) = open_ordinary(path, wanted)?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    while (bytes.len() as u64) <= most {
        cancel.check()?;
        let piece = (most + 1 - bytes.len() as u64).min(PIECE as u64);
        if (&mut file).take(piece).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))? == 0 {
            break;
        }
    }
    if bytes.len() as u64 > most {
        return Err(Error::format(path, format!("has {} bytes, where {wanted} of at most {most} was expected", length.max(most + 1))));
    }
    Ok(bytes)
}

/// As [`read_small_unless`], of a file that is text in UTF-8; `Format` where it is not.
pub(crate) fn read_text(path: &Path, wanted: &str, most: u64, cancel: &Cancel) -> Result<String> {
    let bytes = read_small_unless(path, wanted, most, cancel)?;
    String::from_utf8(bytes).map_err(|_| Error::format(path, "is not UTF-8 text"))
}

/// Whether an ordinary file begins with `start`. Errors as [`open_ordinary`].
pub(crate) fn begins_with(path: &Path, wanted: &str, start: &[u8]) -> Result<bool> {
    let (file, _) = open_ordinary(path, wanted)?;
    let mut bytes = Vec::new();
    file.take(start.len() as u64).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    Ok(bytes == start)
}
