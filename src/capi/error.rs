//! Errors: what went wrong.

// And the boundary that panics do not cross.

use super::options::{self, Options};
use super::status::nada_status::{self, *};
use super::status::{Failure, Parts, Result};
use super::values::{c_path, c_string};
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{c_char, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};

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
/// `AssertUnwindSafe`: before their last act bodies do no more with out pointers than clear what they point to, and what they change is an
/// adaptation behind a lock that a panic poisons.
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
    use std::ffi::CStr;

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
}
