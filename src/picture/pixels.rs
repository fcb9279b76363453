//! Borrowed pixel buffers of other programs, to and from [`Picture`].

use super::{check_size, over_white, Picture};
use crate::error::{Error, Result};

/// How a pixel is stored; 16-bit and float channels in the machine's byte order. Alpha is straight (not premultiplied).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Rgb8,
    Rgba8,
    Bgra8,
    Gray8,
    Rgb16,
    Rgba16,
    Rgba32F,
}

/// How colour numbers relate to light. Alpha is linear in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// IEC 61966-2-1.
    Srgb,
    /// Proportional to light, with sRGB's primaries.
    Linear,
}

/// What the bytes of a buffer mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub width: usize,
    pub height: usize,
    /// Bytes from one row's start to the next one's.
    pub stride: usize,
    pub format: Format,
    pub transfer: Transfer,
}

#[derive(Clone, Copy)]
enum Channel {
    U8,
    U16,
    F32,
}

impl Format {
    fn channel(self) -> Channel {
        match self {
            Format::Rgb8 | Format::Rgba8 | Format::Bgra8 | Format::Gray8 => Channel::U8,
            Format::Rgb16 | Format::Rgba16 => Channel::U16,
            Format::Rgba32F => Channel::F32,
        }
    }

    /// Position in a pixel of R, G, B and, where there is one, A.
    fn order(self) -> &'static [usize] {
        match self {
            Format::Gray8 => &[0, 0, 0],
            Format::Rgb8 | Format::Rgb16 => &[0, 1, 2],
            Format::Rgba8 | Format::Rgba16 | Format::Rgba32F => &[0, 1, 2, 3],
            Format::Bgra8 => &[2, 1, 0, 3],
        }
    }

    fn channels(self) -> usize {
        match self {
            Format::Gray8 => 1,
            format => format.order().len(),
        }
    }

    pub fn bytes_per_pixel(self) -> usize {
        self.channels() * self.channel().bytes()
    }

    pub fn has_alpha(self) -> bool {
        self.order().len() == 4
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self.channel(), Channel::F32)
    }

    /// R, G, B and A as they are stored, integers scaled to [0, 1]; 1 for an A that is not there.
    pub(super) fn load(self, pixel: &[u8]) -> [f32; 4] {
        let (channel, order) = (self.channel(), self.order());
        [0, 1, 2, 3].map(|c| order.get(c).map_or(1.0, |&position| channel.read(pixel, position)))
    }

    /// Without an alpha channel over white; grey is the luma.
    pub(super) fn store(self, rgba: [f32; 4], transfer: Transfer, pixel: &mut [u8]) {
        let channel = self.channel();
        match self {
            Format::Gray8 => {
                let [r, g, b] = over_white(&rgba);
                channel.write(pixel, 0, transfer.encoded(0.2126 * r + 0.7152 * g + 0.0722 * b));
            }
            Format::Rgb8 | Format::Rgb16 => {
                for (&position, v) in self.order().iter().zip(over_white(&rgba)) {
                    channel.write(pixel, position, transfer.encoded(v));
                }
            }
            Format::Rgba8 | Format::Bgra8 | Format::Rgba16 | Format::Rgba32F => {
                for (c, (&position, v)) in self.order().iter().zip(rgba).enumerate() {
                    channel.write(pixel, position, if c < 3 { transfer.encoded(v) } else { v });
                }
            }
        }
    }
}

impl Transfer {
    /// A stored colour as sRGB.
    pub(super) fn srgb(self, v: f32) -> f32 {
        match self {
            Transfer::Srgb => v,
            Transfer::Linear => encode(v),
        }
    }

    /// An sRGB colour as it is stored.
    fn encoded(self, v: f32) -> f32 {
        match self {
            Transfer::Srgb => v,
            Transfer::Linear => decode(v),
        }
    }
}

impl Channel {
    fn bytes(self) -> usize {
        match self {
            Channel::U8 => 1,
            Channel::U16 => 2,
            Channel::F32 => 4,
        }
    }

    /// Channel `i` of a pixel's bytes; integers scaled to [0, 1].
    fn read(self, pixel: &[u8], i: usize) -> f32 {
        match self {
            Channel::U8 => pixel[i] as f32 / 255.0,
            Channel::U16 => u16::from_ne_bytes([pixel[2 * i], pixel[2 * i + 1]]) as f32 / 65535.0,
            Channel::F32 => f32::from_ne_bytes([pixel[4 * i], pixel[4 * i + 1], pixel[4 * i + 2], pixel[4 * i + 3]]),
        }
    }

    /// Rounds to the nearest; `as` saturates.
    fn write(self, pixel: &mut [u8], i: usize, v: f32) {
        match self {
            Channel::U8 => pixel[i] = (v * 255.0).round() as u8,
            Channel::U16 => pixel[2 * i..2 * i + 2].copy_from_slice(&((v * 65535.0).round() as u16).to_ne_bytes()),
            Channel::F32 => pixel[4 * i..4 * i + 4].copy_from_slice(&v.to_ne_bytes()),
        }
    }
}

