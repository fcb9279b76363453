//! Opens picture files of every format: what their headers say of size, colours and orientation, and the decoder of their pixels.

use super::check_size;
use super::colour::{icc_name, Colours, Stated};
use super::exif;
use super::input::{Bytes, Input};
use super::jpeg::Jpeg;
use super::source::{command, damaged, png_error, Alpha, Conversion, Pixels, RowLayout, Source, Wanted};
use crate::error::{Error, Result};
use crate::files::PictureFormat;
use crate::machine::admit_loading;
use image::codecs::{bmp::BmpDecoder, gif::GifDecoder, tiff::TiffDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{ColorType, ExtendedColorType, ImageDecoder, ImageError, Limits};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use tiff::tags::Tag;

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

/// What the readers of the formats have in common.
struct Opening<'a> {
    input: Input<'a>,
    path: &'a Path,
    wanted: Wanted,
    format: &'static str,
    warnings: Vec<String>,
}

/// Reads the header of a picture of a known format.
pub(super) fn open<'a>(input: &Input<'a>, wanted: Wanted) -> Result<Source<'a>> {
    let path = input.path;
    let known = input.format()?;
    let opening = |format| Opening { input: input.clone(), path, wanted, format, warnings: Vec::new() };
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

impl<'a> Opening<'a> {
    fn warn(&mut self, message: impl std::fmt::Display) {
        self.warnings.push(format!("{}: {message}", self.path.display()));
    }

    fn file(&self) -> Result<BufReader<Bytes>> {
        Ok(self.input.open()?.0)
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
        let layout = RowLayout { color, alpha: about.alpha };
        Source {
            path: self.path,
            format: self.format,
            width: size.0 as usize,
            height: size.1 as usize,
            orientation: about.orientation,
            layout,
            rows: Conversion { path: self.path, layout, colours },
            pixels,
            cancel: self.input.cancel,
            warnings: self.warnings,
        }
    }

    fn png_reader(&self) -> Result<png::Reader<BufReader<Bytes>>> {
        let limits = png::Limits { bytes: DECODERS_OWN as usize };
        let mut decoder = png::Decoder::new_with_limits(self.file()?, limits);
        decoder.set_transformations(png::Transformations::EXPAND);
        decoder.read_info().map_err(|e| png_error(self.path, e))
    }

    /// The kinds of the chunks before the pixels: the crate leaves damaged ones out without a word.
    fn png_chunks(&self) -> Result<Vec<[u8; 4]>> {
        let (mut file, mut kinds, mut head) = (self.file()?, Vec::new(), [0; 8]);
        let mut next = |file: &mut BufReader<Bytes>, skip: i64| {
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
        let (mut file, length) = self.input.open()?;
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
        // The decoder takes memory for what a chunk says of its length.
        let (mut file, length) = self.input.open()?;
        if !chunks_lie_inside(&mut file, length).map_err(|e| Error::io(self.path, e))? {
            return Err(Error::format(self.path, "is a WebP picture that is cut off"));
        }
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
        let length = self.input.open()?.1;
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

/// Whether every chunk of a RIFF file ends before the file does.
fn chunks_lie_inside(file: &mut BufReader<Bytes>, length: u64) -> std::io::Result<bool> {
    let mut at = 12;
    file.seek(SeekFrom::Start(at))?;
    while at + 8 <= length {
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let size = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        let whole = size + size % 2;
        if at + 8 + size > length {
            return Ok(false);
        }
        // In the buffer, where the next one lies there too.
        file.seek_relative(whole as i64)?;
        at += 8 + whole;
    }
    Ok(true)
}

/// Whether the values of all tags of a TIFF file of `length` bytes can be in it (TIFF 6.0, section 2; BigTIFF's offsets have 8 bytes).
fn tags_lie_inside(file: &mut BufReader<Bytes>, length: u64) -> std::io::Result<bool> {
    /// Directories that are looked at; more hold no picture that is read.
    const DIRECTORIES: usize = 64;
    fn number(file: &mut BufReader<Bytes>, bytes: usize, little: bool) -> std::io::Result<u64> {
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
