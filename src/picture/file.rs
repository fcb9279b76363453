//! PNG and JPEG files.

use super::{check_size, Picture};
use crate::checkpoint::write_atomically;
use crate::error::{Error, Result};
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

impl Picture {
    /// Reads a PNG or JPEG file of any depth, grey or coloured, with or without palette and alpha; the content decides, not the name.
    /// A JPEG's orientation tag is applied; colour profiles are not: the numbers are taken as sRGB.
    ///
    /// Errors: `NotFound` or `Io`; `Format` where the file is no picture, is damaged or is larger than [`super::MAX_PIXELS`], which is
    /// looked at before memory is taken.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        if file.metadata().map_err(|e| Error::io(path, e))?.is_dir() {
            return Err(Error::format(path, "is a folder; want a PNG or JPEG picture"));
        }
        let reader = ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(|e| Error::io(path, e))?;
        let format = match reader.format() {
            Some(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
            Some(other) => return Err(Error::format(path, format!("is a picture of the format {other:?}; want PNG or JPEG"))),
            None => return Err(Error::format(path, "is not a picture; want PNG or JPEG")),
        };
        let damaged = |e: ImageError| match e {
            ImageError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Error::io(path, e),
            e => Error::format(path, format!("is a {format:?} picture that cannot be read: {e}")),
        };
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        check_size("picture", width as usize, height as usize).map_err(|e| match e {
            Error::InvalidArgument { message, .. } => Error::format(path, message),
            e => e,
        })?;
        let orientation = decoder.orientation().map_err(damaged)?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        image.apply_orientation(orientation);
        let (width, height) = (image.width() as usize, image.height() as usize);
        Ok(Self { width, height, data: image.into_rgba32f().into_raw() })
    }

    /// The bytes of an 8-bit PNG file: RGB when every alpha is 1, else RGBA.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let pixels = self.check()?;
        let opaque = self.data.chunks_exact(4).all(|p| p[3] == 1.0);
        let channels = if opaque { 3 } else { 4 };
        let mut bytes = Vec::with_capacity(pixels * channels);
        for pixel in self.data.chunks_exact(4) {
            bytes.extend(pixel[..channels].iter().map(|v| (v * 255.0).round() as u8));
        }
        let colour = if opaque { ExtendedColorType::Rgb8 } else { ExtendedColorType::Rgba8 };
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&bytes, self.width as u32, self.height as u32, colour)
            .map_err(|e| Error::Internal(format!("encoding a PNG: {e}")))?;
        Ok(png)
    }

    /// Writes [`Picture::to_png`] to a temporary name in the same folder and renames it, so that a failure leaves no half file.
    pub fn save_png(&self, path: &Path) -> Result<()> {
        write_atomically(path, &self.to_png()?)
    }
}
