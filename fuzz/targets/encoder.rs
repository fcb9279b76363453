//! Encoders: their files, and the networks that are made of them, run once on a small picture.
#![no_main]

use nada::checkpoint::open_bytes;
use nada::device::HOST;
use nada::nn::encoders::{Encoder, EncoderFile};
use nada::rng::Rng;
use nada_fuzz::within_limit;

/// A network's maps take the memory of this many bytes a byte of its file: each of its channels is a plane of the picture.
const MAPS: usize = 64;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let copy = bytes.to_vec();
    within_limit(MAPS * bytes.len(), || {
        let Ok(file) = open_bytes("case".as_ref(), copy) else { return };
        let Ok(found) = EncoderFile::from_checkpoint(&file) else { return };
        for key in &found.tensors {
            assert!(found.encoder.contains(key), "{key}");
        }
        let Ok(encoder) = Encoder::from_checkpoint(&file) else { return };
        let input = Rng::new(1).normals(&[1, encoder.input().channels(), 4, 4], HOST).expect("numbers");
        if let Ok(codes) = encoder.encode(&input) {
            assert_eq!(codes.dims(), [1, encoder.rows(), encoder.config().style_dim]);
        }
    });
});
