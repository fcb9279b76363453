//! The pickle of a TorchScript archive that is whole otherwise.
#![no_main]

use nada_fuzz::{archive, read_checkpoint, STORAGES};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let empty_tuple = b"\x80\x02).".as_slice();
    let entries = [("a/data.pkl", bytes), ("a/constants.pkl", empty_tuple)];
    read_checkpoint(&archive(entries.into_iter().chain(STORAGES)));
});
