//! File formats to tensors and back.
//!
//! [`open`] recognises a file by its content and reads its table of contents; a tensor is read when it is asked for, so that a training
//! checkpoint with discriminator and optimiser state costs no more than the generator that is taken from it. Reading runs nothing: a
//! pickle is followed by a machine that knows opcodes and an allow-list of names (`pickle`).
//!
//! | file | module |
//! |---|---|
//! | safetensors | `safetensors` |
//! | torch.save since 1.6 (zip) | `torch_zip` |
//! | torch.save before 1.6 | `torch_legacy` |
//! | TorchScript archive | `torchscript` |
//! | pickle with storages inside | `python_pickle` |
//! | NVIDIA's pickled networks | `nvidia` |
//! | .npy, .npz | `npy`, `npz` |
//! | several files with an index | `sharded` |
//!
//! What they have in common: `source` (bytes and tensors in them), `zip`, `pickle`, `torch_graph` (a pickle's graph to tensors).
//!
//! No reader allocates more than twice the file's size and 64 MiB: declared sizes are checked first, and what is built from a table of
//! contents is bounded.

mod npy;
mod npz;
mod nvidia;
mod pickle;
mod place;
mod python_pickle;
mod safetensors;
mod sharded;
mod sniff;
mod source;
mod torch_graph;
mod torch_legacy;
mod torch_zip;
mod torchscript;
mod write;
mod write_pickle;
mod zip;

pub(crate) use npy::{begins_as_npy, is_npy, read_npy_bytes};
pub use npy::{read_npy, read_npy_unless, write_npy};
pub(crate) use place::above;
pub use sniff::Kind;
pub use source::Dtype;
pub use write::save_safetensors;
pub(crate) use write::{save_safetensors_as_new, save_safetensors_one_by_one};
pub(crate) use write_pickle::{save_pickle, save_torch, Object, Python};

use crate::cancel::Cancel;
use crate::device::{Device, HOST};
use crate::error::Result;
use candle_core::Tensor;
use source::{Entry, Source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that may be inflated to read every tensor once, in multiples of what they may take in memory. A zip of a checkpoint whose tensors
/// have storages of their own stays below 1.
const MAX_INFLATED: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Safetensors,
    /// torch.save's zip file: a state_dict, or dicts of them.
    TorchZip,
    /// torch.save's format from before 1.6.
    TorchLegacy,
    TorchScript,
    /// A Python pickle with its tensors inside, as NVIDIA's networks are.
    Pickle,
    /// numpy's .npz.
    Npz,
    /// Several files with an index.
    Sharded,
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
    /// The files, one but for [`Format::Sharded`].
    sources: Arc<Vec<Source>>,
    entries: Arc<BTreeMap<String, Entry>>,
    prefix: String,
    /// What the file calls a key, below the prefix; None where it calls it so too.
    naming: Option<fn(&str) -> String>,
    cancel: Cancel,
    /// Where tensors are put.
    device: Device,
}

/// Reads the table of contents of a file in any of the formats, or of the files that a `.index.json` names.
///
/// Errors: `Io`/`NotFound` where the file cannot be read, `Format` where it is damaged or something else (and what it looks like),
/// `Unsupported` where it is a known format that is not read, or a pickle names something beyond tensors and plain values.
pub fn open(path: &Path) -> Result<Checkpoint> {
    open_unless(path, &Cancel::new())
}

/// As [`open`]; this and every read of a tensor end with `Cancelled` once `cancel` is raised, which is looked at each 128 KiB.
pub fn open_unless(path: &Path, cancel: &Cancel) -> Result<Checkpoint> {
    if sharded::is_index(path) && path.is_file() {
        return sharded::open(path, cancel);
    }
    read_as(Source::open(path, cancel)?, None)
}

/// As [`open`], of bytes in memory; `name` is the file that errors name.
pub fn open_bytes(name: &Path, bytes: Vec<u8>) -> Result<Checkpoint> {
    read_as(Source::memory(name, bytes), None)
}

