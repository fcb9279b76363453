//! Writing files whole or not at all. A file is written to a temporary name in the folder of its place, synced and renamed: a crash leaves the
//! old file or the new one. Links are followed, so that what they lead to is replaced and they stay; a file that is replaced keeps its mode
//! and owner; pipes and devices are written to.
//!
//! A temporary file or folder is locked for as long as its process lives, so that what a dead process left can be told from what another
//! one is writing: [`remove_dead`].

use super::open::PIECE;
use super::place::{check_folder, folder, open_stream, Destination, Place};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tempfile::{NamedTempFile, TempDir};

/// What temporary files and folders are called, around random letters.
const PREFIX: &str = ".nada-";
const SUFFIX: &str = ".tmp";
const LETTERS: usize = 6;

/// Where a file system has no locks, a temporary file that nobody wrote to for so long is left from a process that was killed.
const STALE: Duration = Duration::from_secs(3600);

/// Shows that files can be written into `folder`, by a temporary one that is gone at once.
///
/// Errors: those of [`check_folder`]; `Io` with what the system says.
pub fn check_writable(folder: &Path) -> Result<()> {
    check_folder(folder)?;
    new_temporary(folder).map(drop).map_err(|e| {
        let message = format!("nothing can be written into this folder: {e}");
        Error::io(folder, io::Error::new(e.kind(), message))
    })
}

/// What is written goes through this: piece by piece into a file, until the flag is raised.
pub(crate) type Out<'a> = BufWriter<Pieces<'a>>;

pub(crate) struct Pieces<'a> {
    file: &'a File,
    cancel: Option<&'a Cancel>,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_some_and(Cancel::is_cancelled) {
            return Err(io::Error::other("cancelled"));
        }
        self.file.write(&bytes[..bytes.len().min(PIECE)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Fills `file` by `write`; errors name the path by which the user knows it.
fn fill(to: Destination, file: &File, write: impl FnOnce(&mut Out) -> Result<io::Result<()>>) -> Result<()> {
    to.check()?;
    let mut out = BufWriter::new(Pieces { file, cancel: to.cancel });
    let written = match write(&mut out) {
        Ok(written) => written.and_then(|()| out.flush()).map_err(|e| Error::io(to.path, e)),
        Err(e) => Err(e),
    };
    // What is in the buffer of a writing that failed is not wanted.
    drop(out.into_parts());
    written.map_err(|e| if to.check().is_err() { Error::Cancelled } else { e })
}

/// `write` fills the file; its outer error is its own, its inner one belongs to the file.
pub(crate) fn atomically(to: Destination, write: impl FnOnce(&mut Out) -> Result<io::Result<()>>) -> Result<()> {
    let (real, there) = match Place::of(to.path)? {
        Place::File { path, there } => (path, there),
        Place::Stream => return fill(to, &open_stream(to.path).map_err(|e| Error::io(to.path, e))?, write),
    };
    if there.is_some() && !to.replace {
        return Err(Error::io(to.path, io::ErrorKind::AlreadyExists.into()));
    }
    let (file, _unfinished) = temporary(to, &real, write)?;
    if let Some(there) = &there {
        // The owner first: changing it takes set-id bits away. Others than root may only give what they have.
        keep_owner(file.as_file(), there);
        file.as_file().set_permissions(there.permissions()).map_err(|e| Error::io(to.path, e))?;
    }
    match to.replace {
        true => file.persist(&real).map(drop).map_err(|e| e.error),
        false => persist_new(file, &real).map_err(|(e, _)| e),
    }
    .map_err(|e| Error::io(to.path, plain(e)))?;
    sync_folder(&real);
    Ok(())
}

/// As [`atomically`], under the first of `paths`, all in one folder, that is not taken; also where other processes take them at the same
/// time. Returns that path. `Cancelled` once the flag is raised, as [`Destination::unless`] says.
pub(crate) fn atomically_as_new(
    mut paths: impl Iterator<Item = PathBuf>,
    cancel: &Cancel,
    write: impl FnOnce(&mut Out) -> Result<io::Result<()>>,
) -> Result<PathBuf> {
    let none = || Error::Internal("no name is free".into());
    let mut path = paths.next().ok_or_else(none)?;
    let (mut file, _unfinished) = temporary(Destination::free(&path).unless(cancel), &path, write)?;
    while let Err((e, back)) = persist_new(file, &path) {
        match back.filter(|_| e.kind() == io::ErrorKind::AlreadyExists) {
            Some(back) => (file, path) = (back, paths.next().ok_or_else(none)?),
            None => return Err(Error::io(&path, plain(e))),
        }
    }
    sync_folder(&path);
    Ok(path)
}

/// Gives `file` the name `path` where nothing has it. Gives the file back with an error.
fn persist_new(file: NamedTempFile, path: &Path) -> std::result::Result<(), (io::Error, Option<NamedTempFile>)> {
    let refused = match file.persist_noclobber(path) {
        Ok(_) => return Ok(()),
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => return Err((e.error, Some(e.file))),
        Err(e) => e,
    };
    // A file system that has neither links nor a rename that spares what is there: the name is claimed first.
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => refused.file.persist(path).map(drop).map_err(|e| {
            // Empty, and this call's own.
            let _ = std::fs::remove_file(path);
            (e.error, Some(e.file))
        }),
        Err(e) => Err((e, Some(refused.file))),
    }
}

/// Writes `bytes` to a temporary name in the same folder, syncs, renames; any threads may, also to one path: the last wins.
///
/// Errors: those of [`Place::of`]; `Io`.
pub fn write_atomically<'a>(to: impl Into<Destination<'a>>, bytes: &[u8]) -> Result<()> {
    atomically(to.into(), |out| Ok(out.write_all(bytes)))
}

