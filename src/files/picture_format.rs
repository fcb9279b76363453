//! Knowing pictures by their first bytes.

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
