//! One error type for the whole crate; every variant names its cause, and [`Error::kind`] is what the C ABI numbers.

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
    /// A failure inside the library: a bug.
    Internal,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `argument` names what the caller passed, `message` says what is wrong and what would be right.
    #[error("{argument}: {message}")]
    InvalidArgument { argument: String, message: String },
    #[error("{what} not found: {message}")]
    NotFound { what: String, message: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {message}", path.display())]
    Format { path: PathBuf, message: String },
    #[error("{what}: {message}")]
    Unsupported { what: String, message: String },
    #[error("{0}")]
    Mismatch(String),
    #[error("cancelled")]
    Cancelled,
    #[error("{0}")]
    NotFinite(String),
    #[error("internal error (please report it): {0}")]
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
        Error::Format { path: path.as_ref().to_path_buf(), message: message.into() }
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
