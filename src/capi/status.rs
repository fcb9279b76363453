//! Statuses: what a call answered.

use crate::error::{Error, Kind};
use std::ffi::{c_char, CStr};
use std::path::PathBuf;

/// What a call answered. Numbers never change and are never used again; newer libraries may add some, so treat unknown ones as failures.
#[repr(i32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum nada_status {
    /// All went well.
    #[default]
    NADA_OK = 0,
    /// An argument is NULL, out of range, of the wrong shape, not finite or not UTF-8; the message names it.
    NADA_INVALID_ARGUMENT = 1,
    /// A file or a model pack does not exist.
    NADA_NOT_FOUND = 2,
    /// Reading or writing failed.
    NADA_IO = 3,
    /// A file is not what it claims to be: truncated, of another format, with missing keys, wrong shapes or numbers that are not finite.
    NADA_BAD_FORMAT = 4,
    /// The request is understood, and this library does not support it.
    NADA_UNSUPPORTED = 5,
    /// Two things do not belong together, such as a domain and a generator that it was not made from.
    NADA_MISMATCH = 6,
    /// A progress callback or a cancel token said stop. Inputs are unchanged; an adaptation stays at its last complete step.
    NADA_CANCELLED = 7,
    /// A computation gave a number that is not finite.
    NADA_NOT_FINITE = 8,
    /// A failure inside the library: a bug, please report it.
    NADA_INTERNAL = 9,
    /// There is not enough memory for what was asked, or no thread could be started.
    NADA_OUT_OF_MEMORY = 10,
    /// The library panicked: a bug, please report it. The process is sound; an adaptation that was being trained can only be freed.
    NADA_PANIC = 11,
    /// The handle is in use by another call right now (adaptations only).
    NADA_BUSY = 12,
}
use nada_status::*;

/// A failed call on its way out: the status it returns and the message it leaves, with what `nada_error` tells apart.
#[derive(Debug, Default)]
pub(super) struct Failure {
    pub status: nada_status,
    pub message: String,
    pub parts: Box<Parts>,
}

#[derive(Debug, Default)]
pub(super) struct Parts {
    pub file: Option<PathBuf>,
    pub key: String,
    pub argument: String,
    pub needed: String,
    /// In bytes.
    pub memory: u64,
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(status: nada_status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), ..Self::default() }
    }

    pub fn argument(name: &str, message: impl std::fmt::Display) -> Self {
        let mut failure = Self::new(NADA_INVALID_ARGUMENT, format!("{name}: {message}"));
        failure.parts.argument = name.into();
        failure
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::InvalidArgument => NADA_INVALID_ARGUMENT,
            Kind::NotFound => NADA_NOT_FOUND,
            Kind::Io => NADA_IO,
            Kind::Format => NADA_BAD_FORMAT,
            Kind::Unsupported => NADA_UNSUPPORTED,
            Kind::Mismatch => NADA_MISMATCH,
            Kind::Cancelled => NADA_CANCELLED,
            Kind::NotFinite => NADA_NOT_FINITE,
            Kind::OutOfMemory => NADA_OUT_OF_MEMORY,
            Kind::Internal => NADA_INTERNAL,
        };
        let mut failure = Self::new(status, error.to_string());
        let parts = &mut failure.parts;
        match error {
            Error::InvalidArgument { argument, .. } => parts.argument = argument,
            Error::NotFound { what, message } => (parts.file, parts.needed) = (Some(what.into()), message),
            Error::Io { path, .. } => parts.file = Some(path),
            Error::Format { path, key, needed, .. } => (parts.file, parts.key, parts.needed) = (Some(path), key, needed),
            Error::Unsupported { what, .. } => parts.file = Some(what.into()),
            Error::Mismatch(_) | Error::Cancelled | Error::NotFinite(_) | Error::OutOfMemory(_) | Error::Internal(_) => {}
        }
        failure
    }
}

const fn describe(status: i32) -> (&'static CStr, &'static CStr) {
    match status {
        0 => (c"NADA_OK", c"success"),
        1 => (c"NADA_INVALID_ARGUMENT", c"invalid argument"),
        2 => (c"NADA_NOT_FOUND", c"file or model pack not found"),
        3 => (c"NADA_IO", c"reading or writing failed"),
        4 => (c"NADA_BAD_FORMAT", c"damaged file or unexpected format"),
        5 => (c"NADA_UNSUPPORTED", c"not supported"),
        6 => (c"NADA_MISMATCH", c"things that do not belong together"),
        7 => (c"NADA_CANCELLED", c"cancelled"),
        8 => (c"NADA_NOT_FINITE", c"a computation gave a number that is not finite"),
        9 => (c"NADA_INTERNAL", c"internal error"),
        10 => (c"NADA_OUT_OF_MEMORY", c"out of memory"),
        11 => (c"NADA_PANIC", c"the library panicked"),
        12 => (c"NADA_BUSY", c"the handle is in use by another call"),
        _ => (c"NADA_UNKNOWN", c"a status that this library does not know"),
    }
}

/// The name of a status, such as "NADA_NOT_FOUND"; "NADA_UNKNOWN" for a number that this library does not know.
/// Threads: any. Owner: the library; valid for ever. Never NULL.
#[no_mangle]
pub extern "C" fn nada_status_name(status: i32) -> *const c_char {
    describe(status).0.as_ptr()
}

/// What a status means in a few English words, without the particulars that nada_last_error_message() has.
/// Threads: any. Owner: the library; valid for ever. Never NULL.
#[no_mangle]
pub extern "C" fn nada_status_description(status: i32) -> *const c_char {
    describe(status).1.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers are part of the ABI: this list only grows.
    #[test]
    fn every_status_has_its_own_name() {
        let all = [
            NADA_OK,
            NADA_INVALID_ARGUMENT,
            NADA_NOT_FOUND,
            NADA_IO,
            NADA_BAD_FORMAT,
            NADA_UNSUPPORTED,
            NADA_MISMATCH,
            NADA_CANCELLED,
            NADA_NOT_FINITE,
            NADA_INTERNAL,
            NADA_OUT_OF_MEMORY,
            NADA_PANIC,
            NADA_BUSY,
        ];
        for (number, status) in all.into_iter().enumerate() {
            assert_eq!(status as usize, number);
            let name = unsafe { CStr::from_ptr(nada_status_name(status as i32)) }.to_str().unwrap();
            assert_eq!(name, format!("{status:?}"));
        }
        assert_eq!(unsafe { CStr::from_ptr(nada_status_name(99)) }, c"NADA_UNKNOWN");
    }
}
