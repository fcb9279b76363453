//! The library's log: what it does, for those who look for a fault.

use super::error::guard;
use super::status::{nada_status, Failure};
use super::values::{c_string, choose};
use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::fmt::Display;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How much a line of the log matters.
#[repr(i32)]
pub enum nada_log_level {
    /// No line at all.
    NADA_LOG_OFF = 0,
    /// Something failed that no call's status tells.
    NADA_LOG_ERROR = 1,
    /// Something was taken for granted or left out.
    NADA_LOG_WARN = 2,
    /// What was opened: its kind, its name, its size, and how long that took.
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
/// is UTF-8 without a line end at its end, borrowed until the callback returns. It may call the library, which logs nothing of that; only
/// nada_log_set_callback() answers NADA_BUSY there, and waits for the callback where another thread calls it: the callback must not wait for
/// such a thread. It must return normally: no exception, no longjmp.
pub type nada_log_callback = Option<unsafe extern "C" fn(level: LogLevelNumber, message: *const c_char, user_data: *mut c_void)>;

struct Listener {
    callback: unsafe extern "C" fn(LogLevelNumber, *const c_char, *mut c_void),
    user_data: *mut c_void,
    /// Threads that are in the callback.
    inside: Mutex<usize>,
    /// Told when the last one is out.
    out: Condvar,
}

impl Listener {
    fn inside(&self) -> MutexGuard<'_, usize> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SAFETY: the caller promised that the callback may be called with its data from any thread, several at once.
unsafe impl Send for Listener {}
unsafe impl Sync for Listener {}

/// Held for a moment, never while the callback runs: it may wait for other threads that log.
static LISTENER: Mutex<Option<Arc<Listener>>> = Mutex::new(None);

fn listener() -> MutexGuard<'static, Option<Arc<Listener>>> {
    LISTENER.lock().unwrap_or_else(PoisonError::into_inner)
}

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
        // Counted in before it can be replaced.
        let now = listener().as_ref().map(|listener| {
            *listener.inside() += 1;
            listener.clone()
        });
        if let Some(listener) = now {
            let message = c_string(&record.args().to_string());
            unsafe { (listener.callback)(record.level() as i32, message.as_ptr(), listener.user_data) };
            *listener.inside() -= 1;
            listener.out.notify_all();
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
        let next = callback.map(|callback| Arc::new(Listener { callback, user_data, inside: Mutex::new(0), out: Condvar::new() }));
        let before = {
            let mut now = listener();
            ::log::set_max_level(if next.is_some() { level } else { ::log::LevelFilter::Off });
            std::mem::replace(&mut *now, next)
        };
        if let Some(before) = before {
            let mut inside = before.inside();
            while *inside > 0 {
                inside = before.out.wait(inside).unwrap_or_else(PoisonError::into_inner);
            }
        }
        Ok(())
    })
}

/// Something that is being opened, for the line that says so.
pub(super) struct Opening(Instant);

impl Opening {
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// Logs what was opened, which of its kind, how large it is, and how long it took.
    pub fn end(self, kind: &str, name: impl Display, size: impl Display) {
        ::log::info!(target: "nada", "opened {kind} {name}: {size}, in {:.3} s", self.0.elapsed().as_secs_f64());
    }
}
