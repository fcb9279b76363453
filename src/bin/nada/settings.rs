//! Flags for every setting of an adaptation and of an inversion; what is given wins over the pack's recipe.

use crate::models::by_name;
use clap::{ArgAction, Args};
use nada::adapt::{AutoLayers, ClipResize, Mode, Parameters, Phase, Settings};
use nada::{invert, Result};

#[derive(Args)]
#[command(next_help_heading = "Settings (each wins over the pack's recipe)")]
pub struct AdaptSettings {
    /// Steps at the most; a stop rule may end earlier
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Latents a step
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    #[arg(long, value_name = "RATE", help = "Adam's learning rate")]
    learning_rate: Option<f64>,
    /// Let the learning rate fall linearly, to nothing after the last step
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    decay: Option<bool>,
    #[arg(long, value_name = "BETA", help = "Adam's second beta")]
    beta2: Option<f64>,
    /// Seed of latents, noise and augmentation
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// default, or reference: the published code number by number
    #[arg(long, value_name = "MODE", value_parser = by_name::<Mode>)]
    mode: Option<Mode>,
    /// full: the weights; stylespace: an offset per style channel, which makes domains of kilobytes
    #[arg(long, value_name = "WHAT", value_parser = by_name::<Parameters>)]
    parameters: Option<Parameters>,
    /// Layers to train: convolutions, texture, shape, shape_expanded, no_fine or all
    #[arg(long, value_name = "PHASE", value_parser = by_name::<Phase>)]
    phase: Option<Phase>,
    /// Train ToRGB too, which colours need
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    train_to_rgb: Option<bool>,
    /// Train only the K layers that the target moves most, chosen anew each step
    #[arg(long, value_name = "K")]
    auto_layers: Option<usize>,
    /// Steps on W+ that score the layers [default: 1]
    #[arg(long, value_name = "N", requires = "auto_layers")]
    auto_iterations: Option<usize>,
    /// Latents that are scored [default: 8]
    #[arg(long, value_name = "N", requires = "auto_layers")]
    auto_batch: Option<usize>,
    /// Weight of the directional loss
    #[arg(long, value_name = "WEIGHT")]
    direction: Option<f32>,
    /// Weight of the global loss
    #[arg(long, value_name = "WEIGHT")]
    global: Option<f32>,
    /// Weight of the manifold loss
    #[arg(long, value_name = "WEIGHT")]
    manifold: Option<f32>,
    /// Weight of the in-domain loss, which keeps the pictures as different as they were
    #[arg(long, value_name = "WEIGHT")]
    in_domain: Option<f32>,
    /// Weight of the structure loss, which keeps light and dark where they were
    #[arg(long, value_name = "WEIGHT")]
    structure: Option<f32>,
    /// Cosine of light and dark from which on the structure loss is content
    #[arg(long, value_name = "COSINE")]
    structure_floor: Option<f32>,
    /// Cosine of edit and text from which on the directional loss is content; 1 for never
    #[arg(long, value_name = "COSINE")]
    enough: Option<f32>,
    /// Least length of an edit in the directional loss
    #[arg(long, value_name = "LENGTH")]
    floor: Option<f32>,
    /// Probability of style mixing
    #[arg(long, value_name = "P")]
    mixing: Option<f32>,
    /// Truncation of the training latents; 1 is none
    #[arg(long, value_name = "T")]
    truncation: Option<f32>,
    /// Random flips, turns, shifts and noise before CLIP
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    augment: Option<bool>,
    /// How pictures shrink to CLIP's size: antialias, aliased or area
    #[arg(long, value_name = "HOW", value_parser = by_name::<ClipResize>)]
    clip_resize: Option<ClipResize>,
    /// Random noise in the synthesis layers while training
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    training_noise: Option<bool>,
    /// A snapshot every N steps; 0 for none
    #[arg(long, value_name = "N")]
    snapshot_every: Option<usize>,
    /// Do all steps: no stop rule
    #[arg(long)]
    no_stop: bool,
    /// Stop rule: least share of pictures that still pair with their unadapted twin
    #[arg(long, value_name = "SHARE", conflicts_with = "no_stop")]
    stop_pairing: Option<f32>,
    /// Stop rule: least cosine of light and dark with the unadapted twin
    #[arg(long, value_name = "COSINE", conflicts_with = "no_stop")]
    stop_structure: Option<f32>,
    /// Stop rule: look every N steps
    #[arg(long, value_name = "N", conflicts_with = "no_stop")]
    stop_every: Option<usize>,
    /// Stop rule: look at N latents
    #[arg(long, value_name = "N", conflicts_with = "no_stop")]
    stop_latents: Option<usize>,
    /// Stop rule: end after N bad looks running
    #[arg(long, value_name = "N", conflicts_with = "no_stop")]
    stop_patience: Option<usize>,
    /// Stop rule: first step at which a standstill may end the run
    #[arg(long, value_name = "STEP", conflicts_with = "no_stop")]
    stop_earliest: Option<usize>,
    /// Stop rule: a gain in cosine of less than this is a standstill
    #[arg(long, value_name = "GAIN", conflicts_with = "no_stop")]
    stop_plateau: Option<f32>,
    /// Stop rule: steps over which a standstill is measured
    #[arg(long, value_name = "N", conflicts_with = "no_stop")]
    stop_plateau_steps: Option<usize>,
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(v) = given {
        *field = v;
    }
}

