//! A file of torch.save, zip container and all.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nada_fuzz::read_checkpoint(bytes));