/// As [`open_bytes`]; reads of tensors end with `Cancelled` once `cancel` is raised.
pub fn open_bytes_unless(name: &Path, bytes: Vec<u8>, cancel: &Cancel) -> Result<Checkpoint> {
    let mut file = open_bytes(name, bytes)?;
    file.cancel = cancel.clone();
    Ok(file)
}

/// As [`open_bytes`], by one reader whatever the bytes look like.
pub fn open_bytes_as(name: &Path, bytes: Vec<u8>, kind: Kind) -> Result<Checkpoint> {
    read_as(Source::memory(name, bytes), Some(kind))
}

/// `kind` None: what the bytes look like.
fn read_as(source: Source, kind: Option<Kind>) -> Result<Checkpoint> {
    let contents = kind.map_or_else(|| sniff::sniff(&source), Ok).and_then(|kind| contents(&source, kind));
    let contents = source.unless_cancelled(contents)?;
    Ok(Checkpoint {
        path: source.path.clone(),
        format: contents.format,
        metadata: Arc::new(contents.metadata),
        cancel: source.cancel.clone(),
        sources: Arc::new(vec![source]),
        entries: Arc::new(contents.entries),
        prefix: String::new(),
        naming: None,
        device: HOST.clone(),
    })
}

fn contents(source: &Source, kind: Kind) -> Result<Contents> {
    let contents = match kind {
        Kind::Safetensors => safetensors::read(source)?,
        Kind::Zip => {
            let damaged = |e| source.error(format!("truncated or damaged zip archive ({e}); if it was downloaded, download it again"));
            let archive = zip::Archive::open(source).map_err(damaged)?;
            match torch_zip::prefix(&archive) {
                Some(prefix) => torch_zip::read(source, &archive, &prefix)?,
                None if npz::is_npz(&archive) => npz::read(source, &archive)?,
                None => return Err(source.error("is a zip archive without data.pkl or .npy files, so neither PyTorch nor numpy wrote it")),
            }
        }
        Kind::TorchLegacy => torch_legacy::read(source)?,
        Kind::Pickle => python_pickle::read(source)?,
    };
    let limit = source.memory_limit();
    check_sizes(&contents.entries, limit).map_err(|e| source.error(e))?;
    // Tensors that share a compressed storage are each read from its beginning.
    let inflated = contents.entries.values().fold(0u64, |sum, entry| sum.saturating_add(entry.inflated()));
    if inflated > limit.saturating_mul(MAX_INFLATED) {
        return Err(source.error(format!(
            "is compressed, and reading its tensors one by one would inflate {inflated} bytes; unpack it and save it with torch.save"
        )));
    }
    Ok(contents)
}

/// Whether all tensors fit into `limit` bytes. They may share a storage, dimensions without a stride take none in a file, and small
/// element types grow where f32 is wanted.
fn check_sizes(entries: &BTreeMap<String, Entry>, limit: u64) -> std::result::Result<(), String> {
    let bytes = entries.values().fold(0u64, |sum, entry| sum.saturating_add(entry.bytes()));
    if bytes > limit {
        return Err(format!("declares tensors that take {bytes} bytes altogether, where its size allows {limit}"));
    }
    Ok(())
}

