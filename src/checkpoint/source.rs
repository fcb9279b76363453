//! A file's bytes, and tensors that lie in them until they are asked for.

use crate::cancel::Cancel;
use crate::device::HOST;
use crate::error::{Error, Result};
use crate::files::{open_ordinary, PIECE};
use crate::machine;
use candle_core::{DType, Tensor};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Dimensions of a tensor in any supported file; PyTorch's own operations stop at 64, networks at 5.
const MAX_RANK: usize = 16;
/// Broadcast tensors (stride 0) may hold more elements than the file has bytes; this many are always allowed.
const MIN_ELEMENTS: u64 = 1 << 20;
/// What reading a file may allocate beyond twice its size: 64 MiB together with what is small (pieces, tables of contents).
const EXTRA_MEMORY: u64 = 48 << 20;
/// What a key, its shape and its place take in a table of contents, beside the key's text.
pub(super) const PER_ENTRY: u64 = 512;
/// What a table of contents may take. A training checkpoint of 1024 px has 3000 tensors, which take 2 MB.
pub(super) const MAX_KEPT: u64 = 24 << 20;

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

    /// The type that [`super::Checkpoint::tensor`] gives: the engine has no bool and no int8.
    pub fn loaded(self) -> DType {
        match self {
            Dtype::Bool | Dtype::U8 => DType::U8,
            Dtype::I8 | Dtype::I16 => DType::I16,
            Dtype::I32 => DType::I32,
            Dtype::U32 => DType::U32,
            Dtype::I64 => DType::I64,
            Dtype::F16 => DType::F16,
            Dtype::Bf16 => DType::BF16,
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
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

/// A file or bytes in memory, read by position. Not a memory map: a file that shrinks while it is read is then an error and not a signal,
/// and its pages do not stand beside the tensors that are copied out of them.
#[derive(Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    pub len: u64,
    data: Data,
    /// Looked at before each read.
    pub cancel: Cancel,
}

#[derive(Debug)]
enum Data {
    File(File),
    Memory(Vec<u8>),
}

impl Source {
    /// Reads from it fail once `cancel` is raised: see [`Source::unless_cancelled`].
    pub fn open(path: &Path, cancel: &Cancel) -> Result<Self> {
        cancel.check()?;
        let (file, len) = open_ordinary(path, "a file")?;
        Ok(Source { path: path.to_path_buf(), len, data: Data::File(file), cancel: cancel.clone() })
    }

    /// `bytes` as if they were the file `path`, which errors name.
    pub fn memory(path: &Path, bytes: Vec<u8>) -> Self {
        Source { path: path.to_path_buf(), len: bytes.len() as u64, data: Data::Memory(bytes), cancel: Cancel::new() }
    }

    /// `result`, or `Cancelled` where it failed after the flag was raised: readers tell of a failed read in words of their own.
    pub fn unless_cancelled<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| self.cancel.check().err().unwrap_or(e))
    }

    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::format(&self.path, message)
    }

    /// Fills `bytes` from `start` on.
    pub fn read(&self, start: u64, bytes: &mut [u8]) -> Result<()> {
        self.reader(start).read_exact(bytes).map_err(|e| self.io(e))
    }

    fn io(&self, e: io::Error) -> Error {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => self.error("truncated: ends inside a tensor"),
            _ => Error::io(&self.path, e),
        }
    }

    /// Bytes `start .. start + len`, checked against the file's size before anything is allocated.
    pub fn bytes(&self, start: u64, len: u64) -> Result<Vec<u8>> {
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(self.error(format!("truncated: bytes {start} to {start} + {len} are wanted and the file has {}", self.len)));
        }
        let len = usize::try_from(len).map_err(|_| self.error("is too large for this machine"))?;
        let mut bytes = vec![0; len];
        self.read(start, &mut bytes)?;
        Ok(bytes)
    }

    pub fn reader(&self, position: u64) -> Reader<'_> {
        Reader { source: self, position }
    }

    /// What a reader may allocate: see [`memory_limit`].
    pub fn memory_limit(&self) -> u64 {
        memory_limit(self.len)
    }
}

