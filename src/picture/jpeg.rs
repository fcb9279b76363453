//! JPEG files: where their coded data ends, and whether it is all there. The decoder does not tell: it makes up what is missing.

use image::codecs::jpeg::JpegDecoder;
use image::{ImageDecoder, ImageResult};
use std::hash::{DefaultHasher, Hasher};
use std::io::Cursor;

/// A file's bytes up to the end of its picture.
pub(super) struct Jpeg {
    /// Ends with an end-of-image marker, whether the file has one or not. What comes behind it (another picture, a film) is left out.
    bytes: Vec<u8>,
    /// Whether the file has that marker.
    pub ended: bool,
    /// 1 for grey, 3 for colours, 4 for CMYK; 0 where the file does not say.
    pub components: u8,
}

const END: [u8; 2] = [0xFF, 0xD9];

/// The most zeros that coded data may end with in a file without an end marker: where files were recovered from disks more of them follow,
/// up to the end of a sector. Before an end marker they are data, and may be many where the picture is of one colour.
const LAST_ZEROS: usize = 4;

impl Jpeg {
    pub fn new(mut bytes: Vec<u8>) -> Self {
        let (end, components) = walk_markers(&bytes);
        bytes.truncate(end.unwrap_or(bytes.len()));
        if end.is_none() && bytes.last() == Some(&0xFF) {
            // The first half of the marker.
            bytes.pop();
        }
        bytes.extend(END);
        Self { bytes, ended: end.is_some(), components }
    }

    pub fn decoder(&self) -> ImageResult<JpegDecoder<Cursor<Vec<u8>>>> {
        JpegDecoder::new(Cursor::new(self.bytes.clone()))
    }

    /// The pixels, or the number of rows that are whole where not all are.
    pub fn read(self) -> ImageResult<Result<Vec<u8>, usize>> {
        let decoder = self.decoder()?;
        let height = decoder.dimensions().1 as usize;
        let row = (decoder.total_bytes() / height as u64) as usize;
        let coded = &self.bytes[..self.bytes.len() - END.len()];
        let data = match self.ended {
            true => coded,
            false => &coded[..coded.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)],
        };
        let pixels = read(self.bytes.clone())?;
        let hashes: Vec<u64> = pixels.chunks_exact(row).map(hash).collect();
        // So that one picture is held at a time.
        drop(pixels);
        let mut whole = 0;
        for zeros in 0..=LAST_ZEROS.min(coded.len() - data.len()) {
            // A decoder that has every row looks at no more data, and one that has not takes this for data.
            let mut longer = coded[..data.len() + zeros].to_vec();
            longer.extend(junk());
            longer.extend(END);
            let rows = match read(longer) {
                Ok(pixels) => pixels.chunks_exact(row).zip(&hashes).take_while(|(row, h)| hash(row) == **h).count(),
                Err(_) => 0,
            };
            whole = whole.max(rows);
            if whole == height {
                break;
            }
        }
        if whole < height {
            return Ok(Err(whole));
        }
        read(self.bytes).map(Ok)
    }
}

fn read(bytes: Vec<u8>) -> ImageResult<Vec<u8>> {
    let decoder = JpegDecoder::new(Cursor::new(bytes))?;
    let mut pixels = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut pixels)?;
    Ok(pixels)
}

fn hash(row: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(row);
    hasher.finish()
}

/// Bytes without a pattern and without markers.
fn junk() -> impl Iterator<Item = u8> {
    let mut state = 0x2545_F491u32;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    })
    .filter(|b| *b != 0xFF)
    .take(1024)
}

/// Where the end-of-image marker stands that the file's markers lead to (ITU-T T.81, annex B), through every scan; and the number of
/// components.
fn walk_markers(bytes: &[u8]) -> (Option<usize>, u8) {
    let (mut at, mut components) = (0, 0);
    loop {
        // Coded data and padding up to the next marker: FF and a byte that is neither 00 (a coded FF) nor FF (padding).
        let Some(marker) = bytes[at..].windows(2).position(|w| w[0] == 0xFF && w[1] != 0xFF).map(|i| at + i) else {
            return (None, components);
        };
        at = marker + 2;
        match bytes[marker + 1] {
            0xD9 => return (Some(marker), components),
            // Coded FF, TEM, restarts and start of image have no body.
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            kind => {
                let Some(length) = bytes.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]]))) else {
                    return (None, components);
                };
                // Frame headers, whose codes surround those of three tables.
                if matches!(kind, 0xC0..=0xCF) && !matches!(kind, 0xC4 | 0xC8 | 0xCC) {
                    components = bytes.get(at + 7).copied().unwrap_or(0);
                }
                at += length.max(2);
                if at > bytes.len() {
                    return (None, components);
                }
            }
        }
    }
}
