//! Picture files: what they hold, and their pixels as sRGB, whole or only the middle square.
//!
//! Nothing here is held as floats but the result: files are decoded row by row (PNG) or to 8 or 16 bits (the others), and go through the
//! conversion of colours and the shrinking in bands of rows.

use super::colour::{icc_name, Colours, Stated};
use super::exif;
use super::jpeg::Jpeg;
use super::region::Region;
use super::shrink::Shrink;
use super::{check_size, Picture};
use crate::error::{Error, Result};
use crate::files::{begins_with_picture, open_ordinary, PictureFormat};
use crate::machine::admit_loading;
use image::codecs::{bmp::BmpDecoder, gif::GifDecoder, tiff::TiffDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{ColorType, ExtendedColorType, ImageDecoder, ImageError, Limits};
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use tiff::tags::Tag;

const WANTED: &str = "a picture";

/// The longest side of a file whose middle square is read.
pub const MAX_FILE_SIDE: usize = 1 << 16;

/// The most pixels of such a file: 1 GiB of 8-bit RGBA, which the decoders of all formats but PNG hold at once.
pub const MAX_FILE_PIXELS: usize = 1 << 28;

/// The most bytes that a decoder may hold as pixels.
const MAX_DECODED: u64 = 1 << 30;

/// Beside the pixels, for what decoders need on the way.
const DECODERS_OWN: u64 = 64 << 20;

/// The largest JPEG file: larger ones hold films.
const MAX_JPEG: u64 = 1 << 29;

/// The largest profile that a BMP file may bring.
const MAX_PROFILE: u64 = 4 << 20;

/// Bytes of the rows that are worked on at a time.
const BAND: usize = 1 << 20;

/// What a picture's file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// "PNG", "JPEG", "WebP", "TIFF", "BMP" or "GIF".
    pub format: &'static str,
    /// In pixels, turned as the file says.
    pub width: usize,
    pub height: usize,
    /// Whether a pixel is not opaque.
    pub transparent: bool,
    /// As [`Picture::open_with_warnings`] gives them.
    pub warnings: Vec<String>,
}

impl Picture {
    /// Reads a PNG, JPEG, WebP, TIFF, BMP or GIF file of any depth, grey or coloured, with or without palette and alpha; the content decides,
    /// not the name. Of an animation or of several pages the first picture is read. The orientation that the file tells is applied, and
    /// its numbers become sRGB by what it says of them: an ICC profile (of matrix and curves, or of tables), PNG's cICP, gAMA and cHRM, or
    /// a camera's mark for Adobe RGB.
    ///
    /// Warnings go to the log; [`Picture::open_with_warnings`] gives them. Errors: `NotFound` or `Io`; `Format` where the file is no
    /// picture, is of another format (the message says how to convert it), is damaged or cut off, or is larger than
    /// [`super::MAX_PIXELS`], which is looked at before memory is taken.
    pub fn open(path: &Path) -> Result<Self> {
        let (picture, warnings) = Self::open_with_warnings(path)?;
        warnings.iter().for_each(|w| log::warn!("{w}"));
        Ok(picture)
    }

    /// As [`Picture::open`], with sentences for the user, each of which names the file: of a profile that cannot be used, of pictures that
    /// are left out, or of an end that is missing.
    pub fn open_with_warnings(path: &Path) -> Result<(Self, Vec<String>)> {
        let mut source = Source::open(path, Wanted::Whole)?;
        let (width, height) = source.seen();
        let warnings = std::mem::take(&mut source.warnings);
        let mut data = vec![0f32; width * height * 4];
        let place = Place::new(source.orientation, source.width, source.height);
        let all = Region { x: 0, y: 0, width: source.width, height: source.height };
        let (layout, stored) = (source.layout, source.width);
        source.bands(all, |bands, first, bytes| {
            let rows = bytes.par_chunks_exact(layout.bytes(stored)).enumerate();
            if place.upright() {
                let out = data[first * stored * 4..].par_chunks_exact_mut(stored * 4);
                return rows.zip(out).try_for_each(|((i, bytes), out)| {
                    out.copy_from_slice(&bands.row(bytes, first + i)?);
                    Ok(())
                });
            }
            for (i, row) in rows.map(|(i, bytes)| bands.row(bytes, first + i)).collect::<Result<Vec<_>>>()?.iter().enumerate() {
                for (x, pixel) in row.chunks_exact(4).enumerate() {
                    let at = place.index(x, first + i) * 4;
                    data[at..at + 4].copy_from_slice(pixel);
                }
            }
            Ok(())
        })?;
        Ok((Self { width, height, data }, warnings))
    }

