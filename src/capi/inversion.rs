//! Inversion: the latent of a picture, and restyling in one call.

use super::call::{nada_call, Call, Callback};
use super::clip::nada_clip;
use super::encoder::nada_encoder;
use super::error::guard;
use super::generator::{nada_generator, LoadedGenerator};
use super::handle::{borrow, handle, into_raw, out};
use super::image::nada_image;
use super::latent::nada_latent;
use super::model::nada_model;
use super::options::{self, Options};
use super::render::{nada_render_options, Render};
use super::status::{nada_status, Failure, Result};
use super::values::{choose, flag, number_of, text};
use crate::invert::{find, Inversion, Method, Settings, Space, Tools};
use crate::memory::Need;
use crate::nn::clip::Clip;
use crate::nn::encoders::Encoder;
use crate::pipeline::Restyle;
use crate::progress::Cancel;
use crate::settings;
use std::ffi::c_char;
use std::sync::Arc;

/// How a latent is found.
#[repr(i32)]
pub enum nada_method {
    /// By options.encoder where there is one, else by optimisation.
    NADA_METHOD_AUTO = 0,
    /// By the encoder alone: a second, and somewhat less like the picture.
    NADA_METHOD_ENCODE = 1,
    /// By optimisation from the mean latent.
    NADA_METHOD_OPTIMISE = 2,
    /// By optimisation from what the encoder gives.
    NADA_METHOD_BOTH = 3,
}

/// A [`nada_method`] as C passes it: any number.
pub type MethodNumber = i32;

const METHODS: [(i32, Method); 4] = [
    (nada_method::NADA_METHOD_AUTO as i32, Method::Auto),
    (nada_method::NADA_METHOD_ENCODE as i32, Method::Encode),
    (nada_method::NADA_METHOD_OPTIMISE as i32, Method::Optimise),
    (nada_method::NADA_METHOD_BOTH as i32, Method::Both),
];

/// Options of nada_generator_invert(), nada_generator_restyle() and nada_generator_restyle_frame().
#[repr(C)]
pub struct nada_inversion_options {
    /// sizeof(nada_inversion_options) where the program was compiled.
    pub struct_size: usize,
    /// For the loss `clip_weight`; NULL (the default) without one. Borrowed for the call.
    pub clip: *const nada_clip,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Of the noise that is added while searching.
    pub seed: u64,
    /// Where to search: NADA_SPACE_W (edits well) or NADA_SPACE_W_PLUS (comes closer).
    pub space: super::latent::SpaceNumber,
    /// Steps at the most.
    pub steps: u32,
    /// Weight of the loss on the picture's 2 to 16-fold averages, beside that of its pixels.
    pub pyramid_weight: f32,
    /// Weight of 1 - cosine of the CLIP embeddings; above 0 needs `clip`.
    pub clip_weight: f32,
    /// 1 to optimise the noise maps too, regularised; they stay with the latent.
    pub optimise_noise: u32,
    /// Weight of the noise regulariser.
    pub noise_regularisation: f32,
    /// Stops once the picture is this good, in dB; 0 for never.
    pub enough_psnr: f32,
    /// Always 0.
    pub reserved: u32,
    /// For the methods that take one; NULL (the default) without one. Borrowed for the call.
    pub encoder: *const nada_encoder,
    /// How the latent is found: a nada_method.
    pub method: MethodNumber,
    /// Passes of a ReStyle encoder; others have one.
    pub rounds: u32,
}

const SPACES: [(i32, Space); 2] =
    [(super::latent::nada_space::NADA_SPACE_W as i32, Space::W), (super::latent::nada_space::NADA_SPACE_W_PLUS as i32, Space::WPlus)];

