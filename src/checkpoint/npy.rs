//! numpy's .npy files (numpy.lib.format, versions 1 to 3).

use super::safetensors::write_elements;
use super::source::{contiguous_strides, Block, Dtype, Entry, Source};
use crate::cancel::Cancel;
use crate::device::HOST;
use crate::error::{Error, Result};
use crate::files::begins_with;
use crate::files::{atomically, Destination};
use candle_core::Tensor;
use std::io::{Read, Write};
use std::path::Path;

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Whether the file is an array by its content, whatever its name. Errors: `NotFound`, `Io`, `Format` where it is no ordinary file.
pub(crate) fn is_npy(path: &Path) -> Result<bool> {
    begins_with(path, "a file", MAGIC)
}

/// Whether bytes in memory begin as such a file.
pub(crate) fn begins_as_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads an array as an f32 tensor of the same shape (f4, f8, f2 and integer arrays, little-endian; C or Fortran order).
/// NaN and infinity are kept: whoever wants a latent or a picture says what he makes of them.
pub fn read_npy(path: &Path) -> Result<Tensor> {
    read_npy_unless(path, &Cancel::new())
}

/// As [`read_npy`]; `Cancelled` once the flag is raised.
pub fn read_npy_unless(path: &Path, cancel: &Cancel) -> Result<Tensor> {
    let source = Source::open(path, cancel)?;
    source.unless_cancelled(tensor(&source))
}

/// [`read_npy`] of bytes in memory; `name` is the file that errors name.
pub(crate) fn read_npy_bytes(name: &Path, bytes: Vec<u8>) -> Result<Tensor> {
    tensor(&Source::memory(name, bytes))
}

fn tensor(source: &Source) -> Result<Tensor> {
    let entry = entry(source, Block::plain(0, source.len)).map_err(|e| source.error(e))?;
    let values = entry.f32(source)?.0;
    Ok(Tensor::from_vec(values, entry.shape, HOST)?)
}

/// The array in `block`, which is the whole of an .npy file.
pub(super) fn entry(source: &Source, block: Block) -> std::result::Result<Entry, String> {
    let mut reader = block.reader(source, 0).map_err(|e| e.to_string())?.take(block.len);
    let mut start = [0; 8];
    if reader.read_exact(&mut start).is_err() || !start.starts_with(MAGIC) {
        return Err("is not an .npy file".into());
    }
    let mut length = [0; 4];
    let width = match start[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(format!(".npy version {version} is not supported")),
    };
    reader.read_exact(&mut length[..width]).map_err(|_| "truncated .npy header")?;
    let length = u32::from_le_bytes(length);
    // numpy itself refuses headers beyond 10 000 characters.
    if length > 10_000 {
        return Err(format!("an .npy header of {length} bytes"));
    }
    let mut header = vec![0; length as usize];
    reader.read_exact(&mut header).map_err(|_| "truncated .npy header")?;
    drop(reader);
    let header = std::str::from_utf8(&header).map_err(|_| "the .npy header is not text")?;
    let (dtype, fortran, shape) = parse(header).ok_or_else(|| format!("damaged .npy header: {}", header.trim()))?;
    let dtype = match dtype {
        "<f4" => Dtype::F32,
        "<f8" => Dtype::F64,
        "<f2" => Dtype::F16,
        "|u1" => Dtype::U8,
        "|i1" => Dtype::I8,
        "|b1" => Dtype::Bool,
        "<i2" => Dtype::I16,
        "<i4" => Dtype::I32,
        "<u4" => Dtype::U32,
        "<i8" => Dtype::I64,
        "|O" => {
            return Err("holds Python objects (a dict or a list), which are not read; save the array itself, or a dict with np.savez".into())
        }
        other => return Err(format!("element type '{other}' is not supported; save it as float32")),
    };
    let strides = if fortran {
        let reversed: Vec<usize> = shape.iter().rev().copied().collect();
        let strides = contiguous_strides(&reversed).ok_or_else(|| format!("shape {shape:?} is too large"))?;
        Some(strides.into_iter().rev().collect())
    } else {
        None
    };
    let begin = 8 + width as u64 + u64::from(length);
    Entry::new(dtype, shape, strides, begin, block, source).map_err(|e| format!("truncated: {e}"))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 64), }`
fn parse(header: &str) -> Option<(&str, bool, Vec<usize>)> {
    let after = |key: &str| {
        let rest = &header[header.find(key)? + key.len()..];
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = after("'descr'")?.strip_prefix('\'')?;
    let descr = &descr[..descr.find('\'')?];
    let order = after("'fortran_order'")?;
    let fortran = if order.starts_with("True") {
        true
    } else if order.starts_with("False") {
        false
    } else {
        return None;
    };
    let shape = after("'shape'")?.strip_prefix('(')?;
    let shape = shape[..shape.find(')')?].split(',').map(str::trim).filter(|n| !n.is_empty()).map(|n| n.parse().ok());
    Some((descr, fortran, shape.collect::<Option<Vec<usize>>>()?))
}

/// Writes `tensor` as f32 in C order, to a temporary name first.
pub fn write_npy<'a>(to: impl Into<Destination<'a>>, tensor: &Tensor) -> Result<()> {
    if tensor.dtype() != candle_core::DType::F32 {
        return Err(Error::argument("tensor", format!(".npy files are written from f32, and this is {:?}", tensor.dtype())));
    }
    let shape = match tensor.dims() {
        [n] => format!("({n},)"),
        dims => format!("({})", dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    // The data begins at a multiple of 64, after magic, version and length (10 bytes) and the final newline.
    let total = (10 + header.len() + 1).next_multiple_of(64);
    header.push_str(&" ".repeat(total - 10 - header.len() - 1));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| Error::argument("tensor", "has too many dimensions for an .npy file"))?;
    atomically(to.into(), |out| {
        let head = [MAGIC, &[1, 0], &length.to_le_bytes(), header.as_bytes()].concat();
        match out.write_all(&head) {
            Ok(()) => write_elements(out, tensor),
            Err(e) => Ok(Err(e)),
        }
    })
}
