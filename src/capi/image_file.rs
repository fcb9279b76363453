//! Image files: pictures that are read and written.

use super::call::{nada_call, Call};
use super::error::{guard, value};
use super::handle::{borrow, handle, into_raw, out};
use super::image::{nada_image, LoadedImage};
use super::log::Opening;
use super::runtime::run_on_pictures;
use super::status::{nada_status, Result};
use super::values::{bytes, c_string, path};
use crate::files::Destination;
use crate::picture::{Input, Picture, MAX_SIDE};
use std::ffi::{c_char, c_void};

/// An image of a file: the whole for None, else its middle square, of so many pixels a side at the most and 0 for all that it has.
/// # Safety
/// `call` is as [`nada_call`] asks.
unsafe fn open(input: Input, max_size: Option<u32>, call: *const nada_call) -> Result<LoadedImage> {
    let (Call { cancel, .. }, opening) = (Call::read(call)?, Opening::begin());
    let input = input.unless(&cancel);
    let (picture, warnings) = run_on_pictures(|| match max_size {
        None => Picture::read(&input),
        Some(0) => Picture::read_square(&input, MAX_SIDE),
        Some(size) => Picture::read_square(&input, (size as usize).min(MAX_SIDE)),
    })?;
    opening.end("picture", input.name().display(), format_args!("{} x {} px", picture.width, picture.height));
    warnings.iter().for_each(|warning| ::log::warn!(target: "nada", "{warning}"));
    Ok(LoadedImage { picture, warning: c_string(&warnings.join("\n")) })
}

/// Reads a PNG, JPEG, WebP, TIFF, BMP or GIF file of any depth; the content decides, not the name. Of an animation the first picture is
/// read. The image is turned as the file says, and its numbers become sRGB by what the file says of them: an ICC profile, PNG's cICP, gAMA
/// and cHRM, or a camera's mark. What could not be honoured: nada_image_warning(). `file` is UTF-8; `call` may be
/// NULL: its token is looked at between rows, and not in the middle of a decoder that holds the whole picture.
/// Threads: any. Owner: the caller frees *image with nada_image_free().
/// Fails: NADA_INVALID_ARGUMENT, NADA_NOT_FOUND, NADA_IO, NADA_CANCELLED, NADA_BAD_FORMAT (also a format that is not read, of which the
/// message says how to convert it, a file that is cut off, and more than 67108864 pixels: see nada_image_open_square()).
#[no_mangle]
pub unsafe extern "C" fn nada_image_open(file: *const c_char, call: *const nada_call, image: *mut *mut nada_image) -> nada_status {
    guard(|| {
        out!(image);
        *image = into_raw(open(Input::file(&path(file, "file")?), None, call)?);
        Ok(())
    })
}

/// As nada_image_open(), of the `size` bytes of a file that the program has in memory; `name` is what messages call them, NULL for "picture".
/// Threads: any. Owner: `data` and `name` are borrowed for the call; the caller frees *image with nada_image_free().
/// Fails: as nada_image_open(), and NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_image_open_memory(
    data: *const c_void,
    size: usize,
    name: *const c_char,
    call: *const nada_call,
    image: *mut *mut nada_image,
) -> nada_status {
    guard(|| {
        out!(image);
        let (bytes, name) = bytes(data, size, name, "picture")?;
        *image = into_raw(open(Input::memory(&name, bytes), None, call)?);
        Ok(())
    })
}

/// As nada_image_open(), but of the picture only its largest centred square, shrunk while it is read to at most `max_size` pixels a side
/// (nada_generator_size() is enough to invert it; 0: as many as the square has): photos of up to 268435456 pixels, without the whole as
/// floats in memory.
/// Threads: any. Owner: the caller frees *image with nada_image_free().
/// Fails: as nada_image_open().
#[no_mangle]
pub unsafe extern "C" fn nada_image_open_square(
    file: *const c_char,
    max_size: u32,
    call: *const nada_call,
    image: *mut *mut nada_image,
) -> nada_status {
    guard(|| {
        out!(image);
        *image = into_raw(open(Input::file(&path(file, "file")?), Some(max_size), call)?);
        Ok(())
    })
}

/// What the file of an image has that could not be honoured, in sentences for the user, one a line: a colour profile that cannot be used,
/// frames or pages that were left out, an end that is missing. "" where there is nothing to say, for images that are of no file, and for
/// NULL.
/// Threads: any. Owner: the image; valid until it is freed.
#[no_mangle]
pub unsafe extern "C" fn nada_image_warning(image: *const nada_image) -> *const c_char {
    value(c"".as_ptr(), || borrow(image, "image").map_or(c"".as_ptr(), |i| i.warning.as_ptr()))
}

/// Writes an 8-bit PNG file (RGB where every pixel is opaque, else RGBA) under a temporary name and renames it: a failure, also a cancelled
/// call, leaves what was there. `file` is UTF-8; `call` may be NULL.
/// Threads: any. Fails: NADA_INVALID_ARGUMENT, NADA_IO, NADA_NOT_FOUND (its folder), NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_image_save_png(image: *const nada_image, file: *const c_char, call: *const nada_call) -> nada_status {
    guard(|| {
        let (image, path, Call { cancel, .. }) = (handle!(image), path(file, "file")?, Call::read(call)?);
        Ok(image.save_png(Destination::from(&path).unless(&cancel))?)
    })
}
