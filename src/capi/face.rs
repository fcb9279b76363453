//! Faces in photos: found, cut out upright, and put back.

use super::call::{nada_call, Call};
use super::context::nada_context;
use super::error::{guard, value};
use super::frame::{nada_frame, Lent};
use super::handle::{borrow, handle, into_raw, not_null, out, release, Handle};
use super::image::{nada_image, nada_pixels, nada_pixels_mut};
use super::options::{self, Options};
use super::status::{nada_status, Failure};
use super::values::{finite, product, room_for};
use crate::face::{align_unless, Detector, Face, Paste, Photo, Quad, FEATHER};
use crate::picture::frame::Frame;
use crate::picture::{check_size, pixels, MAX_SIDE};

/// The faces that were found in a photo, the surest first. Never changes once made.
pub struct nada_faces(());

impl Handle for nada_faces {
    type Value = Vec<(Face, Quad)>;
    const NAME: &'static str = "nada_faces";
}

/// A face. All numbers count pixels from the top left corner of the top left one, as those of nada_frame do; they may lie beyond the photo.
#[repr(C)]
pub struct nada_face {
    /// As passed to nada_faces_get().
    pub struct_size: usize,
    /// Of its box.
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    /// x, y of the eye on the left as one sees it, the eye on the right, the tip of the nose, the left and the right corner of the mouth.
    pub points: [f64; 10],
    /// The square around it, turned as the face is, that generators trained on FFHQ or by its rule see: nada_frame's fields.
    pub centre_x: f64,
    pub centre_y: f64,
    pub side: f64,
    pub angle: f64,
    /// How sure the detector is, in (0, 1].
    pub score: f32,
    /// Always 0.
    pub reserved: u32,
}

options::ends_with!(nada_face, reserved: u32);

unsafe impl Options for nada_face {
    const NAME: &'static str = "nada_face";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        Self {
            struct_size,
            left: 0.0,
            top: 0.0,
            right: 0.0,
            bottom: 0.0,
            points: [0.0; 10],
            centre_x: 0.0,
            centre_y: 0.0,
            side: 0.0,
            angle: 0.0,
            score: 0.0,
            reserved: 0,
        }
    }
}

/// The photo of a caller's pixels, over white.
unsafe fn photo(pixels: &nada_pixels) -> super::status::Result<Photo> {
    let layout = pixels.layout("pixels")?;
    let bytes = layout.bytes()?;
    room_for(product(&[layout.width, layout.height, 5]), "photo")?;
    let bytes = std::slice::from_raw_parts(pixels.data.cast::<u8>(), bytes);
    Ok(Photo::of(&pixels::read(bytes, &layout)?)?)
}

/// Where a frame of the caller is; it may lie partly outside of the photo.
unsafe fn frame(frame: *const nada_frame, photo: &nada_pixels) -> super::status::Result<Quad> {
    let nada_frame { centre_x, centre_y, side, angle, .. } = options::read(frame)?;
    let most = 2.0 * f64::from(photo.width.max(photo.height));
    if ![centre_x, centre_y, angle].iter().all(|v| v.is_finite()) || !(1.0..=most).contains(&side) {
        let message = format_args!(
            "centre ({centre_x}, {centre_y}), side {side} and angle {angle} must be finite, and the side 1 to {most}, twice the photo's longer one"
        );
        return Err(Failure::argument("frame", message));
    }
    Ok(Quad::of_frame(&Frame { centre: [centre_x, centre_y], side, angle }))
}

/// Finds the faces of a photo, however they are turned. `min_face` is the least width of a face in pixels, from 12 on, which decides how long it
/// takes; 0 for 20, or a 25th of the photo's shorter side where that is more. A photo without a face is no failure: *faces is then empty. `call`
/// may be NULL; there are no steps, so nobody is told of progress.
/// Threads: any. Owner: `pixels` are borrowed for the call; the caller frees *faces with nada_faces_free().
/// Fails: NADA_INVALID_ARGUMENT, NADA_CANCELLED, NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_faces_find(
    context: *const nada_context,
    pixels: *const nada_pixels,
    min_face: u32,
    call: *const nada_call,
    faces: *mut *mut nada_faces,
) -> nada_status {
    guard(|| {
        out!(faces);
        let context = handle!(context);
        not_null!(pixels);
        let photo = photo(&*pixels)?;
        let Call { cancel, .. } = Call::read(call)?;
        let least = (min_face > 0).then_some(f64::from(min_face));
        let found = context.runtime.run(|| {
            let found = Detector::shipped()?.faces(&photo, least, &cancel)?;
            found.into_iter().map(|face| face.quad().map(|quad| (face, quad))).collect::<crate::Result<Vec<_>>>()
        })?;
        *faces = into_raw(found);
        Ok(())
    })
}

/// How many; 0 for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_faces_count(faces: *const nada_faces) -> usize {
    value(0, || borrow(faces, "faces").map_or(0, |found| found.len()))
}

