//! PyTorch's zip archives (torch.save since 1.6, and TorchScript): `<name>/data.pkl` with the structure, `<name>/data/<key>` with the
//! storages. Both pickles hold references to storages (persistent ids), so that tensors are read one by one when they are wanted.

use super::pickle::{self, Pickle, PickleError};
use super::source::{Block, Reader, Source};
use super::torch_graph::Walk;
use super::{torch_graph, torchscript, Contents, Format};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::io::BufReader;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// A compressed entry may grow by this factor, and by `INFLATE_EXTRA` bytes more: constant tensors compress up to a thousandfold, and a
/// few of them are small. PyTorch itself does not compress storages at all.
const INFLATE_FACTOR: u64 = 64;
const INFLATE_EXTRA: u64 = 1 << 20;

struct Archive<'a> {
    zip: ZipArchive<BufReader<Reader<'a>>>,
    source: &'a Source,
    /// What stands before `data.pkl`.
    prefix: String,
}

impl<'a> Archive<'a> {
    fn open(source: &'a Source) -> Result<Self> {
        // PyTorch's archives begin where the file begins. Left to detect that, the reader mistakes torch's zip64 end records for data in
        // front of the archive, where an entry's header happens to have their length (files with names of 21 characters).
        let whole = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(whole, BufReader::new(source.reader()))
            .map_err(|e| source.error(format!("truncated or damaged zip archive ({e}); if it was downloaded, download it again")))?;
        let prefix = zip.file_names().flatten().find_map(|name| {
            let prefix = name.strip_suffix("data.pkl")?;
            (prefix.is_empty() || (prefix.ends_with('/') && prefix.matches('/').count() == 1)).then(|| prefix.to_string())
        });
        let prefix = prefix.ok_or_else(|| source.error("is a zip archive without data.pkl, so PyTorch did not write it"))?;
        Ok(Archive { zip, source, prefix })
    }

    fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(&format!("{}{name}", self.prefix)).is_some()
    }

    /// Where entry `name` lies, checked against the file's size.
    fn block(&mut self, name: &str) -> std::result::Result<Block, String> {
        let name = format!("{}{name}", self.prefix);
        let index = self.zip.index_for_name(&name).ok_or_else(|| format!("the archive has no entry '{name}'"))?;
        let describe = |e: ZipError| format!("entry '{name}' of the archive is damaged: {e}");
        let entry = self.zip.by_index_raw(index).map_err(describe)?;
        let start = entry.data_start().ok_or_else(|| format!("entry '{name}' of the archive is damaged"))?;
        let block = Block {
            start,
            stored: entry.compressed_size(),
            len: entry.size(),
            deflated: entry.compression() == CompressionMethod::Deflated,
        };
        if entry.encrypted() || !(block.deflated || entry.compression() == CompressionMethod::Stored) {
            return Err(format!("entry '{name}' of the archive is encrypted or compressed with {}", entry.compression()));
        }
        if start.checked_add(block.stored).is_none_or(|end| end > self.source.len) || (!block.deflated && block.stored != block.len) {
            return Err(format!("truncated: entry '{name}' reaches beyond the end of the file"));
        }
        if block.deflated && block.len > block.stored.saturating_mul(INFLATE_FACTOR).saturating_add(INFLATE_EXTRA) {
            return Err(format!("entry '{name}' claims to grow from {} to {} bytes, which no tensors do", block.stored, block.len));
        }
        Ok(block)
    }
}

pub(super) fn read(source: &Source) -> Result<Contents> {
    let mut archive = Archive::open(source)?;
    if archive.has("byteorder") {
        let order = archive.block("byteorder").map_err(|e| source.error(e))?;
        if order.len > 16 || order.bytes(source)? != b"little" {
            return Err(Error::unsupported(
                source.path.display().to_string(),
                "its tensors are big-endian; save it again on a little-endian machine",
            ));
        }
    }
    let script = archive.has("constants.pkl");
    let data = archive.block("data.pkl").map_err(|e| source.error(e))?;
    if data.len > pickle::MAX_BYTES {
        return Err(source.error(format!("data.pkl has {} bytes, where at most {} are read", data.len, pickle::MAX_BYTES)));
    }
    let bytes = data.bytes(source)?;
    let allow: &dyn Fn(&str, &str) -> bool = if script { &torchscript::is_known_global } else { &torch_graph::is_known_global };
    let graph = Pickle::read(&bytes, allow).map_err(|e| describe(source, e))?;

    let mut blocks: HashMap<String, Block> = HashMap::new();
    let mut storage = |key: &str| match blocks.get(key) {
        Some(block) => Ok(block.clone()),
        None => {
            let block = archive.block(&format!("data/{key}"))?;
            blocks.insert(key.to_string(), block.clone());
            Ok(block)
        }
    };
    let mut walk = Walk::new(&graph, source, &mut storage);
    walk.walk("", graph.root, 0).map_err(|e| source.error(e))?;
    let (entries, metadata) = (walk.entries, walk.metadata);
    if entries.is_empty() {
        return Err(source.error("is a PyTorch file without a tensor in it"));
    }
    Ok(Contents { format: if script { Format::TorchScript } else { Format::TorchZip }, entries, metadata })
}

fn describe(source: &Source, e: PickleError) -> Error {
    match e {
        PickleError::Broken(message) => source.error(format!("data.pkl: {message}")),
        PickleError::Global(name) => Error::unsupported(
            source.path.display().to_string(),
            format!(
                "its pickle refers to {name}, which is not a tensor or a plain value; nothing in a file is run, so save the model's state_dict() instead"
            ),
        ),
    }
}
