//! Opaque handles: a box with the tag of its type in front, behind a pointer to a type that C cannot look into.

use super::error::value;
use super::status::{Failure, Result};
use super::values::array;

/// A C handle type. `Value` is what its box holds; the bound is what lets a handle be shared between threads.
pub(super) trait Handle: Sized {
    type Value: Send + Sync + 'static;
    /// The type's C name.
    const NAME: &'static str;
    /// Tells live handles of this type from those of others, at the cost of one comparison.
    const TAG: u64 = tag(Self::NAME);
}

/// FNV-1a of the name.
const fn tag(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// repr(C), so that the tag stands first whatever `V` is and can be read before the type is trusted.
#[repr(C)]
struct Tagged<V> {
    tag: u64,
    value: V,
}

/// Hands `value` to C, which gives it back to [`release`].
pub(super) fn into_raw<H: Handle>(value: H::Value) -> *mut H {
    Box::into_raw(Box::new(Tagged { tag: H::TAG, value })).cast()
}

/// # Safety
/// `pointer` is NULL or points to at least 8 readable bytes, as every live handle does.
unsafe fn check<H: Handle>(pointer: *const H, argument: &str) -> Result<*const Tagged<H::Value>> {
    if pointer.is_null() {
        return Err(Failure::argument(argument, format_args!("is NULL, must be a {}", H::NAME)));
    }
    if !pointer.cast::<u64>().is_aligned() || *pointer.cast::<u64>() != H::TAG {
        return Err(Failure::argument(argument, format_args!("is not a live {}", H::NAME)));
    }
    Ok(pointer.cast())
}

/// The content of a handle that a caller passed as `argument`.
/// # Safety
/// `pointer` is NULL or a handle that nobody frees during `'a`.
pub(super) unsafe fn borrow<'a, H: Handle>(pointer: *const H, argument: &str) -> Result<&'a H::Value> {
    Ok(&(*check(pointer, argument)?).value)
}

/// # Safety
/// As [`array`], and each element as [`borrow`].
pub(super) unsafe fn handles<'a, H: Handle>(pointer: *const *const H, count: usize, argument: &str) -> Result<Vec<&'a H::Value>> {
    array(pointer, count, argument)?.iter().enumerate().map(|(i, h)| borrow(*h, &format!("{argument}[{i}]"))).collect()
}

/// Frees a handle; NULL and handles of another type are left alone.
/// # Safety
/// `pointer` is NULL or a handle that nobody uses any more.
pub(super) unsafe fn release<H: Handle>(pointer: *mut H) {
    value((), || {
        if let Ok(tagged) = check(pointer, "handle") {
            let tagged = tagged.cast_mut();
            // So that a second free of a box whose memory is not yet in use again is noticed.
            // Volatile, as an ordinary store before the memory is freed may be left out.
            std::ptr::addr_of_mut!((*tagged).tag).write_volatile(0);
            drop(Box::from_raw(tagged));
        }
    })
}

/// Checks that an out pointer is not NULL and clears what it points to, so that a failed call leaves NULL (or 0) there.
macro_rules! out {
    ($($pointer:ident),+) => {
        $(if $pointer.is_null() {
            return Err($crate::capi::status::Failure::argument(stringify!($pointer), "is NULL, must point to where the result goes"));
        })+
        $(std::ptr::write($pointer, std::mem::zeroed());)+
    };
}

/// Checks that pointers to data are not NULL.
macro_rules! not_null {
    ($($pointer:ident),+) => {
        $(if $pointer.is_null() {
            return Err($crate::capi::status::Failure::argument(stringify!($pointer), "is NULL"));
        })+
    };
}

/// `borrow` with the variable's own name in the message.
macro_rules! handle {
    ($pointer:ident) => {
        $crate::capi::handle::borrow($pointer, stringify!($pointer))?
    };
}

pub(super) use {handle, not_null, out};

#[cfg(test)]
mod tests {
    use super::*;

    struct apple(());
    struct pear(());
    impl Handle for apple {
        type Value = String;
        const NAME: &'static str = "apple";
    }
    impl Handle for pear {
        type Value = [u64; 4];
        const NAME: &'static str = "pear";
    }

    #[test]
    fn handles_know_their_type() {
        let a = into_raw::<apple>("x".to_string());
        unsafe {
            assert_eq!(borrow(a, "a").ok(), Some(&"x".to_string()));
            assert!(borrow(a.cast::<pear>(), "a").unwrap_err().message.contains("a: is not a live pear"));
            assert!(borrow(std::ptr::null::<apple>(), "fruit").unwrap_err().message.contains("fruit: is NULL"));
            release(a.cast::<pear>());
            assert!(borrow(a, "a").is_ok());
            release(a);
            release(std::ptr::null_mut::<apple>());
        }
    }
}
