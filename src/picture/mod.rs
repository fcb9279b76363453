//! Pictures in memory and on disk, the borrowed pixel buffers of other programs ([`pixels`]), and parts of large ones ([`frame`]).

mod colour;
mod exif;
mod file;
mod formats;
pub mod frame;
mod input;
mod jpeg;
pub mod pixels;
mod resample;
mod rows;
mod shrink;
mod source;
mod write;

pub use file::{is_picture, FileInfo};
pub use formats::{MAX_FILE_PIXELS, MAX_FILE_SIDE};
pub use input::Input;
pub use write::Encoding;

use crate::device::HOST;
use crate::error::{Error, Result};
use candle_core::{DType, Tensor};

/// The longest side a picture may have.
pub const MAX_SIDE: usize = 32_768;

/// The most pixels a picture may have: 1 GiB as [`Picture::data`].
pub const MAX_PIXELS: usize = 1 << 26;

/// An sRGB picture with straight (not premultiplied) alpha.
#[derive(Clone, PartialEq)]
pub struct Picture {
    /// In pixels, at least 1.
    pub width: usize,
    /// In pixels, at least 1.
    pub height: usize,
    /// R, G, B, A of each pixel in [0, 1], sRGB-encoded, rows from the top without padding: `width * height * 4` numbers.
    pub data: Vec<f32>,
}

/// Without the pixels.
impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Picture {} x {}", self.width, self.height)
    }
}

/// The number of pixels of a picture; `what` names it in the error that a zero or too large size gives.
pub(crate) fn check_size(what: &str, width: usize, height: usize) -> Result<usize> {
    if width == 0 || height == 0 {
        return Err(Error::argument(what, format!("{width} x {height} pixels is empty; both sides must be at least 1")));
    }
    let pixels = width.checked_mul(height);
    match pixels {
        Some(n) if n <= MAX_PIXELS && width <= MAX_SIDE && height <= MAX_SIDE => Ok(n),
        _ => Err(Error::argument(
            what,
            format!("{width} x {height} pixels is too large; at most {MAX_SIDE} on a side and {MAX_PIXELS} in all are supported"),
        )),
    }
}

impl Picture {
    /// A picture of one colour (R, G, B, A in [0, 1]).
    ///
    /// Errors: `InvalidArgument` for a side of 0 or a size over [`MAX_SIDE`] or [`MAX_PIXELS`].
    pub fn filled(width: usize, height: usize, colour: [f32; 4]) -> Result<Self> {
        let pixels = check_size("picture", width, height)?;
        Ok(Self { width, height, data: colour.repeat(pixels) })
    }

    /// The fields are public, so what reads `data` looks first whether it fits the size.
    fn check(&self) -> Result<usize> {
        let pixels = check_size("picture", self.width, self.height)?;
        if self.data.len() != pixels * 4 {
            return Err(Error::argument(
                "picture",
                format!("{} numbers for {} x {} pixels of 4", self.data.len(), self.width, self.height),
            ));
        }
        Ok(pixels)
    }

    /// Sample `index` of an image tensor [n, 1, 3 or 4, height, width], nominally in [-1, 1], clamped: grey becomes three equal colours, a fourth
    /// channel is alpha; else alpha is 1.
    ///
    /// Errors: `InvalidArgument` for another shape or an index out of range, `NotFinite` where a value is NaN or infinite.
    pub fn from_tensor(image: &Tensor, index: usize) -> Result<Self> {
        let &[n, channels @ (1 | 3 | 4), height, width] = image.dims() else {
            return Err(Error::argument("image", format!("shape {:?}; want [n, 1, 3 or 4, height, width]", image.dims())));
        };
        if index >= n {
            return Err(Error::argument("index", format!("{index} of a batch of {n}")));
        }
        let pixels = check_size("image", width, height)?;
        let planes = image.get(index)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if !planes.iter().all(|v| v.is_finite()) {
            return Err(Error::NotFinite(format!("picture {index} of the batch holds NaN or infinity")));
        }
        let mut data = Vec::with_capacity(pixels * 4);
        for i in 0..pixels {
            let value = |c: usize| ((planes[c * pixels + i] + 1.0) / 2.0).clamp(0.0, 1.0);
            data.extend([0, 1, 2].map(|c| value(if channels == 1 { 0 } else { c })));
            data.push(if channels == 4 { value(3) } else { 1.0 });
        }
        Ok(Self { width, height, data })
    }

