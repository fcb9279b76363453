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

/// An error of this library that went through candle is itself again. Of candle's own, memory that ran out is no bug to report, nor are
/// shapes, types and devices that do not fit: callers from Rust pass tensors of their own. The rest is.
impl From<candle_core::Error> for Error {
    fn from(e: candle_core::Error) -> Self {
        use candle_core::Error as E;
        // The text of the whole, with its context.
        let text = e.to_string();
        match e {
            E::WithBacktrace { inner, .. } => Error::from(*inner),
            // The context says where it was, the cause what it is.
            E::Context { inner, .. } if !matches!(*inner, E::Msg(_)) => Error::from(*inner),
            E::WrappedContext { wrapped, .. } => match wrapped.downcast::<Error>() {
                Ok(own) => *own,
                Err(_) => Error::Internal(text),
            },
            E::Cuda(_) | E::Metal(_) if out_of_memory(&text) => Error::OutOfMemory(format!("the device has no memory left: {text}")),
            _ if does_not_fit(&e) => Error::Mismatch(format!("tensors that do not fit: {text}")),
            _ => Error::Internal(text),
        }
    }
}

/// So that an error passes through an interface of candle's, and `Error::from` finds it again.
impl From<Error> for candle_core::Error {
    fn from(e: Error) -> Self {
        let context = e.to_string();
        candle_core::Error::WrappedContext { wrapped: Box::new(e), context }
    }
}

/// As CUDA's and Metal's messages say it.
fn out_of_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("out_of_memory") || text.contains("out of memory") || text.contains("alloc_failed")
}

/// Shapes, types and devices of tensors.
fn does_not_fit(e: &candle_core::Error) -> bool {
    use candle_core::Error as E;
    matches!(
        e,
        E::UnexpectedDType { .. }
            | E::DTypeMismatchBinaryOp { .. }
            | E::UnsupportedDTypeForOp(..)
            | E::DimOutOfRange { .. }
            | E::UnexpectedNumberOfDims { .. }
            | E::UnexpectedShape { .. }
            | E::ShapeMismatch { .. }
            | E::ShapeMismatchBinaryOp { .. }
            | E::ShapeMismatchCat { .. }
            | E::ShapeMismatchSplit { .. }
            | E::NarrowInvalidArgs { .. }
            | E::InvalidIndex { .. }
            | E::BroadcastIncompatibleShapes { .. }
            | E::OnlySingleDimension { .. }
            | E::EmptyTensor { .. }
            | E::OpRequiresAtLeastOneTensor { .. }
            | E::DeviceMismatchBinaryOp { .. }
    )
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
    fn only_bugs_ask_for_a_report() {
        use candle_core::{DType, Device, Tensor};
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let bytes = Tensor::zeros(3, DType::U8, &Device::Cpu).unwrap();
        for e in [
            zeros(&[2, 3]).matmul(&zeros(&[4, 5])).unwrap_err(),
            zeros(&[2, 3]).broadcast_add(&zeros(&[4])).unwrap_err(),
            (zeros(&[3]) + bytes).unwrap_err(),
            zeros(&[2]).dim(7).unwrap_err(),
            zeros(&[2]).narrow(0, 1, 5).unwrap_err(),
            zeros(&[2]).to_vec2::<f32>().unwrap_err(),
            Tensor::cat(&[zeros(&[1, 2]), zeros(&[1, 3])], 0).unwrap_err(),
            Tensor::cat::<Tensor, usize>(&[], 0).unwrap_err(),
        ] {
            let e = Error::from(e);
            assert!(e.kind() == Kind::Mismatch && !e.to_string().contains("report"), "{e}");
        }
        let device = candle_core::Error::Cuda("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into());
        let e = Error::from(device.bt().context("drawing"));
        assert!(e.kind() == Kind::OutOfMemory && !e.to_string().contains("report") && e.to_string().contains("OUT_OF_MEMORY"), "{e}");
        for e in [candle_core::Error::Cuda("illegal address".into()), candle_core::Error::Msg("odd".into()).bt()] {
            let e = Error::from(e);
            assert!(e.kind() == Kind::Internal && e.to_string().contains("please report"), "{e}");
        }
        // Our own go through candle and stay what they are, with and without its backtraces and contexts.
        let own = || candle_core::Error::from(Error::NotFinite("x became NaN".into()));
        for e in [own(), own().bt(), own().context("step 3")] {
            assert!(matches!(Error::from(e), Error::NotFinite(m) if m == "x became NaN"));
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
