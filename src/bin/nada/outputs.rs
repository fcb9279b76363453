//! Where a command's results go: decided, and shown to be writable and free, before any long work.

use crate::ui::Ui;
use clap::Args;
use nada::files::{check_folder, check_writable, folder, remove_dead, Destination, Place};
use nada::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct ForceArgs {
    /// Replace results that are there already. Files that this call reads are never replaced
    #[arg(long, help_heading = "Output and threads")]
    pub force: bool,
}

/// What is written, for the endings of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Picture,
    Domain,
    Latent,
    /// The embeddings of `nada clip`.
    Embeddings,
    Npy,
    /// Generators, in one of the formats of `nada convert`.
    Torch,
    NvidiaPickle,
    Safetensors,
}

/// Endings that belong to a format: a file that is none of it would mislead people and programs.
const KNOWN: [&str; 34] = [
    "safetensors",
    "npy",
    "npz",
    "pt",
    "pth",
    "pkl",
    "pickle",
    "bin",
    "ckpt",
    "onnx",
    "h5",
    "gguf",
    "png",
    "jpg",
    "jpeg",
    "jpe",
    "webp",
    "tif",
    "tiff",
    "bmp",
    "gif",
    "avif",
    "heic",
    "heif",
    "jxl",
    "ppm",
    "tga",
    "exr",
    "xcf",
    "kra",
    "txt",
    "json",
    "csv",
    "zip",
];

impl Kind {
    /// What it is, and how its name may end.
    fn about(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Kind::Picture => ("a picture", &["png", "jpg", "jpeg"]),
            Kind::Domain => ("a domain", &["safetensors"]),
            Kind::Latent => ("a latent", &["safetensors", "npy"]),
            Kind::Embeddings => ("a table of embeddings", &["safetensors", "npy"]),
            Kind::Npy => ("a numpy array", &["npy"]),
            Kind::Torch => ("a generator in rosinality's format", &["pt", "pth"]),
            Kind::NvidiaPickle => ("a generator in NVIDIA's format", &["pkl", "pickle"]),
            Kind::Safetensors => ("a generator as safetensors", &["safetensors"]),
        }
    }

    /// Whether only its own endings will do: they choose the format.
    fn is_strict(self) -> bool {
        matches!(self, Kind::Picture | Kind::Embeddings)
    }

    fn check(self, option: &str, path: &Path) -> Result<()> {
        let (what, endings) = self.about();
        let Some(ending) = path.extension().map(|e| e.to_string_lossy().to_lowercase()) else { return Ok(()) };
        if endings.contains(&ending.as_str()) || !(self.is_strict() || KNOWN.contains(&ending.as_str())) {
            return Ok(());
        }
        let wanted: Vec<String> = endings.iter().map(|e| format!(".{e}")).collect();
        Err(Error::argument(option, format!("{}: {what} is written; want a name that ends in {}", path.display(), wanted.join(" or "))))
    }
}

/// Which file a path leads to, whatever it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    #[cfg(unix)]
    Node(u64, u64),
    Path(PathBuf),
}

fn identity(path: &Path) -> Option<Identity> {
    let about = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    return Some(Identity::Node(std::os::unix::fs::MetadataExt::dev(&about), std::os::unix::fs::MetadataExt::ino(&about)));
    #[cfg(not(unix))]
    return about.is_file().then(|| path.canonicalize().ok().map(Identity::Path)).flatten();
}

fn is_device(path: &Path) -> bool {
    #[cfg(unix)]
    return std::fs::metadata(path).is_ok_and(|about| std::os::unix::fs::FileTypeExt::is_char_device(&about.file_type()));
    #[cfg(not(unix))]
    return false;
}

/// Whether `path` is what the program's own words go to.
fn is_standard_output(path: &Path) -> bool {
    path.starts_with("/dev") && identity(path).is_some_and(|file| identity(Path::new("/dev/stdout")) == Some(file)) && !is_device(path)
}

/// The plan of a call. First what it reads, then what it writes.
pub struct Outputs {
    force: bool,
    /// Files that the call reads, and folders of which every file belongs to something that it reads.
    reads: BTreeMap<Identity, PathBuf>,
    folders: Vec<PathBuf>,
    /// What is written, and the option that asked for it.
    writes: BTreeMap<Identity, String>,
    /// Paths of what is written, without links.
    written: Vec<PathBuf>,
    shown_writable: BTreeSet<PathBuf>,
}

/// One file that is to be written.
#[derive(Clone, Debug)]
pub struct Output {
    pub path: PathBuf,
    /// What is there was to be replaced.
    replace: bool,
}

