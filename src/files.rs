//! Opening files that users and manifests name, and knowing pictures by their beginnings.

use crate::error::{Error, Result};
use crate::progress::Cancel;
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

/// Whether an ordinary file begins with `start`. Errors as [`open_ordinary`].
pub(crate) fn begins_with(path: &Path, wanted: &str, start: &[u8]) -> Result<bool> {
    let (file, _) = open_ordinary(path, wanted)?;
    let mut bytes = Vec::new();
    file.take(start.len() as u64).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    Ok(bytes == start)
}

/// What the beginning of a file says of it as a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PictureFormat {
    Png,
    Jpeg,
    WebP,
    Tiff,
    Bmp,
    Gif,
    /// A format that is not read here: its name with an article, and a command that makes OUT, a PNG, of IN.
    Other {
        name: &'static str,
        converter: &'static str,
    },
}

impl PictureFormat {
    /// By the first bytes; None where they are of no picture that is known here.
    pub fn of(start: &[u8]) -> Option<Self> {
        let other = |name, converter| Some(PictureFormat::Other { name, converter });
        let at = |from: usize, want: &[u8]| start.get(from..from + want.len()) == Some(want);
        match start {
            [0x89, b'P', b'N', b'G', ..] => Some(Self::Png),
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [b'R', b'I', b'F', b'F', ..] if at(8, b"WEBP") => Some(Self::WebP),
            [b'I', b'I', b'R', b'O' | b'S', ..] | [b'I', b'I', 0x55, 0, ..] => other("a camera's raw picture", "darktable-cli IN OUT"),
            [b'I', b'I', 42 | 43, 0, ..] if at(8, b"CR\x02") => other("a camera's raw picture (CR2)", "darktable-cli IN OUT"),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            // Two letters are little; the four reserved bytes are zero in all files, and the header's size is below 256.
            [b'B', b'M', ..] if at(6, &[0; 4]) && at(15, &[0; 3]) => Some(Self::Bmp),
            [b'G', b'I', b'F', b'8', ..] => Some(Self::Gif),
            [0xFF, 0x0A, ..] => other("a JPEG XL picture", "djxl IN OUT"),
            [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => other("a JPEG XL picture", "djxl IN OUT"),
            [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xFF, 0x4F, 0xFF, 0x51, ..] => {
                other("a JPEG 2000 picture", "opj_decompress -i IN -o OUT")
            }
            [b'8', b'B', b'P', b'S', ..] => other("a Photoshop picture", "magick IN OUT"),
            [0x76, 0x2F, 0x31, 0x01, ..] => other("an OpenEXR picture", "magick IN OUT"),
            _ if at(0, b"#?RADIANCE") => other("a Radiance HDR picture", "magick IN OUT"),
            _ if at(0, b"gimp xcf") => other("a GIMP picture", "magick IN OUT"),
            _ if at(0, b"qoif") => other("a QOI picture", "magick IN OUT"),
            _ if at(0, b"FUJIFILMCCD-RAW") => other("a camera's raw picture (RAF)", "darktable-cli IN OUT"),
            [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..] => other("a picture of the format PNM", "magick IN OUT"),
            _ if at(4, b"ftyp") => {
                // ISO/IEC 14496-12: a main brand, a version, and the brands that the file is also good for.
                let length = start.get(..4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
                let brands = &start[8..length.clamp(8, start.len())];
                let has = |wanted: &[&[u8; 4]]| {
                    brands.chunks_exact(4).enumerate().any(|(i, b)| i != 1 && wanted.iter().any(|w| b == w.as_slice()))
                };
                if has(&[b"avif", b"avis"]) {
                    other("an AVIF picture", "avifdec IN OUT")
                } else if has(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
                    other("an HEIC picture", "heif-convert IN OUT")
                } else if has(&[b"crx "]) {
                    other("a camera's raw picture (CR3)", "darktable-cli IN OUT")
                } else {
                    None
                }
            }
            _ => None,
        }
    }

    /// With an article.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "a PNG picture",
            Self::Jpeg => "a JPEG picture",
            Self::WebP => "a WebP picture",
            Self::Tiff => "a TIFF picture",
            Self::Bmp => "a BMP picture",
            Self::Gif => "a GIF picture",
            Self::Other { name, .. } => name,
        }
    }
}