/// A temporary file beside `real`, full and on the disk; errors name the path by which the user knows it.
fn temporary(to: Destination, real: &Path, write: impl FnOnce(&mut Out) -> Result<io::Result<()>>) -> Result<(NamedTempFile, Unfinished)> {
    let io = |e: io::Error| Error::io(to.path, e);
    let (temporary, unfinished) = new_temporary(folder(real)).map_err(io)?;
    fill(to, temporary.as_file(), write)?;
    temporary.as_file().sync_all().map_err(io)?;
    // The disk may have taken its time.
    to.check()?;
    Ok((temporary, unfinished))
}

/// An empty temporary file in `folder`, locked and listed.
fn new_temporary(folder: &Path) -> io::Result<(NamedTempFile, Unfinished)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX).rand_bytes(LETTERS);
    // Temporary files are private by default; this one becomes an ordinary file, with the rights that the umask gives.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    loop {
        let (file, unfinished) = Unfinished::make(|| builder.tempfile_in(folder), |file| file.path().to_path_buf()).map_err(plain)?;
        // Between making and locking, another process may have taken it for a dead one's.
        match file.as_file().try_lock() {
            Err(TryLockError::WouldBlock) => continue,
            Ok(()) if file.path().symlink_metadata().is_err() => continue,
            Ok(()) | Err(TryLockError::Error(_)) => return Ok((file, unfinished)),
        }
    }
}

/// What the system said, without the temporary name that nobody asked for.
fn plain(e: io::Error) -> io::Error {
    let text = e.to_string();
    match text.split_once(" at path ") {
        Some((said, _)) if e.raw_os_error().is_none() => io::Error::new(e.kind(), said),
        _ => e,
    }
}

#[cfg(unix)]
fn keep_owner(file: &File, there: &Metadata) {
    use std::os::unix::fs::MetadataExt;
    let mine = file.metadata().map(|m| (m.uid(), m.gid()));
    if mine.is_ok_and(|mine| mine != (there.uid(), there.gid())) {
        // Who may not give it away can still keep it in a group of his own.
        if std::os::unix::fs::fchown(file, Some(there.uid()), Some(there.gid())).is_err() {
            let _ = std::os::unix::fs::fchown(file, None, Some(there.gid()));
        }
    }
}

