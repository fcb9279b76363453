//! What a file is, by its content.

use super::npy;
use super::safetensors::MAX_HEADER;
use super::source::Source;
use crate::error::{Error, Result};

#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Safetensors,
    Zip,
}

/// Pickle of the integer that every legacy torch.save begins with (torch.serialization.MAGIC_NUMBER).
pub(super) const LEGACY_TORCH: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// The format, or an error that says what the file looks like instead.
pub(super) fn sniff(source: &Source) -> Result<Kind> {
    let head = source.bytes(0, source.len.min(4096))?;
    let unsupported = |message: &str| Err(Error::unsupported(source.path.display().to_string(), message));
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
    if head.starts_with(LEGACY_TORCH) {
        return unsupported(
            "is in PyTorch's format from before 1.6, which is not read; load it with torch.load and save it again with torch.save",
        );
    }
    if head.len() > 2 && head[0] == 0x80 && (2..=5).contains(&head[1]) {
        let contains = |needle: &[u8]| head.windows(needle.len()).any(|window| window == needle);
        if contains(b"torch_utils.persistence") || contains(b"dnnlib.tflib") {
            return unsupported("is a pickled network of NVIDIA's StyleGAN code, which is not read; convert it to a rosinality checkpoint");
        }
        return unsupported("is a plain Python pickle, which is not read; save a state_dict with torch.save");
    }
    if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        return not("is a PNG picture");
    }
    if head.starts_with(b"\xff\xd8\xff") {
        return not("is a JPEG picture");
    }
    if head.starts_with(b"GIF8") || (head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP")) {
        return not("is a picture");
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
        return not("is a numpy array");
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
        "is in no format that is known here: safetensors, a zip file of torch.save, or a TorchScript archive (or its beginning is damaged)",
    ))
}
