//! What a step draws at random.

use super::settings::Settings;
use crate::error::Result;
use crate::nn::generator::Generator;
use crate::rng::Rng;
use candle_core::Tensor;
use std::ops::Range;

/// Everything random about one step; [`super::Adaptation::step`] draws it, a comparison with another implementation brings its own.
pub struct Draws {
    /// [batch, z_dim]
    pub z: Tensor,
    /// Style mixing, one for each twin: a second z and the row from which it is taken.
    pub mixing: Option<[(Tensor, usize); 2]>,
    /// Noise maps of the frozen and the trained twin; `None` for a generator without noise.
    pub noise: Option<[Vec<Tensor>; 2]>,
    /// For adaptive selection: z [batch, z_dim] and the noise maps of each iteration; without it everything is trained.
    pub selection: Option<(Tensor, Vec<Vec<Tensor>>)>,
}

impl Draws {
    /// Of a step of `settings` with `batch` latents; the selection's are left out.
    pub(super) fn random(rng: &mut Rng, twin: &Generator, settings: &Settings, batch: usize) -> Result<Self> {
        let (config, device) = (twin.config(), twin.device());
        let shared = settings.rules().shared_draws;
        let shape = [batch, config.z_dim];
        let z = rng.normals(&shape, device)?;
        let mixing = if settings.mixing > 0.0 && rng.uniform() < settings.mixing {
            let mut one = || -> Result<(Tensor, usize)> {
                let z = rng.normals(&shape, device)?;
                Ok((z, 1 + rng.below(config.n_latent() - 1)))
            };
            let first = one()?;
            // The published twins share the second z and draw their own crossovers.
            let second = if shared { first.clone() } else { (first.0.clone(), one()?.1) };
            Some([first, second])
        } else {
            None
        };
        let noise = match (settings.noise, shared) {
            (false, _) => None,
            (true, true) => {
                let shared = draw_noise(rng, twin, batch)?;
                Some([shared.clone(), shared])
            }
            (true, false) => Some([draw_noise(rng, twin, batch)?, draw_noise(rng, twin, batch)?]),
        };
        Ok(Self { z, mixing, noise, selection: None })
    }

    /// The draws of some pictures of the batch; selection has its own and is left out.
    pub(super) fn narrow(&self, range: &Range<usize>) -> Result<Self> {
        let some = |t: &Tensor| Result::Ok(t.narrow(0, range.start, range.len())?);
        let mixing = match &self.mixing {
            None => None,
            Some([a, b]) => Some([(some(&a.0)?, a.1), (some(&b.0)?, b.1)]),
        };
        let noise = match &self.noise {
            None => None,
            Some([a, b]) => Some([some_maps(a, range)?, some_maps(b, range)?]),
        };
        Ok(Self { z: some(&self.z)?, mixing, noise, selection: None })
    }
}

/// The noise maps of some pictures; a map of one serves the whole batch.
pub(super) fn some_maps(maps: &[Tensor], range: &Range<usize>) -> Result<Vec<Tensor>> {
    maps.iter().map(|m| if m.dim(0)? == 1 { Ok(m.clone()) } else { Ok(m.narrow(0, range.start, range.len())?) }).collect()
}

/// Noise maps for `batch` pictures.
pub(super) fn draw_noise(rng: &mut Rng, generator: &Generator, batch: usize) -> Result<Vec<Tensor>> {
    generator.noise_maps().iter().map(|m| rng.normals(&[batch, 1, m.dim(2)?, m.dim(3)?], generator.device())).collect()
}
