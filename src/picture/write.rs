//! Pictures into PNG and JPEG files, which say that their numbers are sRGB.

use super::{over_white, Picture};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::files::{write_atomically, Destination};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use moxcms::ColorProfile;
use png::{ScaledFloat, SourceChromaticities};
use std::path::Path;

/// Of 100.
const JPEG_QUALITY: u8 = 95;

/// What picture files can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 8 bits, lossless, with alpha where a pixel is not opaque.
    Png,
    /// 8 bits, lossy (quality 95, colours at full resolution), over white.
    Jpeg,
}

impl Encoding {
    /// By the path's ending, in capitals or not: .png, .jpg or .jpeg. A path without one (a device, a pipe) is for PNG.
    ///
    /// Errors: `InvalidArgument` for other endings; a caller that works for long asks before it begins.
    pub fn of(path: &Path) -> Result<Self> {
        let Some(ending) = path.extension() else { return Ok(Encoding::Png) };
        match ending.to_string_lossy().to_ascii_lowercase().as_str() {
            "" | "png" => Ok(Encoding::Png),
            "jpg" | "jpeg" => Ok(Encoding::Jpeg),
            _ => Err(Error::argument(
                path.display().to_string(),
                format!("ends in .{}; pictures are written as .png, .jpg or .jpeg", ending.to_string_lossy()),
            )),
        }
    }
}

impl Picture {
    /// The bytes of a file.
    ///
    /// Errors: `InvalidArgument` where the fields do not fit together.
    pub fn encoded(&self, encoding: Encoding) -> Result<Vec<u8>> {
        self.encoded_unless(encoding, &Cancel::new())
    }

    /// As [`Picture::encoded`]; `Cancelled` once the flag is raised, which is looked at with each row before they are packed.
    fn encoded_unless(&self, encoding: Encoding, cancel: &Cancel) -> Result<Vec<u8>> {
        match encoding {
            Encoding::Png => self.to_png_unless(cancel),
            Encoding::Jpeg => self.to_jpeg(cancel),
        }
    }

    /// Writes a file of the encoding that its name asks for ([`Encoding::of`]), to a temporary name in the same folder first, so that a
    /// failure leaves no half file.
    ///
    /// Errors: those of [`Encoding::of`] and [`Picture::encoded`]; `Io`, `NotFound` (its folder); `Cancelled` as [`Destination::unless`] says.
    pub fn save<'a>(&self, to: impl Into<Destination<'a>>) -> Result<()> {
        let to = to.into();
        write_atomically(to, &self.encoded_unless(Encoding::of(to.path())?, &to.cancel())?)
    }

    /// Whether every alpha is 1.
    pub fn is_opaque(&self) -> bool {
        self.data.chunks_exact(4).all(|p| p[3] == 1.0)
    }

    /// The bytes of an 8-bit PNG file: RGB when every alpha is 1, else RGBA.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        self.to_png_unless(&Cancel::new())
    }

    fn to_png_unless(&self, cancel: &Cancel) -> Result<Vec<u8>> {
        let pixels = self.check()?;
        let opaque = self.is_opaque();
        let channels = if opaque { 3 } else { 4 };
        let mut bytes = Vec::with_capacity(pixels * channels);
        for row in self.data.chunks_exact(self.width * 4) {
            cancel.check()?;
            row.chunks_exact(4).for_each(|pixel| bytes.extend(pixel[..channels].iter().map(|v| byte(*v))));
        }
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width as u32, self.height as u32);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_color(if opaque { png::ColorType::Rgb } else { png::ColorType::Rgba });
        encoder.set_compression(png::Compression::Fast);
        encoder.set_filter(png::Filter::Adaptive);
        encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
        // For readers that know no sRGB chunk, with the numbers that the PNG specification gives.
        encoder.set_source_gamma(ScaledFloat::from_scaled(45_455));
        let [wx, wy, rx, ry, gx, gy, bx, by] =
            [31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000].map(ScaledFloat::from_scaled);
        encoder.set_source_chromaticities(SourceChromaticities { white: (wx, wy), red: (rx, ry), green: (gx, gy), blue: (bx, by) });
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&bytes)?;
            writer.finish()
        });
        written.map_err(|e| Error::Internal(format!("encoding a PNG: {e}")))?;
        Ok(file)
    }

    /// Writes [`Picture::to_png`] whatever the path's ending, to a temporary name in the same folder first. `Cancelled` as [`Destination::unless`]
    /// says.
    pub fn save_png<'a>(&self, to: impl Into<Destination<'a>>) -> Result<()> {
        let to = to.into();
        write_atomically(to, &self.to_png_unless(&to.cancel())?)
    }

    /// The bytes of a JPEG file.
    fn to_jpeg(&self, cancel: &Cancel) -> Result<Vec<u8>> {
        let pixels = self.check()?;
        let mut bytes = Vec::with_capacity(pixels * 3);
        for row in self.data.chunks_exact(self.width * 4) {
            cancel.check()?;
            row.chunks_exact(4).for_each(|pixel| bytes.extend(over_white(pixel).map(byte)));
        }
        let internal = |e: String| Error::Internal(format!("encoding a JPEG: {e}"));
        let mut file = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
        encoder.set_icc_profile(srgb_profile()?).map_err(|e| internal(e.to_string()))?;
        encoder.write_image(&bytes, self.width as u32, self.height as u32, ExtendedColorType::Rgb8).map_err(|e| internal(e.to_string()))?;
        Ok(file)
    }
}

fn byte(v: f32) -> u8 {
    (v * 255.0).round() as u8
}

/// An ICC profile of sRGB.
fn srgb_profile() -> Result<Vec<u8>> {
    let mut profile = ColorProfile::new_srgb();
    // It says no more than the rest, and the crate writes that its range is limited.
    profile.cicp = None;
    profile.encode().map_err(|e| Error::Internal(format!("encoding the sRGB profile: {e}")))
}
