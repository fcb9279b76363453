//! The stop rule: looks at pictures of the run's own latents and knows when to stop.

use super::losses::{normalise, Guide};
use super::settings::{Settings, StopRule};
use super::training::JUDGE;
use crate::error::Result;
use crate::nn::stylegan2::{Generator, Noise};
use crate::progress::Cancel;
use crate::rng::Rng;
use candle_core::{Device, Tensor};

/// What the stop rule saw at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// Mean over the CLIPs of cos(picture, target), minus that of the unadapted pictures.
    pub gain: f32,
    /// Share of adapted pictures whose nearest unadapted one is their own (see [`crate::eval`]).
    pub pairing: f32,
}

pub(super) struct Judge {
    rule: StopRule,
    /// [n, n_latent, style_dim]
    wplus: Tensor,
    /// Small grey pictures of the frozen twin.
    plain: Vec<Vec<f32>>,
    cosine: f32,
    best: Option<Judgement>,
}

/// What is seen of a generator's pictures: small grey versions, and the mean cosine to the target over CLIPs and pictures.
type View = (Vec<Vec<f32>>, f32);

impl Judge {
    pub(super) fn new(frozen: &Generator, guides: &[Guide], settings: &Settings, rule: StopRule, cancel: &Cancel) -> Result<Self> {
        let z = Rng::stream(settings.seed, JUDGE).normals(&[rule.latents, frozen.config().style_dim], &Device::Cpu)?;
        let wplus = frozen.broadcast(&frozen.truncate(&frozen.map(&z)?, 0.8)?)?;
        let mut judge = Self { rule, wplus, plain: vec![], cosine: 0.0, best: None };
        (judge.plain, judge.cosine) = judge.view(frozen, guides, settings, cancel)?;
        Ok(judge)
    }

    fn view(&self, generator: &Generator, guides: &[Guide], settings: &Settings, cancel: &Cancel) -> Result<View> {
        let (mut small, mut cosine) = (vec![], 0.0);
        let n = self.wplus.dim(0)?;
        for from in (0..n).step_by(8) {
            cancel.check()?;
            let image = generator.synthesize(&self.wplus.narrow(0, from, 8.min(n - from))?, Noise::None)?;
            small.extend(crate::eval::grey16(&image.affine(0.5, 0.5)?.clamp(0f32, 1f32)?)?);
            for g in guides {
                let e = normalise(&g.clip.encode_image(&g.clip.preprocess(&image, settings.clip_resize)?)?)?;
                cosine += g.cosines(&e)?.iter().sum::<f32>() / (n * guides.len()) as f32;
            }
        }
        Ok((small, cosine))
    }

    /// (what it saw, whether this state is the best so far, whether to stop).
    pub(super) fn look(&mut self, trained: &Generator, guides: &[Guide], _step: usize, cancel: &Cancel) -> Result<(Judgement, bool, bool)> {
        let _ = (trained, guides, cancel);
        todo!("{:?}", self.rule)
    }
}
