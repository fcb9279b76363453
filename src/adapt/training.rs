use super::{Domain, Settings};
use crate::error::Result;
use crate::nn::clip::Clip;
use crate::nn::stylegan2::Generator;
use crate::picture::Picture;
use crate::progress::{Cancel, OnProgress};
use std::sync::Arc;

/// A CLIP and the weight of its losses.
#[derive(Clone)]
pub struct WeightedClip {
    pub clip: Arc<Clip>,
    pub weight: f32,
}

/// What the source or the target is.
#[derive(Clone, Debug)]
pub enum Concept {
    Text(String),
    /// At least one picture, any size.
    Pictures(Vec<Picture>),
}

/// Prompt templates, each with one `{}`.
#[derive(Clone, Debug)]
pub struct Templates(pub Vec<String>);

#[derive(Clone, Debug)]
pub struct StepReport {
    /// From 1.
    pub step: usize,
    pub loss: f32,
    /// Selected layers by upstream's numbering, when layers are selected.
    pub layers: Vec<usize>,
}

/// A state that can become a domain.
#[derive(Clone)]
pub struct Snapshot {
    pub step: usize,
    pub loss: f32,
    /// Gain in mean cosine to the target on the run's own latents, and pairing; None without a stop rule.
    pub judged: Option<(f32, f32)>,
    pub preview: Picture,
    pub domain: Arc<Domain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All steps done.
    Steps,
    /// The stop rule ended it.
    Rule,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub ended: Ended,
    /// Steps done.
    pub steps: usize,
    /// The step that [`Adaptation::result`] is of.
    pub chosen: usize,
}

/// One adaptation, step by step.
pub struct Adaptation {}

impl Adaptation {
    /// Nothing is trained yet. Embeds the texts (or pictures). Errors name the argument.
    pub fn new(
        _generator: Arc<Generator>,
        _clips: &[WeightedClip],
        _source: Concept,
        _target: Concept,
        _templates: &Templates,
        _settings: Settings,
    ) -> Result<Self> {
        todo!()
    }
    /// One training step; on an error the state is that of the last complete step.
    pub fn step(&mut self) -> Result<StepReport> {
        todo!()
    }
    /// Steps until `settings.steps` or the stop rule; takes snapshots; `Cancelled` leaves the last complete step.
    pub fn run(&mut self, _cancel: &Cancel, _on_progress: &mut OnProgress) -> Result<Outcome> {
        todo!()
    }
    pub fn steps_done(&self) -> usize {
        todo!()
    }
    pub fn settings(&self) -> &Settings {
        todo!()
    }
    pub fn snapshots(&self) -> &[Snapshot] {
        todo!()
    }
    /// The current state as a domain.
    pub fn domain(&self) -> Result<Domain> {
        todo!()
    }
    /// What the stop rule chose, else the current state.
    pub fn result(&self) -> Result<Domain> {
        todo!()
    }
    /// The trained generator as it is now, ready to render.
    pub fn generator(&self) -> Result<Generator> {
        todo!()
    }
    /// `count` pairs of fixed latents of the run: first row the frozen twin, second row the trained one.
    pub fn preview(&self, _count: usize) -> Result<Picture> {
        todo!()
    }
}
