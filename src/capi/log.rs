//! The library's log: what it does, for those who look for a fault.

use super::status::{guard, nada_status, Failure};
use super::values::{c_string, choose};
use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::sync::{PoisonError, RwLock};

/// How much a line of the log matters.
#[repr(i32)]
pub enum nada_log_level {
    /// No line at all.
    NADA_LOG_OFF = 0,
    /// Something failed that no call's status tells.
    NADA_LOG_ERROR = 1,
    /// Something was taken for granted or left out.
    NADA_LOG_WARN = 2,
    /// What was opened.
    NADA_LOG_INFO = 3,
    /// Calls that failed, with their messages.
    NADA_LOG_DEBUG = 4,
    /// Everything.
    NADA_LOG_TRACE = 5,
}

/// A [`nada_log_level`] as C passes it: any number.
pub type LogLevelNumber = i32;

const LEVELS: [(i32, ::log::LevelFilter); 6] = [
    (nada_log_level::NADA_LOG_OFF as i32, ::log::LevelFilter::Off),
    (nada_log_level::NADA_LOG_ERROR as i32, ::log::LevelFilter::Error),
    (nada_log_level::NADA_LOG_WARN as i32, ::log::LevelFilter::Warn),
    (nada_log_level::NADA_LOG_INFO as i32, ::log::LevelFilter::Info),
    (nada_log_level::NADA_LOG_DEBUG as i32, ::log::LevelFilter::Debug),
    (nada_log_level::NADA_LOG_TRACE as i32, ::log::LevelFilter::Trace),
];

/// Told each line of the log, from the thread that has something to say: any thread of the program or the library, several at once. `message`
/// is UTF-8 without a line end at its end, borrowed until the callback returns. It must not call nada_log_set_callback(), nor wait
/// for a thread that does, and must return normally: no exception, no longjmp.
pub type nada_log_callback = Option<unsafe extern "C" fn(level: LogLevelNumber, message: *const c_char, user_data: *mut c_void)>;

struct Listener {
    callback: unsafe extern "C" fn(LogLevelNumber, *const c_char, *mut c_void),
    user_data: *mut c_void,
}

/// SAFETY: the caller promised that the callback may be called with its data from any thread, several at once.
unsafe impl Send for Listener {}
unsafe impl Sync for Listener {}

static LISTENER: RwLock<Option<Listener>> = RwLock::new(None);

thread_local! {
    /// Whether this thread is in the callback.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Forward;

impl ::log::Log for Forward {
    fn enabled(&self, about: &::log::Metadata) -> bool {
        // What the crates below have to say is for their own developers.
        about.target() == "nada" || about.target().starts_with("nada::")
    }

    fn log(&self, record: &::log::Record) {
        // A callback that makes calls which log would never end; on a thread that is being torn down nobody listens.
        if !self.enabled(record.metadata()) || INSIDE.try_with(|inside| inside.replace(true)).unwrap_or(true) {
            return;
        }
        if let Some(listener) = &*LISTENER.read().unwrap_or_else(PoisonError::into_inner) {
            let message = c_string(&record.args().to_string());
            unsafe { (listener.callback)(record.level() as i32, message.as_ptr(), listener.user_data) };
        }
        let _ = INSIDE.try_with(|inside| inside.set(false));
    }

    fn flush(&self) {}
}

/// Has `callback` told what the library logs, up to `level`, in place of the one before; NULL for nobody, as at first. When it returns, the
/// one before is not called any more. One for the whole process.
/// Threads: any. Owner: `user_data` is the caller's, and must stay valid until the callback is replaced.
/// Fails: NADA_INVALID_ARGUMENT, NADA_BUSY (from inside a callback), NADA_UNSUPPORTED (a Rust program that has a logger of its own: it gets the
/// lines).
#[no_mangle]
pub unsafe extern "C" fn nada_log_set_callback(callback: nada_log_callback, user_data: *mut c_void, level: LogLevelNumber) -> nada_status {
    guard(|| {
        let level = choose(level, "level", "nada_log_level", &LEVELS)?;
        if INSIDE.try_with(Cell::get).unwrap_or(false) {
            return Err(Failure::new(nada_status::NADA_BUSY, "log: a callback cannot replace itself while it is called"));
        }
        static OWNED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        if !*OWNED.get_or_init(|| ::log::set_logger(&Forward).is_ok()) {
            return Err(Failure::new(
                nada_status::NADA_UNSUPPORTED,
                "log: the program has a logger of its own, which gets the library's lines",
            ));
        }
        let mut listener = LISTENER.write().unwrap_or_else(PoisonError::into_inner);
        *listener = callback.map(|callback| Listener { callback, user_data });
        ::log::set_max_level(if listener.is_some() { level } else { ::log::LevelFilter::Off });
        Ok(())
    })
}
