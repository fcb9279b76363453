//! Options of adaptations: what is trained, how, and what judges it.

use super::clip::{nada_clip, ClipResizeNumber, CLIP_RESIZES};
use super::error::guard;
use super::handle::handle;
use super::image::nada_image;
use super::model::nada_model;
use super::options::{self, Options};
use super::status::{nada_status, Result};
use super::values::{choose, count32, flag, number_of, text};
use crate::adapt::{AutoLayers, LossWeights, Memory, Mode, Parameters, Phase, Settings, StopRule};
use crate::settings;
use std::ffi::c_char;

/// What an adaptation's memory is spent on.
#[repr(i32)]
pub enum nada_memory {
    /// A whole batch goes through the networks together.
    NADA_MEMORY_FAST = 0,
    /// Pictures go through them one at a time and are drawn anew for their way back: less memory, and slower.
    NADA_MEMORY_LOW = 1,
}

/// Which rules an adaptation follows.
#[repr(i32)]
pub enum nada_mode {
    /// The twins share noise and mixing, layers are numbered exactly, and the loss has a floor under the edit's length.
    NADA_MODE_DEFAULT = 0,
    /// The code published with StyleGAN-NADA, number by number.
    NADA_MODE_REFERENCE = 1,
}

/// What is trained, and what a domain stores.
#[repr(i32)]
pub enum nada_parameters {
    /// The weights themselves: domains as large as the generator.
    NADA_PARAMETERS_FULL = 0,
    /// An offset for each style channel: domains of kilobytes.
    NADA_PARAMETERS_STYLESPACE = 1,
}

/// Which convolutions are trained.
#[repr(i32)]
pub enum nada_phase {
    /// Every one.
    NADA_PHASE_CONVOLUTIONS = 0,
    /// Convolutions 2 to 9 (from 0) after the one at the lowest resolution.
    NADA_PHASE_TEXTURE = 1,
    /// Convolutions 0 and 1 after the one at the lowest resolution.
    NADA_PHASE_SHAPE = 2,
    /// Convolutions 0 to 2 after the one at the lowest resolution.
    NADA_PHASE_SHAPE_EXPANDED = 3,
    /// Convolutions 0 to 9 after the one at the lowest resolution.
    NADA_PHASE_NO_FINE = 4,
    /// Every one, and the mapping network and ToRGB.
    NADA_PHASE_ALL = 5,
}

/// A [`nada_mode`] as C passes it: any number.
pub type ModeNumber = i32;
/// A [`nada_parameters`] as C passes it: any number.
pub type ParametersNumber = i32;
/// A [`nada_phase`] as C passes it: any number.
pub type PhaseNumber = i32;

/// A [`nada_memory`] as C passes it: any number.
pub type MemoryNumber = i32;

const MEMORIES: [(i32, Memory); 2] =
    [(nada_memory::NADA_MEMORY_FAST as i32, Memory::Fast), (nada_memory::NADA_MEMORY_LOW as i32, Memory::Low)];

const MODES: [(i32, Mode); 2] =
    [(nada_mode::NADA_MODE_DEFAULT as i32, Mode::Default), (nada_mode::NADA_MODE_REFERENCE as i32, Mode::Reference)];

pub(super) const PARAMETERS: [(i32, Parameters); 2] = [
    (nada_parameters::NADA_PARAMETERS_FULL as i32, Parameters::Full),
    (nada_parameters::NADA_PARAMETERS_STYLESPACE as i32, Parameters::Stylespace),
];

const PHASES: [(i32, Phase); 6] = [
    (nada_phase::NADA_PHASE_CONVOLUTIONS as i32, Phase::Convolutions),
    (nada_phase::NADA_PHASE_TEXTURE as i32, Phase::Texture),
    (nada_phase::NADA_PHASE_SHAPE as i32, Phase::Shape),
    (nada_phase::NADA_PHASE_SHAPE_EXPANDED as i32, Phase::ShapeExpanded),
    (nada_phase::NADA_PHASE_NO_FINE as i32, Phase::NoFine),
    (nada_phase::NADA_PHASE_ALL as i32, Phase::All),
];