/// `a` and `.nada.safetensors` of a.nada.safetensors.
pub fn split(path: &Path) -> (PathBuf, OsString) {
    let (mut base, mut ending) = (path.to_path_buf(), OsString::new());
    while let Some(part) = base.extension().map(OsStr::to_os_string) {
        if !(ending.is_empty() || part == "nada" || part == "latent") {
            break;
        }
        let mut longer = OsString::from(".");
        longer.push(part);
        longer.push(ending);
        ending = longer;
        base.set_extension("");
    }
    (base, ending)
}

impl Outputs {
    pub fn new(force: &ForceArgs) -> Self {
        Self {
            force: force.force,
            reads: BTreeMap::new(),
            folders: vec![],
            writes: BTreeMap::new(),
            written: vec![],
            shown_writable: BTreeSet::new(),
        }
    }

    /// A file that the call reads, or a folder in which it may read any. That one is missing is told by who reads it.
    pub fn reads(&mut self, path: &Path) {
        match path.canonicalize() {
            Ok(folder) if folder.is_dir() => self.folders.push(folder),
            // An index names files beside it.
            Ok(index) if index.to_string_lossy().ends_with(".index.json") => self.folders.push(folder(&index).to_path_buf()),
            _ => {
                if let Some(identity) = identity(path) {
                    self.reads.insert(identity, path.to_path_buf());
                }
            }
        }
    }

    pub fn reads_all<P: AsRef<Path>>(&mut self, paths: impl IntoIterator<Item = P>) {
        paths.into_iter().for_each(|path| self.reads(path.as_ref()));
    }

    /// A file that the user named with `option`.
    ///
    /// Errors: an ending of another format; a folder that is missing or cannot be written to; a file that is there, without --force; one
    /// that the call reads, or writes already.
    pub fn named(&mut self, option: &str, path: &Path, kind: Kind) -> Result<Output> {
        kind.check(option, path)?;
        let Place::File { path: real, there } = Place::of(path)? else {
            // Two results in one pipe would run together; a device such as /dev/null takes any number.
            if !is_device(path) {
                self.take(option, path, path.to_path_buf())?;
            }
            return Ok(Output { path: path.to_path_buf(), replace: true });
        };
        self.check_unread(option, path, &real)?;
        if there.is_some() && !self.force {
            return Err(Error::argument(
                option,
                format!("{} is there already; take another name, or replace it with --force", path.display()),
            ));
        }
        self.writable(&real)?;
        self.take(option, path, real)?;
        Ok(Output { path: path.to_path_buf(), replace: self.force })
    }

    /// As [`Outputs::named`], of a file that may be replaced: an earlier state of the same result.
    pub fn named_again(&mut self, option: &str, path: &Path, kind: Kind) -> Result<Output> {
        let force = std::mem::replace(&mut self.force, true);
        let output = self.named(option, path, kind);
        self.force = force;
        output
    }

    /// A file whose name the program makes up from `base` and `ending`: BASE.ENDING, or BASE-2.ENDING and so on where that is taken. With
    /// --force the first, unless the call reads it.
    pub fn made_up(&mut self, base: &Path, ending: &str) -> Result<Output> {
        let mut number = 1;
        loop {
            let path = numbered(base, number, ending.as_ref());
            // Something that is no file is no free name either.
            let there = path.symlink_metadata().is_ok();
            let real = match Place::of(&path) {
                Ok(Place::File { path, .. }) => Some(path),
                Ok(Place::Stream) => None,
                Err(e) if !there => return Err(e),
                Err(_) => None,
            };
            if let Some(real) = real.filter(|_| !there || self.force) {
                if self.check_unread("", &path, &real).is_ok() && !self.is_written(&real) {
                    self.writable(&real)?;
                    self.take("", &path, real)?;
                    return Ok(Output { path, replace: self.force });
                }
            }
            number += 1;
        }
    }

    /// A folder for files whose names the program makes up; it is made where it is missing.
    pub fn folder(&mut self, option: &str, path: &Path) -> Result<()> {
        match check_folder(path) {
            Err(Error::NotFound { .. }) => std::fs::create_dir_all(path).map_err(|e| Error::io(path, e))?,
            Err(e) => return Err(Error::argument(option, e.to_string())),
            Ok(()) => {}
        }
        self.writable(&path.join("x"))
    }

    /// Files of the folder `path`, such as 0001.png.
    pub fn in_folder(&mut self, option: &str, path: &Path, names: impl Iterator<Item = String>, kind: Kind) -> Result<Vec<Output>> {
        self.folder(option, path)?;
        names.map(|name| self.named(option, &path.join(name), kind)).collect()
    }

