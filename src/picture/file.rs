//! Picture files: what they hold, and their pixels as sRGB, whole or only the middle square.
//!
//! Nothing here is held as floats but the result: files are decoded row by row (PNG) or to 8 or 16 bits (the others), and go through the
//! conversion of colours and the shrinking in bands of rows.

use super::formats::open;
use super::frame::Region;
use super::input::Input;
use super::rows;
use super::shrink::Shrink;
use super::source::{Turned, Wanted};
use super::{check_size, Picture};
use crate::error::Result;
use image::metadata::Orientation;
use std::path::Path;

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
        Self::read(&Input::file(path))
    }

    /// As [`Picture::open_with_warnings`], of a file or of bytes in memory; also `Cancelled`.
    pub fn read(input: &Input) -> Result<(Self, Vec<String>)> {
        input.unless_cancelled(Self::read_whole(input))
    }

    fn read_whole(input: &Input) -> Result<(Self, Vec<String>)> {
        let mut source = open(input, Wanted::Whole)?;
        let (width, height) = source.seen();
        let warnings = std::mem::take(&mut source.warnings);
        let mut data = vec![0f32; width * height * 4];
        let place = Turned::new(source.orientation, source.width, source.height);
        let all = Region { x: 0, y: 0, width: source.width, height: source.height };
        let (layout, stored) = (source.layout, source.width);
        source.bands(all, |bands, first, bytes| {
            let length = layout.bytes(stored);
            if place.upright() {
                let out = &mut data[first * stored * 4..][..bytes.len() / length * stored * 4];
                return rows::fill(out, stored * 4, |i, out| {
                    out.copy_from_slice(&bands.row(&bytes[i * length..][..length], first + i)?);
                    Ok(())
                });
            }
            for (i, row) in rows::map(bytes, length, |i, bytes| bands.row(bytes, first + i))?.iter().enumerate() {
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
    /// Warnings and errors as [`Picture::open_with_warnings`], but files may have up to [`super::MAX_FILE_SIDE`] and [`super::MAX_FILE_PIXELS`].
    /// `InvalidArgument` where `most` is 0 or over [`super::MAX_SIDE`].
    pub fn open_square(path: &Path, most: usize) -> Result<(Self, Vec<String>)> {
        Self::read_square(&Input::file(path), most)
    }

    /// As [`Picture::open_square`], of a file or of bytes in memory; also `Cancelled`.
    pub fn read_square(input: &Input, most: usize) -> Result<(Self, Vec<String>)> {
        check_size("most", most, most.min(1))?;
        input.unless_cancelled(Self::read_middle(input, most))
    }

    fn read_middle(input: &Input, most: usize) -> Result<(Self, Vec<String>)> {
        let mut source = open(input, Wanted::Square)?;
        let warnings = std::mem::take(&mut source.warnings);
        let place = Turned::new(source.orientation, source.width, source.height);
        let square = place.square();
        let (from, to) = (square.width, square.width.min(most));
        check_size("square", to, to)?;
        let mut shrink = Shrink::new(from, to);
        let layout = source.layout;
        source.bands(square, |bands, first, bytes| {
            let narrow = rows::map(bytes, layout.bytes(from), |i, bytes| Ok(shrink.narrow(bands.row(bytes, first + i)?)))?;
            for (i, narrow) in narrow.iter().enumerate() {
                shrink.add(first + i, narrow);
            }
            Ok(())
        })?;
        Ok((shrink.finish().turned(place.orientation), warnings))
    }

    /// Width and height of a file's picture, turned as the file says. Only the header is read. Errors as [`Picture::open_square`].
    pub fn size_of_file(path: &Path) -> Result<(usize, usize)> {
        Ok(open(&Input::file(path), Wanted::Square)?.seen())
    }

    /// Reads a file to its end and says what it holds, without the whole in memory. Errors as [`Picture::open_square`].
    pub fn look_at(path: &Path) -> Result<FileInfo> {
        let mut source = open(&Input::file(path), Wanted::Square)?;
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
        let place = Turned::new(orientation, self.width, self.height);
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
    Ok(Input::file(path).format()?.is_some())
}
