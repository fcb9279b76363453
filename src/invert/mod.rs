//! Finding the latent of a picture. Owner: inversion. Interface fixed here:
use crate::error::Result;
use crate::nn::clip::Clip;
use crate::nn::stylegan2::{Generator, Latent};
use crate::picture::Picture;
use crate::progress::{Cancel, OnProgress};

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    W,
    WPlus,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    pub space: Space,
    pub steps: usize,
    pub learning_rate: f64,
    /// Weight of the mean over pyramid levels (2 to 16-fold averages) beside the pixel loss.
    pub pyramid: f32,
    /// Weight of 1 - cos of the CLIP embeddings; needs a CLIP.
    pub clip: f32,
    /// Optimises the noise maps too, regularised (Karras et al. 2020, appendix D).
    pub optimise_noise: bool,
    /// Weight of the noise regulariser.
    pub noise_regularisation: f32,
    /// Stops early once the picture is this good, in dB; 0 for never.
    pub enough_psnr: f32,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        todo!()
    }
}

pub struct Inversion {
    /// [1, n_latent, style_dim] (W is broadcast), with noise maps where they were optimised.
    pub latent: Latent,
    /// dB, peak 1 on [0, 1] values.
    pub psnr: f32,
    pub loss: f32,
    pub steps: usize,
}

/// Finds the latent whose picture is `target` (any size; squared and resized to the generator's).
pub fn invert(
    _generator: &Generator,
    _target: &Picture,
    _clip: Option<&Clip>,
    _settings: &Settings,
    _cancel: &Cancel,
    _on_progress: &mut OnProgress,
) -> Result<Inversion> {
    todo!()
}
