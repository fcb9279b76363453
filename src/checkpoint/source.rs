//! A file's bytes, and tensors that lie in them until they are asked for.

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Dimensions of a tensor in any supported file; PyTorch's own operations stop at 64, networks at 5.
const MAX_RANK: usize = 16;
/// Broadcast tensors (stride 0) may hold more elements than the file has bytes; this many are always allowed.
const MIN_ELEMENTS: u64 = 1 << 20;

/// Element type as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    Bool,
    U8,
    I8,
    I16,
    I32,
    U32,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::I16 | Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::I32 | Dtype::U32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// The name that PyTorch uses.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Bool => "bool",
            Dtype::U8 => "uint8",
            Dtype::I8 => "int8",
            Dtype::I16 => "int16",
            Dtype::I32 => "int32",
            Dtype::U32 => "uint32",
            Dtype::I64 => "int64",
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
        }
    }
}

/// An open file, read by position. Not a memory map: a file that shrinks while it is read is then an error and not a signal.
#[derive(Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    pub len: u64,
    file: Mutex<File>,
}

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
        if metadata.is_dir() {
            return Err(Error::format(path, "is a folder, where a file was expected"));
        }
        Ok(Source { path: path.to_path_buf(), len: metadata.len(), file: Mutex::new(file) })
    }

    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::format(&self.path, message)
    }

    fn io(&self, e: io::Error) -> Error {
        Error::io(&self.path, e)
    }

    /// Bytes `start .. start + len`, checked against the file's size before anything is allocated.
    pub fn bytes(&self, start: u64, len: u64) -> Result<Vec<u8>> {
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(self.error(format!("truncated: bytes {start} to {start} + {len} are wanted and the file has {}", self.len)));
        }
        let len = usize::try_from(len).map_err(|_| self.error("is too large for this machine"))?;
        let mut bytes = vec![0; len];
        self.reader().read_exact_at(start, &mut bytes).map_err(|e| self.io(e))?;
        Ok(bytes)
    }

    pub fn reader(&self) -> Reader<'_> {
        Reader { source: self, position: 0 }
    }
}

/// A cursor over a [`Source`].
pub(super) struct Reader<'a> {
    source: &'a Source,
    position: u64,
}

impl Reader<'_> {
    fn read_exact_at(&mut self, start: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.position = start;
        self.read_exact(bytes)
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut file = self.source.file.lock().unwrap_or_else(|e| e.into_inner());
        file.seek(SeekFrom::Start(self.position))?;
        let n = file.read(bytes)?;
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.source.len.checked_add_signed(n),
            SeekFrom::Current(n) => self.position.checked_add_signed(n),
        };
        self.position = position.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start of the file"))?;
        Ok(self.position)
    }
}

/// A run of bytes in a file, as it is or deflated.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub start: u64,
    /// Bytes in the file.
    pub stored: u64,
    /// Bytes after decompression, the same as `stored` where there is none.
    pub len: u64,
    pub deflated: bool,
}

impl Block {
    pub fn plain(start: u64, len: u64) -> Self {
        Block { start, stored: len, len, deflated: false }
    }

    /// The whole block. A caller that does not trust `len` checks it first.
    pub fn bytes(&self, source: &Source) -> Result<Vec<u8>> {
        if !self.deflated {
            return source.bytes(self.start, self.len);
        }
        let mut bytes = Vec::new();
        self.reader(source, 0)?
            .take(self.len)
            .read_to_end(&mut bytes)
            .map_err(|e| source.error(format!("damaged compressed data: {e}")))?;
        if bytes.len() as u64 != self.len {
            return Err(source.error("damaged compressed data: shorter than declared"));
        }
        Ok(bytes)
    }

