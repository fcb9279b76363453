//! File formats to tensors and back.
//!
//! [`open`] recognises a file by its content and reads its table of contents; a tensor is read when it is asked for, so that a training
//! checkpoint with discriminator and optimiser state costs no more than the generator that is taken from it. Reading runs nothing: a
//! pickle is followed by a machine that knows opcodes and an allow-list of names ([`pickle`]).
//!
//! | file | module |
//! |---|---|
//! | safetensors | [`safetensors`] |
//! | torch.save since 1.6 (zip) | [`torch_zip`], [`torch_graph`] |
//! | TorchScript archive | [`torchscript`], and the two above |
//! | .npy | [`npy`] |

mod npy;
mod pickle;
mod safetensors;
mod sniff;
mod source;
mod torch_graph;
mod torch_zip;
mod torchscript;
mod write;

pub(crate) use npy::MAGIC as NPY_MAGIC;
pub use npy::{read_npy, write_npy};
pub use source::Dtype;
pub use write::{remove_stale, save_safetensors, save_safetensors_as_new, write_atomically};

use crate::error::Result;
use candle_core::{Device, Tensor};
use source::{Entry, Source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Safetensors,
    /// torch.save's zip file: a state_dict, or dicts of them.
    TorchZip,
    TorchScript,
}

/// What a format's reader found.
struct Contents {
    format: Format,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

/// A file's tensors by dotted key (nested dicts and modules joined with '.', list items by number). Tensors are read from the open file
/// on demand. Cheap to clone; may be used from several threads at once.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub path: PathBuf,
    pub format: Format,
    /// safetensors' `__metadata__`, or the numbers and texts found in a pickle, as text by their full dotted key.
    pub metadata: Arc<BTreeMap<String, String>>,
    source: Arc<Source>,
    entries: Arc<BTreeMap<String, Entry>>,
    prefix: String,
}

/// Reads the table of contents of a safetensors file, torch zip file or TorchScript archive.
///
/// Errors: `Io`/`NotFound` where the file cannot be read, `Format` where it is damaged or something else (and what it looks like),
/// `Unsupported` where it is a known format that is not read, or a pickle names something beyond tensors and plain values.
pub fn open(path: &Path) -> Result<Checkpoint> {
    let source = Source::open(path)?;
    let contents = match sniff::sniff(&source)? {
        sniff::Kind::Safetensors => safetensors::read(&source)?,
        sniff::Kind::Zip => torch_zip::read(&source)?,
    };
    Ok(Checkpoint {
        path: path.to_path_buf(),
        format: contents.format,
        metadata: Arc::new(contents.metadata),
        source: Arc::new(source),
        entries: Arc::new(contents.entries),
        prefix: String::new(),
    })
}

impl Checkpoint {
    /// The same file seen from below: `with_prefix("g_ema.")` finds `g_ema.input.input` under `input.input`, and only keys that begin so.
    pub fn with_prefix(&self, prefix: &str) -> Checkpoint {
        Checkpoint { prefix: format!("{}{prefix}", self.prefix), ..self.clone() }
    }

    /// All keys (below the prefix), sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.range(self.prefix.clone()..).map_while(|(key, _)| key.strip_prefix(self.prefix.as_str()))
    }

    pub fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(&self.full(key))
    }

    pub fn shape(&self, key: &str) -> Option<&[usize]> {
        self.entries.get(&self.full(key)).map(|entry| entry.shape.as_slice())
    }

    pub fn dtype(&self, key: &str) -> Option<Dtype> {
        self.entries.get(&self.full(key)).map(|entry| entry.dtype)
    }

    /// Tensor `key` with its own element type, contiguous, on the CPU; bool comes as u8, int8 as int16.
    pub fn tensor(&self, key: &str) -> Result<Tensor> {
        self.entry(key)?.tensor(&self.source)
    }

    /// Tensor `key` as f32 (from any element type), contiguous, on the CPU. A `Format` error that names file and key where the key is
    /// missing (with those most like it), the shape is not `shape` (`None`: any), or a value is NaN or infinite.
    pub fn f32(&self, key: &str, shape: Option<&[usize]>) -> Result<Tensor> {
        let entry = self.entry(key)?;
        if let Some(shape) = shape.filter(|&shape| shape != entry.shape) {
            return Err(self.source.error(format!("tensor '{}' has shape {:?}, where {shape:?} is needed", self.full(key), entry.shape)));
        }
        let values = entry.f32(&self.source)?;
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            let n = values.iter().filter(|x| !x.is_finite()).count();
            return Err(self.source.error(format!(
                "tensor '{}' is not finite: {} at element {at}, {n} such values in {}",
                self.full(key),
                values[at],
                values.len()
            )));
        }
        Ok(Tensor::from_vec(values, entry.shape.as_slice(), &Device::Cpu)?)
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn entry(&self, key: &str) -> Result<&Entry> {
        let full = self.full(key);
        self.entries.get(&full).ok_or_else(|| {
            let near = near_keys(&full, self.entries.keys());
            let hint = if near.is_empty() { String::new() } else { format!("; nearest there: '{}'", near.join("', '")) };
            self.source.error(format!("has no tensor '{full}'{hint}"))
        })
    }
}

/// Up to three keys that a reader may have meant: those that contain `key` or are contained in it, then those few edits away.
fn near_keys<'a>(key: &str, keys: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    // A hostile file may hold a million keys; for a hint the first few thousand do.
    let mut scored: Vec<(usize, &str)> = keys
        .take(4096)
        .filter_map(|other| {
            let longest = key.len().max(other.len());
            if longest > 256 {
                return None;
            }
            let score = if other.ends_with(key) || key.ends_with(other.as_str()) { 0 } else { edits(key.as_bytes(), other.as_bytes()) };
            (score * 2 <= longest).then_some((score, other.as_str()))
        })
        .collect();
    scored.sort_unstable();
    scored.truncate(3);
    scored.into_iter().map(|(_, other)| other).collect()
}

/// Levenshtein distance.
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
