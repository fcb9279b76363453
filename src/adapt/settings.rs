//! Everything that can be chosen about an adaptation.

use crate::error::{Error, Result};
pub use crate::nn::clip::ClipResize;
use crate::optim::{Gradient, Schedule};
use crate::settings::{self, setting, Kind, Listed, Setting, ANY, MANY};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Which rules the twins follow (see the design's "What adaptation computes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One noise and one mixing crossover for both twins; exact layer numbering; the loss has a floor under the edit's length.
    Default,
    /// The published code number by number, its slips included.
    Reference,
}

/// What is trained and what a domain stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parameters {
    /// The generator's own tensors.
    Full,
    /// An offset per style channel, of every convolution and (with `train_to_rgb`) every ToRGB: kilobytes.
    Stylespace,
}

/// Which convolutions are trained, counted from 0 in the order of drawing; each phase comes with the first and with what that starts from
/// (Gal et al. 2021, published code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Every convolution.
    Convolutions,
    /// 3 to 10.
    Texture,
    /// 1 and 2.
    Shape,
    /// 1 to 3.
    ShapeExpanded,
    /// 1 to 10.
    NoFine,
    /// Mapping network and ToRGB too.
    All,
}

/// What an adaptation's memory is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// A whole batch goes through the networks together, and what is made of weights is kept.
    Fast,
    /// Pictures are gone through one at a time, drawn anew for their way back, and what is made of weights is made anew where it is needed.
    Low,
}

/// Weights of the losses; 0 leaves one out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossWeights {
    pub direction: f32,
    pub global: f32,
    pub manifold: f32,
    pub in_domain: f32,
    /// Of how far the twins' small grey pictures differ (see [`Settings::structure_floor`]).
    pub structure: f32,
}

impl Default for LossWeights {
    fn default() -> Self {
        Self { direction: 1.0, global: 0.0, manifold: 0.0, in_domain: 0.0, structure: 0.0 }
    }
}

/// Adaptive layer selection (Gal et al. 2021, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoLayers {
    /// Layers trained in each step; a table must say it.
    #[serde(default)]
    pub k: usize,
    /// SGD steps on W+ that score the layers.
    #[serde(default = "AutoLayers::iterations")]
    pub iterations: usize,
    /// Latents scored.
    #[serde(default = "AutoLayers::batch")]
    pub batch: usize,
}

impl AutoLayers {
    /// The published training script's.
    fn iterations() -> usize {
        1
    }

    fn batch() -> usize {
        8
    }

    /// With the published training script's steps and latents.
    pub fn of(k: usize) -> Self {
        Self { k, iterations: Self::iterations(), batch: Self::batch() }
    }
}

/// When to stop by itself, judged on `latents` of the run's own, every `every` steps.
///
/// A judgement is good where both `pairing` and `structure` are kept; the state of the last good one is the result. Training ends after
/// `patience` consecutive bad ones, or with a good one from step `earliest` on whose gain in cosine to the target has risen by less than
/// `plateau` over the last `plateau_steps` steps: what comes after that is overshoot.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StopRule {
    /// In groups of 32, as a larger group makes the same pairing harder.
    pub latents: usize,
    pub every: usize,
    /// The least share of adapted pictures whose nearest unadapted one is their own.
    pub pairing: f32,
    /// The least mean cosine of the twins' small grey pictures.
    pub structure: f32,
    pub patience: usize,
    pub earliest: usize,
    pub plateau: f32,
    pub plateau_steps: usize,
}

impl Default for StopRule {
    fn default() -> Self {
        Self { latents: 64, every: 5, pairing: 0.95, structure: 0.9, patience: 2, earliest: 20, plateau: 0.005, plateau_steps: 10 }
    }
}

