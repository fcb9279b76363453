//! Images: pixels of the host, of files and of generators.

use super::error::{guard, value};
use super::handle::{borrow, handle, into_raw, not_null, out, release, Handle};
use super::status::{nada_status, Failure, Result};
use super::values::{choose, count32, room_for};
use crate::picture::pixels::{self, Format, Layout, Transfer};
use crate::picture::Picture;
use std::ffi::{c_void, CString};
use std::ops::Deref;

/// A picture: sRGB with straight alpha, floats inside. Never changes once made.
pub struct nada_image(());

pub(super) struct LoadedImage {
    pub picture: Picture,
    /// What its file has that could not be honoured.
    pub warning: CString,
}

impl From<Picture> for LoadedImage {
    fn from(picture: Picture) -> Self {
        Self { picture, warning: CString::default() }
    }
}

impl Deref for LoadedImage {
    type Target = Picture;
    fn deref(&self) -> &Picture {
        &self.picture
    }
}

impl Handle for nada_image {
    type Value = LoadedImage;
    const NAME: &'static str = "nada_image";
}

/// How a pixel is stored; 16-bit and float channels in the machine's byte order, alpha straight (not premultiplied).
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum nada_pixel_format {
    /// 3 bytes: R, G, B.
    NADA_FORMAT_RGB8 = 0,
    /// 4 bytes: R, G, B, A.
    NADA_FORMAT_RGBA8 = 1,
    /// 4 bytes: B, G, R, A.
    NADA_FORMAT_BGRA8 = 2,
    /// 1 byte: grey.
    NADA_FORMAT_GRAY8 = 3,
    /// 6 bytes: R, G, B.
    NADA_FORMAT_RGB16 = 4,
    /// 8 bytes: R, G, B, A.
    NADA_FORMAT_RGBA16 = 5,
    /// 16 bytes: R, G, B, A as floats, nominally in [0, 1].
    NADA_FORMAT_RGBA32F = 6,
}

/// How colour numbers relate to light. Alpha is linear in both.
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum nada_transfer {
    /// The sRGB curve (IEC 61966-2-1).
    NADA_TRANSFER_SRGB = 0,
    /// Proportional to light, with sRGB's primaries.
    NADA_TRANSFER_LINEAR = 1,
}

/// Pixels of the caller, to read from. This struct is complete: it will not grow. No alignment is asked of `data` or `stride`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nada_pixels {
    /// The top left pixel.
    pub data: *const c_void,
    /// Bytes from the start of one row to the start of the next, at least a row's pixels.
    pub stride: usize,
    /// In pixels, at least 1.
    pub width: u32,
    /// In pixels, at least 1.
    pub height: u32,
    pub format: PixelFormat,
    pub transfer: TransferCurve,
}

/// Pixels of the caller, to write to; the same fields as nada_pixels.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nada_pixels_mut {
    /// The top left pixel.
    pub data: *mut c_void,
    /// Bytes from the start of one row to the start of the next, at least a row's pixels.
    pub stride: usize,
    /// In pixels, at least 1.
    pub width: u32,
    /// In pixels, at least 1.
    pub height: u32,
    pub format: PixelFormat,
    pub transfer: TransferCurve,
}

/// A [`nada_pixel_format`] as C passes it: any number.
pub type PixelFormat = i32;
/// A [`nada_transfer`] as C passes it: any number.
pub type TransferCurve = i32;

impl nada_pixels_mut {
    pub(super) fn shared(&self) -> nada_pixels {
        let Self { data, stride, width, height, format, transfer } = *self;
        nada_pixels { data, stride, width, height, format, transfer }
    }
}

impl nada_pixels {
    /// The layout; `argument` is what the caller passed these pixels as.
    pub(super) fn layout(&self, argument: &str) -> Result<Layout> {
        use {nada_pixel_format::*, nada_transfer::*};
        if self.data.is_null() {
            return Err(Failure::argument(&format!("{argument}.data"), "is NULL"));
        }
        let format = choose(
            self.format,
            &format!("{argument}.format"),
            "nada_pixel_format",
            &[
                (NADA_FORMAT_RGB8 as i32, Format::Rgb8),
                (NADA_FORMAT_RGBA8 as i32, Format::Rgba8),
                (NADA_FORMAT_BGRA8 as i32, Format::Bgra8),
                (NADA_FORMAT_GRAY8 as i32, Format::Gray8),
                (NADA_FORMAT_RGB16 as i32, Format::Rgb16),
                (NADA_FORMAT_RGBA16 as i32, Format::Rgba16),
                (NADA_FORMAT_RGBA32F as i32, Format::Rgba32F),
            ],
        )?;
        let transfer = choose(
            self.transfer,
            &format!("{argument}.transfer"),
            "nada_transfer",
            &[(NADA_TRANSFER_SRGB as i32, Transfer::Srgb), (NADA_TRANSFER_LINEAR as i32, Transfer::Linear)],
        )?;
        Ok(Layout { width: self.width as usize, height: self.height as usize, stride: self.stride, format, transfer })
    }
}

/// Copies pixels of the caller into an image. Floats outside [0, 1] are clamped; without an alpha channel the image is opaque.
/// Threads: any. Owner: `pixels` is borrowed for the call; the caller frees *image with nada_image_free().
/// Fails: NADA_INVALID_ARGUMENT (an empty or huge size, a stride shorter than a row, an unknown format, a pixel that is not finite),
/// NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_image_from_pixels(pixels: *const nada_pixels, image: *mut *mut nada_image) -> nada_status {
    guard(|| {
        out!(image);
        not_null!(pixels);
        let view = &*pixels;
        let layout = view.layout("pixels")?;
        let bytes = layout.bytes()?;
        room_for((layout.width * layout.height).checked_mul(4), "image")?;
        let bytes = std::slice::from_raw_parts(view.data.cast::<u8>(), bytes);
        *image = into_raw(pixels::read(bytes, &layout)?.into());
        Ok(())
    })
}

/// Copies an image into pixels of the caller, which have the image's size; integers are rounded to the nearest. Formats without alpha
/// get the image over white; grey is its luma. Bytes between the rows are left alone.
/// Threads: any, while no other one uses the pixels. Owner: `pixels` is borrowed for the call.
/// Fails: NADA_INVALID_ARGUMENT; the pixels are then as they were.
#[no_mangle]
pub unsafe extern "C" fn nada_image_to_pixels(image: *const nada_image, pixels: *const nada_pixels_mut) -> nada_status {
    guard(|| {
        let image = handle!(image);
        not_null!(pixels);
        let view = &*pixels;
        let layout = view.shared().layout("pixels")?;
        let bytes = std::slice::from_raw_parts_mut(view.data.cast::<u8>(), layout.bytes()?);
        Ok(pixels::write(image, bytes, &layout)?)
    })
}

/// In pixels; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_image_width(image: *const nada_image) -> u32 {
    value(0, || borrow(image, "image").map_or(0, |i| count32(i.width)))
}

/// In pixels; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_image_height(image: *const nada_image) -> u32 {
    value(0, || borrow(image, "image").map_or(0, |i| count32(i.height)))
}

/// Frees an image; NULL is allowed. Threads: any, once no other thread uses it.
#[no_mangle]
pub unsafe extern "C" fn nada_image_free(image: *mut nada_image) {
    release(image)
}
