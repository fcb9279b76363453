//! Rendering: pictures of latents, with domains added to their generator.

use super::call::{nada_call, Call};
use super::domain::{nada_domain, with_strengths};
use super::error::guard;
use super::generator::{nada_generator, LoadedGenerator};
use super::handle::{handle, into_raw, not_null, out};
use super::image::nada_image;
use super::latent::{nada_latent, shape};
use super::options::{self, Options};
use super::status::{nada_status, Failure, Result};
use super::values::{choose, product, room_for, within};
use crate::adapt::Domain;
use crate::memory::Need;
use crate::pipeline::{Drawing, NoiseKind};
use std::sync::Arc;

/// The noise of the synthesis layers.
#[repr(i32)]
pub enum nada_noise {
    /// The maps that came with the generator.
    NADA_NOISE_CONST = 0,
    /// None.
    NADA_NOISE_NONE = 1,
    /// Drawn anew from a seed.
    NADA_NOISE_RANDOM = 2,
}

/// A [`nada_noise`] as C passes it: any number.
pub type NoiseNumber = i32;

/// Options of the functions that render and restyle.
#[repr(C)]
pub struct nada_render_options {
    /// sizeof(nada_render_options) where the program was compiled.
    pub struct_size: usize,
    /// Domains to add to the generator, all made from it. Borrowed for the call. Default: none.
    pub domains: *const *const nada_domain,
    /// The strength of each domain, in [0, 1.5]; NULL (the default) for 1 each.
    pub strengths: *const f32,
    pub domain_count: usize,
    /// The seed of NADA_NOISE_RANDOM. Default: 0.
    pub noise_seed: u64,
    /// Draws latents towards the mean: 1 (the default) leaves them, 0 gives the mean; at most 1.5.
    pub truncation: f32,
    /// For latents that bring no noise maps of their own. Default: NADA_NOISE_CONST.
    pub noise: NoiseNumber,
}

options::ends_with!(nada_render_options, noise: u32);

unsafe impl Options for nada_render_options {
    const NAME: &'static str = "nada_render_options";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        Self {
            struct_size,
            domains: std::ptr::null(),
            strengths: std::ptr::null(),
            domain_count: 0,
            noise_seed: 0,
            truncation: 1.0,
            noise: nada_noise::NADA_NOISE_CONST as i32,
        }
    }
}

/// A [`nada_render_options`], checked.
pub(super) struct Render<'a> {
    pub domains: Vec<(&'a Domain, f32)>,
    pub drawing: Drawing,
}

impl<'a> Render<'a> {
    /// # Safety
    /// `options` is NULL or filled as its documentation asks.
    pub unsafe fn read(options: *const nada_render_options) -> Result<Self> {
        let o = options::read(options)?;
        let noise = choose(
            o.noise,
            "options.noise",
            "nada_noise",
            &[
                (nada_noise::NADA_NOISE_CONST as i32, NoiseKind::Const),
                (nada_noise::NADA_NOISE_NONE as i32, NoiseKind::None),
                (nada_noise::NADA_NOISE_RANDOM as i32, NoiseKind::Random { seed: o.noise_seed }),
            ],
        )?;
        let truncation = within(o.truncation, 0.0, 1.5, "options.truncation")?;
        Ok(Self {
            domains: with_strengths(o.domains, o.strengths, o.domain_count)?,
            drawing: Drawing { truncation, noise, own_noise: true },
        })
    }

    /// As [`Render::read`] for latents that were searched for: without options they are drawn without noise, as the search does, or with
    /// the maps that it found.
    /// # Safety
    /// As [`Render::read`].
    pub unsafe fn read_after_search(options: *const nada_render_options) -> Result<Self> {
        let mut render = Self::read(options)?;
        if options.is_null() {
            render.drawing.noise = NoiseKind::None;
        }
        Ok(render)
    }
}

/// Fills `options` with the defaults; struct_size is sizeof(nada_render_options).
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_render_options_init(options: *mut nada_render_options, struct_size: usize) -> nada_status {
    guard(|| options::write(options, struct_size, &nada_render_options::defaults(struct_size)))
}

/// Makes a generator with domains added, for rendering many times: weights + sum of strength * change. Unchanged weights are shared.
/// `strengths` may be NULL for 1 each, and so may `call`.
/// Threads: any. Owner: arrays are borrowed for the call; the caller frees *adapted with nada_generator_free().
/// Fails: NADA_INVALID_ARGUMENT (a strength outside [0, 1.5]), NADA_MISMATCH (a domain of another generator), NADA_CANCELLED.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_with_domains(
    generator: *const nada_generator,
    domains: *const *const nada_domain,
    strengths: *const f32,
    domain_count: usize,
    call: *const nada_call,
    adapted: *mut *mut nada_generator,
) -> nada_status {
    guard(|| {
        out!(adapted);
        let g = handle!(generator);
        let domains = with_strengths(domains, strengths, domain_count)?;
        let Call { cancel, .. } = Call::read(call)?;
        let made = g.runtime.run(|| {
            cancel.check()?;
            g.generator.with_domains_unless(&domains, &cancel)
        })?;
        *adapted = into_raw(LoadedGenerator::new(g.runtime.clone(), Arc::new(made)));
        Ok(())
    })
}

/// Renders every point of a latent: `images` has room for `image_count` handles, which must be nada_latent_count(). `options` and
/// `call` may be NULL. Pictures have nada_generator_width() times nada_generator_height() pixels and are opaque, unless the generator
/// draws alpha.
/// Threads: any; the same generator, latent and domains may be rendered by several threads at once.
/// Owner: the caller frees each image with nada_image_free(); on failure all are NULL.
/// Fails: NADA_INVALID_ARGUMENT, NADA_MISMATCH (a domain of another generator), NADA_CANCELLED, NADA_OUT_OF_MEMORY,
/// NADA_NOT_FINITE.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_render(
    generator: *const nada_generator,
    latent: *const nada_latent,
    options: *const nada_render_options,
    call: *const nada_call,
    images: *mut *mut nada_image,
    image_count: usize,
) -> nada_status {
    guard(|| {
        not_null!(images);
        for i in 0..image_count {
            *images.add(i) = std::ptr::null_mut();
        }
        let (g, latent, render) = (handle!(generator), handle!(latent), Render::read(options)?);
        let Call { cancel, .. } = Call::read(call)?;
        let count = shape(latent)[0];
        if image_count != count {
            return Err(Failure::argument("image_count", format_args!("{image_count}, but the latent has {count} points")));
        }
        let c = g.generator.config();
        // The network's pictures and the ones handed out (4 channels).
        room_for(product(&[count, c.width(), c.height(), c.colours() + 4]), "pictures")?;
        g.runtime.admit(Need::drawing(g.generator.config(), count, &render.domains))?;
        let pictures = g.runtime.run(|| match render.domains.as_slice() {
            [] => render.drawing.pictures(&g.generator, latent, &cancel),
            domains => render.drawing.pictures(&g.generator.with_domains_unless(domains, &cancel)?, latent, &cancel),
        })?;
        for (i, picture) in pictures.into_iter().enumerate().take(image_count) {
            *images.add(i) = into_raw::<nada_image>(picture.into());
        }
        Ok(())
    })
}