/// What an adaptation is to do. Filled by nada_adaptation_options_init() with settings for full-size generators, or by
/// nada_model_adaptation_options() with a pack's recipe. Everything pointed to is borrowed until the call that takes the options returns.
#[repr(C)]
pub struct nada_adaptation_options {
    /// sizeof(nada_adaptation_options) where the program was compiled.
    pub struct_size: usize,
    /// The pack that gives the CLIPs and templates where those below are none, and that knows which words mean something; may be NULL.
    pub model: *const nada_model,
    /// What pictures of the generator are, in words; or else pictures of it in source_images. Default: "a photo".
    pub source_text: *const c_char,
    pub source_images: *const *const nada_image,
    pub source_image_count: usize,
    /// What they are to become, in words; or else pictures of it in target_images. Default: none, one of the two must be set.
    pub target_text: *const c_char,
    pub target_images: *const *const nada_image,
    pub target_image_count: usize,
    /// What judges. Default: none, the model's.
    pub clips: *const *const nada_clip,
    /// The weight of each CLIP's losses; NULL (the default) for equal ones that sum to 1.
    pub clip_weights: *const f32,
    pub clip_count: usize,
    /// Sentences with one {} each that a text is put into. Default: none, the model's or else the 79 published ones.
    pub templates: *const *const c_char,
    pub template_count: usize,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Adam's second beta, in [0, 1).
    pub beta2: f64,
    /// Of everything that is drawn at random; the same seed gives the same domain on the same kind of device.
    pub seed: u64,
    pub mode: ModeNumber,
    pub parameters: ParametersNumber,
    pub phase: PhaseNumber,
    /// 1 to train ToRGB too: colours need it, on small generators most of all.
    pub train_to_rgb: u32,
    /// Adaptive layer selection: layers trained in each step. 0 for no selection.
    pub auto_layers_k: u32,
    /// Adaptive layer selection: steps that score the layers, 1 to 1000.
    pub auto_layers_iterations: u32,
    /// Adaptive layer selection: latents that are scored, 1 to 256.
    pub auto_layers_batch: u32,
    /// Steps at the most.
    pub steps: u32,
    /// Pictures a step, 1 to 256.
    pub batch: u32,
    /// Weight of the directional loss: the edit goes the way that the words go.
    pub losses_direction: f32,
    /// Weight of the global loss: pictures are what the target says.
    pub losses_global: f32,
    /// Weight of the manifold loss: pictures move as far as the words.
    pub losses_manifold: f32,
    /// Weight of the in-domain loss: pictures stay as different from one another as they were.
    pub losses_in_domain: f32,
    /// Weight of the structure loss: small grey pictures stay alike.
    pub losses_structure: f32,
    /// The cosine of small grey pictures, in [-1, 1], above which the structure loss is 0.
    pub structure_floor: f32,
    /// The least length of the edit in the directional loss's denominator (NADA_MODE_DEFAULT).
    pub floor: f32,
    /// The mean cosine between edit and direction, in (0, 1], at which the directional loss stops pushing; 1 for never.
    pub enough: f32,
    /// 1 to let the learning rate fall linearly, to nothing after the last step.
    pub decay: u32,
    /// Probability of style mixing in a batch.
    pub mixing: f32,
    /// Truncation of the training latents, in [0, 1.5]; 1 is none.
    pub truncation: f32,
    /// 1 for random flips, turns, scales, shifts and brightness before CLIP, the same for both twins.
    pub augment: u32,
    pub clip_resize: ClipResizeNumber,
    /// 1 for random noise in the synthesis layers, 0 for generators trained without.
    pub noise: u32,
    /// A snapshot every so many steps; 0 for none.
    pub snapshot_every: u32,
    /// Stop rule: latents that it judges on, at least 2. 0 for no stop rule.
    pub stop_latents: u32,
    /// Stop rule: steps between judgements.
    pub stop_every: u32,
    /// Stop rule: the least share, in [0, 1], of adapted pictures whose nearest unadapted one is their own.
    pub stop_pairing: f32,
    /// Stop rule: the least mean cosine, in [0, 1], of small grey pictures with the unadapted ones.
    pub stop_structure: f32,
    /// Stop rule: judgements below those shares, one after the other, that end the run.
    pub stop_patience: u32,
    /// Stop rule: the step from which a plateau ends the run.
    pub stop_earliest: u32,
    /// Stop rule: a gain in cosine to the target over stop_plateau_steps that is less than this is a plateau.
    pub stop_plateau: f32,
    pub stop_plateau_steps: u32,
    /// Latents whose unadapted pictures are drawn once and used again (NADA_MODE_DEFAULT), at least a batch of them, at most 4096. 0 for new ones
    /// in every step.
    pub pool: u32,
    /// The longer side, in pixels, of the generator's picture that is trained through: layers above stay as they are. 0 for the whole.
    pub train_resolution: u32,
    pub memory: MemoryNumber,
    /// Always 0.
    pub reserved: u32,
}

const SOURCE: &std::ffi::CStr = c"a photo";

