//! Finding the latent of a picture.
//!
//! Optimisation of the latent itself, as in the StyleGAN2 paper (Karras et al. 2020, appendix D) with the extended latents of
//! Image2StyleGAN (Abdal et al. 2019): the distance is not a network's but that of the picture and its averages over 2 x 2 to 16 x 16
//! pixels, whose coarse levels pull where fine ones see nothing yet. A CLIP term may be added.

mod optimise;

pub use optimise::{invert, invert_keeping};

use crate::error::{Error, Result};
use crate::nn::stylegan2::Latent;
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub space: Space,
    pub steps: usize,
    /// Adam's highest rate; it rises over the first twentieth of the steps and falls over the last half. In W+ both happen twice: three
    /// quarters of the steps search W, the last quarter lets the layers go, at a tenth of the rate.
    pub learning_rate: f64,
    /// Weight of the averages over 2, 4, 8 and 16 pixels beside the picture itself.
    pub pyramid: f32,
    /// Weight of 1 - cos of the CLIP embeddings; needs a CLIP.
    pub clip: f32,
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
            space: Space::WPlus,
            steps: 600,
            learning_rate: 0.1,
            pyramid: 1.0,
            clip: 0.0,
            optimise_noise: false,
            noise_regularisation: 1e5,
            enough_psnr: 0.0,
            seed: 1,
        }
    }
}

impl Settings {
    /// `InvalidArgument` names the first field that is out of range.
    pub fn check(&self) -> Result<()> {
        let ok = |name: &str, ok: bool, want: &str| if ok { Ok(()) } else { Err(Error::argument(name, want)) };
        ok("steps", self.steps >= 1, "must be at least 1")?;
        ok("learning_rate", self.learning_rate.is_finite() && self.learning_rate > 0.0, "must be a positive number")?;
        for (name, v) in [
            ("pyramid", self.pyramid),
            ("clip", self.clip),
            ("noise_regularisation", self.noise_regularisation),
            ("enough_psnr", self.enough_psnr),
        ] {
            ok(name, v.is_finite() && v >= 0.0, "must be 0 or more")?;
        }
        Ok(())
    }
}

/// A picture's latent.
#[derive(Clone, Debug)]
pub struct Inversion {
    /// W+ [1, n_latent, style_dim] (from W: the same row everywhere), with noise maps where they were optimised.
    pub latent: Latent,
    /// Of the picture on [0, 1] values, in dB.
    pub psnr: f32,
    pub loss: f32,
    /// Steps done.
    pub steps: usize,
}