impl AdaptSettings {
    /// `recipe` with what was given. Errors name the setting that is out of range.
    pub fn over(&self, recipe: Settings) -> Result<Settings> {
        let mut s = recipe;
        set(&mut s.steps, self.steps);
        set(&mut s.batch, self.batch);
        set(&mut s.learning_rate, self.learning_rate);
        set(&mut s.beta2, self.beta2);
        set(&mut s.seed, self.seed);
        set(&mut s.mode, self.mode);
        set(&mut s.parameters, self.parameters);
        set(&mut s.phase, self.phase);
        set(&mut s.train_to_rgb, self.train_to_rgb);
        set(&mut s.losses.direction, self.direction);
        set(&mut s.losses.global, self.global);
        set(&mut s.losses.manifold, self.manifold);
        set(&mut s.losses.in_domain, self.in_domain);
        set(&mut s.losses.structure, self.structure);
        set(&mut s.structure_floor, self.structure_floor);
        set(&mut s.enough, self.enough);
        set(&mut s.decay, self.decay);
        set(&mut s.floor, self.floor);
        set(&mut s.mixing, self.mixing);
        set(&mut s.truncation, self.truncation);
        set(&mut s.augment, self.augment);
        set(&mut s.clip_resize, self.clip_resize);
        set(&mut s.noise, self.training_noise);
        set(&mut s.snapshot_every, self.snapshot_every);
        if let Some(k) = self.auto_layers {
            // The published training script's defaults.
            let (iterations, batch) = (self.auto_iterations.unwrap_or(1), self.auto_batch.unwrap_or(8));
            s.auto_layers = Some(AutoLayers { k, iterations, batch });
        }
        let mut stop = s.stop.unwrap_or_default();
        set(&mut stop.pairing, self.stop_pairing);
        set(&mut stop.structure, self.stop_structure);
        set(&mut stop.every, self.stop_every);
        set(&mut stop.latents, self.stop_latents);
        set(&mut stop.patience, self.stop_patience);
        set(&mut stop.earliest, self.stop_earliest);
        set(&mut stop.plateau, self.stop_plateau);
        set(&mut stop.plateau_steps, self.stop_plateau_steps);
        if self.no_stop {
            s.stop = None;
        } else if s.stop.is_some() || self.has_stop_flag() {
            s.stop = Some(stop);
        }
        s.check()?;
        Ok(s)
    }

    fn has_stop_flag(&self) -> bool {
        let counts = [self.stop_every, self.stop_latents, self.stop_patience, self.stop_earliest, self.stop_plateau_steps];
        let shares = [self.stop_pairing, self.stop_structure, self.stop_plateau];
        counts.iter().any(Option::is_some) || shares.iter().any(Option::is_some)
    }
}

#[derive(Args)]
#[command(next_help_heading = "Settings of the inversion (each wins over the pack's)")]
pub struct InvertSettings {
    /// Latent space to search: w or w_plus
    #[arg(long, value_name = "SPACE", value_parser = by_name::<invert::Space>)]
    invert_space: Option<invert::Space>,
    #[arg(long, value_name = "N", help = "Steps at the most")]
    invert_steps: Option<usize>,
    #[arg(long, value_name = "RATE", help = "Adam's learning rate at the start")]
    invert_learning_rate: Option<f64>,
    /// Weight of the picture's 2 to 16-fold averages beside the picture itself
    #[arg(long, value_name = "WEIGHT")]
    pyramid: Option<f32>,
    /// Weight of 1 - cosine of the CLIP embeddings, by the first CLIP
    #[arg(long, value_name = "WEIGHT")]
    clip_weight: Option<f32>,
    /// Search the noise maps too
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    optimise_noise: Option<bool>,
    /// Weight that keeps the noise maps noise
    #[arg(long, value_name = "WEIGHT")]
    noise_regularisation: Option<f32>,
    /// Stop once the picture is this good, in dB; 0 for never
    #[arg(long, value_name = "DB")]
    enough_psnr: Option<f32>,
    #[arg(long, value_name = "SEED", help = "Seed of the noise maps")]
    invert_seed: Option<u64>,
}

impl InvertSettings {
    /// `recipe` with what was given. Errors name the setting that is out of range.
    pub fn over(&self, recipe: invert::Settings) -> Result<invert::Settings> {
        let mut s = recipe;
        set(&mut s.space, self.invert_space);
        set(&mut s.steps, self.invert_steps);
        set(&mut s.learning_rate, self.invert_learning_rate);
        set(&mut s.pyramid, self.pyramid);
        set(&mut s.clip, self.clip_weight);
        set(&mut s.optimise_noise, self.optimise_noise);
        set(&mut s.noise_regularisation, self.noise_regularisation);
        set(&mut s.enough_psnr, self.enough_psnr);
        set(&mut s.seed, self.invert_seed);
        s.check()?;
        Ok(s)
    }
}
