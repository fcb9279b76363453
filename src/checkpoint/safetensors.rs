//! safetensors: 8 bytes header length, a JSON header, the tensors without a gap between them.

use super::source::{Block, Dtype, Entry, Source, MAX_KEPT, PER_ENTRY};
use super::{Contents, Format};
use crate::error::{Error, Result};
use candle_core::{DType, Tensor};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

/// Headers of real files have up to 1 MB, a hundred bytes for a tensor. What is built of the header takes a few times its size.
const MAX_HEADER: u64 = 8 << 20;
const MAX_TENSORS: usize = 1 << 16;

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// The header's object; a key that occurs twice is an error, where a map would keep the last.
struct Header {
    tensors: BTreeMap<String, Info>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut header = Header { tensors: BTreeMap::new(), metadata: BTreeMap::new() };
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        header.metadata = map.next_value::<Texts>()?.0;
                    } else {
                        let info = map.next_value()?;
                        if header.tensors.len() == MAX_TENSORS {
                            return Err(serde::de::Error::custom(format!("more than {MAX_TENSORS} tensors")));
                        }
                        if header.tensors.contains_key(&key) {
                            return Err(serde::de::Error::custom(format!("tensor '{key}' occurs twice")));
                        }
                        header.tensors.insert(key, info);
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// The texts of `__metadata__`.
struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Texts, A::Error> {
                let (mut texts, mut kept) = (BTreeMap::new(), 0);
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    kept += (key.len() + value.len()) as u64 + PER_ENTRY;
                    if kept > MAX_KEPT {
                        return Err(serde::de::Error::custom("more texts in __metadata__ than any checkpoint has"));
                    }
                    texts.insert(key, value);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "BOOL" => Dtype::Bool,
        "U8" => Dtype::U8,
        "I8" => Dtype::I8,
        "I16" => Dtype::I16,
        "I32" => Dtype::I32,
        "U32" => Dtype::U32,
        "I64" => Dtype::I64,
        "F16" => Dtype::F16,
        "BF16" => Dtype::Bf16,
        "F32" => Dtype::F32,
        "F64" => Dtype::F64,
        _ => return None,
    })
}

pub(super) fn read(source: &Source) -> Result<Contents> {
    let length: [u8; 8] = source.bytes(0, 8)?.try_into().map_err(|_| source.error("truncated"))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER && length < source.len {
        return Err(source.error(format!("a safetensors header of {length} bytes, where at most {MAX_HEADER} are read")));
    }
    if length.checked_add(8).is_none_or(|n| n > source.len) {
        return Err(
            source.error(format!("truncated safetensors file: a header of {length} bytes is declared and the file has {}", source.len))
        );
    }
    let header: Header =
        serde_json::from_slice(&source.bytes(8, length)?).map_err(|e| source.error(format!("damaged safetensors header: {e}")))?;
    let start = 8 + length;
    let data = source.len - start;
    let mut spans: Vec<(u64, u64, &str)> = Vec::new();
    let mut entries = BTreeMap::new();
    for (key, info) in &header.tensors {
        let error = |message: String| source.error(format!("tensor '{key}': {message}"));
        let dtype = dtype(&info.dtype).ok_or_else(|| error(format!("element type {} is not supported", info.dtype)))?;
        let (begin, end) = info.data_offsets;
        if begin > end || end > data {
            return Err(error(format!("truncated: bytes {begin} to {end} of {data} are wanted")));
        }
        let entry = Entry::new(dtype, info.shape.clone(), None, 0, Block::plain(start + begin, end - begin), source).map_err(error)?;
        let wanted = info.shape.iter().product::<usize>() as u64 * dtype.size() as u64;
        if wanted != end - begin {
            return Err(error(format!("shape {:?} of {} takes {wanted} bytes and {} are given", info.shape, dtype.name(), end - begin)));
        }
        spans.push((begin, end, key));
        entries.insert(key.clone(), entry);
    }
    // The format allows no overlap and no gap, so a damaged offset shows.
    spans.sort_unstable();
    let mut expected = 0;
    for (begin, end, key) in spans {
        if begin != expected {
            return Err(source.error(format!("tensor '{key}' begins at byte {begin} of the data, where {expected} was expected")));
        }
        expected = end;
    }
    if expected != data {
        return Err(source.error(format!("has {data} bytes of data, where the header declares {expected}")));
    }
    Ok(Contents { format: Format::Safetensors, entries, metadata: header.metadata })
}

