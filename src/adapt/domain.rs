//! What adaptation produces: a delta on a generator, small enough to keep and to share.

use super::{Parameters, Settings};
use crate::checkpoint::{self, Checkpoint, Dtype};
use crate::error::{Error, Result};
use crate::nn::generator::Generator;
use crate::output::Destination;
use crate::picture::pixels::{self, Layout, Transfer};
use crate::picture::Picture;
use crate::progress::Cancel;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names the format in a file's metadata; a reader refuses others.
const FORMAT: &str = "nada domain 1";
const STYLE: &str = "s.";
/// A picture of what the domain makes, u8 [height, width, 3]; no part of the change.
const THUMBNAIL: &str = "thumbnail";
/// The longest side of a thumbnail, in pixels.
pub const THUMBNAIL_SIDE: usize = 256;

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
        Self::open_unless(path, &Cancel::new())
    }

    /// As [`Domain::open`]; `Cancelled` once the flag is raised, which is looked at each 128 KiB.
    pub fn open_unless(path: &Path, cancel: &Cancel) -> Result<Self> {
        Self::from_checkpoint(&checkpoint::open_unless(path, cancel)?)
    }

    /// As [`Domain::open`], of a file that is open already.
    pub fn from_checkpoint(file: &Checkpoint) -> Result<Self> {
        let description = description(file)?;
        let deltas = keys(file).map(|k| Ok((k.to_string(), file.f32(k, None)?))).collect::<Result<_>>()?;
        Ok(Self { description, deltas })
    }

    /// What a file says of its domain, without reading the numbers; errors as [`Domain::open`].
    pub fn describe(path: &Path) -> Result<Description> {
        description(&checkpoint::open(path)?)
    }

    /// The thumbnail in a domain's file; None where it has none.
    pub fn thumbnail(path: &Path) -> Result<Option<Picture>> {
        let file = checkpoint::open(path)?;
        let Some(shape) = file.shape(THUMBNAIL).map(<[usize]>::to_vec) else { return Ok(None) };
        let (&[height, width, 3], Some(Dtype::U8)) = (&shape[..], file.dtype(THUMBNAIL)) else {
            return Err(Error::format(path, format!("tensor '{THUMBNAIL}' has shape {shape:?}; want bytes [height, width, 3]")));
        };
        if width.max(height) > THUMBNAIL_SIDE {
            let message = format!("tensor '{THUMBNAIL}' is {width} x {height} pixels; at most {THUMBNAIL_SIDE} a side are right");
            return Err(Error::format(path, message));
        }
        let bytes = file.tensor(THUMBNAIL)?.flatten_all()?.to_vec1::<u8>()?;
        Ok(Some(pixels::read(&bytes, &thumbnail_layout(width, height))?))
    }

    /// Writes a safetensors file, by a temporary name and a rename.
    pub fn save<'a>(&self, to: impl Into<Destination<'a>>) -> Result<()> {
        let (tensors, metadata) = self.contents(None)?;
        checkpoint::save_safetensors(to, &tensors, &metadata)
    }

    /// As [`Domain::save`], under the first of `paths` (in one folder) that is free, which is returned; with a picture of what the domain
    /// makes, shrunk to [`THUMBNAIL_SIDE`].
    pub fn save_as_new(&self, paths: impl Iterator<Item = PathBuf>, thumbnail: Option<&Picture>) -> Result<PathBuf> {
        let (tensors, metadata) = self.contents(thumbnail)?;
        checkpoint::save_safetensors_as_new(paths, &tensors, &metadata)
    }

    /// The tensors and the metadata of a file.
    fn contents(&self, thumbnail: Option<&Picture>) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>)> {
        let description = serde_json::to_string(&self.description).map_err(|e| Error::Internal(e.to_string()))?;
        let metadata = BTreeMap::from([("format".to_string(), FORMAT.to_string()), ("description".to_string(), description)]);
        let mut tensors = self.deltas.clone();
        if let Some(picture) = thumbnail {
            let scale = (THUMBNAIL_SIDE as f64 / picture.width.max(picture.height) as f64).min(1.0);
            let side = |length: usize| ((length as f64 * scale).round() as usize).max(1);
            let small = picture.resized(side(picture.width), side(picture.height))?;
            let mut bytes = vec![0; small.width * small.height * 3];
            pixels::write(&small, &mut bytes, &thumbnail_layout(small.width, small.height))?;
            tensors.insert(THUMBNAIL.into(), Tensor::from_vec(bytes, (small.height, small.width, 3), &Device::Cpu)?);
        }
        Ok((tensors, metadata))
    }
}

fn thumbnail_layout(width: usize, height: usize) -> Layout {
    Layout::packed(width, height, pixels::Format::Rgb8, Transfer::Srgb)
}

/// The tensors that are the change.
fn keys(file: &Checkpoint) -> impl Iterator<Item = &str> {
    file.keys().filter(|k| *k != THUMBNAIL)
}

fn description(file: &Checkpoint) -> Result<Description> {
    let path = &file.path;
    match file.metadata.get("format").map(String::as_str) {
        Some(FORMAT) => (),
        Some(other) if other.starts_with("nada domain") => {
            return Err(Error::unsupported(path.display().to_string(), format!("is a {other:?}; this version reads {FORMAT:?}")))
        }
        _ => return Err(Error::format(path, "is not a domain: its metadata has no format \"nada domain 1\". `nada adapt` makes domains")),
    }
    if keys(file).next().is_none() {
        return Err(Error::format(path, "has no tensors"));
    }
    let description = file.metadata.get("description").ok_or_else(|| Error::format(path, "the metadata has no description"))?;
    serde_json::from_str(description).map_err(|e| Error::format(path, format!("the description in the metadata: {e}")))
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