/// Fills *face with a face, by its number from 0; struct_size is sizeof(nada_face).
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_faces_get(faces: *const nada_faces, index: usize, face: *mut nada_face, struct_size: usize) -> nada_status {
    guard(|| {
        let found = handle!(faces);
        let Some((of, quad)) = found.get(index) else {
            return Err(Failure::argument("index", format_args!("{index} of {} faces, which count from 0", found.len())));
        };
        let [left, top, right, bottom] = of.bounds.map(|v| v + 0.5);
        let mut points = [0.0; 10];
        points.iter_mut().zip(of.points.as_flattened()).for_each(|(to, v)| *to = v + 0.5);
        let Frame { centre: [centre_x, centre_y], side, angle } = quad.frame();
        let filled =
            nada_face { struct_size, left, top, right, bottom, points, centre_x, centre_y, side, angle, score: of.score, reserved: 0 };
        options::write(face, struct_size, &filled)
    })
}

/// Frees faces; NULL is allowed. Threads: any, once no other thread uses them.
#[no_mangle]
pub unsafe extern "C" fn nada_faces_free(faces: *mut nada_faces) {
    release(faces)
}

/// Cuts a frame out of a photo, upright, as an image of `size` pixels a side, as the pictures of FFHQ were made: what lies outside of the photo is
/// its mirror, blurred. `samples`: in how many steps a side each pixel is looked at; 4 as FFHQ did, 1 as the scripts of encoders do, 0 for 4. Up
/// to 8192 pixels and 16384 steps a side.
/// The frame's centre may lie outside of the photo. For a frame that is to be inverted by a generator of photos; nada_image_from_frame() is
/// for other pictures.
/// Threads: any. Owner: `pixels` and `frame` are borrowed for the call; the caller frees *image with nada_image_free().
/// Fails: NADA_INVALID_ARGUMENT (also a frame outside of the photo), NADA_CANCELLED, NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_image_from_face(
    context: *const nada_context,
    pixels: *const nada_pixels,
    frame: *const nada_frame,
    size: u32,
    samples: u32,
    call: *const nada_call,
    image: *mut *mut nada_image,
) -> nada_status {
    guard(|| {
        out!(image);
        let context = handle!(context);
        not_null!(pixels, frame);
        let quad = self::frame(frame, &*pixels)?;
        let photo = photo(&*pixels)?;
        let Call { cancel, .. } = Call::read(call)?;
        check_size("size", size as usize, size as usize)?;
        let samples = if samples == 0 { 4 } else { samples as usize };
        let sampled = samples.saturating_mul(size as usize);
        if sampled > MAX_SIDE / 2 {
            let message = format_args!("{samples} a side of {size} pixels are {sampled}, want {} at the most", MAX_SIDE / 2);
            return Err(Failure::argument("samples", message));
        }
        room_for(product(&[sampled; 2]), "image")?;
        let picture = context.runtime.run(|| align_unless(&photo, &quad, size as usize, sampled, &cancel)?.to_picture())?;
        *image = into_raw(picture.into());
        Ok(())
    })
}

/// Puts a drawn square back into a frame of `source` and writes the pixels around the frame, and no other, of `target`, which has the size of
/// `source` and any format, and may be the same pixels (but must not overlap them otherwise). `edit` fades in over `feather` of its side from its
/// edges, in (0, 0.5]; negative for 0.1. With a `reconstruction`, the same face as it is drawn without the edit, only the difference between the
/// two is added, and the photo keeps its own detail; NULL for the edit itself. Nothing is written before everything is known to be right.
/// Threads: any, while no other one uses the pixels. Owner: everything is borrowed for the call.
/// Fails: NADA_INVALID_ARGUMENT (also a frame outside of the photo, and pixels in it that are not finite); the target is then as it was.
#[no_mangle]
pub unsafe extern "C" fn nada_image_put_back(
    context: *const nada_context,
    source: *const nada_pixels,
    frame: *const nada_frame,
    edit: *const nada_image,
    reconstruction: *const nada_image,
    feather: f32,
    target: *const nada_pixels_mut,
) -> nada_status {
    guard(|| {
        let (context, edit) = (handle!(context), handle!(edit));
        not_null!(source, frame, target);
        let quad = self::frame(frame, &*source)?;
        let reconstruction = match reconstruction.is_null() {
            true => None,
            false => Some(&handle!(reconstruction).picture),
        };
        let feather = match finite(feather, "feather")? {
            f if f < 0.0 => FEATHER,
            f => f64::from(f),
        };
        let (source, target) = (Lent::new(&*source, "source")?, Lent::new(&(*target).shared(), "target")?);
        let paste = Paste { edit: &edit.picture, reconstruction, feather, hard: Default::default() };
        context.runtime.run(|| paste.draw(source.canvas(), &quad, target.canvas()))
    })
}
