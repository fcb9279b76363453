//! PyTorch's zip archives (torch.save since 1.6, and TorchScript): `<name>/data.pkl` with the structure, `<name>/data/<key>` with the
//! storages. Both pickles hold references to storages (persistent ids), so that tensors are read one by one when they are wanted.

use super::source::{Block, Source};
use super::torch_graph::{self, Storages};
use super::zip::Archive;
use super::{torch_legacy, torchscript, Contents, Format};
use crate::error::{Error, Result};
use std::collections::HashMap;

/// A compressed pickle is inflated into memory; more than this is refused. The largest known have 0.5 MB.
const MAX_PICKLE: u64 = 16 << 20;

/// What stands before `data.pkl`: nothing, or one folder.
pub(super) fn prefix(archive: &Archive) -> Option<String> {
    archive.names().find_map(|name| {
        let prefix = name.strip_suffix("data.pkl")?;
        (prefix.is_empty() || (prefix.ends_with('/') && prefix.matches('/').count() == 1)).then(|| prefix.to_string())
    })
}

pub(super) fn read(source: &Source, archive: &Archive, prefix: &str) -> Result<Contents> {
    let block = |name: &str| archive.block(&format!("{prefix}{name}"));
    let has = |name: &str| archive.has(&format!("{prefix}{name}"));
    if has("byteorder") {
        let order = block("byteorder").map_err(|e| source.error(e))?;
        if order.len > 16 || order.bytes(source)? != b"little" {
            return Err(Error::unsupported(
                source.path.display().to_string(),
                "its tensors are big-endian; save it again on a little-endian machine",
            ));
        }
    }
    let script = has("constants.pkl");
    let data = block("data.pkl").map_err(|e| source.error(e))?;
    let allow: &dyn Fn(&str, &str) -> bool = if script { &torchscript::is_known_global } else { &torch_graph::is_known_global };
    let graph = if data.deflated {
        if data.len > MAX_PICKLE {
            return Err(source.error(format!("data.pkl has {} bytes, where at most {MAX_PICKLE} are read", data.len)));
        }
        let inflated = Source::memory(&source.path, data.bytes(source)?);
        torch_graph::parse(&inflated, 0, inflated.len, allow)
    } else {
        torch_graph::parse(source, data.start, data.start + data.len, allow)
    };
    let graph = graph.map_err(|e| e.of("data.pkl", source))?;
    let mut blocks: HashMap<String, Block> = HashMap::new();
    let mut storage = |key: &str| match blocks.get(key) {
        Some(block) => Ok(block.clone()),
        None => {
            let block = block(&format!("data/{key}"))?;
            blocks.insert(key.to_string(), block.clone());
            Ok(block)
        }
    };
    let storages = Storages { persistent: &mut storage, embedded: (!data.deflated).then_some(torch_legacy::storage) };
    torch_graph::contents(&graph, source, storages, if script { Format::TorchScript } else { Format::TorchZip })
}
