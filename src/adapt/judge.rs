//! The stop rule: looks at pictures of the run's own latents and knows when to stop.

use super::losses::{normalise, Guide};
use super::settings::{Settings, StopRule};
use crate::error::Result;
use crate::nn::generator::{as_rgb, slice, Config, Generator, Noise};
use crate::pairing;
use crate::progress::Cancel;
use crate::rng::Rng;
use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// What the stop rule saw at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// Mean over the CLIPs of cos(picture, target), minus that of the unadapted pictures.
    pub gain: f32,
    /// Share of adapted pictures whose nearest unadapted one is their own (`eval::pairing`).
    pub pairing: f32,
    /// Mean cosine of each small grey picture with the unadapted one's.
    pub structure: f32,
}

/// The stream of a run's random numbers that draws the latents, apart from those of training.
const STREAM: u64 = 3;

/// How many pictures are drawn together: no more than elsewhere, so that a look takes no more memory than training.
pub(crate) fn together(config: &Config) -> usize {
    slice(config).min(8)
}

/// How many such groups are drawn side by side. Small pictures leave processors idle where a kernel has little to share.
pub(crate) fn side_by_side(config: &Config, threads: usize) -> usize {
    match config.size() {
        ..=256 => threads.max(1),
        _ => 1,
    }
}

/// Pictures are compared within groups of so many.
const GROUP: usize = 32;

pub(super) struct Judge {
    rule: StopRule,
    /// [n, n_latent, style_dim]
    wplus: Tensor,
    /// Small grey pictures of the frozen twin.
    plain: Vec<Vec<f32>>,
    cosine: f32,
    seen: Looks,
}

/// What earlier looks left behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Looks {
    /// (step, gain) of the looks so far.
    gains: Vec<(usize, f32)>,
    /// Consecutive bad looks up to now.
    bad: usize,
}

/// What a look means for the run.
pub(super) struct Verdict {
    pub judgement: Judgement,
    /// The state may be the result.
    pub good: bool,
    pub stop: bool,
}

/// What is seen of a generator's pictures: small grey versions, and the mean cosine to the target over CLIPs and pictures.
type View = (Vec<Vec<f32>>, f32);

impl Judge {
    pub(super) fn new(
        frozen: &Generator,
        guides: &[Guide],
        settings: &Settings,
        rule: StopRule,
        seen: Looks,
        cancel: &Cancel,
    ) -> Result<Self> {
        let z = Rng::stream(settings.seed, STREAM).normals(&[rule.latents, frozen.config().z_dim], frozen.device())?;
        let wplus = frozen.broadcast(&frozen.truncate(&frozen.map(&z)?, 0.8)?)?;
        let mut judge = Self { rule, wplus, plain: vec![], cosine: 0.0, seen };
        (judge.plain, judge.cosine) = judge.view(frozen, guides, settings, cancel)?;
        Ok(judge)
    }

    pub(super) fn looks(&self) -> &Looks {
        &self.seen
    }

    fn view(&self, generator: &Generator, guides: &[Guide], settings: &Settings, cancel: &Cancel) -> Result<View> {
        let n = self.wplus.dim(0)?;
        let together = together(generator.config());
        let some = |from: usize| -> Result<View> {
            cancel.check()?;
            let wplus = self.wplus.narrow(0, from, together.min(n - from))?;
            let image = as_rgb(&generator.synthesize_unless(&wplus, Noise::None, cancel)?)?.clamp(-1f32, 1f32)?;
            let of_guide = |g: &Guide| -> Result<f32> {
                cancel.check()?;
                let e = normalise(&g.clip.encode_image(&g.clip.preprocess(&image, settings.clip_resize)?)?)?;
                Ok(g.cosines(&e)?.iter().sum::<f32>())
            };
            let cosine = guides.par_iter().map(of_guide).collect::<Result<Vec<f32>>>()?.iter().sum::<f32>();
            Ok((pairing::grey16(&image)?, cosine / (n * guides.len()) as f32))
        };
        let starts: Vec<usize> = (0..n).step_by(together).collect();
        let mut views: Vec<View> = vec![];
        for starts in starts.chunks(side_by_side(generator.config(), rayon::current_num_threads())) {
            views.extend(starts.par_iter().copied().map(some).collect::<Result<Vec<_>>>()?);
        }
        let (small, cosines): (Vec<_>, Vec<_>) = views.into_iter().unzip();
        Ok((small.concat(), cosines.iter().sum()))
    }

    /// Looks at the trained twin after `step` steps. On an error nothing is changed.
    pub(super) fn look(
        &mut self,
        trained: &Generator,
        guides: &[Guide],
        settings: &Settings,
        step: usize,
        cancel: &Cancel,
    ) -> Result<Verdict> {
        let (small, cosine) = self.view(trained, guides, settings, cancel)?;
        let (mut pairing, mut structure) = (0.0, 0.0);
        for (adapted, plain) in small.chunks(GROUP).zip(self.plain.chunks(GROUP)) {
            let share = adapted.len() as f32 / small.len() as f32;
            pairing += share * pairing::share(adapted, plain);
            structure += share * pairing::mean_cosine(adapted, plain);
        }
        let gain = cosine - self.cosine;
        let rule = self.rule;
        let good = pairing >= rule.pairing && structure >= rule.structure;
        self.seen.bad = if good { 0 } else { self.seen.bad + 1 };
        let earlier = self.seen.gains.iter().rev().find(|(at, _)| at + rule.plateau_steps <= step);
        let flat = step >= rule.earliest && earlier.is_some_and(|(_, before)| gain - before < rule.plateau);
        self.seen.gains.push((step, gain));
        Ok(Verdict { judgement: Judgement { gain, pairing, structure }, good, stop: good && flat || self.seen.bad >= rule.patience })
    }
}