    /// Keeps the names that `ours` knows in `folder` for files of `option` that are written on the way: nothing else that the call reads or
    /// writes may have such a name there, but `own`.
    pub fn keep_names(&self, option: &str, folder: &Path, own: &[&Path], ours: impl Fn(&str) -> bool) -> Result<()> {
        let real = folder.canonicalize().map_err(|e| Error::io(folder, e))?;
        let reads = self.reads.values().filter(|path| !own.contains(&path.as_path())).filter_map(|path| path.canonicalize().ok());
        for path in reads.chain(self.written.iter().cloned()) {
            let there = nada::files::folder(&path).canonicalize().is_ok_and(|folder| folder == real);
            if there && path.file_name().and_then(OsStr::to_str).is_some_and(&ours) {
                let message =
                    format!("{} has a name that is kept for what this option writes; take another name, or another folder", path.display());
                return Err(Error::argument(option, message));
            }
        }
        Ok(())
    }

    fn check_unread(&self, option: &str, path: &Path, real: &Path) -> Result<()> {
        let read = identity(real).and_then(|identity| self.reads.get(&identity)).map(|read| read.display().to_string());
        let in_folder = || real.exists().then(|| self.folders.iter().find(|folder| real.starts_with(folder))).flatten();
        let read = read.or_else(|| in_folder().map(|folder| format!("a file of {}", folder.display())));
        match read {
            Some(read) => Err(Error::argument(option, format!("{} would be written over {read}, which this call reads", path.display()))),
            None => Ok(()),
        }
    }

    fn key(real: &Path) -> Identity {
        identity(real).unwrap_or_else(|| {
            let parent = folder(real).canonicalize().unwrap_or_else(|_| folder(real).to_path_buf());
            Identity::Path(parent.join(real.file_name().unwrap_or_default()))
        })
    }

    fn is_written(&self, real: &Path) -> bool {
        self.writes.contains_key(&Self::key(real))
    }

    fn take(&mut self, option: &str, path: &Path, real: PathBuf) -> Result<()> {
        self.written.push(real.clone());
        match self.writes.insert(Self::key(&real), format!("{option} {}", path.display()).trim().to_string()) {
            Some(other) => {
                let message = format!("{} would be written twice: it is {other} too", path.display());
                Err(Error::argument(option, message))
            }
            None => Ok(()),
        }
    }

    fn writable(&mut self, file: &Path) -> Result<()> {
        let folder = folder(file).to_path_buf();
        if self.shown_writable.contains(&folder) {
            return Ok(());
        }
        check_writable(&folder)?;
        remove_dead(&folder);
        self.shown_writable.insert(folder);
        Ok(())
    }
}

/// BASE.ENDING, BASE-2.ENDING, ...
fn numbered(base: &Path, number: usize, ending: &OsStr) -> PathBuf {
    let mut name = base.file_name().map(OsStr::to_os_string).unwrap_or_default();
    if number > 1 {
        name.push(format!("-{number}"));
    }
    name.push(ending);
    base.with_file_name(name)
}

impl Output {
    /// Writes the file by `save`. Where another program took the name meanwhile, a numbered one is taken. Where the result cannot be written
    /// after all, it goes to a folder that the error names: it may be the work of hours.
    pub fn save(&mut self, ui: &mut Ui, save: impl Fn(Destination) -> Result<()>) -> Result<()> {
        let wanted = self.path.clone();
        for number in 1.. {
            if number > 1 {
                let (base, ending) = split(&wanted);
                self.path = numbered(&base, number, &ending);
            }
            let to = if self.replace { Destination::from(&self.path) } else { Destination::free(&self.path) };
            match save(to) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(e) => return Err(rescue(&wanted, e, &save)),
                Ok(()) => break,
            }
        }
        if self.path != wanted {
            ui.warn(format!("{} was written by another program meanwhile; the result is {}", wanted.display(), self.path.display()));
        }
        ui.wrote(&self.path, is_standard_output(&self.path));
        Ok(())
    }
}

