//! Python values as pickles and torch zip archives, for programs in Python to load.

use super::safetensors;
use super::torch_legacy::MAGIC;
use crate::error::Result;
use crate::files::{atomically, Destination};
use candle_core::{DType, Tensor};
use std::io::{self, Write};

/// A Python value, as far as checkpoints have it. Tensors are f32 on the CPU.
#[derive(Clone, Debug)]
pub enum Python {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Python>),
    Tuple(Vec<Python>),
    Dict(Vec<(String, Python)>),
    Tensor(Tensor),
    /// torch.nn.Parameter that asks for no gradient.
    Parameter(Tensor),
    Object(Box<Object>),
    /// An object that other places share, under a number.
    Shared(u32, Box<Python>),
    /// The shared object of that number, which stands earlier in the file.
    Again(u32),
}

/// `module.name(*args)`, and what is put into it afterwards.
#[derive(Clone, Debug)]
pub struct Object {
    pub module: &'static str,
    pub name: &'static str,
    pub args: Vec<Python>,
    /// Made by `__new__`, without `__init__`.
    pub new: bool,
    /// Set by key, as in a dict.
    pub items: Vec<(String, Python)>,
    /// Attributes.
    pub state: Option<Vec<(String, Python)>>,
}

impl Python {
    pub fn str(text: impl Into<String>) -> Self {
        Python::Str(text.into())
    }

    pub fn dict<K: Into<String>>(items: impl IntoIterator<Item = (K, Python)>) -> Self {
        Python::Dict(items.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }

    pub fn call(module: &'static str, name: &'static str, args: Vec<Python>) -> Self {
        Python::Object(Box::new(Object { module, name, args, new: false, items: Vec::new(), state: None }))
    }

    /// collections.OrderedDict
    pub fn ordered(items: impl IntoIterator<Item = (String, Python)>) -> Self {
        let items = items.into_iter().collect();
        Python::Object(Box::new(Object { module: "collections", name: "OrderedDict", args: vec![], new: false, items, state: None }))
    }
}

/// What the file is that a pickle stands in, which says how tensors are written.
enum Storages<'a> {
    /// torch.save's archive: references, by number, to storages that follow in entries of their own.
    Archive(&'a mut Vec<Tensor>),
    /// A plain pickle, as torch.Storage pickles itself: bytes of a file in the format from before the archives.
    Embedded,
}

struct Pickler<'a, W> {
    out: W,
    storages: Storages<'a>,
}

