//! From a pickle's graph to named tensors: what PyTorch's rebuild functions mean, without calling them.

use super::pickle::{Node, Pickle, PickleError, Value};
use super::source::{Block, Dtype, Entry, Source, MAX_KEPT, PER_ENTRY};
use super::{nvidia, Contents, Format};
use crate::error::Error;
use std::collections::{BTreeMap, HashMap};

/// Containers inside containers. Networks have about 10, NVIDIA's twice that.
const MAX_DEPTH: usize = 64;
/// A dotted key, in bytes.
const MAX_KEY: usize = 1024;
/// Longer texts in a checkpoint (arguments, logs) are not kept as metadata.
const MAX_TEXT: usize = 4096;
/// A container that occurs many times in one graph is walked each time; this bounds the sum, in values, bytes of keys and the memory of what is
/// kept (keys, texts, and `PER_ENTRY` for each, up to `MAX_KEPT`). A training checkpoint of 1024 px has some 20 000 visits.
const MAX_VISITS: usize = 1 << 17;
const MAX_KEY_BYTES: usize = 8 << 20;
/// Numbers in longer lists (a loss for each step) are not kept as metadata.
const MAX_LIST: usize = 1024;
/// Values that are only passed over, a nanosecond each: the numbers of long lists, and what a dict has before the key that is looked up.
const MAX_PASSED: usize = 1 << 26;

const TOO_MANY: &str = "holds more values than any checkpoint";

/// A pickle that is not read, and why.
pub(super) struct ParseError(pub PickleError);

impl ParseError {
    /// The error about `part` of the file.
    pub fn of(self, part: &str, source: &Source) -> Error {
        match self.0 {
            PickleError::Broken(message) => source.error(format!("{part}: {message}")),
            PickleError::Global(name) if name.contains("dnnlib.tflib") => Error::unsupported(
                source.path.display().to_string(),
                "is a network of NVIDIA's TensorFlow code, which is not read; convert it to PyTorch with stylegan2-ada-pytorch",
            ),
            PickleError::Global(name) => Error::unsupported(
                source.path.display().to_string(),
                format!(
                    "its pickle refers to {name}, which is not a tensor or a plain value; nothing in a file is run, so save the model's state_dict() instead"
                ),
            ),
        }
    }
}

pub(super) fn parse(source: &Source, start: u64, end: u64, allow: &dyn Fn(&str, &str) -> bool) -> std::result::Result<Pickle, ParseError> {
    Pickle::read(source, start, end, Pickle::allowance(source), allow).map_err(ParseError)
}

/// What a pickle may name besides `__torch__` classes: containers, tensors, storages, and the plain values that training scripts
/// leave in their files. None of them is called; what has no meaning here is skipped.
pub(super) fn is_known_global(module: &str, name: &str) -> bool {
    match module {
        "collections" => matches!(name, "OrderedDict" | "defaultdict" | "Counter"),
        "argparse" => name == "Namespace",
        "torch._utils" => matches!(name, "_rebuild_tensor_v2" | "_rebuild_tensor" | "_rebuild_parameter" | "_rebuild_parameter_with_state"),
        "torch" => {
            matches!(name, "Size" | "device" | "Tensor" | "contiguous_format" | "channels_last" | "strided" | "_utils")
                || is_storage_type(module, name)
                || matches!(
                    name,
                    "bool"
                        | "uint8"
                        | "int8"
                        | "int16"
                        | "int32"
                        | "int64"
                        | "float16"
                        | "bfloat16"
                        | "float32"
                        | "float64"
                        | "half"
                        | "float"
                        | "double"
                        | "long"
                )
        }
        "torch.cuda" => is_storage_type(module, name),
        "torch.storage" => name == "_load_from_bytes",
        "torch.nn.parameter" => name == "Parameter",
        // A module without a class of its own: what stands for a discriminator in converted files.
        "torch.nn.modules.module" => name == "Module",
        "torch.serialization" => name == "_get_layout",
        // numpy scalars and arrays in training state, under the names of numpy 1 and 2.
        "numpy" => {
            matches!(
                name,
                "dtype" | "ndarray" | "float16" | "float32" | "float64" | "int8" | "int16" | "int32" | "int64" | "uint8" | "bool_" | "bool"
            )
        }
        "numpy.core.multiarray" | "numpy._core.multiarray" => matches!(name, "scalar" | "_reconstruct"),
        "numpy.dtypes" => name.ends_with("DType"),
        "_codecs" => name == "encode",
        "builtins" | "__builtin__" => matches!(
            name,
            "set"
                | "frozenset"
                | "list"
                | "dict"
                | "tuple"
                | "int"
                | "float"
                | "bool"
                | "str"
                | "bytes"
                | "bytearray"
                | "complex"
                | "slice"
                | "range"
        ),
        "pathlib" => matches!(name, "Path" | "PosixPath" | "WindowsPath" | "PurePath" | "PurePosixPath" | "PureWindowsPath"),
        _ => nvidia::is_known_global(module, name),
    }
}

