//! Parts of large pictures: restyled and blended back where they are.

use super::cancel::nada_cancel;
use super::context::processors;
use super::generator::{nada_generator, nada_render_options, Render};
use super::handle::{handle, into_raw, not_null, out};
use super::image::{nada_image, nada_pixels, nada_pixels_mut};
use super::inversion::{nada_inversion_options, Search};
use super::latent::nada_latent;
use super::options::{self, Options};
use super::progress::nada_progress_callback;
use super::runtime::Runtime;
use super::status::{guard, nada_status, Failure, Result};
use super::values::{finite, flag, within};
use crate::memory::Need;
use crate::picture::region::{Blend, Canvas, Hard, Region};
use crate::pipeline::Restyle;
use std::cell::Cell;
use std::ffi::c_void;

/// A rectangle of pixels, from the top left. This struct is complete: it will not grow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nada_region {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// Which part of a picture, and how what is drawn there blends with what was there.
#[repr(C)]
pub struct nada_region_options {
    /// sizeof(nada_region_options) where the program was compiled.
    pub struct_size: usize,
    /// The part that is processed, inside the picture; its largest centred square is what the generator sees. Default: all zero, the whole
    /// picture.
    pub region: nada_region,
    /// Pixels, from the edges of the square inwards, over which what is drawn fades in; 0 for hard edges. Negative (the default): 1/16 of
    /// the square's side. At most half the side counts.
    pub feather: f32,
    /// Of what is drawn, in [0, 1]. Default: 1.
    pub opacity: f32,
    /// 0 (the default): the region becomes the source blended with what is drawn; alpha is the source's. 1: it becomes what is drawn alone,
    /// for a layer above the picture: its alpha is feather times opacity times the source's alpha, and 0 outside of the square. Needs a
    /// format with alpha.
    pub replace: u32,
    /// Edges of the square that do not fade, a sum of nada_edge numbers: those at the border of the user's picture, where a fade would leave
    /// a rim of the old. Default: 0, all fade.
    pub hard_edges: u32,
}

/// Edges of a square; the numbers add up.
#[repr(u32)]
pub enum nada_edge {
    NADA_EDGE_LEFT = 1,
    NADA_EDGE_TOP = 2,
    NADA_EDGE_RIGHT = 4,
    NADA_EDGE_BOTTOM = 8,
}

options::ends_with!(nada_region_options, hard_edges: u32);

unsafe impl Options for nada_region_options {
    const NAME: &'static str = "nada_region_options";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        let region = nada_region { x: 0, y: 0, width: 0, height: 0 };
        Self { struct_size, region, feather: -1.0, opacity: 1.0, replace: 0, hard_edges: 0 }
    }
}

/// The share of the square's side that is feathered by default.
const FEATHER: f32 = 1.0 / 16.0;

/// Pixels of the caller on their way to the thread that works, which alone uses them until the call returns.
struct Lent<'a>(Canvas<'a>);

/// SAFETY: the caller's thread waits while the work has it, and a progress callback may not touch the pixels.
unsafe impl Send for Lent<'_> {}

impl<'a> Lent<'a> {
    /// By a method, so that closures take the whole of it.
    fn canvas(self) -> Canvas<'a> {
        self.0
    }

    /// # Safety
    /// `pixels.data` holds pixels as the other fields say, which nobody else writes during `'a`, nor reads where this call writes them.
    unsafe fn new(pixels: &nada_pixels, argument: &str) -> Result<Self> {
        let layout = pixels.layout(argument)?;
        let bytes = std::slice::from_raw_parts(pixels.data.cast::<Cell<u8>>(), layout.span()?);
        Ok(Self(Canvas::new(bytes, layout)?))
    }
}

