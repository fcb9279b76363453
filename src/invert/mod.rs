//! Finding the latent of a picture: by optimisation, by an encoder ([`encode`]), or by both, one after the other ([`find`]).
//!
//! Optimisation of the latent itself, as in the StyleGAN2 paper (Karras et al. 2020, appendix D) with the extended latents of
//! Image2StyleGAN (Abdal et al. 2019): the distance is not a network's but that of the picture and its averages over 2 x 2 to 16 x 16
//! pixels, whose coarse levels pull where fine ones see nothing yet. A CLIP term may be added.

mod encode;
mod optimise;

pub use encode::{average_image, encode, encode_drawing, labels_input, picture_input, restyle, sketch_input, Round};
pub use optimise::{invert, invert_keeping};

use crate::error::{Error, Result};
use crate::nn::clip::Clip;
use crate::nn::encoders::Encoder;
use crate::nn::generator::{Generator, Latent};
use crate::picture::Picture;
use crate::progress::{Cancel, OnProgress};
use crate::settings::{self, setting, Kind, Listed, Setting, ANY, MANY};
use serde::{Deserialize, Serialize};

/// The latent space that is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// One w for all layers: keeps to what the generator likes to draw.
    W,
    /// A w for each layer, from the best one for all: comes closer to the picture.
    WPlus,
}

/// How the latent is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By the encoder where there is one, else by optimisation.
    Auto,
    /// By the encoder alone.
    Encode,
    /// By optimisation from the mean latent.
    Optimise,
    /// By optimisation from what the encoder gives.
    Both,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub method: Method,
    /// Passes of a ReStyle encoder; others have one.
    pub rounds: usize,
    pub space: Space,
    pub steps: usize,
    /// Adam's highest rate; it rises over the first twentieth of the steps and falls over the last half. In W+ both happen twice: three
    /// quarters of the steps search W, the last quarter lets the layers go, at a tenth of the rate.
    pub learning_rate: f64,
    /// Weight of the averages over 2, 4, 8 and 16 pixels beside the picture itself.
    pub pyramid_weight: f32,
    /// Weight of 1 - cos of the CLIP embeddings; needs a CLIP.
    pub clip_weight: f32,
    /// Optimises the noise maps too, regularised to stay white (Karras et al. 2020, appendix D), and shakes the latent at first.
    pub optimise_noise: bool,
    /// Weight of the noise regulariser.
    pub noise_regularisation: f32,
    /// Ends early once the picture is this close, in dB; 0 for never.
    pub enough_psnr: f32,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            method: Method::Auto,
            rounds: 5,
            space: Space::WPlus,
            steps: 600,
            learning_rate: 0.1,
            pyramid_weight: 1.0,
            clip_weight: 0.0,
            optimise_noise: false,
            noise_regularisation: 1e5,
            enough_psnr: 0.0,
            seed: 1,
        }
    }
}

impl Settings {
    /// `InvalidArgument` names the first setting that is out of range.
    pub fn check(&self) -> Result<()> {
        settings::check(self)
    }

    /// Whether there is an optimisation, with or without an encoder.
    pub fn optimises(&self, encoder: bool) -> bool {
        match self.method {
            Method::Auto => !encoder,
            Method::Encode => false,
            Method::Optimise | Method::Both => true,
        }
    }
}

impl Listed for Settings {
    const SETTINGS: &'static [Setting] = &[
        setting(
            "method",
            Kind::Choice(&["auto", "encode", "optimise", "both"]),
            "",
            "How the latent is found; auto: encode where there is an encoder, else optimise; both: optimise from what the encoder gives",
        ),
        setting("rounds", Kind::Count(1, 100), "passes", "Passes of a ReStyle encoder; others have one"),
        setting("space", Kind::Choice(&["w", "w_plus"]), "", "Latent space to search; w edits well, w_plus comes closer"),
        setting("steps", Kind::Count(1, MANY), "steps", "Steps at the most"),
        setting("learning_rate", Kind::Above(0.0, ANY), "", "Adam's highest learning rate"),
        setting("pyramid_weight", Kind::Within(0.0, ANY), "", "Weight of the picture's 2 to 16-fold averages beside the picture itself"),
        setting("clip_weight", Kind::Within(0.0, ANY), "", "Weight of 1 - cosine of the CLIP embeddings, by the first CLIP"),
        setting("optimise_noise", Kind::Flag, "", "Search the noise maps too"),
        setting("noise_regularisation", Kind::Within(0.0, ANY), "", "Weight that keeps the noise maps noise"),
        setting("enough_psnr", Kind::Within(0.0, ANY), "dB", "Stop once the picture is this good; 0 for never"),
        setting("seed", Kind::Count(0, MANY), "", "Seed of the noise that is added while searching"),
    ];
}

/// A picture's latent.
#[derive(Clone, Debug)]
pub struct Inversion {
    /// W+ [1, n_latent, style_dim] (from W: the same row everywhere), with noise maps where they were optimised.
    pub latent: Latent,
    /// Of the picture on [0, 1] values, in dB.
    pub psnr: f32,
    pub loss: f32,
    /// Steps done; of an encoder its rounds.
    pub steps: usize,
}

/// What a picture's latent is found with, beside the generator.
#[derive(Clone, Copy, Default)]
pub struct Tools<'a> {
    /// For [`Settings::method`].
    pub encoder: Option<&'a Encoder>,
    /// For [`Settings::clip_weight`].
    pub clip: Option<&'a Clip>,
}

/// The latent of `target` by the method of the settings. On an error, `Cancelled` too, `reached` gets the best latent so far, where there is one.
///
/// Errors: `InvalidArgument` (method) where it needs an encoder and there is none; those of [`encode`()] and [`invert`].
pub fn find(
    generator: &Generator,
    target: &Picture,
    tools: Tools,
    settings: &Settings,
    cancel: &Cancel,
    on_progress: &mut OnProgress,
    reached: &mut Option<Inversion>,
) -> Result<Inversion> {
    let encoder = match (tools.encoder, settings.method) {
        (_, Method::Optimise) | (None, Method::Auto) => {
            return invert_keeping(generator, target, tools.clip, settings, cancel, on_progress, reached)
        }
        (Some(encoder), _) => encoder,
        (None, method) => {
            let name = if method == Method::Both { "both" } else { "encode" };
            return Err(Error::argument(
                "method",
                format!("{name} needs an encoder, and none is given: neither a file nor one of the pack"),
            ));
        }
    };
    let encoded = encode(generator, encoder, target, settings, cancel, on_progress)?;
    if !settings.optimises(true) {
        return Ok(encoded);
    }
    let mut best = None;
    let found = optimise::search(generator, target, tools.clip, settings, Some(&encoded.latent.tensor), cancel, on_progress, &mut best);
    if found.is_err() {
        *reached = best.or(Some(encoded));
    }
    found
}
