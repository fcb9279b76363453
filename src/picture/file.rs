//! PNG and JPEG files.

use super::{check_size, Picture};
use crate::error::{Error, Result};
use crate::files::open_ordinary;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

const WANTED: &str = "a PNG or JPEG picture";

impl Picture {
    /// Reads a PNG or JPEG file of any depth, grey or coloured, with or without palette and alpha; the content decides, not the name.
    /// A JPEG's orientation tag is applied; colour profiles are not: the numbers are taken as sRGB.
    ///
    /// Errors: `NotFound` or `Io`; `Format` where the file is no picture, is damaged or is larger than [`super::MAX_PIXELS`], which is
    /// looked at before memory is taken.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, _) = open_ordinary(path, WANTED)?;
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
        if format == ImageFormat::Jpeg && !jpeg_is_whole(path)? {
            // The decoder makes up what is missing.
            return Err(Error::format(path, "is a Jpeg picture that ends before its last row: it was cut off"));
        }
        image.apply_orientation(orientation);
        let (width, height) = (image.width() as usize, image.height() as usize);
        let data = rgba(image).ok_or_else(|| Error::format(path, "is a picture of an unknown kind; want grey or RGB, 8 or 16 bits"))?;
        Ok(Self { width, height, data })
    }
}

/// Channels as R, G, B, A in [0, 1]. By hand, as the crate's own conversion of grey is off by a rounding.
fn rgba(image: DynamicImage) -> Option<Vec<f32>> {
    fn scale<T: Copy>(values: &[T], channels: usize, to_unit: impl Fn(T) -> f32) -> Vec<f32> {
        let mut data = Vec::with_capacity(values.len() / channels * 4);
        for pixel in values.chunks_exact(channels) {
            let v = |c: usize| to_unit(pixel[c]);
            data.extend(match channels {
                1 => [v(0), v(0), v(0), 1.0],
                2 => [v(0), v(0), v(0), v(1)],
                3 => [v(0), v(1), v(2), 1.0],
                _ => [v(0), v(1), v(2), v(3)],
            });
        }
        data
    }
    let bytes = |values: &[u8], channels| Some(scale(values, channels, |v| v as f32 / 255.0));
    let words = |values: &[u16], channels| Some(scale(values, channels, |v| v as f32 / 65535.0));
    match image {
        DynamicImage::ImageLuma8(i) => bytes(&i, 1),
        DynamicImage::ImageLumaA8(i) => bytes(&i, 2),
        DynamicImage::ImageRgb8(i) => bytes(&i, 3),
        DynamicImage::ImageRgba8(i) => bytes(&i, 4),
        DynamicImage::ImageLuma16(i) => words(&i, 1),
        DynamicImage::ImageLumaA16(i) => words(&i, 2),
        DynamicImage::ImageRgb16(i) => words(&i, 3),
        DynamicImage::ImageRgba16(i) => words(&i, 4),
        // PNG and JPEG give none of the others.
        _ => None,
    }
}

/// Whether the file's markers lead to an end-of-image marker (ITU-T T.81, annex B), through every scan.
fn jpeg_is_whole(path: &Path) -> Result<bool> {
    let mut file = BufReader::new(open_ordinary(path, WANTED)?.0);
    let whole = walk_markers(&mut file);
    match whole {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(Error::io(path, e)),
    }
}

/// Reads up to and with the end-of-image marker; `UnexpectedEof` where there is none.
fn walk_markers(file: &mut impl BufRead) -> std::io::Result<()> {
    let mut byte = [0u8; 1];
    loop {
        // Coded data and padding up to the next marker: FF and a byte that is neither 00 (a coded FF) nor FF (padding).
        file.skip_until(0xFF)?;
        file.read_exact(&mut byte)?;
        while byte[0] == 0xFF {
            file.read_exact(&mut byte)?;
        }
        match byte[0] {
            0xD9 => return Ok(()),
            // Coded FF, TEM, restarts and start of image have no body.
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            _ => {
                let mut length = [0u8; 2];
                file.read_exact(&mut length)?;
                let body = u64::from(u16::from_be_bytes(length)).saturating_sub(2);
                let skipped = std::io::copy(&mut file.by_ref().take(body), &mut std::io::sink())?;
                if skipped < body {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}
