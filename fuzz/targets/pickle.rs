//! The pickle of a torch.save file, in an archive that is whole.
#![no_main]

use nada_fuzz::{archive, read_checkpoint, STORAGES};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let entries = [("a/data.pkl", bytes)];
    read_checkpoint(&archive(entries.into_iter().chain(STORAGES)));
});
