//! The pickle of a TorchScript archive that is whole otherwise, with two storages.
#![no_main]

use nada_fuzz::{archive, read_checkpoint};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let storage = [0x3c; 256];
    let constants = b"\x80\x02)."; // an empty tuple
    read_checkpoint(&archive(&[("a/data.pkl", bytes), ("a/constants.pkl", constants), ("a/data/0", &storage), ("a/data/1", &storage)]));
});
