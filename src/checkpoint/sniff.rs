//! What a file is, by its content.

use super::source::Source;
use super::{npy, torch_legacy};
use crate::error::Result;
use crate::files::PictureFormat;

/// The readers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Safetensors,
    /// A zip archive: PyTorch's, TorchScript's or numpy's.
    Zip,
    /// PyTorch's format from before 1.6.
    TorchLegacy,
    /// A Python pickle with its storages inside, as NVIDIA's networks are.
    Pickle,
}

/// A safetensors header longer than this is something else, or damaged: the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// The format, or an error that says what the file looks like instead.
pub(super) fn sniff(source: &Source) -> Result<Kind> {
    let head = source.bytes(0, source.len.min(4096))?;
    let not = |what: &str| Err(source.error(format!("{what}, not a checkpoint")));
    if head.is_empty() {
        return Err(source.error("is an empty file"));
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Ok(Kind::Zip);
    }
    if head.len() > 8
        && head[8] == b'{'
        && u64::from_le_bytes([head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]]) <= MAX_HEADER
    {
        return Ok(Kind::Safetensors);
    }
    if torch_legacy::begins(&head) {
        return Ok(Kind::TorchLegacy);
    }
    if head.len() > 2 && head[0] == 0x80 && (2..=5).contains(&head[1]) {
        return Ok(Kind::Pickle);
    }
    if let Some(format) = PictureFormat::of(&head) {
        return not(&format!("is {}", format.name()));
    }
    if head.starts_with(b"\x89HDF\r\n\x1a\n") {
        return not("is an HDF5 file");
    }
    if head.starts_with(b"\x1f\x8b") {
        return not("is gzip-compressed; decompress it first");
    }
    if head.get(257..262) == Some(b"ustar") {
        return not("is a tar archive; unpack it first");
    }
    if head.starts_with(npy::MAGIC) {
        return not("is a numpy array (.npy), which holds one tensor without a name");
    }
    if head.starts_with(b"version https://git-lfs.github.com/spec") {
        return not("is a Git LFS pointer, a few lines that stand for the real file; fetch that with 'git lfs pull'");
    }
    // The cut at 4096 bytes may split a character.
    let text = match std::str::from_utf8(&head) {
        Ok(text) => Some(text),
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).ok(),
        Err(_) => None,
    };
    if let Some(text) = text.filter(|text| !text.contains('\0')) {
        let start = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
        if start.starts_with("<!doctype html") || start.starts_with("<html") {
            return not("is a web page, perhaps the page about a download instead of the download");
        }
        if start.starts_with('{') || start.starts_with('[') {
            return not("is JSON text");
        }
        return not("is text");
    }
    Err(source.error(
        "is in no format that is known here: safetensors, a file of torch.save, a TorchScript archive, a pickled network of NVIDIA, or .npz (or its beginning is damaged)",
    ))
}