impl nada_adaptation_options {
    fn from_settings(struct_size: usize, settings: &Settings) -> Self {
        // Every field by name: one that is added there must find its place here.
        let Settings {
            mode,
            parameters,
            phase,
            train_to_rgb,
            auto_layers,
            steps,
            batch,
            learning_rate,
            beta2,
            losses: LossWeights { direction, global, manifold, in_domain, structure },
            floor,
            enough,
            structure_floor,
            decay,
            mixing,
            truncation,
            augment,
            clip_resize,
            train_resolution,
            memory,
            noise,
            pool,
            seed,
            snapshot_every,
            stop,
        } = settings.clone();
        let AutoLayers { k, iterations, batch: auto_batch } = auto_layers.unwrap_or(AutoLayers { k: 0, iterations: 1, batch: 8 });
        let StopRule { latents, every, pairing, structure: stop_structure, patience, earliest, plateau, plateau_steps } =
            stop.unwrap_or(StopRule { latents: 0, ..StopRule::default() });
        Self {
            struct_size,
            model: std::ptr::null(),
            source_text: SOURCE.as_ptr(),
            source_images: std::ptr::null(),
            source_image_count: 0,
            target_text: std::ptr::null(),
            target_images: std::ptr::null(),
            target_image_count: 0,
            clips: std::ptr::null(),
            clip_weights: std::ptr::null(),
            clip_count: 0,
            templates: std::ptr::null(),
            template_count: 0,
            learning_rate,
            beta2,
            seed,
            mode: number_of(mode, &MODES).unwrap_or(-1),
            parameters: number_of(parameters, &PARAMETERS).unwrap_or(-1),
            phase: number_of(phase, &PHASES).unwrap_or(-1),
            train_to_rgb: train_to_rgb as u32,
            auto_layers_k: count32(k),
            auto_layers_iterations: count32(iterations),
            auto_layers_batch: count32(auto_batch),
            steps: count32(steps),
            batch: count32(batch),
            losses_direction: direction,
            losses_global: global,
            losses_manifold: manifold,
            losses_in_domain: in_domain,
            losses_structure: structure,
            structure_floor,
            floor,
            enough,
            decay: decay as u32,
            mixing,
            truncation,
            augment: augment as u32,
            clip_resize: number_of(clip_resize, &CLIP_RESIZES).unwrap_or(-1),
            noise: noise as u32,
            snapshot_every: count32(snapshot_every),
            stop_latents: count32(latents),
            stop_every: count32(every),
            stop_pairing: pairing,
            stop_structure,
            stop_patience: count32(patience),
            stop_earliest: count32(earliest),
            stop_plateau: plateau,
            stop_plateau_steps: count32(plateau_steps),
            memory: number_of(memory, &MEMORIES).unwrap_or(-1),
            reserved: 0,
            pool: count32(pool),
            train_resolution: count32(train_resolution),
        }
    }

    pub(super) fn settings(&self) -> Result<Settings> {
        let settings = self.unchecked()?;
        settings.check()?;
        Ok(settings)
    }

    /// Whatever is out of range.
    fn unchecked(&self) -> Result<Settings> {
        let auto_layers = (self.auto_layers_k > 0).then(|| self.auto_layers());
        let stop = (self.stop_latents > 0).then(|| self.stop());
        Ok(Settings {
            mode: choose(self.mode, "options.mode", "nada_mode", &MODES)?,
            parameters: choose(self.parameters, "options.parameters", "nada_parameters", &PARAMETERS)?,
            phase: choose(self.phase, "options.phase", "nada_phase", &PHASES)?,
            train_to_rgb: flag(self.train_to_rgb, "options.train_to_rgb")?,
            auto_layers,
            steps: self.steps as usize,
            batch: self.batch as usize,
            learning_rate: self.learning_rate,
            beta2: self.beta2,
            losses: LossWeights {
                direction: self.losses_direction,
                global: self.losses_global,
                manifold: self.losses_manifold,
                in_domain: self.losses_in_domain,
                structure: self.losses_structure,
            },
            floor: self.floor,
            enough: self.enough,
            structure_floor: self.structure_floor,
            decay: flag(self.decay, "options.decay")?,
            mixing: self.mixing,
            truncation: self.truncation,
            augment: flag(self.augment, "options.augment")?,
            clip_resize: choose(self.clip_resize, "options.clip_resize", "nada_clip_resize", &CLIP_RESIZES)?,
            noise: flag(self.noise, "options.noise")?,
            memory: choose(self.memory, "options.memory", "nada_memory", &MEMORIES)?,
            pool: self.pool as usize,
            train_resolution: self.train_resolution as usize,
            seed: self.seed,
            snapshot_every: self.snapshot_every as usize,
            stop,
        })
    }

