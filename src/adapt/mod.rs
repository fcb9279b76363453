//! Adapting a generator to words or pictures (StyleGAN-NADA, Gal et al. 2021, sections 4 and 5).

pub mod domain;
mod settings;
mod training;

pub use domain::Domain;
pub use settings::{AutoLayers, ClipResize, LossWeights, Mode, Parameters, Phase, Settings, StopRule};
pub use training::{Adaptation, Concept, Ended, Outcome, Snapshot, StepReport, Templates, WeightedClip};