    /// The largest centred square of a file, shrunk to at most `most` pixels a side as it comes: what [`Picture::square`] gives of the
    /// whole, to the rounding of floats, without the whole in memory. A PNG (but an interlaced one) takes some bands of rows; of other
    /// files the decoder holds the pixels with 8 or 16 bits.
    ///
    /// Warnings and errors as [`Picture::open_with_warnings`], but files may have up to [`MAX_FILE_SIDE`] and [`MAX_FILE_PIXELS`].
    /// `InvalidArgument` where `most` is 0 or over [`super::MAX_SIDE`].
    pub fn open_square(path: &Path, most: usize) -> Result<(Self, Vec<String>)> {
        check_size("most", most, most.min(1))?;
        let mut source = Source::open(path, Wanted::Square)?;
        let warnings = std::mem::take(&mut source.warnings);
        let place = Place::new(source.orientation, source.width, source.height);
        let square = place.square();
        let (from, to) = (square.width, square.width.min(most));
        check_size("square", to, to)?;
        let mut shrink = Shrink::new(from, to);
        let layout = source.layout;
        source.bands(square, |bands, first, bytes| {
            let rows = bytes.par_chunks_exact(layout.bytes(from)).enumerate();
            let narrow = rows.map(|(i, bytes)| Ok(shrink.narrow(bands.row(bytes, first + i)?)));
            for (i, narrow) in narrow.collect::<Result<Vec<_>>>()?.iter().enumerate() {
                shrink.add(first + i, narrow);
            }
            Ok(())
        })?;
        Ok((shrink.finish().turned(place.orientation), warnings))
    }

    /// Width and height of a file's picture, turned as the file says. Only the header is read. Errors as [`Picture::open_square`].
    pub fn size_of_file(path: &Path) -> Result<(usize, usize)> {
        Ok(Source::open(path, Wanted::Square)?.seen())
    }

    /// Reads a file to its end and says what it holds, without the whole in memory. Errors as [`Picture::open_square`].
    pub fn look_at(path: &Path) -> Result<FileInfo> {
        let mut source = Source::open(path, Wanted::Square)?;
        let (width, height) = source.seen();
        let (format, warnings) = (source.format, std::mem::take(&mut source.warnings));
        let mut transparent = false;
        let all = Region { x: 0, y: 0, width: source.width, height: source.height };
        let (layout, stored) = (source.layout, source.width);
        source.bands(all, |bands, first, bytes| {
            if !layout.color.has_alpha() {
                return Ok(());
            }
            for (i, bytes) in bytes.chunks_exact(layout.bytes(stored)).enumerate() {
                transparent |= bands.unpack(bytes, first + i)?.chunks_exact(4).any(|p| p[3] < 1.0);
            }
            Ok(())
        })?;
        Ok(FileInfo { format, width, height, transparent, warnings })
    }

    /// Stored rows as they are to be seen.
    fn turned(self, orientation: Orientation) -> Self {
        let place = Place::new(orientation, self.width, self.height);
        if place.upright() {
            return self;
        }
        let (width, height) = place.seen();
        let mut data = vec![0.0; self.data.len()];
        for (i, pixel) in self.data.chunks_exact(4).enumerate() {
            let at = place.index(i % self.width, i / self.width) * 4;
            data[at..at + 4].copy_from_slice(pixel);
        }
        Self { width, height, data }
    }
}