    /// A reader that stands at byte `skip` of the (decompressed) block.
    fn reader<'a>(&self, source: &'a Source, skip: u64) -> Result<Box<dyn Read + 'a>> {
        let mut raw = source.reader();
        if !self.deflated {
            raw.position = self.start + skip;
            return Ok(Box::new(raw));
        }
        raw.position = self.start;
        let mut inflated = flate2::read::DeflateDecoder::new(raw.take(self.stored));
        let skipped = io::copy(&mut (&mut inflated).take(skip), &mut io::sink())
            .map_err(|e| source.error(format!("damaged compressed data: {e}")))?;
        if skipped != skip {
            return Err(source.error("damaged compressed data: shorter than declared"));
        }
        Ok(Box::new(inflated))
    }
}

/// One tensor that still lies in the file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// In elements, one per dimension.
    strides: Vec<usize>,
    /// First element, in elements from the block's start.
    offset: usize,
    /// Elements of the tensor.
    count: usize,
    /// Elements from the first to the last, both included: `count` when the tensor is contiguous.
    span: usize,
    block: Block,
}

/// Row-major strides of `shape`, or None where its element count overflows.
pub(super) fn contiguous_strides(shape: &[usize]) -> Option<Vec<usize>> {
    let mut strides = vec![1; shape.len()];
    let mut product = 1usize;
    for (stride, &d) in strides.iter_mut().zip(shape).rev() {
        *stride = product;
        product = product.checked_mul(d.max(1))?;
    }
    Some(strides)
}

impl Entry {
    /// Checks shape, strides and offset (in elements) against the block, so that reading cannot leave it.
    pub fn new(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Option<Vec<usize>>,
        offset: usize,
        block: Block,
        source: &Source,
    ) -> std::result::Result<Self, String> {
        if shape.len() > MAX_RANK {
            return Err(format!("{} dimensions, where at most {MAX_RANK} are allowed", shape.len()));
        }
        let dense = contiguous_strides(&shape).ok_or_else(|| format!("shape {shape:?} is too large"))?;
        let count: usize = shape.iter().product();
        if count as u64 > source.len.max(MIN_ELEMENTS) {
            return Err(format!("shape {shape:?} has more elements than the file has bytes"));
        }
        let mut strides = strides.unwrap_or_else(|| dense.clone());
        if strides.len() != shape.len() {
            return Err(format!("{} strides for {} dimensions", strides.len(), shape.len()));
        }
        // The stride of a dimension of length 1 means nothing, and PyTorch writes any number there.
        for ((stride, &dense), &d) in strides.iter_mut().zip(&dense).zip(&shape) {
            if d == 1 {
                *stride = dense;
            }
        }
        let mut span = 0;
        if count > 0 {
            let last = shape.iter().zip(&strides).try_fold(0usize, |sum, (&d, &s)| (d - 1).checked_mul(s)?.checked_add(sum));
            let end = last.and_then(|n| n.checked_add(1)).and_then(|n| n.checked_add(offset)).and_then(|n| n.checked_mul(dtype.size()));
            match (last, end) {
                (Some(last), Some(end)) if end as u64 <= block.len && last as u64 <= source.len.max(MIN_ELEMENTS) => span = last + 1,
                _ => {
                    return Err(format!(
                        "shape {shape:?}, strides {strides:?}, offset {offset} of {} reach beyond their storage of {} bytes",
                        dtype.name(),
                        block.len
                    ))
                }
            }
        }
        Ok(Entry { dtype, shape, strides, offset, count, span, block })
    }