impl nada_inversion_options {
    pub(super) fn from_settings(struct_size: usize, settings: &Settings) -> Self {
        let Settings {
            method,
            rounds,
            space,
            steps,
            learning_rate,
            pyramid_weight,
            clip_weight,
            optimise_noise,
            noise_regularisation,
            enough_psnr,
            seed,
        } = *settings;
        Self {
            struct_size,
            clip: std::ptr::null(),
            learning_rate,
            seed,
            space: number_of(space, &SPACES).unwrap_or(-1),
            steps: super::values::count32(steps),
            pyramid_weight,
            clip_weight,
            optimise_noise: optimise_noise as u32,
            noise_regularisation,
            enough_psnr,
            reserved: 0,
            encoder: std::ptr::null(),
            method: number_of(method, &METHODS).unwrap_or(-1),
            rounds: super::values::count32(rounds),
        }
    }

    fn settings(&self) -> Result<Settings> {
        let settings = self.unchecked()?;
        settings.check()?;
        Ok(settings)
    }

    /// Whatever is out of range.
    fn unchecked(&self) -> Result<Settings> {
        Ok(Settings {
            method: choose(self.method, "options.method", "nada_method", &METHODS)?,
            rounds: self.rounds as usize,
            space: choose(self.space, "options.space", "space to invert into (NADA_SPACE_W or NADA_SPACE_W_PLUS)", &SPACES)?,
            steps: self.steps as usize,
            learning_rate: self.learning_rate,
            pyramid_weight: self.pyramid_weight,
            clip_weight: self.clip_weight,
            optimise_noise: flag(self.optimise_noise, "options.optimise_noise")?,
            noise_regularisation: self.noise_regularisation,
            enough_psnr: self.enough_psnr,
            seed: self.seed,
        })
    }
}

options::ends_with!(nada_inversion_options, rounds: u32);

unsafe impl Options for nada_inversion_options {
    const NAME: &'static str = "nada_inversion_options";
    const FIRST_SIZE: usize = std::mem::offset_of!(Self, encoder);
    fn defaults(struct_size: usize) -> Self {
        Self::from_settings(struct_size, &Settings::default())
    }
}

/// What an inversion needs beside generator and picture.
pub(super) struct Search {
    pub settings: Settings,
    pub clip: Option<Arc<Clip>>,
    pub encoder: Option<Arc<Encoder>>,
    pub cancel: Cancel,
    pub callback: Callback,
}

impl Search {
    /// With a look at the memory that the search needs.
    /// # Safety
    /// The pointers are NULL or as the functions below ask.
    pub unsafe fn read(g: &LoadedGenerator, options: *const nada_inversion_options, call: *const nada_call) -> Result<Self> {
        let options = options::read(options)?;
        let settings = options.settings()?;
        let clip = match options.clip.is_null() {
            true if settings.clip_weight > 0.0 => {
                return Err(Failure::argument("options.clip", "is NULL, but options.clip_weight is above 0"))
            }
            true => None,
            false => Some(borrow(options.clip, "options.clip")?.clip.clone()),
        };
        let encoder = match options.encoder.is_null() {
            true => None,
            false => Some(borrow(options.encoder, "options.encoder")?.encoder.clone()),
        };
        let clip_config = clip.as_ref().map(|c| c.config());
        g.runtime.admit(match settings.optimises(encoder.is_some()) {
            true => Need::inverting(g.generator.config(), &settings, clip_config),
            false => Need::drawing(g.generator.config(), 1, &[]),
        })?;
        let Call { cancel, callback } = Call::read(call)?;
        Ok(Self { settings, clip, encoder, cancel, callback })
    }
}

/// Fills `options` with the defaults; struct_size is sizeof(nada_inversion_options).
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_inversion_options_init(options: *mut nada_inversion_options, struct_size: usize) -> nada_status {
    guard(|| options::write(options, struct_size, &nada_inversion_options::defaults(struct_size)))
}

/// Fills `options` with the pack's settings of inversion; struct_size is sizeof(nada_inversion_options).
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_model_inversion_options(
    model: *const nada_model,
    options: *mut nada_inversion_options,
    struct_size: usize,
) -> nada_status {
    guard(|| {
        let settings = handle!(model).pack().invert_settings()?;
        options::write(options, struct_size, &nada_inversion_options::from_settings(struct_size, &settings))
    })
}

