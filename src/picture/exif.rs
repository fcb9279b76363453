//! What cameras and programs note beside the pixels and what changes how they are seen: Exif, or XMP.

use exif::{In, Tag, Value};
use image::metadata::Orientation;
use regex::bytes::Regex;
use std::sync::LazyLock;

/// What such notes say.
pub(super) struct Tags {
    pub orientation: Orientation,
    /// DCF's option file: the numbers are Adobe RGB (1998), where no profile says something else.
    pub adobe_rgb: bool,
}

impl Default for Tags {
    fn default() -> Self {
        Self { orientation: Orientation::NoTransforms, adobe_rgb: false }
    }
}

/// Notes that are packed unpack to at most so many bytes: those of cameras have some thousand.
const MAX_TEXT: usize = 4 << 20;

static XMP_ORIENTATION: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])"#).ok());

impl Tags {
    /// Of the bytes of Exif and of XMP. XMP's orientation counts where Exif has none. What cannot be read says nothing.
    pub fn new(exif: Option<Vec<u8>>, xmp: Option<Vec<u8>>) -> Self {
        let mut tags = Self::default();
        let mut orientation = None;
        if let Some(exif) = exif.and_then(parse) {
            orientation = exif.get_field(Tag::Orientation, In::PRIMARY).and_then(|f| f.value.get_uint(0));
            let index = exif.get_field(Tag::InteroperabilityIndex, In::PRIMARY).map(|f| &f.value);
            let calibrated = exif.get_field(Tag::ColorSpace, In::PRIMARY).and_then(|f| f.value.get_uint(0)) == Some(1);
            tags.adobe_rgb =
                !calibrated && matches!(index, Some(Value::Ascii(text)) if text.first().is_some_and(|t| t.starts_with(b"R03")));
        }
        let found = || {
            let digit = XMP_ORIENTATION.as_ref()?.captures(xmp.as_deref()?)?.get(1)?.as_bytes().first()?;
            Some(u32::from(digit - b'0'))
        };
        let orientation = orientation.or_else(found).and_then(|o| Orientation::from_exif(u8::try_from(o).ok()?));
        tags.orientation = orientation.unwrap_or(Orientation::NoTransforms);
        tags
    }
}

fn parse(mut bytes: Vec<u8>) -> Option<exif::Exif> {
    const JPEG_PREFIX: &[u8] = b"Exif\0\0";
    // Some programs keep it in other formats.
    if bytes.starts_with(JPEG_PREFIX) {
        bytes.drain(..JPEG_PREFIX.len());
    }
    let mut reader = exif::Reader::new();
    reader.continue_on_error(true);
    reader.read_raw(bytes).or_else(|e| e.distill_partial_result(|_| ())).ok()
}

/// Of all places where a PNG may keep them.
pub(super) fn of_png(info: &png::Info) -> Tags {
    let exif = info.exif_metadata.as_ref().map(|e| e.to_vec());
    let raw = || {
        const KEYWORDS: [&str; 2] = ["Raw profile type exif", "Raw profile type APP1"];
        let plain = info.uncompressed_latin1_text.iter().find(|t| KEYWORDS.contains(&t.keyword.as_str())).map(|t| t.text.clone());
        let packed = || {
            let chunk = info.compressed_latin1_text.iter().find(|t| KEYWORDS.contains(&t.keyword.as_str()))?;
            let mut chunk = chunk.clone();
            chunk.decompress_text_with_limit(MAX_TEXT).ok()?;
            chunk.get_text().ok()
        };
        unhex(&plain.or_else(packed)?)
    };
    let xmp = info.utf8_text.iter().find(|t| t.keyword == "XML:com.adobe.xmp").and_then(|chunk| {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(MAX_TEXT).ok()?;
        chunk.get_text().ok()
    });
    Tags::new(exif.or_else(raw), xmp.map(String::into_bytes))
}

/// ImageMagick's way from before PNG had a chunk for it: a name, a length, and hexadecimal digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let mut words = text.split_ascii_whitespace();
    let (_name, length) = (words.next()?, words.next()?.parse::<usize>().ok()?);
    let digits: Vec<u8> = words.flat_map(str::bytes).map(|b| char::from(b).to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|d| d[0] << 4 | d[1]).collect();
    (bytes.len() == length).then_some(bytes)
}