fn name(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::U8 => "U8",
        DType::U32 => "U32",
        DType::I16 => "I16",
        DType::I32 => "I32",
        DType::I64 => "I64",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::F32 => "F32",
        DType::F64 => "F64",
        _ => return None,
    })
}

/// A tensor that is to be written: its key, element type and shape.
pub(super) struct Planned {
    pub key: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

/// Writes the file, one tensor after the other, widest elements first (which keeps each tensor aligned), then by name. `tensor` gives each
/// when it is its turn, so that they need not be in memory together.
pub(super) fn write(
    out: &mut impl Write,
    mut planned: Vec<Planned>,
    metadata: &BTreeMap<String, String>,
    mut tensor: impl FnMut(&str) -> Result<Tensor>,
) -> Result<io::Result<()>> {
    planned.sort_by(|a, b| (b.dtype.size_in_bytes(), &a.key).cmp(&(a.dtype.size_in_bytes(), &b.key)));
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), serde_json::json!(metadata));
    }
    let mut at = 0;
    for Planned { key, dtype, shape } in &planned {
        let name = name(*dtype).ok_or_else(|| {
            Error::argument("tensors", format!("'{key}' has an element type that safetensors files do not hold here: {dtype:?}"))
        })?;
        let end = at + shape.iter().product::<usize>() * dtype.size_in_bytes();
        header.insert(key.clone(), serde_json::json!({"dtype": name, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    if let Err(e) = out.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| out.write_all(header.as_bytes())) {
        return Ok(Err(e));
    }
    for Planned { key, dtype, shape } in &planned {
        let tensor = tensor(key)?;
        if tensor.dtype() != *dtype || tensor.dims() != shape {
            return Err(Error::Internal(format!("tensor '{key}' is {:?} {:?}, not {dtype:?} {shape:?}", tensor.dtype(), tensor.dims())));
        }
        if let Err(e) = write_elements(out, &tensor)? {
            return Ok(Err(e));
        }
    }
    Ok(Ok(()))
}

/// Elements turned into bytes at a time: a tensor of hundreds of megabytes does not stand in memory a second time.
const PIECE: usize = 1 << 16;

/// A tensor's elements, row-major, little-endian.
pub(super) fn write_elements(out: &mut impl Write, tensor: &Tensor) -> Result<io::Result<()>> {
    let flat = tensor.flatten_all()?;
    let count = flat.elem_count();
    for at in (0..count).step_by(PIECE) {
        let piece = flat.narrow(0, at, PIECE.min(count - at))?;
        if let Err(e) = out.write_all(&bytes(&piece)?) {
            return Ok(Err(e));
        }
    }
    Ok(Ok(()))
}

fn bytes(flat: &Tensor) -> Result<Vec<u8>> {
    Ok(match flat.dtype() {
        DType::U8 => flat.to_vec1::<u8>()?,
        DType::U32 => flat.to_vec1::<u32>()?.into_iter().flat_map(u32::to_le_bytes).collect(),
        DType::I16 => flat.to_vec1::<i16>()?.into_iter().flat_map(i16::to_le_bytes).collect(),
        DType::I32 => flat.to_vec1::<i32>()?.into_iter().flat_map(i32::to_le_bytes).collect(),
        DType::I64 => flat.to_vec1::<i64>()?.into_iter().flat_map(i64::to_le_bytes).collect(),
        DType::F16 => flat.to_vec1::<half::f16>()?.into_iter().flat_map(half::f16::to_le_bytes).collect(),
        DType::BF16 => flat.to_vec1::<half::bf16>()?.into_iter().flat_map(half::bf16::to_le_bytes).collect(),
        DType::F32 => flat.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect(),
        DType::F64 => flat.to_vec1::<f64>()?.into_iter().flat_map(f64::to_le_bytes).collect(),
        other => return Err(Error::Internal(format!("{other:?} was let through to the safetensors writer"))),
    })
}