    /// All elements in row-major order. Reads in pieces, so that the bytes never stand beside the values.
    fn values<T: Copy>(&self, source: &Source, convert: impl Fn(&[u8]) -> T) -> Result<Vec<T>> {
        let size = self.dtype.size();
        let mut stored = Vec::with_capacity(self.span);
        if self.span > 0 {
            let mut reader = self.block.reader(source, (self.offset * size) as u64)?;
            let mut piece = vec![0u8; (64 << 10).min(self.span * size)];
            while stored.len() < self.span {
                let n = (self.span - stored.len()).min(piece.len() / size) * size;
                reader.read_exact(&mut piece[..n]).map_err(|e| match e.kind() {
                    io::ErrorKind::UnexpectedEof => source.error("truncated: ends inside a tensor"),
                    _ => source.io(e),
                })?;
                stored.extend(piece[..n].chunks_exact(size).map(&convert));
            }
        }
        if Some(&self.strides) == contiguous_strides(&self.shape).as_ref() || self.count == 0 {
            return Ok(stored);
        }
        let mut values = Vec::with_capacity(self.count);
        let mut index = vec![0usize; self.shape.len()];
        let mut at = 0;
        for _ in 0..self.count {
            values.push(stored[at]);
            for d in (0..index.len()).rev() {
                index[d] += 1;
                at += self.strides[d];
                if index[d] < self.shape[d] {
                    break;
                }
                at -= index[d] * self.strides[d];
                index[d] = 0;
            }
        }
        Ok(values)
    }

    /// The tensor with its own element type; bool becomes u8 and int8 becomes int16, which the engine lacks.
    pub fn tensor(&self, source: &Source) -> Result<Tensor> {
        let device = &Device::Cpu;
        let shape = self.shape.as_slice();
        Ok(match self.dtype {
            Dtype::Bool => Tensor::from_vec(self.values(source, |b| u8::from(b[0] != 0))?, shape, device)?,
            Dtype::U8 => Tensor::from_vec(self.values(source, |b| b[0])?, shape, device)?,
            Dtype::I8 => Tensor::from_vec(self.values(source, |b| i16::from(b[0] as i8))?, shape, device)?,
            Dtype::I16 => Tensor::from_vec(self.values(source, |b| i16::from_le_bytes(first(b)))?, shape, device)?,
            Dtype::I32 => Tensor::from_vec(self.values(source, |b| i32::from_le_bytes(first(b)))?, shape, device)?,
            Dtype::U32 => Tensor::from_vec(self.values(source, |b| u32::from_le_bytes(first(b)))?, shape, device)?,
            Dtype::I64 => Tensor::from_vec(self.values(source, |b| i64::from_le_bytes(first(b)))?, shape, device)?,
            Dtype::F16 => Tensor::from_vec(self.values(source, |b| f16::from_le_bytes(first(b)))?, shape, device)?,
            Dtype::Bf16 => Tensor::from_vec(self.values(source, |b| bf16::from_le_bytes(first(b)))?, shape, device)?,
            Dtype::F32 => Tensor::from_vec(self.values(source, |b| f32::from_le_bytes(first(b)))?, shape, device)?,
            Dtype::F64 => Tensor::from_vec(self.values(source, |b| f64::from_le_bytes(first(b)))?, shape, device)?,
        })
    }

    /// All elements as f32, row-major.
    pub fn f32(&self, source: &Source) -> Result<Vec<f32>> {
        match self.dtype {
            Dtype::Bool => self.values(source, |b| f32::from(u8::from(b[0] != 0))),
            Dtype::U8 => self.values(source, |b| f32::from(b[0])),
            Dtype::I8 => self.values(source, |b| f32::from(b[0] as i8)),
            Dtype::I16 => self.values(source, |b| f32::from(i16::from_le_bytes(first(b)))),
            Dtype::I32 => self.values(source, |b| i32::from_le_bytes(first(b)) as f32),
            Dtype::U32 => self.values(source, |b| u32::from_le_bytes(first(b)) as f32),
            Dtype::I64 => self.values(source, |b| i64::from_le_bytes(first(b)) as f32),
            Dtype::F16 => self.values(source, |b| f16::from_le_bytes(first(b)).to_f32()),
            Dtype::Bf16 => self.values(source, |b| bf16::from_le_bytes(first(b)).to_f32()),
            Dtype::F32 => self.values(source, |b| f32::from_le_bytes(first(b))),
            Dtype::F64 => self.values(source, |b| f64::from_le_bytes(first(b)) as f32),
        }
    }
}

/// The element that `chunks_exact` cut to the type's size.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}
