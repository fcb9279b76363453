//! Versions.

use std::ffi::{c_char, CStr};

/// The ABI that this header describes. It grows when something is added that older libraries lack, and its high 16 bits when something
/// that was there changed; see nada_abi_version().
pub const NADA_ABI_VERSION: u32 = 1;

/// NADA_ABI_VERSION of the library that is loaded. A program works with it when the high 16 bits equal those of its header's
/// NADA_ABI_VERSION and the whole is not smaller.
/// Threads: any.
#[no_mangle]
pub extern "C" fn nada_abi_version() -> u32 {
    NADA_ABI_VERSION
}

/// The library's version, such as "0.1.0". Threads: any. Owner: the library; valid for ever. Never NULL.
#[no_mangle]
pub extern "C" fn nada_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("the version has a NUL"),
    };
    VERSION.as_ptr()
}
