//! safetensors, and what the library keeps in them: domains and latents.
#![no_main]

use nada::adapt::Domain;
use nada::nn::generator::{Latent, Space};
use nada_fuzz::{file, read_checkpoint, within_limit};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    read_checkpoint(bytes);
    let path = file(bytes);
    within_limit(bytes.len(), || {
        let _ = Domain::open(&path);
        for space in [Space::Z, Space::W, Space::WPlus] {
            let _ = Latent::open(&path, space);
        }
    });
});
