//! The pickle of a torch.save file, in an archive that is whole, with one storage.
#![no_main]

use nada_fuzz::{archive, read_checkpoint};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| read_checkpoint(&archive(&[("a/data.pkl", bytes), ("a/data/0", &[0x3c; 256])])));
