//! Versions: whether library and program fit together.

use super::error::guard;
use super::status::{nada_status, Failure};
use std::ffi::{c_char, CStr};

/// The ABI that this header describes. Its low 16 bits grow when something is added that older libraries lack; its high 16 bits, which are the
/// number in the name of the library's file (libnada.so.3), when something that was there changed. See nada_abi_check().
pub const NADA_ABI_VERSION: u32 = 0x30000;

/// NADA_ABI_VERSION of the library that is loaded. A program works with it when the high 16 bits equal those of its header's
/// NADA_ABI_VERSION and the whole is not smaller.
/// Threads: any.
#[no_mangle]
pub extern "C" fn nada_abi_version() -> u32 {
    NADA_ABI_VERSION
}

/// Whether the library that is loaded serves a program compiled with this header; call nada_abi_check(NADA_ABI_VERSION) once, first.
/// Threads: any. Fails: NADA_MISMATCH; the message says both numbers and which of the two to renew.
#[no_mangle]
pub extern "C" fn nada_abi_check(header_version: u32) -> nada_status {
    guard(|| serves(header_version, NADA_ABI_VERSION).map_err(|message| Failure::new(nada_status::NADA_MISMATCH, message)))
}

fn serves(header: u32, library: u32) -> Result<(), String> {
    let what = format!("the program was compiled for ABI {header:#x} of libnada, and the library that is loaded has {library:#x}");
    if header >> 16 != library >> 16 {
        Err(format!("{what}: they do not fit together; compile the program with the header of this library"))
    } else if header > library {
        Err(format!("{what}: the library is too old for the program; install a newer one"))
    } else {
        Ok(())
    }
}

/// The library's version, such as "0.2.0". Threads: any. Owner: the library; valid for ever. Never NULL.
#[no_mangle]
pub extern "C" fn nada_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("the version has a NUL"),
    };
    VERSION.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_a_library_serves() {
        for (header, library) in [(2, 2), (1, 2), (0x1_0003, 0x1_0007)] {
            assert_eq!(serves(header, library), Ok(()));
        }
        for (header, library, words) in [(3, 2, ["0x3", "0x2", "newer"]), (0x1_0000, 2, ["0x10000", "0x2", "compile"])] {
            let message = serves(header, library).unwrap_err();
            assert!(words.iter().all(|w| message.contains(w)), "{message}");
        }
    }
}
