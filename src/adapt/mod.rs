//! Adapting a generator to words or pictures (StyleGAN-NADA, Gal et al. 2021, arXiv 2108.00946, sections 4 and 5).

mod augment;
pub(crate) mod clip_pass;
pub mod domain;
mod draws;
pub(crate) mod judge;
mod losses;
mod pool;
mod settings;
mod state;
mod structure;
mod trainable;
mod training;

pub use domain::{Description, Domain, Origin};
pub use draws::Draws;
pub use judge::Judgement;
pub use settings::{AutoLayers, ClipResize, LossWeights, Memory, Mode, Parameters, Phase, Settings, StopRule};
pub use state::SavedState;
pub(crate) use training::SNAPSHOT_PICTURES;
pub use training::{Adaptation, Concept, Ended, Keep, Outcome, Snapshot, StepReport, Templates, WeightedClip};
