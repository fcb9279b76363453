//! Pickles with their storages inside, and generators in them.
#![no_main]

use nada::checkpoint::{open_bytes_as, Kind};
use nada::nn::generator::Generator;
use nada_fuzz::{read_as, within_limit};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    read_as(bytes, Kind::Pickle);
    let copy = bytes.to_vec();
    within_limit(bytes.len(), || {
        let _ = open_bytes_as("case".as_ref(), copy, Kind::Pickle).and_then(|file| Generator::from_checkpoint(&file));
    });
});
