//! Where results go: what a path leads to, before anything is written.

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::{Component, Path, PathBuf};

/// Links that lead to links, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// A path to write to, whether what is there may be replaced (from a path: it may), and what ends the writing.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    pub(super) path: &'a Path,
    pub(super) replace: bool,
    pub(super) cancel: Option<&'a Cancel>,
}

impl<'a> Destination<'a> {
    /// Where nothing is yet. Writing fails with `Io` of the kind `AlreadyExists` where another process was faster.
    pub fn free(path: &'a Path) -> Self {
        Self { path, replace: false, cancel: None }
    }

    /// Writing ends with `Cancelled`, and leaves what was there, once the flag is raised, which is looked at with each piece of the file. What
    /// went into a pipe or a device until then stays there.
    pub fn unless(self, cancel: &'a Cancel) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    /// The flag; one that nobody raises where none was given.
    pub(crate) fn cancel(&self) -> Cancel {
        self.cancel.cloned().unwrap_or_default()
    }

    /// `Cancelled` once the flag is raised.
    pub(super) fn check(&self) -> Result<()> {
        self.cancel.map_or(Ok(()), Cancel::check)
    }

    /// As it was named: links in it are not followed yet.
    pub fn path(&self) -> &'a Path {
        self.path
    }
}

impl<'a, P: AsRef<Path> + ?Sized> From<&'a P> for Destination<'a> {
    fn from(path: &'a P) -> Self {
        Self { path: path.as_ref(), replace: true, cancel: None }
    }
}

/// What a path leads to.
#[derive(Debug)]
pub enum Place {
    /// An ordinary file, there or not, by a path without links.
    File { path: PathBuf, there: Option<Metadata> },
    /// A pipe or a device: what is written to it is not kept.
    Stream,
}

impl Place {
    /// Follows links. Touches nothing.
    ///
    /// Errors: `NotFound` where the folder is missing; `Format` where `path` is a folder or a socket, or leads through a file; `Io`.
    pub fn of(path: &Path) -> Result<Self> {
        // Which a path's components do not show.
        if [&b"/"[..], b"/.", b"/.."].iter().any(|end| path.as_os_str().as_encoded_bytes().ends_with(end)) {
            return Err(Error::format(path, "names a folder, where a file is to be written"));
        }
        match std::fs::metadata(path) {
            Ok(about) if about.is_dir() => Err(Error::format(path, "is a folder, where a file is to be written")),
            // An ordinary file that somebody else has open: it is written to where they are in it.
            Ok(about) if about.is_file() && descriptor(path).is_none() => {
                let real = path.canonicalize().map_err(|e| Error::io(path, e))?;
                Ok(Place::File { path: real, there: Some(about) })
            }
            Ok(about) if is_socket(&about) => Err(Error::format(path, "is a socket, where a file is to be written")),
            Ok(_) => Ok(Place::Stream),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let path = end_of_links(path)?;
                check_folder(folder(&path))?;
                match path.components().next_back() {
                    Some(Component::Normal(_)) => Ok(Place::File { path, there: None }),
                    _ => Err(Error::format(path, "is no file's name")),
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => Err(leads_through_a_file(path)),
            Err(e) => Err(Error::io(path, e)),
        }
    }
}

/// The number of an open file of this process that `path` stands for, such as /dev/stdout.
#[cfg(unix)]
fn descriptor(path: &Path) -> Option<i32> {
    match path.to_str()? {
        "/dev/stdin" => Some(0),
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        text => {
            let number = ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"].iter().find_map(|folder| text.strip_prefix(folder));
            number?.parse().ok()
        }
    }
}

#[cfg(not(unix))]
fn descriptor(_: &Path) -> Option<i32> {
    None
}

/// Opens what is no ordinary file, for writing. An open file of this process is shared, with its position and way of writing.
pub(super) fn open_stream(path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    if let Some(number) = descriptor(path) {
        // SAFETY: metadata(2) of its path has just told that it is open, and it is duplicated at once.
        return unsafe { std::os::fd::BorrowedFd::borrow_raw(number) }.try_clone_to_owned().map(File::from);
    }
    OpenOptions::new().write(true).open(path)
}

#[cfg(unix)]
fn is_socket(about: &Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&about.file_type())
}

#[cfg(not(unix))]
fn is_socket(_: &Metadata) -> bool {
    false
}

/// Where links that end nowhere lead to.
fn end_of_links(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            // An absolute one replaces the folder.
            Ok(target) => path = folder(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(Error::format(path, "is a link that leads back to itself"))
}

/// The folder that `path` is in; "." for a name alone.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether `folder` is there. Errors: `NotFound` where it is not; `Format` where there is something else; `Io`.
pub fn check_folder(folder: &Path) -> Result<()> {
    match std::fs::metadata(folder) {
        Ok(about) if about.is_dir() => Ok(()),
        Ok(_) => Err(Error::format(folder, "is a file, where a folder is needed")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let what = format!("the folder '{}'", folder.display());
            Err(Error::NotFound { what, message: "make it first, or name a folder that is there".into() })
        }
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => Err(leads_through_a_file(folder)),
        Err(e) => Err(Error::io(folder, e)),
    }
}

fn leads_through_a_file(path: &Path) -> Error {
    let file = path.ancestors().skip(1).find(|p| p.symlink_metadata().is_ok());
    let file = file.map(|f| f.display().to_string()).unwrap_or_default();
    Error::format(path, format!("cannot be made: '{file}' is a file, where a folder is needed"))
}
