//! What adaptation produces: a delta on a generator, small enough to keep and to share.

use super::{Parameters, Settings};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::nn::stylegan2::Generator;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Names the format in a file's metadata; a reader refuses others.
const FORMAT: &str = "nada domain 1";
const STYLE: &str = "s.";

/// What is known of a domain beside its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// A delta on a generator's weights (`full`) or styles (`stylespace`). Immutable; may be shared by threads.
#[derive(Clone, Debug)]
pub struct Domain {
    pub description: Description,
    /// What is added, by the generator's own keys; style offsets [channels] are under `s.<layer>`.
    pub deltas: BTreeMap<String, Tensor>,
}

impl Domain {
    /// Reads a file that [`Domain::save`] wrote. Errors name the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = checkpoint::open(path)?;
        match file.metadata.get("format").map(String::as_str) {
            Some(FORMAT) => (),
            Some(other) if other.starts_with("nada domain") => {
                return Err(Error::unsupported(path.display().to_string(), format!("is a {other:?}; this version reads {FORMAT:?}")))
            }
            _ => {
                return Err(Error::format(
                    path,
                    "is not a domain: its metadata has no format \"nada domain 1\". `nada adapt` makes domains",
                ))
            }
        }
        let description = file.metadata.get("description").ok_or_else(|| Error::format(path, "the metadata has no description"))?;
        let description: Description =
            serde_json::from_str(description).map_err(|e| Error::format(path, format!("the description in the metadata: {e}")))?;
        let deltas: BTreeMap<String, Tensor> = file.keys().map(|k| Ok((k.to_string(), file.f32(k, None)?))).collect::<Result<_>>()?;
        if deltas.is_empty() {
            return Err(Error::format(path, "has no tensors"));
        }
        Ok(Self { description, deltas })
    }

    /// Writes a safetensors file, by a temporary name and a rename.
    pub fn save(&self, path: &Path) -> Result<()> {
        let description = serde_json::to_string(&self.description).map_err(|e| Error::Internal(e.to_string()))?;
        let metadata = BTreeMap::from([("format".to_string(), FORMAT.to_string()), ("description".to_string(), description)]);
        checkpoint::save_safetensors(path, &self.deltas, &metadata)
    }
}

impl Generator {
    /// This generator with domains added: every tensor plus the sum of strength * delta. Shares every unchanged tensor.
    ///
    /// Errors: `Mismatch` where a domain was made from another generator; `InvalidArgument` for a strength outside [0, 1.5].
    pub fn with_domains(&self, domains: &[(&Domain, f32)]) -> Result<Generator> {
        let (mut weights, mut offsets) = (BTreeMap::<String, Tensor>::new(), BTreeMap::<String, Tensor>::new());
        for (domain, strength) in domains {
            let d = &domain.description;
            if !(0.0..=1.5).contains(strength) {
                return Err(Error::argument("strength", format!("is {strength}, it must be in [0, 1.5]")));
            }
            if d.fingerprint != self.fingerprint() {
                let short = |f: &str| f.chars().take(12).collect::<String>();
                return Err(Error::Mismatch(format!(
                    "the domain \"{}\" was made from another generator: its fingerprint is {}, this generator's is {}",
                    d.target,
                    short(&d.fingerprint),
                    short(self.fingerprint())
                )));
            }
            for (key, delta) in &domain.deltas {
                let scaled = delta.affine(*strength as f64, 0.0)?;
                let (map, name, start) = match key.strip_prefix(STYLE) {
                    Some(layer) => (&mut offsets, layer, self.offsets().get(layer)),
                    None => {
                        let start = self.weights().get(key);
                        (
                            &mut weights,
                            key.as_str(),
                            Some(start.ok_or_else(|| {
                                Error::Mismatch(format!("the domain \"{}\" changes {key}, which the generator does not have", d.target))
                            })?),
                        )
                    }
                };
                let so_far = map.get(name).or(start);
                if let Some(t) = so_far.filter(|t| t.dims() != delta.dims()) {
                    return Err(Error::Mismatch(format!(
                        "the domain \"{}\": {key} has shape {:?}, the generator's has {:?}",
                        d.target,
                        delta.dims(),
                        t.dims()
                    )));
                }
                let sum = so_far.map_or(Ok(scaled.clone()), |t| t + scaled)?;
                map.insert(name.to_string(), sum);
            }
        }
        self.replacing(weights, offsets)
    }
}

/// The key of a layer's style offset in a domain.
pub(super) fn style_key(layer: &str) -> String {
    format!("{STYLE}{layer}")
}
