//! BMP files, with the profiles and notes in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nada_fuzz::read_picture(bytes));
