//! Errors: what a call answered, and what went wrong.

// And the boundary that panics do not cross.

use super::options::{self, Options};
use super::values::{c_path, c_string};
use crate::error::{Error, Kind};
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{c_char, CStr, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};
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

/// What went wrong, for programs that offer help. The library fills it; newer libraries may append fields. Its texts are never NULL: "" where
/// there is nothing to say. They are the thread's, and valid until the next failing call on it.
#[repr(C)]
pub struct nada_error {
    /// As passed to nada_last_error().
    pub struct_size: usize,
    /// As nada_last_error_message() gives it.
    pub message: *const c_char,
    /// The file or folder that could not be found, read, written or used.
    pub file: *const c_char,
    /// The tensor or the field in it.
    pub key: *const c_char,
    /// The argument, or the field of a struct, that is wrong.
    pub argument: *const c_char,
    /// What would have to be there, such as "a tensor of shape [3, 512]".
    pub needed: *const c_char,
    /// The bytes that the call would need where that is more than it may (NADA_OUT_OF_MEMORY), by estimate; else 0.
    pub memory: u64,
    /// What the call returned; NADA_OK where none failed on this thread.
    pub status: i32,
    /// Always 0.
    pub reserved: u32,
}

options::ends_with!(nada_error, reserved: u32);

unsafe impl Options for nada_error {
    const NAME: &'static str = "nada_error";
    const FIRST_SIZE: usize = size_of::<Self>();
    fn defaults(struct_size: usize) -> Self {
        let none = c"".as_ptr();
        Self { struct_size, message: none, file: none, key: none, argument: none, needed: none, memory: 0, status: 0, reserved: 0 }
    }
}

/// A failed call on its way out: the status it returns and the message it leaves, with what [`nada_error`] tells apart.
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

/// What [`nada_last_error`] points into.
#[derive(Default)]
struct Last {
    status: nada_status,
    message: CString,
    file: CString,
    key: CString,
    argument: CString,
    needed: CString,
    memory: u64,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::new(Last::default());
}

/// Keeps `failure` for [`nada_last_error`]. On a thread that is being torn down there is nowhere to keep it, and nobody to ask.
fn remember(failure: &Failure) {
    let Failure { status, message, parts } = failure;
    let Parts { file, key, argument, needed, memory } = &**parts;
    let last = Last {
        status: *status,
        message: c_string(message),
        file: file.as_deref().map(c_path).unwrap_or_default(),
        key: c_string(key),
        argument: c_string(argument),
        needed: c_string(needed),
        memory: *memory,
    };
    let _ = LAST.try_with(|kept| *kept.borrow_mut() = last);
}

fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let text = match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => text.to_string(),
            Err(_) => "no message".into(),
        },
    };
    format!("the library panicked (a bug, please report it): {text}")
}

/// Runs the body of a function that returns a status. A failure's message is kept for this thread; a panic ends here.
///
/// `AssertUnwindSafe`: bodies write through out pointers only as their last act, and what they change is an adaptation behind a lock
/// that a panic poisons.
pub(super) fn guard(body: impl FnOnce() -> Result<()>) -> nada_status {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return NADA_OK,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::new(NADA_PANIC, panic_message(payload)),
    };
    // First, as a callback of the log may make calls that fail.
    ::log::debug!(target: "nada", "{:?}: {}", failure.status, failure.message);
    remember(&failure);
    failure.status
}

/// Runs the body of a function that returns a plain value; a panic gives `otherwise`.
pub(super) fn value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
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

/// The message of the last call that failed on this thread, in English and UTF-8: it names the file, the key or the argument, and what
/// would be right. "" where none failed yet. Calls that succeed leave it alone.
/// Threads: each has its own message. Owner: the library; valid until the next failing call on this thread. Never NULL.
#[no_mangle]
pub extern "C" fn nada_last_error_message() -> *const c_char {
    LAST.try_with(|last| last.borrow().message.as_ptr()).unwrap_or(c"".as_ptr())
}

/// The last call that failed on this thread, in parts: for programs that offer to fetch a missing file, or to try with less. Calls that
/// succeed leave it alone. struct_size is sizeof(nada_error).
/// Threads: each has its own. Owner: the texts are the library's, valid until the next failing call on this thread.
/// Fails: NADA_INVALID_ARGUMENT, which is the last failure then.
#[no_mangle]
pub unsafe extern "C" fn nada_last_error(error: *mut nada_error, struct_size: usize) -> nada_status {
    guard(|| {
        let known = LAST.try_with(|last| {
            let last = last.borrow();
            nada_error {
                message: last.message.as_ptr(),
                file: last.file.as_ptr(),
                key: last.key.as_ptr(),
                argument: last.argument.as_ptr(),
                needed: last.needed.as_ptr(),
                memory: last.memory,
                status: last.status as i32,
                ..nada_error::defaults(struct_size)
            }
        });
        options::write(error, struct_size, &known.unwrap_or_else(|_| nada_error::defaults(struct_size)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        unsafe { CStr::from_ptr(nada_last_error_message()) }.to_str().unwrap().to_string()
    }

    #[test]
    fn a_panic_becomes_a_status_and_a_message() {
        assert_eq!(guard(|| panic!("boom {}", 1)), NADA_PANIC);
        assert!(last().contains("boom 1"), "{}", last());
        assert_eq!(value(7, || panic!("boom")), 7);
    }

    #[test]
    fn messages_are_kept_per_thread_and_survive_success() {
        assert_eq!(guard(|| Err(Failure::argument("here", "wrong\0 inside"))), NADA_INVALID_ARGUMENT);
        assert_eq!(guard(|| Ok(())), NADA_OK);
        assert_eq!(last(), "here: wrong inside");
        std::thread::spawn(|| assert_eq!(last(), "")).join().unwrap();
    }

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
