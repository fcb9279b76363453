//! A picture's file of which the header is read: its rows, and the way from their bytes to a [`super::Picture`]'s numbers.

use super::colour::Colours;
use super::frame::Region;
use super::input::Bytes;
use super::jpeg::Jpeg;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError};
use std::io::BufReader;
use std::path::Path;

/// Bytes of the rows that are worked on at a time.
const BAND: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wanted {
    Whole,
    Square,
}

/// How the pixels of a decoded row lie, in the machine's byte order.
#[derive(Clone, Copy)]
pub(super) struct RowLayout {
    pub color: ColorType,
    pub alpha: Alpha,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Alpha {
    Straight,
    /// Colours are stored times it.
    Premultiplied,
    /// The fourth channel is something else.
    Ignored,
}

impl RowLayout {
    pub(super) fn bytes(self, pixels: usize) -> usize {
        pixels * usize::from(self.color.bytes_per_pixel())
    }
}

/// A file of which the header is read.
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub format: &'static str,
    /// As it is stored.
    pub width: usize,
    pub height: usize,
    pub orientation: Orientation,
    pub layout: RowLayout,
    pub rows: Conversion<'a>,
    pub pixels: Pixels,
    pub cancel: Cancel,
    pub warnings: Vec<String>,
}

pub(super) enum Pixels {
    Png(Box<png::Reader<BufReader<Bytes>>>),
    Jpeg(Jpeg),
    Other(Box<dyn ImageDecoder>),
}

/// From decoded rows to a [`Picture`]'s numbers.
pub(super) struct Conversion<'a> {
    pub path: &'a Path,
    pub layout: RowLayout,
    pub colours: Colours,
}

impl Conversion<'_> {
    /// R, G, B, A of each pixel in [0, 1], sRGB.
    pub(super) fn row(&self, bytes: &[u8], y: usize) -> Result<Vec<f32>> {
        let mut row = self.unpack(bytes, y)?;
        self.colours.convert(&mut row);
        Ok(row)
    }

    /// The same in the file's colours.
    pub(super) fn unpack(&self, bytes: &[u8], y: usize) -> Result<Vec<f32>> {
        let color = self.layout.color;
        let channels = usize::from(color.channel_count());
        let size = usize::from(color.bytes_per_pixel()) / channels;
        let mut row = Vec::with_capacity(bytes.len() / (channels * size) * 4);
        let mut finite = true;
        for pixel in bytes.chunks_exact(channels * size) {
            // By hand, as the crate's own conversion of grey is off by a rounding.
            let mut v = |c: usize| match size {
                1 => f32::from(pixel[c]) / 255.0,
                2 => f32::from(u16::from_ne_bytes([pixel[2 * c], pixel[2 * c + 1]])) / 65535.0,
                _ => {
                    let v = f32::from_ne_bytes([pixel[4 * c], pixel[4 * c + 1], pixel[4 * c + 2], pixel[4 * c + 3]]);
                    finite &= v.is_finite();
                    v.clamp(0.0, 1.0)
                }
            };
            row.extend(match channels {
                1 => [v(0), v(0), v(0), 1.0],
                2 => [v(0), v(0), v(0), v(1)],
                3 => [v(0), v(1), v(2), 1.0],
                _ => [v(0), v(1), v(2), v(3)],
            });
        }
        if !finite {
            return Err(Error::format(self.path, format!("is a picture with a number in row {y} that is not finite")));
        }
        match self.layout.alpha {
            Alpha::Straight => {}
            Alpha::Premultiplied => {
                for p in row.chunks_exact_mut(4) {
                    let a = p[3];
                    p[..3].iter_mut().for_each(|v| *v = if a > 0.0 { (*v / a).min(1.0) } else { 0.0 });
                }
            }
            Alpha::Ignored => row.chunks_exact_mut(4).for_each(|p| p[3] = 1.0),
        }
        Ok(row)
    }
}

/// A picture as it is stored, and where its pixels are seen.
#[derive(Clone, Copy)]
pub(super) struct Turned {
    pub orientation: Orientation,
    pub width: usize,
    pub height: usize,
}

impl Turned {
    pub(super) fn new(orientation: Orientation, width: usize, height: usize) -> Self {
        Self { orientation, width, height }
    }

    pub(super) fn upright(self) -> bool {
        self.orientation == Orientation::NoTransforms
    }

    /// Whether columns are seen as rows.
    fn lies(self) -> bool {
        use Orientation::*;
        matches!(self.orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
    }

    pub(super) fn seen(self) -> (usize, usize) {
        if self.lies() {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        }
    }

    /// Whether stored columns, and stored rows, are seen in the opposite order.
    fn reversed(self) -> (bool, bool) {
        use Orientation::*;
        match self.orientation {
            NoTransforms | Rotate90FlipH => (false, false),
            FlipHorizontal => (true, false),
            FlipVertical => (false, true),
            Rotate180 | Rotate270FlipH => (true, true),
            Rotate90 => (false, true),
            Rotate270 => (true, false),
        }
    }

    /// The number of the pixel in the rows that are seen.
    pub(super) fn index(self, x: usize, y: usize) -> usize {
        let (columns, rows) = self.reversed();
        let x = if columns { self.width - 1 - x } else { x };
        let y = if rows { self.height - 1 - y } else { y };
        if self.lies() {
            x * self.height + y
        } else {
            y * self.width + x
        }
    }

    /// What is stored of the centred square that is seen: where a pixel must be left out on one side more than on the other, sides count.
    pub(super) fn square(self) -> Region {
        let side = self.width.min(self.height);
        let (columns, rows) = self.reversed();
        let start = |length: usize, reversed: bool| if reversed { length - side - (length - side) / 2 } else { (length - side) / 2 };
        Region { x: start(self.width, columns), y: start(self.height, rows), width: side, height: side }
    }
}

impl<'a> Source<'a> {
    pub(super) fn seen(&self) -> (usize, usize) {
        Turned::new(self.orientation, self.width, self.height).seen()
    }