/// A [`nada_region_options`], checked: the region in `pixels`, and how to blend.
unsafe fn read(options: *const nada_region_options, pixels: Canvas) -> Result<(Region, Blend)> {
    let o = options::read(options)?;
    let nada_region { x, y, width, height } = o.region;
    let whole = [x, y, width, height] == [0; 4];
    let part = Region { x: x as usize, y: y as usize, width: width as usize, height: height as usize };
    let region = pixels.region((!whole).then_some(part))?;
    let feather = match finite(o.feather, "options.feather")? {
        f if f < 0.0 => region.square().width as f32 * FEATHER,
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
    Ok((region, Blend { feather, hard, opacity, replace: flag(o.replace, "options.replace")? }))
}

/// Fills `options` with the defaults; struct_size is sizeof(nada_region_options).
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_region_options_init(options: *mut nada_region_options, struct_size: usize) -> nada_status {
    guard(|| options::write(options, struct_size, &nada_region_options::defaults(struct_size)))
}

/// Restyles a part of a picture where it is: the largest centred square of the region is inverted, drawn with the domains of `render`,
/// resampled (bicubic) and blended into `target`, which has the size of `source` and any format, and may be the same pixels (but must not
/// overlap them otherwise). Pixels outside of the region are not touched. Colours blend as sRGB numbers. Nothing is written before
/// everything is computed. Only the region is read and converted, in bands of rows: the memory that it takes does not grow with the
/// picture. `region` may be NULL for the whole; the others as for nada_generator_restyle(). To draw one picture several times, as a slider
/// does: nada_image_from_region(), nada_generator_invert(), and then nada_generator_render_region().
/// Threads: any, while no other one uses the pixels. Owner: pixels are borrowed for the call.
/// Fails: NADA_INVALID_ARGUMENT (also a region outside of the picture, and pixels in it that are not finite), and as
/// nada_generator_restyle(); the target is then as it was.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_restyle_region(
    generator: *const nada_generator,
    source: *const nada_pixels,
    region: *const nada_region_options,
    inversion: *const nada_inversion_options,
    render: *const nada_render_options,
    on_progress: nada_progress_callback,
    user_data: *mut c_void,
    cancel: *const nada_cancel,
    target: *const nada_pixels_mut,
) -> nada_status {
    guard(|| {
        let g = handle!(generator);
        not_null!(source, target);
        let (source, target) = (Lent::new(&*source, "source")?, Lent::new(&(*target).shared(), "target")?);
        let (part, blend) = read(region, source.0)?;
        let Search { settings, clip, cancel, callback } = Search::read(g, inversion, on_progress, user_data, cancel)?;
        let Render { domains, drawing } = Render::read_after_search(render)?;
        g.runtime.admit(Need::drawing(g.generator.config(), 1, &domains))?;
        let restyle = Restyle { generator: &g.generator, domains: &domains, inversion: &settings, clip: clip.as_deref(), drawing };
        g.runtime.run_reporting(&callback, |report| restyle.run_region(source.canvas(), part, &blend, target.canvas(), &cancel, report))?;
        Ok(())
    })
}

/// As nada_generator_restyle_region() with a latent that is known: draws its one point into the square of the region. `region` and `render`
/// may be NULL; a NULL `render` draws without noise (or with the latent's own maps).
/// Threads: any, while no other one uses the pixels. Owner: pixels are borrowed for the call.
/// Fails: NADA_INVALID_ARGUMENT, and as nada_generator_render(); the target is then as it was.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_render_region(
    generator: *const nada_generator,
    source: *const nada_pixels,
    region: *const nada_region_options,
    latent: *const nada_latent,
    render: *const nada_render_options,
    target: *const nada_pixels_mut,
) -> nada_status {
    guard(|| {
        let (g, latent) = (handle!(generator), handle!(latent));
        not_null!(source, target);
        let (source, target) = (Lent::new(&*source, "source")?, Lent::new(&(*target).shared(), "target")?);
        let (part, blend) = read(region, source.0)?;
        let Render { domains, drawing } = Render::read_after_search(render)?;
        g.runtime.admit(Need::drawing(g.generator.config(), 1, &domains))?;
        blend.check(source.0, target.0)?;
        g.runtime.run(|| {
            let picture = drawing.picture(&g.generator.with_domains(&domains)?, latent)?;
            blend.draw(source.canvas(), part, &picture, target.canvas())
        })
    })
}

/// The square of a region as an image, to invert it; `max_size` is the most pixels that it has a side (nada_generator_size() is enough for
/// that generator), 0 for as many as the square has. `region` may be NULL for the whole; of its fields only `region` counts.
/// Threads: any. Owner: `pixels` is borrowed for the call; the caller frees *image with nada_image_free().
/// Fails: NADA_INVALID_ARGUMENT (also a region outside of the picture, and pixels in it that are not finite), NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_image_from_region(
    pixels: *const nada_pixels,
    region: *const nada_region_options,
    max_size: u32,
    image: *mut *mut nada_image,
) -> nada_status {
    guard(|| {
        out!(image);
        not_null!(pixels);
        let source = Lent::new(&*pixels, "pixels")?;
        let square = read(region, source.0)?.0.square();
        let most = if max_size == 0 { square.width } else { max_size as usize };
        let side = most.min(square.width);
        super::values::room_for(super::values::product(&[side, side, 4]), "image")?;
        // An image belongs to no context, so this work has threads of its own for its length.
        let picture = Runtime::new(processors(), 0)?.run(move || source.canvas().shrunk(square, most))?;
        *image = into_raw(picture.into());
        Ok(())
    })
}
