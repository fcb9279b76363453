//! StyleGAN2 generator (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN").

mod latent;

pub use latent::{Latent, Space};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::rng::Rng;
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// The generator's sizes, read from the tensors themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Output side length in pixels, a power of two from 8 to 1024.
    pub size: usize,
    pub style_dim: usize,
    /// Layers of the mapping network.
    pub n_mlp: usize,
    /// Learning-rate multiplier of the mapping network.
    pub lr_mlp: f64,
    /// Channels at each resolution, 4 to `size`.
    pub channels: BTreeMap<usize, usize>,
}

impl Config {
    /// Rows of W+.
    pub fn n_latent(&self) -> usize {
        2 * self.size.ilog2() as usize - 2
    }
}

/// Noise of the synthesis layers.
pub enum Noise<'a> {
    /// The checkpoint's own maps.
    Const,
    None,
    Random(&'a mut Rng),
    /// One map a layer: [n or 1, 1, h, w].
    Given(&'a [Tensor]),
}

#[derive(Clone)]
pub struct Generator {
    config: Config,
}

impl Generator {
    /// Any supported file with a rosinality layout.
    pub fn open(_path: &Path) -> Result<Self> {
        todo!()
    }
    pub fn from_checkpoint(_checkpoint: &Checkpoint) -> Result<Self> {
        todo!()
    }
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// sha256 (hex) over the sorted keys, shapes and f32 bytes of every tensor that makes pictures.
    pub fn fingerprint(&self) -> &str {
        todo!()
    }
    /// z [n, style_dim] -> w [n, style_dim].
    pub fn map(&self, _z: &Tensor) -> Result<Tensor> {
        todo!()
    }
    /// The mean of w, [style_dim]: the checkpoint's, else of 4096 latents of a fixed seed.
    pub fn mean_w(&self) -> Result<Tensor> {
        todo!()
    }
    /// n latents of seed, truncated: W [n, style_dim].
    pub fn sample_w(&self, _n: usize, _seed: u64, _truncation: f32) -> Result<Tensor> {
        todo!()
    }
    /// mean + truncation * (w - mean), for [.., style_dim].
    pub fn truncate(&self, _w: &Tensor, _truncation: f32) -> Result<Tensor> {
        todo!()
    }
    /// Any latent -> W+ [n, n_latent, style_dim]; truncation applies to Z and W and W+ alike.
    pub fn wplus(&self, _latent: &Latent, _truncation: f32) -> Result<Tensor> {
        todo!()
    }
    /// Style mixing: the first `crossover` rows of a, the rest of b.
    pub fn mix(&self, _a: &Tensor, _b: &Tensor, _crossover: usize) -> Result<Tensor> {
        todo!()
    }
    /// W+ [n, n_latent, style_dim] -> image [n, 3, size, size], nominally in [-1, 1], not clamped.
    pub fn synthesize(&self, _wplus: &Tensor, _noise: Noise) -> Result<Tensor> {
        todo!()
    }
    /// A latent with its own noise maps where it has them, else `noise`; in slices of a batch that fits the memory.
    pub fn render(&self, _latent: &Latent, _truncation: f32, _noise: Noise) -> Result<Tensor> {
        todo!()
    }
}