/// The error of a result that was kept elsewhere, or nowhere.
fn rescue(wanted: &Path, error: Error, save: impl Fn(Destination) -> Result<()>) -> Error {
    let gallery = || nada::gallery::Gallery::default_folder().ok().filter(|folder| std::fs::create_dir_all(folder).is_ok());
    let name: OsString = wanted.file_name().map(OsStr::to_os_string).unwrap_or_default();
    for folder in std::iter::once_with(|| Some(std::env::temp_dir())).chain(std::iter::once_with(gallery)).flatten() {
        let kept = tempfile::Builder::new().prefix("nada-").tempdir_in(&folder);
        let Ok(kept) = kept else { continue };
        let path = kept.path().join(&name);
        if save(Destination::free(&path)).is_ok() {
            let _ = kept.keep();
            return Error::io(wanted, io::Error::other(format!("{}; it is kept as {}", cause(&error), path.display())));
        }
    }
    Error::io(wanted, io::Error::other(format!("{}; it is lost: no other place could be written to either", cause(&error))))
}

fn cause(error: &Error) -> String {
    match error {
        Error::Io { source, .. } => source.to_string(),
        e => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(force: bool) -> Outputs {
        Outputs::new(&ForceArgs { force })
    }

    #[test]
    fn endings_of_other_formats_are_refused() {
        for (kind, good, bad) in [
            (Kind::Picture, &["a.png", "a.JPG", "a.jpeg", "a", "a-0.png"][..], &["a.webp", "a.safetensors", "a.5"][..]),
            (Kind::Domain, &["a.nada.safetensors", "a", "a.domain", "v1.2"], &["a.png", "a.pt", "a.nada.npy"]),
            (Kind::Latent, &["a.npy", "a.safetensors", "a.latent"], &["a.pt", "a.txt", "a.png"]),
            (Kind::Torch, &["a.pt", "a.pth", "a"], &["a.safetensors", "a.pkl"]),
            (Kind::NvidiaPickle, &["a.pkl"], &["a.pt", "a.safetensors"]),
            (Kind::Safetensors, &["a.safetensors"], &["a.pkl", "a.pt"]),
        ] {
            good.iter().for_each(|name| kind.check("-o", Path::new(name)).unwrap());
            for name in bad {
                let message = kind.check("-o", Path::new(name)).unwrap_err().to_string();
                assert!(message.contains(name) && message.contains(kind.about().1[0]), "{message}");
            }
        }
    }

    #[test]
    fn what_is_read_is_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("me.png"), b"mine").unwrap();
        std::fs::hard_link(at("me.png"), at("also-me.png")).unwrap();
        std::fs::create_dir(at("pack")).unwrap();
        std::fs::write(at("pack/model.toml"), b"").unwrap();
        for force in [false, true] {
            let mut plan = plan(force);
            plan.reads(&at("me.png"));
            plan.reads(&at("pack"));
            for name in ["me.png", "also-me.png", "pack/../me.png", "pack/model.toml"] {
                let kind = if name.ends_with("toml") { Kind::Domain } else { Kind::Picture };
                let message = plan.named("-o", &at(name), kind).unwrap_err().to_string();
                assert!(message.contains("which this call reads"), "{message}");
            }
            // A name that nobody gave goes out of the way.
            assert_eq!(plan.made_up(&at("me"), ".png").unwrap().path, at("me-2.png"));
        }
    }

    #[test]
    fn what_is_there_needs_force_and_two_results_two_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a.png"), b"").unwrap();
        let message = plan(false).named("--sheet", &at("a.png"), Kind::Picture).unwrap_err().to_string();
        assert!(message.contains("--sheet") && message.contains("--force"), "{message}");
        assert!(plan(true).named("--sheet", &at("a.png"), Kind::Picture).is_ok());
        assert_eq!(plan(false).made_up(&at("a"), ".png").unwrap().path, at("a-2.png"));
        assert_eq!(plan(true).made_up(&at("a"), ".png").unwrap().path, at("a.png"));
        let mut plan = plan(false);
        plan.named("-o", &at("b.png"), Kind::Picture).unwrap();
        let message = plan.named("--sheet", &at("b.png"), Kind::Picture).unwrap_err().to_string();
        assert!(message.contains("-o") && message.contains("--sheet"), "{message}");
        assert_eq!(plan.made_up(&at("b"), ".png").unwrap().path, at("b-2.png"));
        // Nothing but the file that was there.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_is_taken_meanwhile_is_left_to_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nada.safetensors");
        let mut output = plan(false).named("-o", &path, Kind::Domain).unwrap();
        std::fs::write(&path, b"theirs").unwrap();
        let mut ui = Ui::new(true, true);
        output.save(&mut ui, |to| nada::files::write_atomically(to, b"ours")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        assert_eq!(output.path, folder.path().join("a-2.nada.safetensors"));
        assert_eq!(std::fs::read(&output.path).unwrap(), b"ours");
    }
}