/// Whether a file begins as pictures do, also of formats that are not read. Errors as [`Picture::open`].
pub fn is_picture(path: &Path) -> Result<bool> {
    Ok(begins_with_picture(path, WANTED)?.is_some())
}

#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Whole,
    Square,
}

/// How the pixels of a decoded row lie, in the machine's byte order.
#[derive(Clone, Copy)]
struct Layout {
    color: ColorType,
    alpha: Alpha,
}

#[derive(Clone, Copy, PartialEq)]
enum Alpha {
    Straight,
    /// Colours are stored times it.
    Premultiplied,
    /// The fourth channel is something else.
    Ignored,
}

impl Layout {
    fn bytes(self, pixels: usize) -> usize {
        pixels * usize::from(self.color.bytes_per_pixel())
    }
}

/// A file of which the header is read.
struct Source<'a> {
    path: &'a Path,
    format: &'static str,
    /// As it is stored.
    width: usize,
    height: usize,
    orientation: Orientation,
    layout: Layout,
    rows: Conversion<'a>,
    pixels: Pixels,
    warnings: Vec<String>,
}

enum Pixels {
    Png(Box<png::Reader<BufReader<File>>>),
    Jpeg(Jpeg),
    Other(Box<dyn ImageDecoder>),
}

/// From decoded rows to a [`Picture`]'s numbers.
struct Conversion<'a> {
    path: &'a Path,
    layout: Layout,
    colours: Colours,
}