impl Layout {
    /// Rows without padding.
    pub fn packed(width: usize, height: usize, format: Format, transfer: Transfer) -> Self {
        Self { width, height, stride: width.saturating_mul(format.bytes_per_pixel()), format, transfer }
    }

    /// The least length of a buffer of this layout: the padding of the last row is not needed.
    ///
    /// Errors: `InvalidArgument` for an empty or too large picture, a stride shorter than a row, or a length that overflows.
    pub fn bytes(&self) -> Result<usize> {
        check_size("pixels", self.width, self.height)?;
        self.span()
    }

    /// As [`Layout::bytes`], for pictures of any size that has pixels.
    pub fn span(&self) -> Result<usize> {
        if self.width == 0 || self.height == 0 {
            return Err(Error::argument("pixels", format!("{} x {} pixels are none", self.width, self.height)));
        }
        let row = self.row();
        if self.stride < row {
            let message = format!("{} bytes, but a row of {} pixels {:?} takes {row}", self.stride, self.width, self.format);
            return Err(Error::argument("row stride", message));
        }
        let bytes = self.stride.checked_mul(self.height - 1).and_then(|n| n.checked_add(row));
        // A slice is never longer than isize::MAX bytes.
        bytes.filter(|&n| n <= isize::MAX as usize).ok_or_else(|| {
            Error::argument("row stride", format!("{} bytes in {} rows is more than the address space", self.stride, self.height))
        })
    }

    /// Bytes of the pixels of a row.
    fn row(&self) -> usize {
        self.width.saturating_mul(self.format.bytes_per_pixel())
    }

    fn check(&self, have: usize) -> Result<()> {
        let want = self.bytes()?;
        if have < want {
            let Self { width, height, stride, format, .. } = self;
            let message = format!("{have} bytes, but {width} x {height} pixels {format:?} in rows of {stride} bytes take {want}");
            return Err(Error::argument("pixels", message));
        }
        Ok(())
    }
}

/// sRGB to linear light (IEC 61966-2-1).
fn decode(v: f32) -> f32 {
    let v = v as f64;
    (if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }) as f32
}

/// Linear light to sRGB.
fn encode(v: f32) -> f32 {
    let v = v as f64;
    (if v <= 0.0031308 { v * 12.92 } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 }) as f32
}

/// What [`Format::load`] gave as a [`Picture`] has it: clamped, sRGB.
pub(super) fn unit(rgba: [f32; 4], transfer: Transfer) -> [f32; 4] {
    let [r, g, b, a] = rgba.map(|v| v.clamp(0.0, 1.0));
    [transfer.srgb(r), transfer.srgb(g), transfer.srgb(b), a]
}

/// Copies pixels into a picture. Floats outside [0, 1] are clamped; without an alpha channel alpha is 1.
///
/// Errors: `InvalidArgument` where the layout does not fit the buffer or a float is NaN or infinite.
pub fn read(bytes: &[u8], layout: &Layout) -> Result<Picture> {
    layout.check(bytes.len())?;
    let mut data = Vec::with_capacity(layout.width * layout.height * 4);
    for y in 0..layout.height {
        let row = &bytes[y * layout.stride..][..layout.row()];
        for (x, pixel) in row.chunks_exact(layout.format.bytes_per_pixel()).enumerate() {
            let rgba = layout.format.load(pixel);
            if !rgba.iter().all(|v| v.is_finite()) {
                return Err(Error::argument("pixels", format!("the pixel at ({x}, {y}) is not finite")));
            }
            data.extend(unit(rgba, layout.transfer));
        }
    }
    Ok(Picture { width: layout.width, height: layout.height, data })
}

/// Copies a picture into pixels of its size, rounding to the nearest value; bytes between the rows are left alone.
/// Formats without alpha get the picture over white; grey is the luma 0.2126 R + 0.7152 G + 0.0722 B of the sRGB values.
///
/// Errors: `InvalidArgument` where the layout does not fit the buffer or the picture.
pub fn write(picture: &Picture, bytes: &mut [u8], layout: &Layout) -> Result<()> {
    picture.check()?;
    layout.check(bytes.len())?;
    if (layout.width, layout.height) != (picture.width, picture.height) {
        let message = format!("{} x {} pixels for a picture of {} x {}", layout.width, layout.height, picture.width, picture.height);
        return Err(Error::argument("pixels", message));
    }
    let size = layout.format.bytes_per_pixel();
    for (y, row) in picture.data.chunks_exact(picture.width * 4).enumerate() {
        let out = &mut bytes[y * layout.stride..][..layout.row()];
        for (input, pixel) in row.chunks_exact(4).zip(out.chunks_exact_mut(size)) {
            layout.format.store([input[0], input[1], input[2], input[3]], layout.transfer, pixel);
        }
    }
    Ok(())
}
