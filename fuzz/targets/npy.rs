//! numpy arrays.
#![no_main]

use nada_fuzz::{file, within_limit};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = file(bytes);
    within_limit(bytes.len(), || {
        let _ = nada::checkpoint::read_npy(&path);
    });
});