    /// What the fields say, also where there is no selection.
    fn auto_layers(&self) -> AutoLayers {
        AutoLayers {
            k: self.auto_layers_k as usize,
            iterations: self.auto_layers_iterations as usize,
            batch: self.auto_layers_batch as usize,
        }
    }

    /// What the fields say, also where there is no rule.
    fn stop(&self) -> StopRule {
        StopRule {
            latents: self.stop_latents as usize,
            every: self.stop_every as usize,
            pairing: self.stop_pairing,
            structure: self.stop_structure,
            patience: self.stop_patience as usize,
            earliest: self.stop_earliest as usize,
            plateau: self.stop_plateau,
            plateau_steps: self.stop_plateau_steps as usize,
        }
    }

    /// These with `settings` instead of their own; tables that are left out keep their fields, for when they are wanted again.
    fn with(&self, settings: &Settings) -> Self {
        let kept = Settings {
            auto_layers: Some(settings.auto_layers.unwrap_or(AutoLayers { k: 0, ..self.auto_layers() })),
            stop: Some(settings.stop.unwrap_or(StopRule { latents: 0, ..self.stop() })),
            ..settings.clone()
        };
        Self {
            model: self.model,
            source_text: self.source_text,
            source_images: self.source_images,
            source_image_count: self.source_image_count,
            target_text: self.target_text,
            target_images: self.target_images,
            target_image_count: self.target_image_count,
            clips: self.clips,
            clip_weights: self.clip_weights,
            clip_count: self.clip_count,
            templates: self.templates,
            template_count: self.template_count,
            ..Self::from_settings(self.struct_size, &kept)
        }
    }
}

options::ends_with!(nada_adaptation_options, reserved: u32);

unsafe impl Options for nada_adaptation_options {
    const NAME: &'static str = "nada_adaptation_options";
    const FIRST_SIZE: usize = std::mem::offset_of!(Self, pool);
    fn defaults(struct_size: usize) -> Self {
        Self::from_settings(struct_size, &Settings::default())
    }
}

/// Fills `options` with settings for full-size generators; struct_size is sizeof(nada_adaptation_options).
/// nada_model_adaptation_options() fills it with a pack's recipe instead.
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_options_init(options: *mut nada_adaptation_options, struct_size: usize) -> nada_status {
    guard(|| options::write(options, struct_size, &nada_adaptation_options::defaults(struct_size)))
}

/// Fills `options` with the pack's recipe and sets its field `model`, so that the pack's CLIPs, prompt templates and words are used;
/// struct_size is sizeof(nada_adaptation_options). What is left to set is target_text.
/// Threads: any. Owner: `options` borrows the model. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_model_adaptation_options(
    model: *const nada_model,
    options: *mut nada_adaptation_options,
    struct_size: usize,
) -> nada_status {
    guard(|| {
        let pack = handle!(model).pack();
        let filled = nada_adaptation_options { model, ..nada_adaptation_options::from_settings(struct_size, &pack.settings()?) };
        options::write(options, struct_size, &filled)
    })
}

/// Sets one setting by its name, with a dot where the field has the first underscore of a group: "steps", "losses.structure",
/// "stop.pairing"; "stop" and "auto_layers" take "none", "stop" also "default". `value` is text: "400", "true", "texture". docs/settings.md lists all
/// with their ranges. Both are UTF-8.
/// Threads: any, one at a time for each struct. Fails, and leaves the struct as it was: NADA_INVALID_ARGUMENT (no such setting, with the
/// names like it; a value out of its range).
#[no_mangle]
pub unsafe extern "C" fn nada_adaptation_options_set(
    options: *mut nada_adaptation_options,
    name: *const c_char,
    value: *const c_char,
) -> nada_status {
    guard(|| {
        let (name, value) = (text(name, "name")?, text(value, "value")?);
        let given = options::read_given(options)?;
        let mut base = given.unchecked()?;
        // What the fields of a table say that is off counts once it is on.
        if base.auto_layers.is_none() && name.starts_with("auto_layers.") {
            base.auto_layers = Some(given.auto_layers());
        }
        if base.stop.is_none() && name.starts_with("stop.") {
            base.stop = Some(StopRule { latents: StopRule::default().latents, ..given.stop() });
        }
        options::check_held::<Settings>(name, value)?;
        let changed = settings::set(&base, name, value)?;
        options::write(options, given.struct_size, &given.with(&changed))
    })
}
