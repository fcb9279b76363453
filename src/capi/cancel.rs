//! Cancel tokens: flags that end calls.

use super::error::{guard, value};
use super::handle::{handle, into_raw, out, release, Handle};
use super::status::{nada_status, Result};
use crate::progress::Cancel;

/// A flag that any thread may raise to end the calls that it was given to: see nada_call.
pub struct nada_cancel(());

impl Handle for nada_cancel {
    type Value = Cancel;
    const NAME: &'static str = "nada_cancel";
}

/// Makes a token, not triggered.
/// Threads: any. Owner: the caller frees *cancel with nada_cancel_free().
/// Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_cancel_new(cancel: *mut *mut nada_cancel) -> nada_status {
    guard(|| {
        out!(cancel);
        *cancel = into_raw(Cancel::new());
        Ok(())
    })
}

/// Ends the calls that were given this token, now and until it is reset; they return NADA_CANCELLED.
/// Threads: any, also while calls run with the token; not from a signal handler.
/// Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_cancel_trigger(cancel: *const nada_cancel) -> nada_status {
    guard(|| {
        handle!(cancel).cancel();
        Ok(())
    })
}

/// Makes a triggered token ready for another call.
/// Threads: any. Fails: NADA_INVALID_ARGUMENT.
#[no_mangle]
pub unsafe extern "C" fn nada_cancel_reset(cancel: *const nada_cancel) -> nada_status {
    guard(|| {
        handle!(cancel).reset();
        Ok(())
    })
}

/// 1 for a triggered token, 0 for others and for NULL. Threads: any.
#[no_mangle]
pub unsafe extern "C" fn nada_cancel_is_triggered(cancel: *const nada_cancel) -> u32 {
    value(0, || super::handle::borrow(cancel, "cancel").map_or(0, |c| c.is_cancelled() as u32))
}

/// Frees a token; NULL is allowed. A call that still runs with it goes on and can no longer be cancelled by it.
/// Threads: any, once no other thread is inside one of the token's own functions.
#[no_mangle]
pub unsafe extern "C" fn nada_cancel_free(cancel: *mut nada_cancel) {
    release(cancel)
}

/// The token of a call, by its own share of the flag; without one a token that nobody triggers.
/// # Safety
/// `cancel` is NULL or a live handle.
pub(super) unsafe fn token(cancel: *const nada_cancel, argument: &str) -> Result<Cancel> {
    if cancel.is_null() {
        return Ok(Cancel::new());
    }
    Ok(super::handle::borrow(cancel, argument)?.clone())
}