impl<W: Write> Pickler<'_, W> {
    /// Protocol 3 has bytes, which embedded storages need; torch.save writes protocol 2.
    fn write(mut self, value: &Python) -> io::Result<()> {
        let protocol = if matches!(self.storages, Storages::Embedded) { 3 } else { 2 };
        self.out.write_all(&[0x80, protocol])?;
        self.value(value)?;
        self.out.write_all(b".")
    }

    fn value(&mut self, value: &Python) -> io::Result<()> {
        match value {
            Python::None => self.out.write_all(b"N"),
            Python::Bool(false) => self.out.write_all(b"\x89"),
            Python::Bool(true) => self.out.write_all(b"\x88"),
            Python::Int(n) => self.int(*n),
            Python::Float(x) => self.out.write_all(&[b"G".as_slice(), &x.to_be_bytes()].concat()),
            Python::Str(text) => self.text(text),
            Python::List(items) => {
                self.out.write_all(b"](")?;
                items.iter().try_for_each(|item| self.value(item))?;
                self.out.write_all(b"e")
            }
            Python::Tuple(items) => self.tuple(items),
            Python::Dict(items) => {
                self.out.write_all(b"}")?;
                self.items(items)
            }
            Python::Tensor(tensor) => self.tensor(tensor),
            Python::Parameter(tensor) => {
                self.global("torch._utils", "_rebuild_parameter")?;
                self.out.write_all(b"(")?;
                self.tensor(tensor)?;
                self.out.write_all(b"\x89")?;
                self.value(&Python::ordered([]))?;
                self.out.write_all(b"tR")
            }
            Python::Shared(number, value) => {
                self.value(value)?;
                self.out.write_all(&[b"r".as_slice(), &number.to_le_bytes()].concat())
            }
            Python::Again(number) => self.out.write_all(&[b"j".as_slice(), &number.to_le_bytes()].concat()),
            Python::Object(object) => {
                self.global(object.module, object.name)?;
                self.tuple(&object.args)?;
                self.out.write_all(if object.new { b"\x81" } else { b"R" })?;
                self.items(&object.items)?;
                match &object.state {
                    Some(state) => {
                        self.out.write_all(b"}")?;
                        self.items(state)?;
                        self.out.write_all(b"b")
                    }
                    None => Ok(()),
                }
            }
        }
    }

    fn int(&mut self, n: i64) -> io::Result<()> {
        match (u8::try_from(n), i32::try_from(n)) {
            (Ok(n), _) => self.out.write_all(&[b'K', n]),
            (_, Ok(n)) => self.out.write_all(&[b"J".as_slice(), &n.to_le_bytes()].concat()),
            _ => self.out.write_all(&[b"\x8a\x08".as_slice(), &n.to_le_bytes()].concat()),
        }
    }

    fn length(&mut self, opcode: u8, n: usize) -> io::Result<()> {
        let n = u32::try_from(n).map_err(io::Error::other)?;
        self.out.write_all(&[opcode])?;
        self.out.write_all(&n.to_le_bytes())
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.length(b'X', text.len())?;
        self.out.write_all(text.as_bytes())
    }

    fn global(&mut self, module: &str, name: &str) -> io::Result<()> {
        write!(self.out, "c{module}\n{name}\n")
    }

    fn tuple(&mut self, items: &[Python]) -> io::Result<()> {
        self.out.write_all(b"(")?;
        items.iter().try_for_each(|item| self.value(item))?;
        self.out.write_all(b"t")
    }

    /// Into the dict that was written last.
    fn items(&mut self, items: &[(String, Python)]) -> io::Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        self.out.write_all(b"(")?;
        for (key, value) in items {
            self.text(key)?;
            self.value(value)?;
        }
        self.out.write_all(b"u")
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`, each tensor with a storage of its own.
    fn tensor(&mut self, tensor: &Tensor) -> io::Result<()> {
        self.global("torch._utils", "_rebuild_tensor_v2")?;
        self.out.write_all(b"(")?;
        match &mut self.storages {
            Storages::Archive(tensors) => {
                let key = tensors.len().to_string();
                tensors.push(tensor.clone());
                self.storage(&key, tensor.elem_count(), false)?;
            }
            Storages::Embedded => {
                self.global("torch.storage", "_load_from_bytes")?;
                let file = legacy_storage(tensor)?;
                self.out.write_all(b"(")?;
                self.length(b'B', file.len())?;
                self.out.write_all(&file)?;
                self.out.write_all(b"tR")?;
            }
        }
        let dims = tensor.dims();
        let mut strides = vec![1; dims.len()];
        for i in (1..dims.len()).rev() {
            strides[i - 1] = strides[i] * dims[i];
        }
        self.int(0)?;
        for sizes in [dims, &strides] {
            self.tuple(&sizes.iter().map(|&n| Python::Int(n as i64)).collect::<Vec<_>>())?;
        }
        self.out.write_all(b"\x89")?;
        self.value(&Python::ordered([]))?;
        self.out.write_all(b"tR")
    }

    /// The persistent id of a storage; the old format has a sixth item, for views.
    fn storage(&mut self, key: &str, elements: usize, old: bool) -> io::Result<()> {
        self.out.write_all(b"(")?;
        self.text("storage")?;
        self.global("torch", "FloatStorage")?;
        self.text(key)?;
        self.text("cpu")?;
        self.int(elements as i64)?;
        self.out.write_all(if old { b"NtQ" } else { b"tQ" })
    }
}

/// A storage as torch.save wrote it before 1.6: four pickles (a magic number, the version, the machine, the storage), the list of keys, and
/// the elements behind their number.
fn legacy_storage(tensor: &Tensor) -> io::Result<Vec<u8>> {
    const KEY: &str = "0";
    let mut file = Vec::new();
    for pickle in [MAGIC, b"M\xe9\x03"] {
        file.extend([b"\x80\x02", pickle, b"."].concat());
    }
    let plain = |file: &mut Vec<u8>, value: Python| Pickler { out: file, storages: Storages::Archive(&mut Vec::new()) }.write(&value);
    let sizes = Python::dict([("short", Python::Int(2)), ("int", Python::Int(4)), ("long", Python::Int(4))]);
    let machine = [("protocol_version", Python::Int(1001)), ("little_endian", Python::Bool(true)), ("type_sizes", sizes)];
    plain(&mut file, Python::dict(machine))?;
    file.extend(b"\x80\x02");
    Pickler { out: &mut file, storages: Storages::Embedded }.storage(KEY, tensor.elem_count(), true)?;
    file.extend(b".");
    plain(&mut file, Python::List(vec![Python::str(KEY)]))?;
    file.extend((tensor.elem_count() as u64).to_le_bytes());
    file.reserve_exact(tensor.elem_count() * 4);
    elements(&mut file, tensor)?;
    Ok(file)
}

fn elements(out: &mut Vec<u8>, tensor: &Tensor) -> io::Result<()> {
    if tensor.dtype() != DType::F32 {
        return Err(io::Error::other(format!("tensors are written as f32, and this one is {:?}", tensor.dtype())));
    }
    safetensors::write_elements(out, tensor).map_err(io::Error::other)?
}

/// A pickle (protocol 3) that holds its tensors, to a temporary name first.
pub(crate) fn save_pickle<'a>(to: impl Into<Destination<'a>>, value: &Python) -> Result<()> {
    atomically(to.into(), |out| Ok(Pickler { out, storages: Storages::Embedded }.write(value)))
}

/// What torch.save writes since 1.6, to a temporary name first.
pub(crate) fn save_torch<'a>(to: impl Into<Destination<'a>>, value: &Python) -> Result<()> {
    atomically(to.into(), |out| Ok(write_archive(out, value)))
}

fn write_archive(out: impl Write, value: &Python) -> io::Result<()> {
    let mut tensors = Vec::new();
    let mut pickle = Vec::new();
    Pickler { out: &mut pickle, storages: Storages::Archive(&mut tensors) }.write(value)?;
    let mut archive = Archive { out, at: 0, directory: Vec::new(), entries: 0 };
    archive.entry("archive/data.pkl", &pickle)?;
    archive.entry("archive/byteorder", b"little")?;
    for (key, tensor) in tensors.iter().enumerate() {
        let mut storage = Vec::with_capacity(tensor.elem_count() * 4);
        elements(&mut storage, tensor)?;
        archive.entry(&format!("archive/data/{key}"), &storage)?;
    }
    archive.entry("archive/version", b"3\n")?;
    archive.end()
}

/// A zip archive without compression, of less than 4 GiB (APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16).
struct Archive<W> {
    out: W,
    at: u64,
    directory: Vec<u8>,
    entries: u16,
}

impl<W: Write> Archive<W> {
    fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.out.write_all(part)?;
            self.at += part.len() as u64;
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        /// As torch aligns storages, so that they can be mapped into memory.
        const ALIGNMENT: u64 = 64;
        /// Length of a local header without name and padding; an extra field has an id and its length before the padding.
        const HEADER: u64 = 30 + 4;
        let start = u32::try_from(self.at).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut checksum = flate2::Crc::new();
        checksum.update(bytes);
        let padding = (self.at + HEADER + name.len() as u64).next_multiple_of(ALIGNMENT) - (self.at + HEADER + name.len() as u64);
        // Version needed, flags, method (stored), time, date (1 January 1980), checksum, both lengths, length of the name.
        let mut facts = [20u16, 0, 0, 0, 0x21].map(u16::to_le_bytes).concat();
        facts.extend([checksum.sum(), length, length].map(u32::to_le_bytes).concat());
        facts.extend((name.len() as u16).to_le_bytes());
        let mut extra = (padding as u16 + 4).to_le_bytes().to_vec();
        // torch's id of padding.
        extra.extend(b"FB");
        extra.extend((padding as u16).to_le_bytes());
        let (local, name) = (b"PK\x03\x04".as_slice(), name.as_bytes());
        self.write(&[local, &facts, &extra[..2], name, &extra[2..], &vec![b'Z'; padding as usize], bytes])?;
        // Version made by; then no extra field, no comment, disk 0, no attributes.
        self.directory.extend([b"PK\x01\x02\x14\x00".as_slice(), &facts, &[0; 12], &start.to_le_bytes(), name].concat());
        self.entries = self.entries.checked_add(1).ok_or_else(|| io::Error::other("too many tensors for a zip archive"))?;
        Ok(())
    }

    fn end(mut self) -> io::Result<()> {
        let start = u32::try_from(self.at).map_err(io::Error::other)?;
        let directory = std::mem::take(&mut self.directory);
        let (count, length) = (self.entries.to_le_bytes(), (directory.len() as u32).to_le_bytes());
        self.write(&[&directory, b"PK\x05\x06\x00\x00\x00\x00", &count, &count, &length, &start.to_le_bytes(), &[0, 0]])
    }
}
