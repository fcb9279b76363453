//! Tensors into safetensors files.

use super::safetensors::{self, Planned};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::files::{atomically, atomically_as_new, Destination};
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// Writes tensors (any element type that safetensors has) and text metadata, to a temporary name in the same folder first.
pub fn save_safetensors<'a>(
    to: impl Into<Destination<'a>>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    atomically(to.into(), |out| all(out, tensors, metadata))
}

/// As [`save_safetensors`], of tensors that `tensor` makes one by one; `planned` says what they will be.
pub(crate) fn save_safetensors_one_by_one<'a>(
    to: impl Into<Destination<'a>>,
    planned: Vec<(String, DType, Vec<usize>)>,
    metadata: &BTreeMap<String, String>,
    tensor: impl FnMut(&str) -> Result<Tensor>,
) -> Result<()> {
    let planned = planned.into_iter().map(|(key, dtype, shape)| Planned { key, dtype, shape }).collect();
    atomically(to.into(), |out| safetensors::write(out, planned, metadata, tensor))
}

fn all(out: &mut impl Write, tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<io::Result<()>> {
    let plan = |(key, tensor): (&String, &Tensor)| Planned { key: key.clone(), dtype: tensor.dtype(), shape: tensor.dims().to_vec() };
    let missing = |key: &str| Error::Internal(format!("tensor '{key}' was planned and is not there"));
    safetensors::write(out, tensors.iter().map(plan).collect(), metadata, |key| tensors.get(key).cloned().ok_or_else(|| missing(key)))
}

/// As [`save_safetensors`], under the first of `paths`, all in one folder, that is not taken; also where other processes take them at the
/// same time. Returns that path. `Cancelled`, without a file, once the flag is raised, which is looked at with each piece.
pub(crate) fn save_safetensors_as_new(
    paths: impl Iterator<Item = PathBuf>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
    cancel: &Cancel,
) -> Result<PathBuf> {
    atomically_as_new(paths, cancel, |out| all(out, tensors, metadata))
}