pub(super) fn is_storage_type(module: &str, name: &str) -> bool {
    storage_dtype(module, name).is_some()
}

fn storage_dtype(module: &str, name: &str) -> Option<Dtype> {
    if module != "torch" && module != "torch.cuda" {
        return None;
    }
    Some(match name {
        "BoolStorage" => Dtype::Bool,
        "ByteStorage" => Dtype::U8,
        "CharStorage" => Dtype::I8,
        "ShortStorage" => Dtype::I16,
        "IntStorage" => Dtype::I32,
        "LongStorage" => Dtype::I64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        _ => return None,
    })
}

/// A module of a TorchScript archive: the class name is the compiler's, the attributes are its state.
pub(super) fn is_script_class(module: &str) -> bool {
    module == "__torch__" || module.starts_with("__torch__.")
}

/// A storage as a pickle refers to it: ("storage", type, key, device, number of elements), and in very old files a view of it.
pub(super) struct Persistent<'a> {
    pub key: &'a str,
    pub dtype: Dtype,
    pub numel: usize,
    /// Where a view (key, offset, size) begins, in elements.
    view: u64,
}

pub(super) fn persistent_storage(pickle: &Pickle, id: Value) -> Result<Persistent<'_>, String> {
    let id = pickle.tuple(id).filter(|id| id.len() >= 5 && pickle.str(id[0]) == Some("storage")).ok_or("it names no storage")?;
    let (module, name) = pickle.global(id[1]).ok_or("its storage has no type")?;
    let dtype = storage_dtype(module, name).ok_or_else(|| format!("storage type {module}.{name} is not supported"))?;
    let key = pickle.str(id[2]).ok_or("its storage has no key")?;
    let numel = size(id[4]).ok_or("its storage has no length")?;
    let view = id.get(5).and_then(|&view| pickle.tuple(view)).and_then(|view| view.get(1)).and_then(|&offset| size(offset));
    Ok(Persistent { key, dtype, numel, view: view.unwrap_or(0) as u64 })
}

/// Reads a file in the old format that lies at a place of the source and is of a length, both in bytes.
pub(super) type Embedded = fn(&Source, u64, u64) -> Result<(Dtype, Block), String>;

/// Where storages are.
pub(super) struct Storages<'a> {
    /// The bytes of the storage with this key.
    pub persistent: &'a mut dyn FnMut(&str) -> Result<Block, String>,
    /// Finds the storage in a byte string of the pickle, by the string's place and length in the source; None where the pickle is compressed
    /// and so has none there.
    pub embedded: Option<Embedded>,
}

/// All tensors and plain values of a graph.
pub(super) fn contents(pickle: &Pickle, source: &Source, storages: Storages, format: Format) -> crate::error::Result<Contents> {
    let mut walk = Walk {
        pickle,
        source,
        storages,
        inside: HashMap::new(),
        entries: BTreeMap::new(),
        metadata: BTreeMap::new(),
        visits: 0,
        passed: 0,
        key_bytes: 0,
        kept: 0,
    };
    walk.walk("", pickle.root, 0).map_err(|e| source.error(e))?;
    let (entries, metadata) = (walk.entries, walk.metadata);
    if entries.is_empty() {
        return Err(source.error("is a Python file without a PyTorch tensor in it"));
    }
    Ok(Contents { format, entries, metadata })
}

