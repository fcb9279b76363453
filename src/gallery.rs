//! The folder of installed domains. Each is one file with its thumbnail inside, so that nothing can be half there: a file is written under
//! a temporary name, which a gallery does not list, and renamed to one that no other has.

use crate::adapt::domain::{Description, Domain};
use crate::error::{Error, Result};
use crate::files::remove_dead;
use crate::pack::{data_folder, unexpanded};
use crate::picture::Picture;
use crate::progress::Cancel;
use std::path::{Path, PathBuf};

/// The variable that names the folder.
pub const DOMAINS_VARIABLE: &str = "NADA_DOMAINS";

/// The most bytes of a name: file systems allow 255, and ending and number need some.
const LONGEST_NAME: usize = 200;

/// A domain in a gallery.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The file's name without [`Domain::ENDING`].
    pub name: String,
    pub file: PathBuf,
    pub description: Description,
}

/// What a folder of domains held at one moment.
#[derive(Clone, Debug)]
pub struct Gallery {
    pub folder: PathBuf,
    /// By name.
    pub domains: Vec<Installed>,
    /// Files that end as domains do and are none.
    pub skipped: usize,
}

impl Gallery {
    /// `$NADA_DOMAINS`, else `nada/domains` of the user's data folder.
    ///
    /// Errors: `NotFound` for a user without a home; `InvalidArgument` for a `~` that the shell left, which would become a folder of that name.
    pub fn default_folder() -> Result<PathBuf> {
        let named = std::env::var_os(DOMAINS_VARIABLE).filter(|f| !f.is_empty()).map(PathBuf::from);
        if let Some((folder, how)) = named.as_ref().and_then(|folder| Some((folder, unexpanded(folder)?))).filter(|(f, _)| !f.exists()) {
            return Err(Error::argument(DOMAINS_VARIABLE, format!("names {}{how}", folder.display())));
        }
        named.or_else(|| data_folder().map(|data| data.join("domains"))).ok_or_else(|| Error::NotFound {
            what: "the folder of installed domains".into(),
            message: format!("this user has no home folder; set {DOMAINS_VARIABLE}"),
        })
    }

    /// Reads what each file in `folder` says of itself, not the numbers. A folder that is not there is an empty gallery.
    ///
    /// Errors: `Io` where the folder cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_unless(folder, &Cancel::new())
    }

    /// As [`Gallery::open`]; `Cancelled` once the flag is raised, which is looked at with each file.
    pub fn open_unless(folder: &Path, cancel: &Cancel) -> Result<Self> {
        let mut gallery = Self { folder: folder.to_path_buf(), domains: vec![], skipped: 0 };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(gallery),
            Err(e) if folder.is_file() => {
                return Err(Error::io(folder, std::io::Error::new(e.kind(), "is a file, where a folder of domains was expected")))
            }
            Err(e) => return Err(Error::io(folder, e)),
        };
        for entry in entries {
            cancel.check()?;
            let file = entry.map_err(|e| Error::io(folder, e))?.path();
            let Some(name) = file.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(Domain::ENDING)) else { continue };
            match Domain::describe(&file) {
                Ok(description) => gallery.domains.push(Installed { name: name.to_string(), file, description }),
                Err(_) => gallery.skipped += 1,
            }
        }
        gallery.domains.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(gallery)
    }

    /// Writes `domain` into the folder, which is made where it is missing, with a thumbnail where one is given. `name` None: from the
    /// target's words. A name that is taken gets -2, -3 and so on, and nothing is ever overwritten. Returns the file.
    ///
    /// Errors: `InvalidArgument` for a name that is no file name; `Io`.
    pub fn install(&self, domain: &Domain, name: Option<&str>, thumbnail: Option<&Picture>) -> Result<PathBuf> {
        self.install_unless(domain, name, thumbnail, &Cancel::new())
    }

    /// As [`Gallery::install`]; `Cancelled`, without a file, once the flag is raised, which is looked at with each piece of it.
    pub fn install_unless(&self, domain: &Domain, name: Option<&str>, thumbnail: Option<&Picture>, cancel: &Cancel) -> Result<PathBuf> {
        cancel.check()?;
        let name = match name {
            Some(name) => checked(name)?.to_string(),
            None => file_name(&domain.description.target),
        };
        std::fs::create_dir_all(&self.folder).map_err(|e| Error::io(&self.folder, e))?;
        remove_dead(&self.folder);
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        let paths = std::iter::once(name.clone()).chain(numbered).map(|n| self.folder.join(n + Domain::ENDING));
        domain.save_as_new(paths, thumbnail, cancel)
    }
}

fn checked(name: &str) -> Result<&str> {
    let wrong = |message: String| Err(Error::argument("name", message));
    if name.trim().is_empty() {
        return wrong("is empty, must be a file name without ending".into());
    }
    if name.starts_with('.') || name.contains(['/', '\\']) || name.contains(char::is_control) {
        return wrong(format!("{name:?} must be a file name without ending: no '/', '\\' or control characters, and no '.' at its start"));
    }
    if name.len() > LONGEST_NAME {
        return wrong(format!("{} bytes are too long, at most {LONGEST_NAME} are right", name.len()));
    }
    Ok(name)
}

/// A name for a domain's file from words: lower-case letters and digits joined by '-'.
pub fn file_name(words: &str) -> String {
    let mut name = String::new();
    for part in words.split(|c: char| !c.is_alphanumeric()).filter(|p| !p.is_empty()) {
        let part = part.to_lowercase();
        if name.len() + 1 + part.len() > LONGEST_NAME {
            break;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name += &part;
    }
    if name.is_empty() {
        "domain".into()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_words() {
        for (words, name) in [("A photo, at night!", "a-photo-at-night"), ("../x", "x"), ("?", "domain"), ("Über 3", "über-3")] {
            assert_eq!(file_name(words), name);
        }
        let long = file_name(&"word ".repeat(100));
        assert!(long.len() <= LONGEST_NAME && long.ends_with("-word"), "{long}");
    }

    #[test]
    fn names_that_would_lead_elsewhere() {
        for name in ["", " ", "a/b", "..", ".hidden", "a\\b", "a\nb", &"a".repeat(201)] {
            assert!(checked(name).is_err(), "{name:?}");
        }
        assert_eq!(checked("Skizze 2.0").unwrap(), "Skizze 2.0");
    }

    #[test]
    fn a_file_is_no_folder_of_domains() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let e = Gallery::open(file.path()).unwrap_err();
        assert!(e.kind() == crate::error::Kind::Io && e.to_string().contains("is a file, where a folder of domains"), "{e}");
    }
}
