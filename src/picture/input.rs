//! Where the bytes of a picture's file come from.

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::files::{open_ordinary, PictureFormat};
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// A picture's file, on the disk or in memory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The file, or what errors call the bytes.
    pub(super) path: &'a Path,
    memory: Option<Arc<[u8]>>,
    pub(super) cancel: Cancel,
}

impl<'a> Input<'a> {
    pub fn file(path: &'a Path) -> Self {
        Self { path, memory: None, cancel: Cancel::new() }
    }

    /// The bytes of a file; `name` is what errors and warnings call it.
    pub fn memory(name: &'a Path, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { path: name, memory: Some(bytes.into()), cancel: Cancel::new() }
    }

    /// Reading ends with `Cancelled` once the flag is raised, which is looked at with each piece of the file and each band of rows; not in the
    /// middle of a decoder that holds the whole picture.
    pub fn unless(self, cancel: &Cancel) -> Self {
        Self { cancel: cancel.clone(), ..self }
    }

    /// The file, or what errors and warnings call the bytes.
    pub fn name(&self) -> &'a Path {
        self.path
    }

    /// From its start, and its length in bytes. Errors as [`open_ordinary`].
    pub(super) fn open(&self) -> Result<(BufReader<Bytes>, u64)> {
        let (from, length) = match &self.memory {
            Some(bytes) => (From::Memory(Cursor::new(bytes.clone())), bytes.len() as u64),
            None => {
                let (file, length) = open_ordinary(self.path, "a picture")?;
                (From::File(file), length)
            }
        };
        Ok((BufReader::new(Bytes { from, cancel: self.cancel.clone() }), length))
    }

    /// What its beginning says of it; None where it is no picture.
    pub(super) fn format(&self) -> Result<Option<PictureFormat>> {
        let mut start = Vec::new();
        self.open()?.0.take(256).read_to_end(&mut start).map_err(|e| Error::io(self.path, e))?;
        Ok(PictureFormat::of(&start))
    }

    /// What reading gave, or `Cancelled` where that is why it failed.
    pub(super) fn unless_cancelled<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| if self.cancel.is_cancelled() { Error::Cancelled } else { e })
    }
}

/// The bytes themselves; reading them fails once the flag is raised.
pub(super) struct Bytes {
    from: From,
    cancel: Cancel,
}

enum From {
    File(File),
    Memory(Cursor<Arc<[u8]>>),
}

impl Read for Bytes {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(std::io::Error::other("cancelled"));
        }
        match &mut self.from {
            From::File(file) => file.read(out),
            From::Memory(bytes) => bytes.read(out),
        }
    }
}

impl Seek for Bytes {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        match &mut self.from {
            From::File(file) => file.seek(to),
            From::Memory(bytes) => bytes.seek(to),
        }
    }
}