    /// [1, 3, height, width] in [-1, 1], f32 on the CPU, composited over white.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let pixels = self.check()?;
        let mut planes = vec![0f32; pixels * 3];
        for (i, pixel) in self.data.chunks_exact(4).enumerate() {
            for (c, v) in over_white(pixel).into_iter().enumerate() {
                planes[c * pixels + i] = v * 2.0 - 1.0;
            }
        }
        Ok(Tensor::from_vec(planes, (1, 3, self.height, self.width), HOST)?)
    }

    /// R, G, B of each pixel in 8 bits, over white, rows from the top: `width * height * 3` numbers.
    pub fn to_rgb8(&self) -> Result<Vec<u8>> {
        self.check()?;
        let bits = |v: f32| (v.clamp(0.0, 1.0) * 255.0).round() as u8;
        Ok(self.data.chunks_exact(4).flat_map(|pixel| over_white(pixel).map(bits)).collect())
    }

    /// Separable, antialiased bicubic (Keys' a = -0.5, the kernel widened when shrinking), on premultiplied colours; clamped.
    pub fn resized(&self, width: usize, height: usize) -> Result<Self> {
        self.check()?;
        check_size("resized picture", width, height)?;
        Ok(resample::resize(self, width, height))
    }

    /// The rectangle of `width` x `height` pixels whose top left corner is (`left`, `top`).
    pub fn cropped(&self, left: usize, top: usize, width: usize, height: usize) -> Result<Self> {
        self.check()?;
        check_size("crop", width, height)?;
        let inside = |start: usize, length: usize, whole: usize| start.checked_add(length).is_some_and(|end| end <= whole);
        if !inside(left, width, self.width) || !inside(top, height, self.height) {
            return Err(Error::argument(
                "crop",
                format!("{width} x {height} at ({left}, {top}) does not lie in {} x {}", self.width, self.height),
            ));
        }
        let mut data = Vec::with_capacity(width * height * 4);
        for y in top..top + height {
            let start = (y * self.width + left) * 4;
            data.extend_from_slice(&self.data[start..start + width * 4]);
        }
        Ok(Self { width, height, data })
    }

    /// The largest centred square, resized to `size` x `size`.
    pub fn square(&self, size: usize) -> Result<Self> {
        let side = self.width.min(self.height);
        self.cropped((self.width - side) / 2, (self.height - side) / 2, side, side)?.resized(size, size)
    }

    /// Fails where the largest centred square shows nothing: `InvalidArgument`, "the picture is empty there".
    pub fn check_visible(&self) -> Result<()> {
        self.check()?;
        let side = self.width.min(self.height);
        let (left, top) = ((self.width - side) / 2, (self.height - side) / 2);
        let mut rows = self.data.chunks_exact(self.width * 4).skip(top).take(side);
        match rows.any(|row| row[left * 4..][..side * 4].chunks_exact(4).any(|p| p[3] > 0.0)) {
            true => Ok(()),
            false => Err(Error::argument("picture", "the picture is empty there: each pixel of its middle square is transparent")),
        }
    }

    /// The same colours, as transparent as the largest centred square of `picture`, resized to the size of this one; where this one is
    /// transparent itself, both count.
    ///
    /// Errors: `InvalidArgument` where `self` is not square.
    pub fn with_alpha_of(mut self, picture: &Picture) -> Result<Self> {
        if self.width != self.height {
            return Err(Error::argument("picture", format!("{} x {} is not square", self.width, self.height)));
        }
        self.check()?;
        let square = picture.square(self.width)?;
        for (p, from) in self.data.chunks_exact_mut(4).zip(square.data.chunks_exact(4)) {
            p[3] *= from[3];
        }
        Ok(self)
    }

    /// A grid of pictures of one size, row by row, `columns` a row, on white with [`SHEET_GAP`] pixels between them.
    ///
    /// Errors: `InvalidArgument` for no pictures, no columns, pictures of different sizes, or a sheet that is too large.
    pub fn contact_sheet(pictures: &[Picture], columns: usize) -> Result<Self> {
        let Some(first) = pictures.first() else {
            return Err(Error::argument("pictures", "none given; a contact sheet needs at least one"));
        };
        if columns == 0 {
            return Err(Error::argument("columns", "0; a contact sheet needs at least one"));
        }
        for (i, p) in pictures.iter().enumerate() {
            p.check()?;
            if (p.width, p.height) != (first.width, first.height) {
                return Err(Error::argument(
                    "pictures",
                    format!(
                        "picture {i} is {} x {}, the first {} x {}; all must be of one size",
                        p.width, p.height, first.width, first.height
                    ),
                ));
            }
        }
        let columns = columns.min(pictures.len());
        let rows = pictures.len().div_ceil(columns);
        let length = |count: usize, side: usize| count.saturating_mul(side).saturating_add((count - 1).saturating_mul(SHEET_GAP));
        let mut sheet = Self::filled(length(columns, first.width), length(rows, first.height), [1.0; 4])?;
        for (i, p) in pictures.iter().enumerate() {
            let (left, top) = (i % columns * (p.width + SHEET_GAP), i / columns * (p.height + SHEET_GAP));
            for (y, row) in p.data.chunks_exact(p.width * 4).enumerate() {
                let start = ((top + y) * sheet.width + left) * 4;
                sheet.data[start..start + row.len()].copy_from_slice(row);
            }
        }
        Ok(sheet)
    }
}

/// Pixels between the pictures of a contact sheet.
pub const SHEET_GAP: usize = 2;

/// The colour of a pixel (R, G, B, A) before white.
fn over_white(pixel: &[f32]) -> [f32; 3] {
    let a = pixel[3];
    // Exact for opaque pixels, so that 8-bit values survive a round trip.
    [0, 1, 2].map(|c| if a == 1.0 { pixel[c] } else { pixel[c] * a + (1.0 - a) })
}
