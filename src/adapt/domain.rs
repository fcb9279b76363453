use crate::error::Result;
use crate::nn::stylegan2::Generator;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

use super::{Parameters, Settings};

/// What is known of a domain beside its numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    pub source: String,
    pub target: String,
    /// Names of the CLIPs it was trained with.
    pub clips: Vec<String>,
    pub parameters: Parameters,
    /// Steps it was trained for.
    pub step: usize,
    /// [`Generator::fingerprint`] of the generator it belongs to.
    pub fingerprint: String,
    pub settings: Settings,
}

/// A delta on a generator's weights (`full`) or styles (`stylespace`).
#[derive(Clone, Debug)]
pub struct Domain {
    pub description: Description,
    /// Keys are the generator's for `full` (delta to add to the weight), `s.<layer>` (shape [channels]) for `stylespace`.
    pub deltas: BTreeMap<String, Tensor>,
}

impl Domain {
    pub fn open(_path: &Path) -> Result<Self> {
        todo!()
    }
    pub fn save(&self, _path: &Path) -> Result<()> {
        todo!()
    }
}

impl Generator {
    /// This generator with domains added: weight + sum of strength * delta. Shares every unchanged tensor.
    /// Errors: `Mismatch` when a domain's fingerprint is another's; `InvalidArgument` for a strength outside [0, 1.5].
    pub fn with_domains(&self, _domains: &[(&Domain, f32)]) -> Result<Generator> {
        todo!()
    }
}