/// As nada_adaptation_options_set(): "steps", "clip_weight", "space".
/// Threads: any, one at a time for each struct. Fails, and leaves the struct as it was: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_inversion_options_set(
    options: *mut nada_inversion_options,
    name: *const c_char,
    value: *const c_char,
) -> nada_status {
    guard(|| {
        let (name, value) = (text(name, "name")?, text(value, "value")?);
        let given = options::read_given(options)?;
        options::check_held::<Settings>(name, value)?;
        let changed = settings::set(&given.unchecked()?, name, value)?;
        let made = nada_inversion_options {
            clip: given.clip,
            encoder: given.encoder,
            ..nada_inversion_options::from_settings(given.struct_size, &changed)
        };
        options::write(options, given.struct_size, &made)
    })
}

/// Finds the latent whose picture is `image` (any size: its largest centred square is resized): by optimisation from the mean latent, or as
/// options.method says. `options` and `call` may be NULL. *latent is one point of W+; *psnr (may be NULL) is how close it comes, in dB,
/// drawn with the noise maps that were found, or without noise (NADA_NOISE_NONE) where options.optimise_noise is 0. Progress of an encoder
/// counts its rounds.
/// Threads: any. Owner: the caller frees *latent with nada_latent_free().
/// Fails: NADA_INVALID_ARGUMENT (also a picture of which all pixels of the square are transparent, and a method that takes an encoder
/// without one), NADA_MISMATCH where the encoder's rows are not the generator's, NADA_CANCELLED, NADA_NOT_FINITE, NADA_OUT_OF_MEMORY.
#[no_mangle]
pub unsafe extern "C" fn nada_generator_invert(
    generator: *const nada_generator,
    image: *const nada_image,
    options: *const nada_inversion_options,
    call: *const nada_call,
    latent: *mut *mut nada_latent,
    psnr: *mut f32,
) -> nada_status {
    guard(|| {
        out!(latent);
        let (g, picture) = (handle!(generator), handle!(image));
        let Search { settings, clip, encoder, cancel, callback } = Search::read(g, options, call)?;
        let tools = Tools { encoder: encoder.as_deref(), clip: clip.as_deref() };
        let Inversion { latent: found, psnr: reached, .. } =
            g.runtime.run_reporting(&callback, |report| find(&g.generator, picture, tools, &settings, &cancel, report, &mut None))?;
        if !psnr.is_null() {
            *psnr = reached;
        }
        *latent = into_raw(found);
        Ok(())
    })
}

/// Restyles a picture in one call: inverts it, then renders what was found with the domains of `render`. `inversion`, `render`
/// and `call` may be NULL; a NULL `render` draws without noise, as the search does (or with the maps that it found). The
/// result has nada_generator_size() pixels a side, and is as transparent as the square of the image.
/// Threads: any. Owner: the caller frees *restyled with nada_image_free().
/// Fails: as nada_generator_invert() and nada_generator_render().
#[no_mangle]
pub unsafe extern "C" fn nada_generator_restyle(
    generator: *const nada_generator,
    image: *const nada_image,
    inversion: *const nada_inversion_options,
    render: *const nada_render_options,
    call: *const nada_call,
    restyled: *mut *mut nada_image,
) -> nada_status {
    guard(|| {
        out!(restyled);
        let (g, picture) = (handle!(generator), handle!(image));
        let Search { settings, clip, encoder, cancel, callback } = Search::read(g, inversion, call)?;
        let Render { domains, drawing } = Render::read_after_search(render)?;
        g.runtime.admit(Need::drawing(g.generator.config(), 1, &domains))?;
        let (clip, encoder) = (clip.as_deref(), encoder.as_deref());
        let restyle = Restyle { generator: &g.generator, domains: &domains, inversion: &settings, clip, encoder, drawing };
        let done = g.runtime.run_reporting(&callback, |report| restyle.run(picture, &cancel, report))?;
        *restyled = into_raw(done.picture.into());
        Ok(())
    })
}
