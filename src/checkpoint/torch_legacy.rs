//! PyTorch's format from before 1.6, which `torch.save(..., _use_new_zipfile_serialization=False)` still writes and which pickled storages
//! have inside: five pickles (a magic number, the version, facts about the machine, the structure, the storages' keys), then for each key
//! the number of elements in 8 bytes and the elements.

use super::pickle::{Node, Pickle, PickleError, Value};
use super::source::{Block, Dtype, Source};
use super::torch_graph::{self, persistent_storage, Storages};
use super::{Contents, Format};
use crate::error::{Error, Result};
use std::collections::HashMap;

/// The integer that the file begins with (torch.serialization.MAGIC_NUMBER), as a pickle holds it: LONG1, length, bytes.
pub(super) const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
const VERSION: i64 = 1001;
/// Memory for a pickle of a few numbers: the magic number, the version, what the machine was, the name of a storage pickled by itself.
const HEAD_MEMORY: usize = 64 << 10;
/// The largest training checkpoints have some thousand.
const MAX_STORAGES: usize = 1 << 16;

/// Whether a file with this beginning is one: only protocol and framing stand before the magic number.
pub(super) fn begins(head: &[u8]) -> bool {
    head.first() == Some(&0x80) && head.iter().take(32).position(|&b| b == 0x8a).is_some_and(|at| head[at..].starts_with(MAGIC))
}

/// The structure, and where the storages lie in the file.
struct File {
    graph: Pickle,
    storages: HashMap<String, Block>,
}

/// What the graph and the list of storages may take together in `memory`, in bytes.
fn parse(
    source: &Source,
    start: u64,
    end: u64,
    memory: usize,
    allow: &dyn Fn(&str, &str) -> bool,
) -> std::result::Result<File, PickleError> {
    let broken = |message: String| PickleError::Broken(message);
    let nothing = |_: &str, _: &str| false;
    let magic = Pickle::read(source, start, end, HEAD_MEMORY, &nothing)?;
    let version = Pickle::read(source, magic.end, end, HEAD_MEMORY, &nothing)?;
    if version.root != Value::Int(VERSION) {
        return Err(broken(format!("version {:?} of PyTorch's old format, where {VERSION} is read", version.root)));
    }
    let machine = Pickle::read(source, version.end, end, HEAD_MEMORY, &nothing)?;
    if machine.get(machine.root, "little_endian") == Some(Value::Bool(false)) {
        return Err(broken("its tensors are big-endian; save it again on a little-endian machine".into()));
    }
    let graph = Pickle::read(source, machine.end, end, memory, allow)?;
    let keys = Pickle::read(source, graph.end, end, graph.memory, &nothing)?;
    let mut declared: HashMap<&str, (Dtype, usize)> = HashMap::new();
    for node in graph.nodes() {
        if let Node::Persistent(id) = node {
            let storage = persistent_storage(&graph, *id).map_err(broken)?;
            let known = declared.insert(storage.key, (storage.dtype, storage.numel));
            if known.is_some_and(|known| known != (storage.dtype, storage.numel)) {
                return Err(broken(format!("storage '{}' is declared in two ways", storage.key)));
            }
            if declared.len() > MAX_STORAGES {
                return Err(broken(format!("more than {MAX_STORAGES} storages")));
            }
        }
    }
    let mut storages = HashMap::new();
    let mut at = keys.end;
    for &key in keys.list(keys.root).ok_or_else(|| broken("the list of its storages is missing".into()))? {
        let key = keys.str(key).ok_or_else(|| broken("a storage's key is not text".into()))?;
        let &(dtype, numel) = declared.get(key).ok_or_else(|| broken(format!("storage '{key}' belongs to no tensor")))?;
        let mut count = [0; 8];
        let bytes = numel.checked_mul(dtype.size()).map(|n| n as u64);
        let after = bytes.and_then(|n| at.checked_add(8)?.checked_add(n)).filter(|&after| after <= end);
        let (Some(bytes), Some(after)) = (bytes, after) else {
            return Err(broken(format!("truncated: storage '{key}' is declared with {numel} elements of {}", dtype.name())));
        };
        source.read(at, &mut count).map_err(|e| broken(e.to_string()))?;
        let count = u64::from_le_bytes(count);
        if count != numel as u64 {
            return Err(broken(format!("storage '{key}' is declared with {numel} elements and has {count}")));
        }
        storages.insert(key.to_string(), Block::plain(at + 8, bytes));
        at = after;
    }
    Ok(File { graph, storages })
}

pub(super) fn read(source: &Source) -> Result<Contents> {
    let file = parse(source, 0, source.len, Pickle::allowance(source), &torch_graph::is_known_global).map_err(|e| match e {
        PickleError::Broken(m) if m.contains("big-endian") => Error::unsupported(source.path.display().to_string(), m),
        e => torch_graph::ParseError(e).of("PyTorch's old format", source),
    })?;
    let mut persistent = |key: &str| file.storages.get(key).cloned().ok_or_else(|| format!("the file has no storage '{key}'"));
    torch_graph::contents(&file.graph, source, Storages { persistent: &mut persistent, embedded: Some(storage) }, Format::TorchLegacy)
}

/// A storage that was pickled by itself (`torch.storage._load_from_bytes`): a file of this format whose structure is one storage.
pub(super) fn storage(source: &Source, start: u64, len: u64) -> std::result::Result<(Dtype, Block), String> {
    let describe = |e| match e {
        PickleError::Broken(message) => message,
        PickleError::Global(name) => format!("its storage refers to {name}"),
    };
    let mut head = vec![0; len.min(32) as usize];
    source.read(start, &mut head).map_err(|e| e.to_string())?;
    if !begins(&head) {
        return Err("its storage is in no known format".into());
    }
    let file = parse(source, start, start.saturating_add(len), HEAD_MEMORY, &torch_graph::is_storage_type).map_err(describe)?;
    let id = match file.graph.node(file.graph.root) {
        Some(Node::Persistent(id)) => persistent_storage(&file.graph, *id)?,
        _ => return Err("its storage holds something else".into()),
    };
    let block = file.storages.get(id.key).cloned().ok_or("its storage is empty")?;
    Ok((id.dtype, block))
}