/// What reading `len` bytes of files may allocate: twice as much, and so much more.
pub(super) fn memory_limit(len: u64) -> u64 {
    len.saturating_mul(2).saturating_add(EXTRA_MEMORY)
}

/// A cursor over a [`Source`].
pub(super) struct Reader<'a> {
    source: &'a Source,
    position: u64,
}

impl Read for Reader<'_> {
    /// At most [`PIECE`] bytes: on a slow disk a long read would not hear of a request to stop.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.source.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let most = bytes.len().min(PIECE);
        let bytes = &mut bytes[..most];
        let n = match &self.source.data {
            Data::File(file) => read_at(file, bytes, self.position)?,
            Data::Memory(all) => {
                let rest = usize::try_from(self.position).ok().and_then(|at| all.get(at..)).unwrap_or(&[]);
                let n = rest.len().min(bytes.len());
                bytes[..n].copy_from_slice(&rest[..n]);
                n
            }
        };
        self.position += n as u64;
        Ok(n)
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, at)
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
    pub fn reader<'a>(&self, source: &'a Source, skip: u64) -> Result<Box<dyn Read + 'a>> {
        if !self.deflated {
            return Ok(Box::new(source.reader(self.start + skip)));
        }
        let mut inflated = flate2::read::DeflateDecoder::new(source.reader(self.start).take(self.stored));
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
    /// Which of the checkpoint's files it lies in.
    pub file: usize,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// In elements, one per dimension.
    strides: Vec<usize>,
    /// First element, in bytes from the block's start.
    offset: u64,
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
    /// Checks shape, strides and offset (in bytes) against the block, so that reading cannot leave it.
    pub fn new(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Option<Vec<usize>>,
        offset: u64,
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
            let bytes = last.and_then(|n| n.checked_add(1)).and_then(|n| n.checked_mul(dtype.size()));
            match (last, bytes.and_then(|n| offset.checked_add(n as u64))) {
                (Some(last), Some(end)) if end <= block.len && last as u64 <= source.len.max(MIN_ELEMENTS) => span = last + 1,
                _ => {
                    return Err(format!(
                        "shape {shape:?}, strides {strides:?}, offset {offset} bytes of {} reach beyond their storage of {} bytes",
                        dtype.name(),
                        block.len
                    ))
                }
            }
        }
        Ok(Entry { file: 0, dtype, shape, strides, offset, count, span, block })
    }

    /// Bytes of the tensor in memory, with its own element type or as f32, whichever is more.
    pub fn bytes(&self) -> u64 {
        (self.count as u64).saturating_mul(self.dtype.size().max(4) as u64)
    }

    /// Bytes that are inflated to read it: a compressed block can only be read from its beginning.
    pub fn inflated(&self) -> u64 {
        if !self.block.deflated || self.count == 0 {
            return 0;
        }
        (self.span as u64).saturating_mul(self.dtype.size() as u64).saturating_add(self.offset)
    }

    /// What the entry itself takes in a table under `key`, roughly and rather more.
    pub fn kept(&self, key: &str) -> u64 {
        key.len() as u64 + PER_ENTRY
    }

    fn is_contiguous(&self) -> bool {
        self.count == 0 || Some(&self.strides) == contiguous_strides(&self.shape).as_ref()
    }

    /// Element types that grow and dimensions without a stride make tensors that are larger than their file.
    fn check_memory(&self, source: &Source, size: usize) -> Result<()> {
        let raw = if self.is_contiguous() { 0 } else { self.span * self.dtype.size() };
        let needed = (self.count as u64).saturating_mul(size as u64).saturating_add(raw as u64);
        if needed > source.memory_limit() {
            return Err(source.error(format!("a tensor of shape {:?} needs {needed} bytes, for a file of {}", self.shape, source.len)));
        }
        machine::admit_loading(&source.path, needed)
    }

    /// All elements in row-major order. Reads in pieces, so that the bytes never stand beside the values, unless they are to be rearranged.
    fn values<T: Copy>(&self, source: &Source, convert: impl Fn(&[u8]) -> T) -> Result<Vec<T>> {
        self.check_memory(source, size_of::<T>())?;
        let size = self.dtype.size();
        let mut values = Vec::with_capacity(self.count);
        if self.count == 0 {
            return Ok(values);
        }
        let mut reader = self.block.reader(source, self.offset)?;
        if self.is_contiguous() {
            let mut piece = vec![0u8; PIECE.min(self.span * size)];
            while values.len() < self.span {
                let n = (self.span - values.len()).min(piece.len() / size) * size;
                reader.read_exact(&mut piece[..n]).map_err(|e| source.io(e))?;
                values.extend(piece[..n].chunks_exact(size).map(&convert));
            }
            return Ok(values);
        }
        let mut raw = vec![0u8; self.span * size];
        reader.read_exact(&mut raw).map_err(|e| source.io(e))?;
        let rank = self.shape.len();
        let (length, stride) = (self.shape[rank - 1], self.strides[rank - 1]);
        let mut index = vec![0usize; rank - 1];
        let mut row = 0;
        while values.len() < self.count {
            values.extend((0..length).map(|i| convert(&raw[(row + i * stride) * size..][..size])));
            for d in (0..index.len()).rev() {
                index[d] += 1;
                row += self.strides[d];
                if index[d] < self.shape[d] {
                    break;
                }
                row -= index[d] * self.strides[d];
                index[d] = 0;
            }
        }
        Ok(values)
    }

    /// The tensor with its own element type; bool becomes u8 and int8 becomes int16, which the engine lacks.
    pub fn tensor(&self, source: &Source) -> Result<Tensor> {
        let device = HOST;
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
            Dtype::F32 => Tensor::from_vec(self.f32(source)?.0, shape, device)?,
            Dtype::F64 => Tensor::from_vec(self.values(source, |b| f64::from_le_bytes(first(b)))?, shape, device)?,
        })
    }

    /// All elements as f32, row-major, and whether all are finite.
    pub fn f32(&self, source: &Source) -> Result<(Vec<f32>, bool)> {
        if cfg!(target_endian = "little") && self.is_contiguous() {
            match self.dtype {
                Dtype::F32 => return self.f32_as_it_is(source),
                Dtype::F16 => return self.f32_from_halves(source, |half, out| half.reinterpret_cast::<f16>().convert_to_f32_slice(out)),
                Dtype::Bf16 => return self.f32_from_halves(source, |half, out| half.reinterpret_cast::<bf16>().convert_to_f32_slice(out)),
                _ => {}
            }
        }
        let values = match self.dtype {
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
        }?;
        let finite = is_finite(&values);
        Ok((values, finite))
    }

    /// The bytes of the file are read into the tensor itself, and looked at while they are in the cache.
    fn f32_as_it_is(&self, source: &Source) -> Result<(Vec<f32>, bool)> {
        self.check_memory(source, 4)?;
        let mut values = vec![0f32; self.count];
        let mut finite = true;
        let mut reader = self.block.reader(source, self.offset)?;
        for piece in values.chunks_mut(PIECE / 4) {
            reader.read_exact(bytes_mut(piece)).map_err(|e| source.io(e))?;
            finite &= is_finite(piece);
        }
        Ok((values, finite))
    }

    fn f32_from_halves(&self, source: &Source, convert: impl Fn(&[u16], &mut [f32])) -> Result<(Vec<f32>, bool)> {
        self.check_memory(source, 4)?;
        let mut values = vec![0f32; self.count];
        let mut finite = true;
        let mut reader = self.block.reader(source, self.offset)?;
        let mut halves = vec![0u16; self.count.min(PIECE / 2)];
        for out in values.chunks_mut(PIECE / 2) {
            let halves = &mut halves[..out.len()];
            reader.read_exact(bytes_mut(halves)).map_err(|e| source.io(e))?;
            convert(halves, out);
            finite &= is_finite(out);
        }
        Ok((values, finite))
    }
}

/// The bytes that numbers are made of.
fn bytes_mut<T: Number>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: the numbers have no padding, every pattern of their bits is a value, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

trait Number {}
impl Number for f32 {}
impl Number for u16 {}

/// No NaN and no infinity: those have all bits of the exponent set. Without a branch, so that it runs at the speed of memory.
fn is_finite(values: &[f32]) -> bool {
    values.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7fff_ffff)) < 0x7f80_0000
}

/// The element that was cut to the type's size.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}
