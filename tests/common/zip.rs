//! Zip archives as PyTorch writes them, and compressed ones.

use std::io::Write;

/// An archive of entries, each with its name, its bytes, and whether it is deflated.
pub fn zip(entries: &[(&str, &[u8], bool)]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    let short = |out: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| out.extend(v.to_le_bytes()));
    let long = |out: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| out.extend(v.to_le_bytes()));
    for (name, bytes, deflate) in entries {
        let stored = match deflate {
            true => {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            false => bytes.to_vec(),
        };
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let at = archive.len() as u32;
        // Version 2.0, no flags, the method, no time, CRC, sizes, length of the name, nothing extra.
        let mut both = Vec::new();
        short(&mut both, &[20, 0, if *deflate { 8 } else { 0 }, 0, 0]);
        long(&mut both, &[crc.sum(), stored.len() as u32, bytes.len() as u32]);
        short(&mut both, &[name.len() as u16, 0]);
        archive.extend(b"PK\x03\x04");
        archive.extend(&both);
        archive.extend(name.as_bytes());
        archive.extend(stored);
        directory.extend(b"PK\x01\x02");
        short(&mut directory, &[20]);
        directory.extend(&both);
        short(&mut directory, &[0, 0, 0]);
        long(&mut directory, &[0, at]);
        directory.extend(name.as_bytes());
    }
    let (count, at, size) = (entries.len() as u16, archive.len() as u32, directory.len() as u32);
    archive.extend(directory);
    archive.extend(b"PK\x05\x06");
    short(&mut archive, &[0, 0, count, count]);
    long(&mut archive, &[size, at]);
    short(&mut archive, &[0]);
    archive
}