/// Settings of an adaptation. `Default` is for full-size generators; a model pack's recipe wins over it, and the caller over that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub mode: Mode,
    pub parameters: Parameters,
    pub phase: Phase,
    /// Trains ToRGB too; without it colours hardly move on small generators.
    pub train_to_rgb: bool,
    pub auto_layers: Option<AutoLayers>,
    pub steps: usize,
    pub batch: usize,
    pub learning_rate: f64,
    /// The rate falls linearly, to nothing after the last step: steps beyond `steps` then change nothing.
    pub decay: bool,
    /// Adam's second beta; the first is 0.
    pub beta2: f64,
    pub losses: LossWeights,
    /// Least length of the edit direction in the directional loss's denominator (`default` mode).
    pub floor: f32,
    /// The mean cosine between edit and direction at which a CLIP's directional loss stops pushing; 1 for never. What a text asks for is
    /// reached before the cosine is 1, and what comes after is overshoot.
    pub enough: f32,
    /// The structure loss is the mean over the batch of max(0, this - cos(twin, twin))^2 of grey pictures of 16 x 16, less the batch's mean.
    pub structure_floor: f32,
    /// Probability of style mixing in a batch.
    pub mixing: f32,
    /// Truncation of the training latents; 1 is none.
    pub truncation: f32,
    /// Random flips, turns, scales, shifts, brightness and noise before CLIP, the same draw for both twins.
    pub augment: bool,
    pub clip_resize: ClipResize,
    /// The picture, by its longer side in pixels, through which a network with skips is trained
    /// ([`Config::sizes`](crate::nn::generator::Config::sizes)): layers above it are neither drawn nor trained. 0: the whole.
    pub train_resolution: usize,
    /// Random noise in the synthesis layers; false for generators trained without.
    pub noise: bool,
    /// Latents whose unadapted pictures are drawn once and used again, each with its own noise and style mixing, which stay the same; at least a
    /// batch of them. 0: new ones in every step, as always in `reference` mode.
    pub pool: usize,
    /// It makes no difference to a domain but in the last bits.
    pub memory: Memory,
    pub seed: u64,
    /// A snapshot every so many steps; 0 for none.
    pub snapshot_every: usize,
    pub stop: Option<StopRule>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Default,
            parameters: Parameters::Full,
            phase: Phase::Convolutions,
            train_to_rgb: false,
            auto_layers: None,
            steps: 300,
            batch: 2,
            learning_rate: 0.002 * 0.8,
            decay: false,
            beta2: 0.99f64.powf(0.8),
            losses: LossWeights::default(),
            floor: 0.3,
            enough: 1.0,
            structure_floor: 0.9,
            mixing: 0.0,
            truncation: 1.0,
            augment: false,
            clip_resize: ClipResize::Antialias,
            train_resolution: 0,
            noise: true,
            pool: 128,
            memory: Memory::Fast,
            seed: 1,
            snapshot_every: 50,
            stop: None,
        }
    }
}

/// What a mode means, rule by rule.
pub(crate) struct Rules {
    /// The twins get one crossover of style mixing and one noise; else each its own.
    pub shared_draws: bool,
    /// A batch may be divided into parts that run side by side.
    pub divided: bool,
    /// The least square of an edit's length in the directional loss.
    pub least_square: f32,
    /// Where the edits of a batch add up to exactly nothing, the trained twin's pictures are embedded again, 1e-6 brighter.
    pub nudged: bool,
    /// The trained twin has a mapping network of its own, where that is trained.
    pub own_mapping: bool,
    /// The global loss wants "a " and the target, layer selection the bare target; else both want the mean over the templates.
    pub bare_targets: bool,
    /// What a step takes for the parameters that layer selection leaves out.
    pub left_out: Gradient,
}

impl Settings {
    pub(crate) fn rules(&self) -> Rules {
        let published = self.mode == Mode::Reference;
        Rules {
            shared_draws: !published,
            // The published code's steps are compared to the last digits, and stay whole.
            divided: !published,
            // The published code has a length of 1e-8 there.
            least_square: if published { 1e-16 } else { (self.floor * self.floor).max(1e-16) },
            nudged: published,
            own_mapping: !published,
            bare_targets: published,
            left_out: if published && self.auto_layers.is_some() { Gradient::Zero } else { Gradient::Skip },
        }
    }

    /// Latents of the pool; 0 where there is none.
    pub(crate) fn pooled(&self) -> usize {
        match self.pool {
            _ if !self.rules().shared_draws => 0,
            0 => 0,
            pool => pool.max(self.batch),
        }
    }

    /// How a batch is divided. It depends on nothing else, so that a seed gives the same domain however many threads there are.
    pub(crate) fn parts(&self, batch: usize) -> Vec<Range<usize>> {
        let parts = match (self.memory, batch) {
            (Memory::Low, _) => batch,
            (Memory::Fast, _) if !self.rules().divided => 1,
            (Memory::Fast, ..4) => 1,
            (Memory::Fast, ..8) => 2,
            (Memory::Fast, _) => 4,
        };
        (0..parts).map(|i| batch * i / parts..batch * (i + 1) / parts).collect()
    }

    /// How the learning rate goes.
    pub(super) fn schedule(&self) -> Schedule {
        if self.decay {
            Schedule::Linear
        } else {
            Schedule::Constant
        }
    }

    /// What is asked for and cannot act: sentences for the user.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = vec![];
        if self.batch == 1 {
            for (name, weight) in [("structure", self.losses.structure), ("in_domain", self.losses.in_domain)] {
                if weight > 0.0 {
                    let why = "it compares the pictures of a batch with each other, and batch is 1; a batch of 2 is the least";
                    warnings.push(format!("losses.{name} is {weight} and does nothing: {why}"));
                }
            }
        }
        warnings
    }

    /// `InvalidArgument` names the first setting that is out of range.
    pub fn check(&self) -> Result<()> {
        settings::check(self)
    }
}