#[cfg(not(unix))]
fn keep_owner(_: &File, _: &Metadata) {}

/// A rename to `path` lasts only once its folder is on the disk. Some file systems cannot sync a folder, which loses nothing.
pub(crate) fn sync_folder(path: &Path) {
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder(path)) {
        let _ = folder.sync_all();
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// Removes the temporary files and folders in `folder` whose processes are dead, and nothing else. What cannot be removed is left. Any
/// number of threads and processes may, while others write there.
pub fn remove_dead(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let letters = name.to_str().and_then(|n| n.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        let ours = letters.is_some_and(|l| l.len() == LETTERS && l.bytes().all(|b| b.is_ascii_alphanumeric()));
        if ours {
            // The lock is held until it is gone: else its maker, who has just begun, would be taken for dead.
            if let Ok(Some(_lock)) = dead(&entry.path()) {
                remove(&entry.path());
            }
        }
    }
}

/// Whether the process that made `path` is dead, with the lock on it, where there are locks.
fn dead(path: &Path) -> io::Result<Option<Option<File>>> {
    let about = path.symlink_metadata()?;
    if !about.is_file() && !about.is_dir() {
        return Ok(None);
    }
    let by_age = || Ok((newest(path)?.elapsed().map_err(io::Error::other)? > STALE).then_some(None));
    // Where a folder cannot be opened it cannot be locked either.
    let Ok(file) = File::open(path) else { return by_age() };
    match file.try_lock() {
        Ok(()) => Ok(Some(Some(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(_)) => by_age(),
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
    // What is left of a folder is found by the next one.
    let _ =
        if path.symlink_metadata().is_ok_and(|about| about.is_dir()) { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// A temporary folder in `folder`, which becomes an ordinary one by a rename; it is removed where that does not come about.
pub(crate) fn temporary_folder(folder: &Path) -> Result<(TempDir, Unfinished)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX).rand_bytes(LETTERS);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    loop {
        let made = Unfinished::make(|| builder.tempdir_in(folder), |made| made.path().to_path_buf());
        let (temporary, mut unfinished) = made.map_err(|e| Error::io(folder, plain(e)))?;
        // Not everywhere can a folder be opened; is_dead goes by age there.
        if let Ok(handle) = File::open(temporary.path()) {
            let locked = handle.try_lock();
            if matches!(locked, Err(TryLockError::WouldBlock)) || locked.is_ok() && temporary.path().symlink_metadata().is_err() {
                continue;
            }
            unfinished.lock = Some(handle);
        }
        return Ok((temporary, unfinished));
    }
}

/// What this process is writing at the moment, under temporary names.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Stands in the list of what is being written until it is dropped; for a folder it holds the lock.
pub(crate) struct Unfinished {
    path: PathBuf,
    lock: Option<File>,
}

impl Unfinished {
    /// Makes something and lists it in one step, so that [`remove_unfinished`] misses nothing.
    fn make<T>(make: impl FnOnce() -> io::Result<T>, path: impl FnOnce(&T) -> PathBuf) -> io::Result<(T, Self)> {
        let mut list = unfinished();
        let made = make()?;
        let path = path(&made);
        list.insert(path.clone());
        Ok((made, Unfinished { path, lock: None }))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        unfinished().remove(&self.path);
        drop(self.lock.take());
    }
}

/// Removes what this process is writing under temporary names: for a program that ends while other threads work, as destructors do not run
/// then. Nothing can be written afterwards: threads that begin to wait for ever.
pub fn remove_unfinished() {
    let list = unfinished();
    for (number, path) in list.iter().enumerate() {
        // A folder of another name gets no more files of the thread that fills it. The name is a temporary one's, which the next run knows.
        let aside = path.with_file_name(format!("{PREFIX}e{:05}{SUFFIX}", (std::process::id() as usize + number) % 100_000));
        remove(if std::fs::rename(path, &aside).is_ok() { &aside } else { path });
    }
    std::mem::forget(list);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (alive, dead, dead_folder) = (new_temporary(folder.path()).unwrap(), at(".nada-aB3dEf.tmp"), at(".nada-folder.tmp"));
        let (living_folder, _lock) = temporary_folder(folder.path()).unwrap();
        std::fs::write(&dead, b"half").unwrap();
        std::fs::create_dir(&dead_folder).unwrap();
        std::fs::write(dead_folder.join("generator.safetensors"), b"half").unwrap();
        let others = [".nada-.tmp", ".nada-notes.tmp", ".nada-aB3dEf.tmp.bak", ".nada-a B3dE.tmp", "nada-aB3dEf.tmp", "a.png"];
        others.iter().for_each(|name| std::fs::write(at(name), b"").unwrap());
        #[cfg(unix)]
        std::os::unix::fs::symlink(at("a.png"), at(".nada-linked.tmp")).unwrap();
        remove_dead(folder.path());
        assert!(!dead.exists() && !dead_folder.exists());
        assert!(alive.0.path().exists() && living_folder.path().exists());
        others.iter().for_each(|name| assert!(at(name).exists(), "{name}"));
        #[cfg(unix)]
        assert!(at(".nada-linked.tmp").exists());
    }

    #[test]
    fn a_free_place_is_not_taken_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomically(Destination::free(&path), b"one").unwrap();
        let Err(Error::Io { source, .. }) = write_atomically(Destination::free(&path), b"two") else { panic!() };
        assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write_atomically(&path, b"three").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// The flag is raised when the first piece of many is through.
    #[test]
    fn a_cancelled_writing_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"one").unwrap();
        let cancel = Cancel::new();
        let to = Destination::from(&path).unless(&cancel);
        let written = atomically(to, |out| {
            out.write_all(&[7; 3 * PIECE]).unwrap();
            cancel.cancel();
            let refused = out.write_all(&[7; 3 * PIECE]);
            assert!(refused.is_err());
            Ok(refused)
        });
        assert!(matches!(written, Err(Error::Cancelled)));
        // Also where all of it fits into the buffer.
        assert!(matches!(write_atomically(to, b"two"), Err(Error::Cancelled)));
        let as_new = atomically_as_new([folder.path().join("b")].into_iter(), &cancel, |out| Ok(out.write_all(b"two")));
        assert!(matches!(as_new, Err(Error::Cancelled)));
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        cancel.reset();
        write_atomically(to, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        for (path, words) in [
            (folder.path().join("nowhere/x"), "nowhere"),
            (file.join("x"), "is a file, where a folder is needed"),
            (file.join("x/y"), "is a file, where a folder is needed"),
            (folder.path().to_path_buf(), "is a folder, where a file is to be written"),
        ] {
            let message = write_atomically(&path, b"").unwrap_err().to_string();
            assert!(message.contains(words) && !message.contains(PREFIX), "{message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_modes_are_kept() {
        use std::os::unix::fs::{symlink, PermissionsExt};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("real")).unwrap();
        symlink("real/target", at("link")).unwrap();
        symlink("link", at("second")).unwrap();
        // First a link that ends nowhere, then one to a file.
        for text in ["one", "two"] {
            write_atomically(&at("second"), text.as_bytes()).unwrap();
            assert!(at("link").symlink_metadata().unwrap().is_symlink() && at("second").symlink_metadata().unwrap().is_symlink());
            assert_eq!(std::fs::read_to_string(at("real/target")).unwrap(), text);
        }
        symlink("circle", at("circle")).unwrap();
        assert!(write_atomically(&at("circle"), b"").is_err());
        std::fs::set_permissions(at("real/target"), PermissionsExt::from_mode(0o640)).unwrap();
        write_atomically(&at("link"), b"three").unwrap();
        assert_eq!(at("real/target").metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    }
}
