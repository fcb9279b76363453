//! Files are written to a temporary name in the same folder, synced and renamed: a crash leaves the old file or the new one.

use super::safetensors::{self, Planned};
use crate::error::{Error, Result};
use candle_core::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tempfile::{NamedTempFile, TempDir};

/// What temporary files and folders are called, around random letters. A process that is killed while it writes leaves one behind.
const PREFIX: &str = ".nada-";
const SUFFIX: &str = ".tmp";

/// The folder that `path` is in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A temporary file beside `path`, on the disk. `write` fills it; its outer error is its own, its inner one belongs to the file.
fn temporary(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<io::Result<()>>) -> Result<NamedTempFile> {
    let io = |e: io::Error| Error::io(path, e);
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    // Temporary files are private by default; this one becomes an ordinary file, with the rights that the umask gives.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(folder(path)).map_err(io)?;
    let _unfinished = Unfinished::new(temporary.path());
    let mut out = BufWriter::new(temporary.as_file());
    write(&mut out)?.map_err(io)?;
    out.flush().map_err(io)?;
    drop(out);
    temporary.as_file().sync_all().map_err(io)?;
    Ok(temporary)
}

/// A rename lasts only once its folder is on the disk. Some file systems cannot sync a folder, which loses nothing.
fn sync_folder(path: &Path) {
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder(path)) {
        let _ = folder.sync_all();
    }
}

/// `write` fills the temporary file; its outer error is its own, its inner one belongs to the file.
pub(super) fn atomically(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<io::Result<()>>) -> Result<()> {
    temporary(path, write)?.persist(path).map_err(|e| Error::io(path, e.error))?;
    sync_folder(path);
    Ok(())
}

/// Writes `bytes` to a temporary name in the same folder, syncs, renames.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    atomically(path, |out| Ok(out.write_all(bytes)))
}

/// Writes tensors (any element type that safetensors has) and text metadata, to a temporary name in the same folder first.
pub fn save_safetensors(path: &Path, tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<()> {
    atomically(path, |out| all(out, tensors, metadata))
}

/// As [`save_safetensors`], of tensors that `tensor` makes one by one; `planned` says what they will be.
pub(crate) fn save_safetensors_one_by_one(
    path: &Path,
    planned: Vec<(String, DType, Vec<usize>)>,
    metadata: &BTreeMap<String, String>,
    tensor: impl FnMut(&str) -> Result<Tensor>,
) -> Result<()> {
    let planned = planned.into_iter().map(|(key, dtype, shape)| Planned { key, dtype, shape }).collect();
    atomically(path, |out| safetensors::write(out, planned, metadata, tensor))
}

fn all(out: &mut impl Write, tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<io::Result<()>> {
    let plan = |(key, tensor): (&String, &Tensor)| Planned { key: key.clone(), dtype: tensor.dtype(), shape: tensor.dims().to_vec() };
    let missing = |key: &str| Error::Internal(format!("tensor '{key}' was planned and is not there"));
    safetensors::write(out, tensors.iter().map(plan).collect(), metadata, |key| tensors.get(key).cloned().ok_or_else(|| missing(key)))
}

/// As [`save_safetensors`], under the first of `paths`, all in one folder, that is not taken; also where other processes take them at the
/// same time. Returns that path.
pub fn save_safetensors_as_new(
    mut paths: impl Iterator<Item = PathBuf>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<PathBuf> {
    let none = || Error::Internal("no name is free".into());
    let mut path = paths.next().ok_or_else(none)?;
    let mut file = temporary(&path, |out| all(out, tensors, metadata))?;
    loop {
        match file.persist_noclobber(&path) {
            Ok(_) => break,
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {
                file = e.file;
                path = paths.next().ok_or_else(none)?;
            }
            Err(e) => return Err(Error::io(&path, e.error)),
        }
    }
    sync_folder(&path);
    Ok(path)
}

/// Removes temporary files and folders in `folder` in which nothing was written for `age`: their processes were killed. What cannot be
/// removed is left.
pub fn remove_stale(folder: &Path, age: Duration) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|n| n.starts_with(PREFIX) && n.ends_with(SUFFIX));
        let old = |path: &Path| newest(path)?.elapsed().map_err(io::Error::other).map(|elapsed| elapsed > age);
        if ours && old(&entry.path()).unwrap_or(false) {
            remove(&entry.path());
        }
    }
}

/// When a file, or a folder or anything in it, was last written. Links are not followed.
fn newest(path: &Path) -> io::Result<SystemTime> {
    let about = path.symlink_metadata()?;
    let mut newest_yet = about.modified()?;
    if about.is_dir() {
        for entry in std::fs::read_dir(path)? {
            newest_yet = newest_yet.max(newest(&entry?.path())?);
        }
    }
    Ok(newest_yet)
}

fn remove(path: &Path) {
    // What is left of a folder is found by its age.
    let _ =
        if path.symlink_metadata().is_ok_and(|about| about.is_dir()) { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// A temporary folder in `folder`, which becomes an ordinary one by a rename; it is removed where that does not come about.
pub(crate) fn temporary_folder(folder: &Path) -> Result<(TempDir, Unfinished)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let temporary = builder.tempdir_in(folder).map_err(|e| Error::io(folder, e))?;
    let unfinished = Unfinished::new(temporary.path());
    Ok((temporary, unfinished))
}

/// What this process is writing at the moment, under temporary names.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Stands in the list of what is being written until it is dropped.
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    fn new(path: &Path) -> Self {
        unfinished().insert(path.to_path_buf());
        Unfinished(path.to_path_buf())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        unfinished().remove(&self.0);
    }
}

/// Removes what this process is writing under temporary names: for a program that ends while other threads work, as destructors do not run
/// then. Writing fails afterwards.
pub fn remove_unfinished() {
    for path in unfinished().iter() {
        // A folder of another name gets no more files of the thread that fills it.
        let aside = path.with_extension("ended.tmp");
        remove(if std::fs::rename(path, &aside).is_ok() { &aside } else { path });
    }
}