impl Listed for Settings {
    const SETTINGS: &'static [Setting] = &[
        setting("mode", Kind::Choice(&["default", "reference"]), "", "reference: the published code number by number"),
        setting(
            "parameters",
            Kind::Choice(&["full", "stylespace"]),
            "",
            "full: the weights; stylespace: an offset for each style channel, which makes domains of kilobytes",
        ),
        setting(
            "phase",
            Kind::Choice(&["convolutions", "texture", "shape", "shape_expanded", "no_fine", "all"]),
            "",
            "Layers to train; all: mapping network and ToRGB too",
        ),
        setting("train_to_rgb", Kind::Flag, "", "Train ToRGB too, which colours need"),
        setting(
            "auto_layers",
            Kind::Group { complete: false },
            "",
            "Train only the layers that the target moves most, chosen anew each step; needs auto_layers.k",
        ),
        setting("auto_layers.k", Kind::Count(1, MANY), "layers", "How many are chosen"),
        setting("auto_layers.iterations", Kind::Count(1, 1000), "steps", "Steps on W+ that score the layers"),
        setting("auto_layers.batch", Kind::Count(1, 256), "latents", "Latents that are scored"),
        setting("steps", Kind::Count(1, MANY), "steps", "Steps at the most; a stop rule may end earlier"),
        setting("batch", Kind::Count(1, 256), "latents", "Latents a step"),
        setting("learning_rate", Kind::Above(0.0, ANY), "", "Adam's learning rate"),
        setting("decay", Kind::Flag, "", "Let the learning rate fall linearly, to nothing after the last step"),
        setting("beta2", Kind::Below(0.0, 1.0), "", "Adam's second beta; the first is 0"),
        setting("losses.direction", Kind::Within(0.0, ANY), "", "Weight of the directional loss: the edit goes the way that the words go"),
        setting("losses.global", Kind::Within(0.0, ANY), "", "Weight of the global loss: pictures are what the target says"),
        setting("losses.manifold", Kind::Within(0.0, ANY), "", "Weight of the manifold loss: pictures move as far as the words"),
        setting(
            "losses.in_domain",
            Kind::Within(0.0, ANY),
            "",
            "Weight of the in-domain loss: pictures stay as different from one another as they were",
        ),
        setting("losses.structure", Kind::Within(0.0, ANY), "", "Weight of the structure loss, which keeps light and dark where they were"),
        setting("floor", Kind::Within(0.0, ANY), "length of an embedding", "Least length of an edit in the directional loss's denominator"),
        setting(
            "enough",
            Kind::Above(0.0, 1.0),
            "cosine",
            "Mean cosine between edit and direction from which the directional loss is 0; 1 for never",
        ),
        setting("structure_floor", Kind::Within(-1.0, 1.0), "cosine", "Cosine of small grey pictures from which the structure loss is 0"),
        setting("mixing", Kind::Within(0.0, 1.0), "probability", "Style mixing in a batch"),
        setting("truncation", Kind::Within(0.0, 1.5), "", "Truncation of the training latents; 1 is none"),
        setting(
            "augment",
            Kind::Flag,
            "",
            "Random flips, scales, turns, shifts, brightness and noise before CLIP, the same for both twins",
        ),
        setting("clip_resize", Kind::Choice(&["antialias", "aliased", "area"]), "", "How pictures shrink to CLIP's size"),
        setting(
            "train_resolution",
            Kind::Count(0, MANY),
            "pixels",
            "Train through the generator's picture of this size, with the layers above as they are; 0: through the whole",
        ),
        setting("noise", Kind::Flag, "", "Random noise in the synthesis layers; false for generators trained without"),
        setting(
            "pool",
            Kind::Count(0, 4096),
            "latents",
            "Latents whose unadapted pictures are drawn once and used again, at least a batch; 0, and reference mode: new ones in every step",
        ),
        setting(
            "memory",
            Kind::Choice(&["fast", "low"]),
            "",
            "low: pictures go through the networks one at a time and are drawn anew for their way back, which takes longer and less memory",
        ),
        setting("seed", Kind::Count(0, MANY), "", "Seed of latents, noise and augmentation"),
        setting("snapshot_every", Kind::Count(0, MANY), "steps", "Steps between two snapshots; 0 for none"),
        setting(
            "stop",
            Kind::Group { complete: true },
            "",
            "Stop rule: end where the pictures are as good as they get; none: do all steps",
        ),
        setting("stop.latents", Kind::Count(2, 1024), "latents", "Latents whose pictures are judged"),
        setting("stop.every", Kind::Count(1, MANY), "steps", "Steps between two judgements"),
        setting("stop.pairing", Kind::Within(0.0, 1.0), "share", "Least share of pictures that still pair with their unadapted twin"),
        setting("stop.structure", Kind::Within(0.0, 1.0), "cosine", "Least mean cosine of light and dark with the unadapted twin"),
        setting("stop.patience", Kind::Count(1, MANY), "judgements", "Consecutive bad judgements that end the run"),
        setting("stop.earliest", Kind::Count(0, MANY), "steps", "First step at which a plateau may end the run"),
        setting("stop.plateau", Kind::Within(-ANY, ANY), "cosine", "A gain in cosine of less than this is a plateau"),
        setting("stop.plateau_steps", Kind::Count(0, MANY), "steps", "Steps over which a plateau is measured"),
    ];

    fn check_together(&self) -> Result<()> {
        let l = &self.losses;
        match l.direction + l.global + l.manifold > 0.0 {
            true => Ok(()),
            false => Err(Error::argument("losses", "direction, global and manifold are all 0: nothing pulls towards the target")),
        }
    }
}
