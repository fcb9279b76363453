//! torch.save's format from before 1.6.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nada_fuzz::read_as(bytes, nada::checkpoint::Kind::TorchLegacy));