struct Walk<'a, 's> {
    pickle: &'a Pickle,
    source: &'a Source,
    storages: Storages<'s>,
    /// Storages in byte strings, by the string's place.
    inside: HashMap<u64, (Dtype, Block)>,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    visits: usize,
    passed: usize,
    key_bytes: usize,
    kept: u64,
}

impl Walk<'_, '_> {
    /// Enters `value` and all below it under `key`, joined with '.'.
    fn walk(&mut self, key: &str, value: Value, depth: usize) -> Result<(), String> {
        self.visits += 1;
        self.key_bytes += key.len();
        if depth > MAX_DEPTH || key.len() > MAX_KEY {
            return Err(format!("'{}...': nested deeper than any checkpoint", key.chars().take(80).collect::<String>()));
        }
        if self.visits > MAX_VISITS || self.key_bytes > MAX_KEY_BYTES || self.kept > MAX_KEPT {
            return Err(TOO_MANY.into());
        }
        let pickle = self.pickle;
        match value {
            Value::None => {}
            Value::Bool(b) => self.text(key, b.to_string()),
            Value::Int(n) => self.text(key, n.to_string()),
            Value::Float(x) => self.text(key, x.to_string()),
            Value::Node(_) => match pickle.node(value) {
                Some(Node::Str(s)) if s.len() <= MAX_TEXT => self.text(key, s.to_string()),
                Some(Node::Dict(items)) => self.items(key, items, depth)?,
                Some(Node::Tuple(items) | Node::List(items)) => {
                    self.pass(items.len())?;
                    let numbers = items.len() <= MAX_LIST;
                    for (i, &item) in items.iter().enumerate().filter(|(_, item)| numbers || matches!(item, Value::Node(_))) {
                        self.walk(&join(key, &i.to_string()), item, depth + 1)?;
                    }
                }
                Some(Node::Object(object)) => match pickle.global(object.class) {
                    Some(("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor")) => {
                        let entry = self.tensor(object.args).map_err(|e| format!("tensor '{key}': {e}"))?;
                        self.kept += entry.kept(key);
                        if self.entries.insert(key.to_string(), entry).is_some() {
                            return Err(format!("tensor '{key}' occurs twice"));
                        }
                    }
                    Some(("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")) => {
                        let data = pickle.tuple(object.args).and_then(|args| args.first());
                        let data = *data.ok_or_else(|| format!("parameter '{key}' has no data"))?;
                        self.walk(key, data, depth + 1)?;
                    }
                    Some(("collections", "OrderedDict" | "defaultdict" | "Counter")) => self.items(key, &object.items, depth)?,
                    Some((module, name)) if nvidia::is_dict(module, name) => {
                        self.items(key, &object.items, depth)?;
                        if let Some(state) = object.state {
                            self.walk(key, state, depth + 1)?;
                        }
                    }
                    Some((module, name)) if nvidia::is_persistent(module, name) => {
                        // Two keys are looked up in the description.
                        self.pass(2 * nvidia::description(pickle, object).and_then(|meta| pickle.dict(meta)).map_or(0, <[_]>::len))?;
                        let (class, state) = nvidia::persistent(pickle, object).map_err(|e| format!("'{key}': {e}"))?;
                        self.text(&join(key, "class_name"), class);
                        self.module(key, state, depth + 1)?;
                    }
                    Some((module, name)) if is_script_class(module) || (module, name) == ("argparse", "Namespace") => {
                        if let Some(state) = object.state {
                            self.walk(key, state, depth + 1)?;
                        }
                    }
                    _ => {}
                },
                _ => {}
            },
        }
        Ok(())
    }

    /// Counts values that are looked at and not entered.
    fn pass(&mut self, n: usize) -> Result<(), String> {
        self.passed += n;
        if self.passed > MAX_PASSED {
            return Err(TOO_MANY.into());
        }
        Ok(())
    }

    fn items(&mut self, key: &str, items: &[(Value, Value)], depth: usize) -> Result<(), String> {
        self.pass(items.len())?;
        for &(name, value) in items {
            let name = match name {
                Value::Int(n) => n.to_string(),
                _ => match self.pickle.str(name) {
                    Some(name) => name.to_string(),
                    None => continue,
                },
            };
            self.walk(&join(key, &name), value, depth + 1)?;
        }
        Ok(())
    }