    /// Gives `each` the rows of `area` in bands from the top: the first row's number in the area, and the rows' bytes without padding. All
    /// rows of the file are read, so that one that is cut off is an error wherever the area lies.
    pub(super) fn bands(self, area: Region, mut each: impl FnMut(&Conversion, usize, &[u8]) -> Result<()>) -> Result<()> {
        let Self { path, format, width, height, layout, rows, pixels, cancel, .. } = self;
        let line = layout.bytes(width);
        let inside = layout.bytes(area.x)..layout.bytes(area.x + area.width);
        let count = (BAND / inside.len()).clamp(1, area.height);
        let mut band = Vec::with_capacity(inside.len() * count);
        let mut first = 0;
        let mut take = |y: usize, row: &[u8]| {
            if !(area.y..area.y + area.height).contains(&y) {
                return Ok(());
            }
            band.extend_from_slice(&row[inside.clone()]);
            let last = y + 1 - area.y;
            if last - first == count || last == area.height {
                cancel.check()?;
                each(&rows, first, &band)?;
                band.clear();
                first = last;
            }
            Ok(())
        };
        let decoded = match pixels {
            Pixels::Png(mut reader) if !reader.info().interlaced => {
                let mut row = vec![0; line];
                for y in 0..height {
                    let read = reader.read_row(&mut row).map_err(|e| png_error(path, e))?;
                    read.ok_or_else(|| Error::format(path, format!("is a PNG picture with {y} of its {height} rows")))?;
                    if layout.color.bytes_per_pixel() / layout.color.channel_count() == 2 {
                        native(&mut row);
                    }
                    take(y, &row)?;
                }
                // To the checksums of the pixels.
                return match reader.read_row(&mut row) {
                    Err(png::DecodingError::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
                    Err(e) => Err(png_error(path, e)),
                    Ok(_) => Ok(()),
                };
            }
            Pixels::Png(mut reader) => {
                let mut all = vec![0; line * height];
                reader.next_frame(&mut all).map_err(|e| png_error(path, e))?;
                if layout.color.bytes_per_pixel() / layout.color.channel_count() == 2 {
                    native(&mut all);
                }
                all
            }
            Pixels::Jpeg(jpeg) => match jpeg.read().map_err(|e| damaged(path, format, e))? {
                Ok(all) => all,
                Err(whole) => {
                    let rows = if whole > 0 { format!(" (after about {whole} of {height})") } else { String::new() };
                    return Err(Error::format(path, format!("is a JPEG picture that ends before its last row{rows}: it was cut off")));
                }
            },
            Pixels::Other(decoder) => {
                let mut all = vec![0; line * height];
                decoder.read_image_boxed(&mut all).map_err(|e| damaged(path, format, e))?;
                all
            }
        };
        decoded.chunks_exact(line).enumerate().try_for_each(|(y, row)| take(y, row))
    }
}

/// 16-bit numbers of a PNG, whose byte order is that of networks, to the machine's.
fn native(row: &mut [u8]) {
    row.chunks_exact_mut(2).for_each(|b| b.copy_from_slice(&u16::from_be_bytes([b[0], b[1]]).to_ne_bytes()));
}

pub(super) fn png_error(path: &Path, e: png::DecodingError) -> Error {
    match e {
        png::DecodingError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Error::io(path, e),
        png::DecodingError::IoError(_) => Error::format(path, "is a PNG picture that ends before its last row: it was cut off"),
        e => Error::format(path, format!("is a PNG picture that cannot be read: {e}")),
    }
}

pub(super) fn damaged(path: &Path, format: &str, e: ImageError) -> Error {
    match e {
        ImageError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Error::io(path, e),
        ImageError::IoError(_) => Error::format(path, format!("is a {format} picture that is cut off")),
        ImageError::Unsupported(e) => {
            let convert = command(path, "magick IN OUT");
            Error::format(path, format!("is a {format} picture of a kind that is not read here ({e}); convert it first: {convert}"))
        }
        e => Error::format(path, format!("is a {format} picture that cannot be read: {e}")),
    }
}

/// `pattern` with IN and OUT as the names of the file and of a PNG beside it, where a shell takes them as they are.
pub(super) fn command(path: &Path, pattern: &str) -> String {
    let plain = |name: &str| !name.starts_with('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let name = path.file_name().and_then(|n| n.to_str()).filter(|n| plain(n)).unwrap_or("PICTURE");
    let stem = Path::new(name).file_stem().and_then(|n| n.to_str()).unwrap_or("PICTURE");
    pattern.replace("IN", name).replace("OUT", &format!("{stem}.png"))
}
