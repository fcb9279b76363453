//! ICC profiles, in the smallest file that holds one as it is: a BMP of version 5 with one pixel.
#![no_main]

libfuzzer_sys::fuzz_target!(|profile: &[u8]| {
    const HEADER: u32 = 124;
    let mut head = b"BM\0\0\0\0\0\0\0\0".to_vec();
    let numbers = |head: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| head.extend(v.to_le_bytes()));
    // Where the pixel is; size, width, height, one plane of 24 bits, and what may be zero.
    numbers(&mut head, &[14 + HEADER, HEADER, 1, 1, 1 | 24 << 16, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    // PROFILE_EMBEDDED, primaries and gammas; the intent, and where the profile is.
    head.extend(b"DEBM");
    head.extend([0; 48]);
    numbers(&mut head, &[4, HEADER + 4, profile.len() as u32, 0]);
    nada_fuzz::read_picture(&[head.as_slice(), &[10, 20, 30, 0], profile].concat());
});
