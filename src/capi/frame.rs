//! Frames: square parts of large pictures, turned by an angle, restyled and blended back where they are.

use super::call::{nada_call, Call};
use super::error::guard;
use super::generator::nada_generator;
use super::handle::{handle, into_raw, not_null, out};
use super::image::{nada_image, nada_pixels, nada_pixels_mut};
use super::inversion::{nada_inversion_options, Search};
use super::latent::nada_latent;
use super::options::{self, Options};
use super::render::{nada_render_options, Render};
use super::runtime::run_on_pictures;
use super::status::{nada_status, Failure, Result};
use super::values::{finite, flag, within};
use crate::memory::Need;
use crate::picture::frame::{Blend, Canvas, Frame, Hard};
use crate::pipeline::Restyle;
use std::cell::Cell;

/// A square in a picture, turned by an angle. Pixel (x, y) reaches from (x, y) to (x + 1, y + 1), from the top left.
#[repr(C)]
pub struct nada_frame {
    /// sizeof(nada_frame) where the program was compiled.
    pub struct_size: usize,
    /// In pixels; inside the picture.
    pub centre_x: f64,
    pub centre_y: f64,
    /// In pixels, from 1 to twice the picture's longer side. Where the frame reaches beyond the picture, the nearest pixels at its edge stand
    /// for what is not there.
    pub side: f64,
    /// In degrees, clockwise as one sees it: what leans to the right by so much in the picture is upright in the frame.
    pub angle: f64,
}

options::ends_with!(nada_frame, angle: f64);

unsafe impl Options for nada_frame {
    const NAME: &'static str = "nada_frame";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        Self { struct_size, centre_x: 0.0, centre_y: 0.0, side: 0.0, angle: 0.0 }
    }
}

/// Which part of a picture, and how what is drawn there blends with what was there.
#[repr(C)]
pub struct nada_frame_options {
    /// sizeof(nada_frame_options) where the program was compiled.
    pub struct_size: usize,
    /// What the generator sees. Borrowed for the call. NULL (the default) is the picture's largest centred square.
    pub frame: *const nada_frame,
    /// Pixels, from the edges of the frame inwards, over which what is drawn fades in; 0 for hard edges. Negative (the default): 1/16 of
    /// the frame's side. At most half the side counts.
    pub feather: f32,
    /// Of what is drawn, in [0, 1]. Default: 1.
    pub opacity: f32,
    /// 0 (the default): the frame becomes the source blended with what is drawn; alpha is the source's. 1: it becomes what is drawn alone,
    /// for a layer above the picture: its alpha is feather times opacity times the source's alpha. Needs a format with alpha.
    pub replace: u32,
    /// Edges of the frame that do not fade, a sum of nada_edge numbers: those at the border of the user's picture, where a fade would leave
    /// a rim of the old. Default: 0, all fade.
    pub hard_edges: u32,
}

/// Edges of a frame, as its picture has them; the numbers add up.
#[repr(i32)]
pub enum nada_edge {
    NADA_EDGE_LEFT = 1,
    NADA_EDGE_TOP = 2,
    NADA_EDGE_RIGHT = 4,
    NADA_EDGE_BOTTOM = 8,
}

options::ends_with!(nada_frame_options, hard_edges: u32);

unsafe impl Options for nada_frame_options {
    const NAME: &'static str = "nada_frame_options";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        Self { struct_size, frame: std::ptr::null(), feather: -1.0, opacity: 1.0, replace: 0, hard_edges: 0 }
    }
}

/// The share of the frame's side that is feathered by default.
const FEATHER: f32 = 1.0 / 16.0;

/// Pixels of the caller on their way to the thread that works, which alone uses them until the call returns.
pub(super) struct Lent<'a>(Canvas<'a>);

/// SAFETY: the caller's thread waits while the work has it, and a progress callback may not touch the pixels.
unsafe impl Send for Lent<'_> {}

impl<'a> Lent<'a> {
    /// By a method, so that closures take the whole of it.
    pub(super) fn canvas(self) -> Canvas<'a> {
        self.0
    }

    /// # Safety
    /// `pixels.data` holds pixels as the other fields say, which nobody else writes during `'a`, nor reads where this call writes them.
    pub(super) unsafe fn new(pixels: &nada_pixels, argument: &str) -> Result<Self> {
        let layout = pixels.layout(argument)?;
        let bytes = std::slice::from_raw_parts(pixels.data.cast::<Cell<u8>>(), layout.span()?);
        Ok(Self(Canvas::new(bytes, layout)?))
    }
}

/// A [`nada_frame_options`], checked: the frame in `pixels`, and how to blend.
unsafe fn read(options: *const nada_frame_options, pixels: Canvas) -> Result<(Frame, Blend)> {
    let o = options::read(options)?;
    let frame = match o.frame.is_null() {
        true => None,
        false => {
            let nada_frame { centre_x, centre_y, side, angle, .. } = options::read(o.frame)?;
            Some(Frame { centre: [centre_x, centre_y], side, angle })
        }
    };
    let frame = pixels.frame(frame)?;
    let feather = match finite(o.feather, "options.feather")? {
        f if f < 0.0 => frame.side as f32 * FEATHER,
        f => f,
    };
    let opacity = within(o.opacity, 0.0, 1.0, "options.opacity")?;
    let edge = |edge: nada_edge| o.hard_edges & edge as u32 != 0;
    if o.hard_edges > 15 {
        return Err(Failure::argument(
            "options.hard_edges",
            format_args!("{} must be a sum of nada_edge numbers, at most 15", o.hard_edges),
        ));
    }
    let hard = Hard {
        left: edge(nada_edge::NADA_EDGE_LEFT),
        top: edge(nada_edge::NADA_EDGE_TOP),
        right: edge(nada_edge::NADA_EDGE_RIGHT),
        bottom: edge(nada_edge::NADA_EDGE_BOTTOM),
    };
    Ok((frame, Blend { feather, hard, opacity, replace: flag(o.replace, "options.replace")? }))
}