impl Conversion<'_> {
    /// R, G, B, A of each pixel in [0, 1], sRGB.
    fn row(&self, bytes: &[u8], y: usize) -> Result<Vec<f32>> {
        let mut row = self.unpack(bytes, y)?;
        self.colours.convert(&mut row);
        Ok(row)
    }

    /// The same in the file's colours.
    fn unpack(&self, bytes: &[u8], y: usize) -> Result<Vec<f32>> {
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

/// Where pixels as they are stored are to be seen.
#[derive(Clone, Copy)]
struct Place {
    orientation: Orientation,
    width: usize,
    height: usize,
}

impl Place {
    fn new(orientation: Orientation, width: usize, height: usize) -> Self {
        Self { orientation, width, height }
    }

    fn upright(self) -> bool {
        self.orientation == Orientation::NoTransforms
    }

    /// Whether columns are seen as rows.
    fn lies(self) -> bool {
        use Orientation::*;
        matches!(self.orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
    }

    fn seen(self) -> (usize, usize) {
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
    fn index(self, x: usize, y: usize) -> usize {
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
    fn square(self) -> Region {
        let side = self.width.min(self.height);
        let (columns, rows) = self.reversed();
        let start = |length: usize, reversed: bool| if reversed { length - side - (length - side) / 2 } else { (length - side) / 2 };
        Region { x: start(self.width, columns), y: start(self.height, rows), width: side, height: side }
    }
}

/// What the readers of the formats have in common.
struct Opening<'a> {
    path: &'a Path,
    wanted: Wanted,
    format: &'static str,
    warnings: Vec<String>,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path, wanted: Wanted) -> Result<Self> {
        let known = begins_with_picture(path, WANTED)?;
        let opening = |format| Opening { path, wanted, format, warnings: Vec::new() };
        match known {
            Some(PictureFormat::Png) => opening("PNG").png(),
            Some(PictureFormat::Jpeg) => opening("JPEG").jpeg(),
            Some(PictureFormat::WebP) => opening("WebP").webp(),
            Some(PictureFormat::Tiff) => opening("TIFF").tiff(),
            Some(PictureFormat::Bmp) => opening("BMP").bmp(),
            Some(PictureFormat::Gif) => opening("GIF").gif(),
            Some(PictureFormat::Other { name, converter }) => {
                let message = format!("is {name}, which is not read here; convert it first: {}", command(path, converter));
                Err(Error::format(path, message))
            }
            None => Err(Error::format(path, "is not a picture; want PNG, JPEG, WebP, TIFF, BMP or GIF")),
        }
    }

    fn seen(&self) -> (usize, usize) {
        Place::new(self.orientation, self.width, self.height).seen()
    }

    /// Gives `each` the rows of `area` in bands from the top: the first row's number in the area, and the rows' bytes without padding. All
    /// rows of the file are read, so that one that is cut off is an error wherever the area lies.
    fn bands(self, area: Region, mut each: impl FnMut(&Conversion, usize, &[u8]) -> Result<()>) -> Result<()> {
        let Self { path, format, width, height, layout, rows, pixels, .. } = self;
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

fn png_error(path: &Path, e: png::DecodingError) -> Error {
    match e {
        png::DecodingError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Error::io(path, e),
        png::DecodingError::IoError(_) => Error::format(path, "is a PNG picture that ends before its last row: it was cut off"),
        e => Error::format(path, format!("is a PNG picture that cannot be read: {e}")),
    }
}

fn damaged(path: &Path, format: &str, e: ImageError) -> Error {
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
fn command(path: &Path, pattern: &str) -> String {
    let plain = |name: &str| !name.starts_with('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let name = path.file_name().and_then(|n| n.to_str()).filter(|n| plain(n)).unwrap_or("PICTURE");
    let stem = Path::new(name).file_stem().and_then(|n| n.to_str()).unwrap_or("PICTURE");
    pattern.replace("IN", name).replace("OUT", &format!("{stem}.png"))
}

impl<'a> Opening<'a> {
    fn warn(&mut self, message: impl std::fmt::Display) {
        self.warnings.push(format!("{}: {message}", self.path.display()));
    }

    fn file(&self) -> Result<BufReader<File>> {
        Ok(BufReader::new(open_ordinary(self.path, WANTED)?.0))
    }

    /// Before memory is taken. `decoded`: what the decoder holds at once.
    fn check(&self, width: usize, height: usize, decoded: u64) -> Result<()> {
        let shrink = command(self.path, "magick IN -resize 8000x8000 OUT");
        let pixels = width.saturating_mul(height);
        let too_large = match self.wanted {
            _ if width == 0 || height == 0 => return Err(Error::format(self.path, format!("is a picture of {width} x {height} pixels"))),
            Wanted::Whole => {
                let pixels = check_size("picture", width, height).map_err(|e| match e {
                    Error::InvalidArgument { message, .. } => Error::format(self.path, format!("{message}; shrink it first: {shrink}")),
                    e => e,
                })?;
                return admit_loading(self.path, decoded.saturating_add(16 * pixels as u64));
            }
            Wanted::Square if pixels > MAX_FILE_PIXELS || width.max(height) > MAX_FILE_SIDE => {
                format!("at most {MAX_FILE_SIDE} on a side and {MAX_FILE_PIXELS} in all are supported")
            }
            Wanted::Square if decoded > MAX_DECODED => format!("its decoder would hold {decoded} bytes, and {MAX_DECODED} are supported"),
            Wanted::Square => return admit_loading(self.path, decoded),
        };
        Err(Error::format(self.path, format!("{width} x {height} pixels is too large; {too_large}; shrink it first: {shrink}")))
    }

    fn source(mut self, size: (u32, u32), color: ColorType, about: About, pixels: Pixels) -> Source<'a> {
        let mut warnings = Vec::new();
        let colours = Colours::new(about.stated, !color.has_color(), |message| warnings.push(message));
        warnings.into_iter().for_each(|w| self.warn(w));
        let layout = Layout { color, alpha: about.alpha };
        Source {
            path: self.path,
            format: self.format,
            width: size.0 as usize,
            height: size.1 as usize,
            orientation: about.orientation,
            layout,
            rows: Conversion { path: self.path, layout, colours },
            pixels,
            warnings: self.warnings,
        }
    }

    fn png_reader(&self) -> Result<png::Reader<BufReader<File>>> {
        let limits = png::Limits { bytes: DECODERS_OWN as usize };
        let mut decoder = png::Decoder::new_with_limits(self.file()?, limits);
        decoder.set_transformations(png::Transformations::EXPAND);
        decoder.read_info().map_err(|e| png_error(self.path, e))
    }

    /// The kinds of the chunks before the pixels: the crate leaves damaged ones out without a word.
    fn png_chunks(&self) -> Result<Vec<[u8; 4]>> {
        let (mut file, mut kinds, mut head) = (self.file()?, Vec::new(), [0; 8]);
        let mut next = |file: &mut BufReader<File>, skip: i64| {
            file.seek_relative(skip)?;
            file.read_exact(&mut head)?;
            let [a, b, c, d, kind @ ..] = head;
            Ok::<_, std::io::Error>((u32::from_be_bytes([a, b, c, d]), kind))
        };
        let mut skip = 8;
        // The end of the file is told elsewhere.
        while let Ok((length, kind)) = next(&mut file, skip) {
            if kind == *b"IDAT" {
                break;
            }
            kinds.push(kind);
            skip = i64::from(length) + 4;
        }
        Ok(kinds)
    }

    fn png(mut self) -> Result<Source<'a>> {
        // Once to its end without pixels, as Exif may stand behind them.
        let mut all = self.png_reader()?;
        let ended = all.finish();
        let info = all.info();
        match ended {
            Ok(()) => {}
            Err(png::DecodingError::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.warn("has no end marker; all its rows are there");
            }
            // What is wrong with the pixels is told when they are read.
            Err(e) => self.warn(format!("is damaged behind its pixels ({e}); all its rows are there")),
        }
        let chunks = self.png_chunks()?;
        let unread = [
            (*b"cICP", info.coding_independent_code_points.is_none()),
            (*b"iCCP", info.icc_profile.is_none()),
            (*b"cHRM", info.chrm_chunk.is_none()),
        ];
        for (kind, missing) in unread {
            if missing && chunks.contains(&kind) {
                self.warn(format!("has a {} chunk, which says what its numbers mean, that cannot be read", String::from_utf8_lossy(&kind)));
            }
        }
        // In the order that the PNG specification gives.
        let cicp = info.coding_independent_code_points.map(|c| Stated::Cicp {
            primaries: c.color_primaries,
            transfer: c.transfer_function,
            matrix: c.matrix_coefficients,
            full_range: c.is_video_full_range_image,
        });
        let icc = info.icc_profile.as_ref().map(|profile| Stated::Icc(profile.to_vec()));
        let srgb = info.srgb.map(|_| Stated::Srgb);
        let gamma = (info.gama_chunk.is_some() || info.chrm_chunk.is_some()).then(|| Stated::Gamma {
            gamma: info.gama_chunk.map(|g| g.into_scaled()),
            chromaticities: info
                .chrm_chunk
                .map(|c| [c.white.0, c.white.1, c.red.0, c.red.1, c.green.0, c.green.1, c.blue.0, c.blue.1].map(|v| v.into_scaled())),
        });
        let stated: Vec<Stated> = [cicp, icc, srgb, gamma].into_iter().flatten().collect();
        let tags = exif::of_png(info);
        let about = About::new(stated, tags);
        if info.animation_control.is_some_and(|a| a.num_frames > 1) {
            self.warn("is an animation; its still picture is read");
        }
        let reader = self.png_reader()?;
        let size = reader.info().size();
        let color = match reader.output_color_type() {
            (png::ColorType::Grayscale, png::BitDepth::Sixteen) => ColorType::L16,
            (png::ColorType::Grayscale, _) => ColorType::L8,
            (png::ColorType::GrayscaleAlpha, png::BitDepth::Sixteen) => ColorType::La16,
            (png::ColorType::GrayscaleAlpha, _) => ColorType::La8,
            (png::ColorType::Rgba, png::BitDepth::Sixteen) => ColorType::Rgba16,
            (png::ColorType::Rgba, _) => ColorType::Rgba8,
            (png::ColorType::Rgb, png::BitDepth::Sixteen) => ColorType::Rgb16,
            // EXPAND leaves no palettes.
            (png::ColorType::Rgb | png::ColorType::Indexed, _) => ColorType::Rgb8,
        };
        let interlaced = reader.info().interlaced;
        let decoded = if interlaced { u64::from(size.0) * u64::from(size.1) * u64::from(color.bytes_per_pixel()) } else { 0 };
        self.check(size.0 as usize, size.1 as usize, decoded)?;
        Ok(self.source(size, color, about, Pixels::Png(Box::new(reader))))
    }

    fn jpeg(mut self) -> Result<Source<'a>> {
        let (mut file, length) = open_ordinary(self.path, WANTED)?;
        if length > MAX_JPEG {
            return Err(Error::format(self.path, format!("is a JPEG file of {length} bytes; at most {MAX_JPEG} are supported")));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.by_ref().take(MAX_JPEG).read_to_end(&mut bytes).map_err(|e| Error::io(self.path, e))?;
        let jpeg = Jpeg::new(bytes);
        let wrong = |e| damaged(self.path, "JPEG", e);
        let mut decoder = jpeg.decoder().map_err(wrong)?;
        let (size, color) = (decoder.dimensions(), decoder.color_type());
        self.check(size.0 as usize, size.1 as usize, decoder.total_bytes())?;
        let tags = exif::Tags::new(decoder.exif_metadata().map_err(wrong)?, decoder.xmp_metadata().map_err(wrong)?);
        let profile = decoder.icc_profile().map_err(wrong)?;
        if !jpeg.ended {
            self.warn("has no end marker; all its rows are there");
        }
        let stated = if jpeg.components == 4 { self.cmyk(profile) } else { stated(profile) };
        Ok(self.source(size, color, About::new(vec![stated], tags), Pixels::Jpeg(jpeg)))
    }

    /// The decoders turn CMYK into RGB by arithmetic.
    fn cmyk(&mut self, profile: Option<Vec<u8>>) -> Stated {
        let profile = profile.map_or("without a profile".into(), |p| format!("with the ICC profile {}, which is not used", icc_name(&p)));
        self.warn(format!("is a picture in CMYK, {profile}; its colours are only near"));
        Stated::Srgb
    }

    /// The pixels of decoders that hold all of them.
    fn other(self, mut decoder: impl ImageDecoder + 'static, about: About) -> Result<Source<'a>> {
        let (size, color) = (decoder.dimensions(), decoder.color_type());
        let total = decoder.total_bytes();
        self.check(size.0 as usize, size.1 as usize, total)?;
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(total * 2 + DECODERS_OWN);
        decoder.set_limits(limits).map_err(|e| damaged(self.path, self.format, e))?;
        Ok(self.source(size, color, about, Pixels::Other(Box::new(decoder))))
    }

    fn webp(mut self) -> Result<Source<'a>> {
        let wrong = |e| damaged(self.path, "WebP", e);
        let mut decoder = WebPDecoder::new(self.file()?).map_err(wrong)?;
        let tags = exif::Tags::new(decoder.exif_metadata().map_err(wrong)?, decoder.xmp_metadata().map_err(wrong)?);
        let profile = decoder.icc_profile().map_err(wrong)?;
        if decoder.has_animation() {
            self.warn("is an animation; its first picture is read");
        }
        self.other(decoder, About::new(vec![stated(profile)], tags))
    }

    fn gif(mut self) -> Result<Source<'a>> {
        let mut options = gif::DecodeOptions::new();
        options.skip_frame_decoding(true);
        let mut profile = None;
        if let Ok(mut frames) = options.read_info(self.file()?) {
            // What is wrong with the first one is told when it is read.
            let several = matches!(frames.next_frame_info(), Ok(Some(_))) && matches!(frames.next_frame_info(), Ok(Some(_)));
            profile = frames.icc_profile().map(<[u8]>::to_vec);
            if several {
                self.warn("is an animation; its first picture is read");
            }
        }
        let decoder = GifDecoder::new(self.file()?).map_err(|e| damaged(self.path, "GIF", e))?;
        self.other(decoder, About::new(vec![stated(profile)], exif::Tags::default()))
    }

    fn bmp(mut self) -> Result<Source<'a>> {
        let decoder = BmpDecoder::new(self.file()?).map_err(|e| damaged(self.path, "BMP", e))?;
        let stated = self.bmp_colours()?;
        self.other(decoder, About::new(vec![stated], exif::Tags::default()))
    }

    /// What the header's fields of version 4 and 5 say, which the decoder does not look at.
    fn bmp_colours(&mut self) -> Result<Stated> {
        let mut file = self.file()?;
        let mut head = [0; 138];
        let mut filled = 0;
        while filled < head.len() {
            match file.read(&mut head[filled..]).map_err(|e| Error::io(self.path, e))? {
                0 => break,
                n => filled += n,
            }
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if number(14) < 108 {
            return Ok(Stated::Srgb);
        }
        match &head[70..74] {
            // Names of four letters in the byte order of numbers: PROFILE_EMBEDDED, 'MBED'.
            b"DEBM" if number(14) >= 124 => {
                let (start, length) = (14 + u64::from(number(126)), u64::from(number(130)));
                let mut profile = Vec::new();
                file.seek(SeekFrom::Start(start)).map_err(|e| Error::io(self.path, e))?;
                file.take(length.min(MAX_PROFILE)).read_to_end(&mut profile).map_err(|e| Error::io(self.path, e))?;
                Ok(Stated::Icc(profile))
            }
            b"KNIL" => {
                self.warn("has its colour profile in another file, which is not read, so its numbers are taken as sRGB");
                Ok(Stated::Srgb)
            }
            // LCS_CALIBRATED_RGB, with primaries; programs write it without them, too.
            [0, 0, 0, 0] if head[74..110].iter().any(|b| *b != 0) => {
                self.warn("has primaries in its header, which are not used, so its numbers are taken as sRGB");
                Ok(Stated::Srgb)
            }
            _ => Ok(Stated::Srgb),
        }
    }

    fn tiff(mut self) -> Result<Source<'a>> {
        let wrong = |e| damaged(self.path, "TIFF", e);
        let length = open_ordinary(self.path, WANTED)?.1;
        // The crate takes memory for the values of a tag before it looks whether the file has them.
        if !tags_lie_inside(&mut self.file()?, length).unwrap_or(false) {
            return Err(Error::format(self.path, "is a TIFF picture with tags that lie outside of the file: it is damaged or cut off"));
        }
        let mut tags = tiff::decoder::Decoder::new(self.file()?).map_err(|e| wrong(tiff_error(e)))?;
        let mut number = |tag: Tag| tags.find_tag_unsigned_vec::<u32>(tag).ok().flatten().and_then(|v| v.first().copied());
        // Cameras' raw pictures are TIFF files, the first picture of which is a small preview.
        let (raw, reduced) = (number(Tag::Unknown(50706)).is_some(), number(Tag::NewSubfileType).unwrap_or(0) & 1 == 1);
        if raw || reduced {
            let what =
                if raw { "a camera's raw picture (DNG)" } else { "a TIFF file that begins with a preview, as cameras' raw pictures do" };
            let convert = command(self.path, "darktable-cli IN OUT");
            return Err(Error::format(self.path, format!("is {what}, which is not read here; convert it first: {convert}")));
        }
        let alpha = match number(Tag::ExtraSamples) {
            Some(1) => Alpha::Premultiplied,
            Some(0) => Alpha::Ignored,
            _ => Alpha::Straight,
        };
        let calibrated = [318, 319, 301].into_iter().any(|t| matches!(tags.find_tag(Tag::Unknown(t)), Ok(Some(_))));
        let mut pages = 1;
        while tags.more_images() && tags.next_image().is_ok() {
            let reduced = tags.find_tag_unsigned::<u32>(Tag::NewSubfileType).ok().flatten().unwrap_or(0) & 1 == 1;
            pages += usize::from(!reduced);
            if pages > 1 {
                self.warnings.push(format!("{}: has several pages; its first is read", self.path.display()));
                break;
            }
        }
        let mut decoder = TiffDecoder::new(self.file()?).map_err(wrong)?;
        let orientation = decoder.orientation().map_err(wrong)?;
        let profile = decoder.icc_profile().map_err(wrong)?;
        let stated = match decoder.original_color_type() {
            ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16 => self.cmyk(profile),
            _ => {
                if profile.is_none() && calibrated {
                    self.warn("has tags of its primaries or its transfer function, which are not used: its numbers are taken as sRGB");
                }
                stated(profile)
            }
        };
        self.other(decoder, About { stated: vec![stated], orientation, alpha })
    }
}

/// Whether the values of all tags of a TIFF file of `length` bytes can be in it (TIFF 6.0, section 2; BigTIFF's offsets have 8 bytes).
fn tags_lie_inside(file: &mut BufReader<File>, length: u64) -> std::io::Result<bool> {
    /// Directories that are looked at; more hold no picture that is read.
    const DIRECTORIES: usize = 64;
    fn number(file: &mut BufReader<File>, bytes: usize, little: bool) -> std::io::Result<u64> {
        let mut digits = [0; 8];
        file.read_exact(&mut digits[..bytes])?;
        let value = digits[..bytes].iter();
        Ok(match little {
            true => value.rev().fold(0, |n, d| n << 8 | u64::from(*d)),
            false => value.fold(0, |n, d| n << 8 | u64::from(*d)),
        })
    }
    let mut head = [0; 4];
    file.read_exact(&mut head)?;
    let (little, big) = (head[0] == b'I', head[2] == 43 || head[3] == 43);
    let (word, count_size) = if big { (8, 8) } else { (4, 2) };
    if big {
        number(file, 4, little)?;
    }
    let mut at = number(file, word, little)?;
    for _ in 0..DIRECTORIES {
        if at == 0 {
            return Ok(true);
        }
        file.seek(SeekFrom::Start(at))?;
        for _ in 0..number(file, count_size, little)? {
            let (_tag, kind) = (number(file, 2, little)?, number(file, 2, little)?);
            let count = number(file, word, little)?;
            number(file, word, little)?;
            let size = match kind {
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 | 16 | 17 | 18 => 8,
                _ => 1,
            };
            if count.saturating_mul(size) > length {
                return Ok(false);
            }
        }
        at = number(file, word, little)?;
    }
    Ok(true)
}

fn tiff_error(e: tiff::TiffError) -> ImageError {
    match e {
        tiff::TiffError::IoError(e) => ImageError::IoError(e),
        e => ImageError::Decoding(image::error::DecodingError::new(image::ImageFormat::Tiff.into(), e)),
    }
}

fn stated(profile: Option<Vec<u8>>) -> Stated {
    profile.map_or(Stated::Srgb, Stated::Icc)
}

/// What a file says of its pixels beside their size.
struct About {
    /// First what counts most.
    stated: Vec<Stated>,
    orientation: Orientation,
    alpha: Alpha,
}

impl About {
    fn new(mut stated: Vec<Stated>, tags: exif::Tags) -> Self {
        if tags.adobe_rgb && stated.iter().all(|s| matches!(s, Stated::Srgb)) {
            stated = vec![Stated::AdobeRgb];
        }
        Self { stated, orientation: tags.orientation, alpha: Alpha::Straight }
    }
}
