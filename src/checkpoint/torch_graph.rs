//! From a pickle's graph to named tensors: what PyTorch's rebuild functions mean, without calling them.

use super::pickle::{Node, Pickle, Value};
use super::source::{Block, Dtype, Entry, Source};
use std::collections::BTreeMap;

/// Containers inside containers. Networks have about 10.
const MAX_DEPTH: usize = 64;
/// A dotted key, in bytes.
const MAX_KEY: usize = 1024;
/// Longer texts in a checkpoint (arguments, logs) are not kept as metadata.
const MAX_TEXT: usize = 4096;
/// A container that occurs many times in one graph is walked each time; this bounds the sum, in values and in bytes of keys.
const MAX_VISITS: usize = 1 << 20;
const MAX_KEY_BYTES: usize = 32 << 20;

/// What a pickle may name besides `__torch__` classes: containers, tensors, storages, and the plain values that training scripts
/// leave in their files. None of them is called; what has no meaning here is skipped.
pub(super) fn is_known_global(module: &str, name: &str) -> bool {
    match module {
        "collections" => matches!(name, "OrderedDict" | "defaultdict" | "Counter"),
        "argparse" => name == "Namespace",
        "torch._utils" => matches!(name, "_rebuild_tensor_v2" | "_rebuild_tensor" | "_rebuild_parameter" | "_rebuild_parameter_with_state"),
        "torch" => {
            matches!(name, "Size" | "device" | "Tensor" | "contiguous_format" | "channels_last" | "strided" | "_utils")
                || storage_dtype(module, name).is_some()
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
        "torch.cuda" => storage_dtype("torch", name).is_some(),
        "torch.nn.parameter" => name == "Parameter",
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
        _ => false,
    }
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

pub(super) struct Walk<'a, 'p> {
    pub pickle: &'a Pickle<'p>,
    pub source: &'a Source,
    /// The bytes of the storage with this key.
    pub storage: &'a mut dyn FnMut(&str) -> Result<Block, String>,
    pub entries: BTreeMap<String, Entry>,
    pub metadata: BTreeMap<String, String>,
    visits: usize,
    key_bytes: usize,
}

impl<'a, 'p> Walk<'a, 'p> {
    pub fn new(pickle: &'a Pickle<'p>, source: &'a Source, storage: &'a mut dyn FnMut(&str) -> Result<Block, String>) -> Self {
        Walk { pickle, source, storage, entries: BTreeMap::new(), metadata: BTreeMap::new(), visits: 0, key_bytes: 0 }
    }

    /// Enters `value` and all below it under `key`, joined with '.'.
    pub fn walk(&mut self, key: &str, value: Value, depth: usize) -> Result<(), String> {
        self.visits += 1;
        self.key_bytes += key.len();
        if depth > MAX_DEPTH || key.len() > MAX_KEY {
            return Err(format!("'{}...': nested deeper than any checkpoint", key.chars().take(80).collect::<String>()));
        }
        if self.visits > MAX_VISITS || self.key_bytes > MAX_KEY_BYTES {
            return Err("holds more values than any checkpoint".into());
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
                    for (i, &item) in items.iter().enumerate() {
                        self.walk(&join(key, &i.to_string()), item, depth + 1)?;
                    }
                }
                Some(Node::Object(object)) => match pickle.global(object.class) {
                    Some(("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor")) => {
                        let entry = self.tensor(object.args).map_err(|e| format!("tensor '{key}': {e}"))?;
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

    fn items(&mut self, key: &str, items: &[(Value, Value)], depth: usize) -> Result<(), String> {
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

    fn text(&mut self, key: &str, text: String) {
        self.metadata.insert(key.to_string(), text);
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`.
    fn tensor(&mut self, args: Value) -> Result<Entry, String> {
        let pickle = self.pickle;
        let args = pickle.tuple(args).filter(|args| args.len() >= 4).ok_or("its arguments are not those of a tensor")?;
        let id = match pickle.node(args[0]) {
            Some(Node::Persistent(id)) => pickle.tuple(*id),
            _ => None,
        };
        // ("storage", torch.FloatStorage, key, device, number of elements)
        let id = id.filter(|id| id.len() >= 5 && pickle.str(id[0]) == Some("storage")).ok_or("it names no storage")?;
        let (module, name) = pickle.global(id[1]).ok_or("its storage has no type")?;
        let dtype = storage_dtype(module, name).ok_or_else(|| format!("storage type {module}.{name} is not supported"))?;
        let key = pickle.str(id[2]).ok_or("its storage has no key")?;
        let numel = size(id[4]).ok_or("its storage has no length")?;
        let offset = size(args[1]).ok_or("its offset is not a number")?;
        let shape = self.sizes(args[2]).ok_or("its shape is not a tuple of numbers")?;
        let strides = self.sizes(args[3]).ok_or("its strides are not a tuple of numbers")?;
        let mut block = (self.storage)(key)?;
        let bytes = numel.checked_mul(dtype.size()).map(|n| n as u64).filter(|&n| n <= block.len).ok_or_else(|| {
            format!("truncated: storage '{key}' is declared with {numel} elements of {} and has {} bytes", dtype.name(), block.len)
        })?;
        if block.deflated {
            // The length after decompression is only a claim; entries are cut to what the pickle declares and read piece by piece.
            block.len = bytes;
        } else {
            block = Block::plain(block.start, bytes);
        }
        Entry::new(dtype, shape, Some(strides), offset, block, self.source)
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