impl Checkpoint {
    /// The files that it lies in: the one that was opened, and those that an index names, in the order of their names.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut parts: Vec<&PathBuf> = self.sources.iter().map(|source| &source.path).filter(|part| **part != self.path).collect();
        parts.sort();
        std::iter::once(&self.path).chain(parts).cloned().collect()
    }

    /// The same file seen from below: `with_prefix("g_ema.")` finds `g_ema.input.input` under `input.input`, and only keys that begin so.
    pub fn with_prefix(&self, prefix: &str) -> Checkpoint {
        Checkpoint { prefix: format!("{}{prefix}", self.prefix), ..self.clone() }
    }

    /// The same file with its tensors under other names: `naming` says what the file calls a key, below the prefix. [`Checkpoint::keys`]
    /// stay the file's own.
    pub fn renamed(&self, naming: fn(&str) -> String) -> Checkpoint {
        Checkpoint { naming: Some(naming), ..self.clone() }
    }

    /// The same file with its tensors put on `device`; without it they lie on the host.
    pub fn on(&self, device: &Device) -> Checkpoint {
        Checkpoint { device: device.clone(), ..self.clone() }
    }

    /// Where tensors are put.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// All keys (below the prefix), sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.range(self.prefix.clone()..).map_while(|(key, _)| key.strip_prefix(self.prefix.as_str()))
    }

    /// How many of `<prefix>0.`, `<prefix>1.`, ... some key begins with, without a gap. Each is one look-up, however many keys there are.
    pub(crate) fn count_numbered(&self, prefix: &str) -> usize {
        let there = |i: &usize| {
            let start = format!("{}{prefix}{i}.", self.prefix);
            self.entries.range(start.clone()..).next().is_some_and(|(key, _)| key.starts_with(&start))
        };
        (0..).take_while(there).count()
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

    /// The plain value `key` as text.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.metadata.get(&self.full(key)).map(String::as_str)
    }

    /// Tensor `key` with its own element type, contiguous, on the file's device ([`Checkpoint::on`]); bool comes as u8, int8 as int16.
    pub fn tensor(&self, key: &str) -> Result<Tensor> {
        self.cancel.check()?;
        let entry = self.entry(key)?;
        let source = self.source(entry);
        Ok(source.unless_cancelled(entry.tensor(source))?.to_device(&self.device)?)
    }

    /// Tensor `key` as f32 (from any element type), contiguous, on the file's device. A `Format` error that names file and key where the key is
    /// missing (with those most like it), the shape is not `shape` (`None`: any), or a value is NaN or infinite.
    pub fn f32(&self, key: &str, shape: Option<&[usize]>) -> Result<Tensor> {
        self.cancel.check()?;
        let entry = self.entry(key).map_err(|e| match shape {
            Some(shape) => e.about(self.full(key), format!("a tensor of shape {shape:?}")),
            None => e,
        })?;
        let source = self.source(entry);
        if let Some(shape) = shape.filter(|&shape| shape != entry.shape) {
            let full = self.full(key);
            let message = format!("tensor '{full}' has shape {:?}, where {shape:?} is needed", entry.shape);
            return Err(source.error(message).about(full, format!("a tensor of shape {shape:?}")));
        }
        let (values, finite) = source.unless_cancelled(entry.f32(source))?;
        if let Some(at) = (!finite).then(|| values.iter().position(|x| !x.is_finite())).flatten() {
            let n = values.iter().filter(|x| !x.is_finite()).count();
            let full = self.full(key);
            let message = format!("tensor '{full}' is not finite: {} at element {at}, {n} such values in {}", values[at], values.len());
            return Err(source.error(message).about(full, "finite numbers"));
        }
        Ok(Tensor::from_vec(values, entry.shape.as_slice(), &self.device)?)
    }

    fn source(&self, entry: &Entry) -> &Source {
        &self.sources[entry.file]
    }

    /// What the file itself calls `key`.
    pub fn full(&self, key: &str) -> String {
        match self.naming {
            Some(naming) => format!("{}{}", self.prefix, naming(key)),
            None => format!("{}{key}", self.prefix),
        }
    }

    /// What the reading of this file looks at.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    fn entry(&self, key: &str) -> Result<&Entry> {
        let full = self.full(key);
        self.entries.get(&full).ok_or_else(|| {
            let near = near_keys(&full, self.entries.keys());
            let hint = if near.is_empty() { String::new() } else { format!("; nearest there: '{}'", near.join("', '")) };
            let message = format!("has no tensor '{full}'{hint}");
            crate::error::Error::format(&self.path, message).about(full, "a tensor")
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
