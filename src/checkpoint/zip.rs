//! Zip archives: the table of contents, and where each entry's bytes lie. Entries are stored or deflated, names are kept as they are, and
//! nothing is ever unpacked to a disk. (PKWARE, APPNOTE.TXT sections 4.3 and 4.5.3.)

use super::source::{Block, Source};
use std::collections::BTreeMap;

/// More entries than this are refused; a large training checkpoint has 2000.
const MAX_ENTRIES: u64 = 1 << 16;
/// A compressed entry may grow by this factor, and by `INFLATE_EXTRA` bytes more: constant tensors compress up to a thousandfold, and a
/// few of them are small. PyTorch itself does not compress storages at all.
const INFLATE_FACTOR: u64 = 64;
const INFLATE_EXTRA: u64 = 1 << 20;

const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";

struct Entry {
    method: u16,
    encrypted: bool,
    stored: u64,
    size: u64,
    /// Of the local header.
    offset: u64,
}

pub(super) struct Archive<'a> {
    source: &'a Source,
    entries: BTreeMap<String, Entry>,
}

type Result<T> = std::result::Result<T, String>;

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl<'a> Archive<'a> {
    pub fn open(source: &'a Source) -> Result<Self> {
        let (mut at, end, count) = directory(source)?;
        if count > MAX_ENTRIES {
            return Err(format!("{count} entries, where at most {MAX_ENTRIES} are read"));
        }
        let read = |at: u64, len: u64| match at.checked_add(len) {
            Some(after) if after <= end => source.bytes(at, len).map_err(|e| e.to_string()),
            _ => Err("its table of contents is truncated".to_string()),
        };
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let head = read(at, 46)?;
            if !head.starts_with(ENTRY) {
                return Err("its table of contents is damaged".into());
            }
            let [name, extra, comment] = [28, 30, 32].map(|i| u64::from(u16_at(&head, i)));
            let rest = read(at + 46, name + extra)?;
            let (name, extra) = rest.split_at(name as usize);
            let mut sizes = [u64::from(u32_at(&head, 24)), u64::from(u32_at(&head, 20)), u64::from(u32_at(&head, 42))];
            widen(&mut sizes, extra)?;
            let [size, stored, offset] = sizes;
            let name = String::from_utf8(name.to_vec()).map_err(|_| "an entry's name is not UTF-8")?;
            let entry = Entry { method: u16_at(&head, 10), encrypted: u16_at(&head, 8) & 1 != 0, stored, size, offset };
            if entries.contains_key(&name) {
                return Err(format!("entry '{name}' occurs twice"));
            }
            entries.insert(name, entry);
            at += 46 + rest.len() as u64 + comment;
        }
        Ok(Archive { source, entries })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Where entry `name` lies, checked against the file's size.
    pub fn block(&self, name: &str) -> Result<Block> {
        let entry = self.entries.get(name).ok_or_else(|| format!("the archive has no entry '{name}'"))?;
        let local = self.source.bytes(entry.offset, 30).ok().filter(|local| local.starts_with(LOCAL));
        let local = local.ok_or_else(|| format!("entry '{name}' of the archive is damaged"))?;
        let start = entry.offset + 30 + u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
        let block = Block { start, stored: entry.stored, len: entry.size, deflated: entry.method == 8 };
        if entry.encrypted || !matches!(entry.method, 0 | 8) {
            return Err(format!("entry '{name}' of the archive is encrypted or compressed by method {}", entry.method));
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

/// First byte, end and number of entries of the table of contents.
fn directory(source: &Source) -> Result<(u64, u64, u64)> {
    let missing = || "its table of contents is missing".to_string();
    let bytes = |at: u64, len: u64| source.bytes(at, len).map_err(|e| e.to_string());
    // A comment of up to 64 KiB may follow.
    let tail_start = source.len.saturating_sub(22 + 0xffff);
    let tail = bytes(tail_start, source.len - tail_start)?;
    let at = (0..=tail.len().checked_sub(22).ok_or_else(missing)?)
        .rev()
        .find(|&at| tail[at..].starts_with(END) && at + 22 + usize::from(u16_at(&tail, at + 20)) <= tail.len())
        .ok_or_else(missing)?;
    let record = &tail[at..at + 22];
    let mut end = tail_start + at as u64;
    let (mut count, mut size, mut start) = (u64::from(u16_at(record, 10)), u64::from(u32_at(record, 12)), u64::from(u32_at(record, 16)));
    if count == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
        let locator = bytes(end.checked_sub(20).ok_or_else(missing)?, 20)?;
        if locator.starts_with(LOCATOR64) {
            let at = u64_at(&locator, 8);
            let record = bytes(at, 56)?;
            if !record.starts_with(END64) {
                return Err(missing());
            }
            (count, size, start, end) = (u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48), at);
        }
    }
    match start.checked_add(size) {
        Some(after) if after <= end => Ok((start, after, count)),
        _ => Err("its table of contents is damaged".into()),
    }
}

/// Replaces numbers that 32 bits do not hold by those of the zip64 field: size, stored size, offset, in this order.
fn widen(sizes: &mut [u64; 3], mut extra: &[u8]) -> Result<()> {
    if sizes.iter().all(|&n| n != 0xffff_ffff) {
        return Ok(());
    }
    while extra.len() >= 4 {
        let len = usize::from(u16_at(extra, 2));
        let field = extra.get(4..4 + len).ok_or("an entry's zip64 field is damaged")?;
        if u16_at(extra, 0) == 1 {
            let mut wide = field.chunks_exact(8).map(|bytes| u64_at(bytes, 0));
            for size in sizes.iter_mut().filter(|size| **size == 0xffff_ffff) {
                *size = wide.next().ok_or("an entry's zip64 field is damaged")?;
            }
            return Ok(());
        }
        extra = &extra[4 + len..];
    }
    Ok(())
}
