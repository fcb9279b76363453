//! One error type for the whole crate; every variant names its cause, and [`Error::kind`] is what the C ABI numbers.

use std::borrow::Cow;
use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

/// The class of a failure. `capi::status` gives each its number, which never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An argument is out of range, NULL, of the wrong shape or not finite.
    InvalidArgument,
    /// A file or model pack does not exist.
    NotFound,
    /// Reading or writing failed.
    Io,
    /// A file is not what it claims to be: truncated, of another format, with missing keys or wrong shapes.
    Format,
    /// The file is understood, and this library does not support what it asks for.
    Unsupported,
    /// Two things do not belong together, such as a domain and a generator that it was not made from.
    Mismatch,
    /// The caller, a progress callback or a cancel token said stop.
    Cancelled,
    /// A computation gave NaN or infinity.
    NotFinite,
    /// More memory is needed than there is.
    OutOfMemory,
    /// A failure inside the library: a bug.
    Internal,
}

/// Displayed as [`printable`], with an end to each part: names out of files may hold anything.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `argument` names what the caller passed, `message` says what is wrong and what would be right.
    #[error("{}: {}", shown(argument), shown(message))]
    InvalidArgument { argument: String, message: String },
    #[error("{} not found: {}", shown(what), shown(message))]
    NotFound { what: String, message: String },
    #[error("{}: {}", shown(&path.display()), shown(source))]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {}", shown(&path.display()), shown(message))]
    Format {
        path: PathBuf,
        message: String,
        /// The tensor or the field that it is about, as the file calls it; "" where it is about the file.
        key: String,
        /// What would have to be there, such as "a tensor of shape [3, 512]"; "" where only the message says it.
        needed: String,
    },
    #[error("{}: {}", shown(what), shown(message))]
    Unsupported { what: String, message: String },
    #[error("{}", shown(.0))]
    Mismatch(String),
    #[error("cancelled")]
    Cancelled,
    #[error("{}", shown(.0))]
    NotFinite(String),
    #[error("{}", shown(.0))]
    OutOfMemory(String),
    #[error("internal error (please report it): {}", shown(.0))]
    Internal(String),
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Error::InvalidArgument { .. } => Kind::InvalidArgument,
            Error::NotFound { .. } => Kind::NotFound,
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
            Error::Io { .. } => Kind::Io,
            Error::Format { .. } => Kind::Format,
            Error::Unsupported { .. } => Kind::Unsupported,
            Error::Mismatch(_) => Kind::Mismatch,
            Error::Cancelled => Kind::Cancelled,
            Error::NotFinite(_) => Kind::NotFinite,
            Error::OutOfMemory(_) => Kind::OutOfMemory,
            Error::Internal(_) => Kind::Internal,
        }
    }

    pub fn argument(argument: impl Into<String>, message: impl Into<String>) -> Self {
        Error::InvalidArgument { argument: argument.into(), message: message.into() }
    }

    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_path_buf(), source }
    }

    pub fn format(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::Format { path: path.as_ref().to_path_buf(), message: message.into(), key: String::new(), needed: String::new() }
    }

    /// The same with the key that a `Format` is about, and what is needed there.
    pub fn about(self, about: impl Into<String>, wanted: impl Into<String>) -> Self {
        match self {
            Error::Format { path, message, .. } => Error::Format { path, message, key: about.into(), needed: wanted.into() },
            other => other,
        }
    }

    pub fn unsupported(what: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Unsupported { what: what.into(), message: message.into() }
    }
}

/// What candle reports is a bug of ours: every shape is checked where it enters the library.
impl From<candle_core::Error> for Error {
    fn from(e: candle_core::Error) -> Self {
        Error::Internal(e.to_string())
    }
}

/// Characters of a part of a message, beyond which its middle is left out. A path has 4096 bytes at most.
const MAX_SHOWN: usize = 4096;

/// `text` as it can be shown in a terminal or a dialog: characters that would command a terminal or turn the direction of writing are
/// written as `\u{1b}` is here. Line ends and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    let commands = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match commands(c) {
            // Nothing can fail: it is a String.
            true => _ = write!(shown, "{}", c.escape_unicode()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

fn shown(part: &impl Display) -> String {
    let text = part.to_string();
    let text = printable(&text);
    let count = text.chars().count();
    if count <= MAX_SHOWN {
        return text.into_owned();
    }
    let (head, tail) = (text.chars().take(MAX_SHOWN / 2), text.chars().skip(count - MAX_SHOWN / 2));
    format!("{} [{} characters left out] {}", head.collect::<String>(), count - MAX_SHOWN, tail.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_out_of_files_command_no_terminal() {
        let e = Error::format("a\u{7}.pt", "tensor '\u{1b}[2J\u{9b}x\u{202e}' is\r\nmissing\tü");
        assert_eq!(e.to_string(), "a\\u{7}.pt: tensor '\\u{1b}[2J\\u{9b}x\\u{202e}' is\\u{d}\nmissing\tü");
        let io = Error::io("\u{1b}c", std::io::Error::other("\u{8}"));
        assert_eq!(io.to_string(), "\\u{1b}c: \\u{8}");
        for e in [Error::Mismatch("\u{1b}".into()), Error::NotFinite("\u{1b}".into()), Error::Internal("\u{1b}".into())] {
            assert!(e.to_string().ends_with("\\u{1b}"), "{e}");
        }
    }

    #[test]
    fn a_long_name_does_not_fill_the_screen() {
        let name = format!("begin{}end", "ä".repeat(1_000_000));
        let message = Error::argument("key", name).to_string();
        assert!(message.starts_with("key: beginä") && message.ends_with("äend"), "{message}");
        assert!(message.contains(" [995912 characters left out] "), "{message}");
        assert_eq!(message.chars().count(), "key: ".len() + MAX_SHOWN + " [995912 characters left out] ".len());
    }
}