/// Fills `options` with the defaults; struct_size is sizeof(nada_frame_options).
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_frame_options_init(options: *mut nada_frame_options, struct_size: usize) -> nada_status {
    guard(|| options::write(options, struct_size, &nada_frame_options::defaults(struct_size)))
}

/// Restyles a part of a picture where it is: the frame is inverted, drawn with the domains of `render`, resampled (bicubic) and blended into
/// `target`, which has the size of `source` and any format, and may be the same pixels (but must not overlap them otherwise). Pixels that the
/// frame does not cover are not touched. Colours blend as sRGB numbers. Nothing is written before everything is computed. Only the frame is read
/// and converted, a part at a time: the memory that it takes does not grow with the picture. `options` may be NULL for the largest centred
/// square; the others as for nada_generator_restyle(). To draw one picture several times, as a slider does: nada_image_from_frame(),
/// nada_generator_invert(), and then nada_generator_render_frame().
/// Threads: any, while no other one uses the pixels. Owner: pixels are borrowed for the call.
/// Fails: NADA_INVALID_ARGUMENT (also a frame outside of the picture, and pixels in it that are not finite), and as
/// nada_generator_restyle(); the target is then as it was.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_restyle_frame(
    generator: *const nada_generator,
    source: *const nada_pixels,
    options: *const nada_frame_options,
    inversion: *const nada_inversion_options,
    render: *const nada_render_options,
    call: *const nada_call,
    target: *const nada_pixels_mut,
) -> nada_status {
    guard(|| {
        let g = handle!(generator);
        not_null!(source, target);
        let (source, target) = (Lent::new(&*source, "source")?, Lent::new(&(*target).shared(), "target")?);
        let (frame, blend) = read(options, source.0)?;
        let Search { settings, clip, encoder, cancel, callback } = Search::read(g, inversion, call)?;
        let Render { domains, drawing } = Render::read_after_search(render)?;
        g.runtime.admit(Need::drawing(g.generator.config(), 1, &domains))?;
        let (clip, encoder) = (clip.as_deref(), encoder.as_deref());
        let restyle = Restyle { generator: &g.generator, domains: &domains, inversion: &settings, clip, encoder, drawing };
        g.runtime.run_reporting(&callback, |report| restyle.run_frame(source.canvas(), frame, &blend, target.canvas(), &cancel, report))?;
        Ok(())
    })
}

/// As nada_generator_restyle_frame() with a latent that is known: draws its one point into the frame. `options`, `render` and `call` may be
/// NULL; a NULL `render` draws without noise (or with the latent's own maps).
/// Threads: any, while no other one uses the pixels. Owner: pixels are borrowed for the call.
/// Fails: NADA_INVALID_ARGUMENT, and as nada_generator_render(); the target is then as it was.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_render_frame(
    generator: *const nada_generator,
    source: *const nada_pixels,
    options: *const nada_frame_options,
    latent: *const nada_latent,
    render: *const nada_render_options,
    call: *const nada_call,
    target: *const nada_pixels_mut,
) -> nada_status {
    guard(|| {
        let (g, latent) = (handle!(generator), handle!(latent));
        not_null!(source, target);
        let (source, target) = (Lent::new(&*source, "source")?, Lent::new(&(*target).shared(), "target")?);
        let (frame, blend) = read(options, source.0)?;
        let Render { domains, drawing } = Render::read_after_search(render)?;
        let Call { cancel, .. } = Call::read(call)?;
        g.runtime.admit(Need::drawing(g.generator.config(), 1, &domains))?;
        blend.check(source.0, target.0)?;
        g.runtime.run(|| {
            let picture = drawing.picture(&g.generator.with_domains_unless(&domains, &cancel)?, latent, &cancel)?;
            blend.draw(source.canvas(), frame, &picture, target.canvas())
        })
    })
}

/// A frame as an image, upright, to invert it; `max_size` is the most pixels that it has a side (nada_generator_size() is enough for that
/// generator), 0 for as many as the frame has. `frame` may be NULL for the largest centred square, and so may `call`.
/// Threads: any. Owner: `pixels` and `frame` are borrowed for the call; the caller frees *image with nada_image_free().
/// Fails: NADA_INVALID_ARGUMENT (also a frame outside of the picture, and pixels in it that are not finite), NADA_CANCELLED, NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_image_from_frame(
    pixels: *const nada_pixels,
    frame: *const nada_frame,
    max_size: u32,
    call: *const nada_call,
    image: *mut *mut nada_image,
) -> nada_status {
    guard(|| {
        out!(image);
        not_null!(pixels);
        let source = Lent::new(&*pixels, "pixels")?;
        let options = nada_frame_options { frame, ..nada_frame_options::defaults(size_of::<nada_frame_options>()) };
        let frame = read(&options, source.0)?.0;
        let most = if max_size == 0 { usize::MAX } else { max_size as usize };
        let side = most.min(frame.side.ceil() as usize);
        super::values::room_for(super::values::product(&[side, side, 4]), "image")?;
        let Call { cancel, .. } = Call::read(call)?;
        let picture = run_on_pictures(move || source.canvas().shrunk_unless(frame, most, &cancel))?;
        *image = into_raw(picture.into());
        Ok(())
    })
}