    /// The attributes of a torch.nn.Module: parameters, buffers and modules have their names in a state_dict; of what is private otherwise
    /// the arguments of the constructor are kept.
    fn module(&mut self, key: &str, state: Value, depth: usize) -> Result<(), String> {
        let pickle = self.pickle;
        let items = pickle.dict(state).ok_or_else(|| format!("'{key}': a module without attributes"))?;
        self.pass(items.len())?;
        for &(name, value) in items {
            match pickle.str(name) {
                Some("_parameters" | "_buffers" | "_modules") => self.walk(key, value, depth + 1)?,
                Some(name) if !name.starts_with('_') || name == "_init_kwargs" => self.walk(&join(key, name), value, depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn text(&mut self, key: &str, text: String) {
        self.kept += (key.len() + text.len()) as u64 + PER_ENTRY;
        self.metadata.insert(key.to_string(), text);
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`.
    fn tensor(&mut self, args: Value) -> Result<Entry, String> {
        let pickle = self.pickle;
        let args = pickle.tuple(args).filter(|args| args.len() >= 4).ok_or("its arguments are not those of a tensor")?;
        let (dtype, block, view) = match pickle.node(args[0]) {
            Some(Node::Persistent(id)) => self.persistent(*id)?,
            Some(Node::Object(object)) if pickle.global(object.class) == Some(("torch.storage", "_load_from_bytes")) => {
                let (dtype, block) = self.embedded(object.args)?;
                (dtype, block, 0)
            }
            _ => return Err("it names no storage".into()),
        };
        let offset = size(args[1]).ok_or("its offset is not a number")? as u64;
        let shape = self.sizes(args[2]).ok_or("its shape is not a tuple of numbers")?;
        let strides = self.sizes(args[3]).ok_or("its strides are not a tuple of numbers")?;
        let offset = offset.checked_add(view).and_then(|n| n.checked_mul(dtype.size() as u64)).ok_or("its offset is too large")?;
        Entry::new(dtype, shape, Some(strides), offset, block, self.source)
    }

    fn persistent(&mut self, id: Value) -> Result<(Dtype, Block, u64), String> {
        let Persistent { key, dtype, numel, view } = persistent_storage(self.pickle, id)?;
        let mut block = (self.storages.persistent)(key)?;
        let bytes = numel.checked_mul(dtype.size()).map(|n| n as u64).filter(|&n| n <= block.len).ok_or_else(|| {
            format!("truncated: storage '{key}' is declared with {numel} elements of {} and has {} bytes", dtype.name(), block.len)
        })?;
        // What is compressed is cut to what the pickle declares: its length is only a claim until it is read, piece by piece.
        block.len = bytes;
        if !block.deflated {
            block.stored = bytes;
        }
        Ok((dtype, block, view))
    }

    /// `_load_from_bytes(bytes)`: a file in the old format inside of this one.
    fn embedded(&mut self, args: Value) -> Result<(Dtype, Block), String> {
        let bytes = self.pickle.tuple(args).and_then(|args| args.first()).and_then(|&bytes| self.pickle.node(bytes));
        let Some(&Node::Bytes { start, len }) = bytes else { return Err("its storage is not bytes".into()) };
        let storage = self.storages.embedded.ok_or("its storage is in a compressed pickle")?;
        if let Some(known) = self.inside.get(&start) {
            return Ok(known.clone());
        }
        let storage = storage(self.source, start, len)?;
        self.inside.insert(start, storage.clone());
        Ok(storage)
    }

    fn sizes(&self, value: Value) -> Option<Vec<usize>> {
        let pickle = self.pickle;
        let items = match pickle.node(value)? {
            Node::Tuple(items) | Node::List(items) => items,
            Node::Object(object) if pickle.global(object.class) == Some(("torch", "Size")) => {
                let inner = *pickle.tuple(object.args)?.first()?;
                match pickle.node(inner)? {
                    Node::Tuple(items) | Node::List(items) => items,
                    _ => return None,
                }
            }
            _ => return None,
        };
        items.iter().map(|&n| size(n)).collect()
    }
}

fn size(value: Value) -> Option<usize> {
    match value {
        Value::Int(n) => usize::try_from(n).ok(),
        _ => None,
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_string()
    } else {
        format!("{prefix}.{name}")
    }
}
