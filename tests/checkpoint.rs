//! Files of every supported format against what PyTorch read from them, and files that mean harm.

mod common;
#[path = "common/counting.rs"]
mod counting;

use candle_core::{DType, Device, Tensor};
use common::{close, data, reference};
use counting::peak;
use nada::checkpoint::{self, open, Checkpoint, Dtype, Format};
use nada::{Error, Kind};
use std::collections::BTreeMap;
use std::path::Path;

fn load(name: &str) -> Checkpoint {
    open(&data(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn error(path: &Path) -> Error {
    match open(path) {
        Ok(_) => panic!("{} was read", path.display()),
        Err(e) => e,
    }
}

/// Writes `bytes` into a file of its own and opens it.
fn open_bytes(folder: &Path, bytes: &[u8]) -> nada::Result<Checkpoint> {
    let path = folder.join("case");
    std::fs::write(&path, bytes).unwrap();
    open(&path)
}

#[test]
fn every_tensor_reads_as_pytorch_reads_it() {
    let expected = load("expected.safetensors");
    assert_eq!(expected.format, Format::Safetensors);
    let mut compared = 0;
    for (name, file) in [("trainer", "trainer.pt"), ("views", "views.pt"), ("views", "views_deflated.pt"), ("script", "script.pt")] {
        let have = load(file);
        let want = expected.with_prefix(&format!("{name}."));
        for key in want.keys() {
            assert_eq!(have.shape(key), want.shape(key), "{file}: {key}");
            assert_eq!(have.dtype(key), want.dtype(key), "{file}: {key}");
            close(&format!("{file}: {key}"), &have.tensor(key).unwrap(), &want.tensor(key).unwrap(), 0.0, 0.0);
            let shape = want.shape(key).unwrap();
            close(&format!("{file}: {key} as f32"), &have.f32(key, Some(shape)).unwrap(), &want.f32(key, None).unwrap(), 0.0, 0.0);
            compared += 1;
        }
        if name != "trainer" {
            assert_eq!(have.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{file}");
        }
    }
    assert_eq!(compared, 3 * 3 + 1 + 2 * 18 + 4);
    let slice = load("protocol4.pt").f32("a.b", Some(&[2, 2, 3])).unwrap();
    close("protocol 4", &slice, &expected.f32("views.slice", None).unwrap(), 0.0, 0.0);
    // What the values are, once without another file of ours in between: (20 i + 5 j + k) / 7 at [1.., ::2, 1..4].
    let want: Vec<f32> = [21, 22, 23, 31, 32, 33, 41, 42, 43, 51, 52, 53].iter().map(|&n| n as f32 / 7.0).collect();
    assert_eq!(slice.flatten_all().unwrap().to_vec1::<f32>().unwrap(), want);
}

/// An archive whose first entry's header is as long as its zip64 end records: 76 bytes.
#[test]
fn archives_with_names_of_21_characters_are_read() {
    let file = load("twenty_one_characters.pt");
    assert_eq!(file.f32("weight", Some(&[2])).unwrap().to_vec1::<f32>().unwrap(), [1.0, 1.0]);
}

#[test]
fn trainer_layout_has_networks_and_plain_values() {
    let file = load("trainer.pt");
    assert_eq!(file.format, Format::TorchZip);
    let g_ema = file.with_prefix("g_ema.");
    assert_eq!(g_ema.keys().collect::<Vec<_>>(), ["conv.bias", "conv.weight", "linear.weight"]);
    assert_eq!(g_ema.shape("conv.weight"), Some(&[3, 2, 3, 3][..]));
    assert!(g_ema.contains("linear.weight") && !g_ema.contains("g_ema.linear.weight") && !file.contains("linear.weight"));
    // Two views in a row are one view.
    assert!(file.with_prefix("g_ema.").with_prefix("conv.").contains("bias"));
    for (key, value) in [
        ("args.size", "64"),
        ("args.path", "lmdb"),
        ("args.augment", "false"),
        ("ada_aug_p", "0.25"),
        ("g_optim.param_groups.0.lr", "0.002"),
    ] {
        assert_eq!(file.metadata.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[test]
fn script_archive_has_the_names_of_a_state_dict() {
    let file = load("script.pt");
    assert_eq!(file.format, Format::TorchScript);
    assert_eq!(file.keys().collect::<Vec<_>>(), ["blocks.0.steps", "blocks.0.weight", "blocks.1.bias", "blocks.1.weight"]);
    assert_eq!(file.dtype("blocks.0.weight"), Some(Dtype::F16));
    assert_eq!(file.metadata.get("scale").map(String::as_str), Some("1.5"));
}

#[test]
fn getter_names_file_key_and_what_is_wrong() {
    let file = load("trainer.pt");
    let message = |e: Error| {
        assert_eq!(e.kind(), Kind::Format);
        e.to_string()
    };
    let e = message(file.f32("g_ema.conv.wieght", None).unwrap_err());
    assert!(e.contains("trainer.pt") && e.contains("'g_ema.conv.wieght'") && e.contains("nearest there: 'g_ema.conv.weight'"), "{e}");
    let e = message(file.f32("conv.weight", None).unwrap_err());
    assert!(e.contains("'d.conv.weight', 'g.conv.weight', 'g_ema.conv.weight'"), "{e}");
    let e = message(file.f32("something_else_entirely", None).unwrap_err());
    assert!(!e.contains("nearest"), "{e}");
    let e = message(file.with_prefix("g_ema.").f32("conv.bias", Some(&[4])).unwrap_err());
    assert!(e.contains("'g_ema.conv.bias' has shape [3], where [4] is needed"), "{e}");
    let bad = load("nan.pt");
    let e = message(bad.f32("weight", None).unwrap_err());
    assert!(e.contains("'weight' is not finite: NaN at element 1, 1 such values in 2"), "{e}");
    let e = message(bad.f32("inf", None).unwrap_err());
    assert!(e.contains("'inf' is not finite: inf at element 1"), "beyond f32: {e}");
}

#[test]
fn a_name_that_is_not_on_the_list_is_refused_and_nothing_runs() {
    for (file, name) in [("call.pt", "posix.system"), ("module.pt", "__main__.Inner")] {
        let e = error(&data(file));
        assert_eq!(e.kind(), Kind::Unsupported);
        assert!(e.to_string().contains(name) && e.to_string().contains(file) && e.to_string().contains("state_dict"), "{e}");
    }
    assert!(!Path::new("pwned").exists() && !data("pwned").exists());
}

#[test]
fn other_files_are_called_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let zip = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut tar = vec![0u8; 512];
    tar[..4].copy_from_slice(b"name");
    tar[257..262].copy_from_slice(b"ustar");
    let mut truncated = std::fs::read(data("expected.safetensors")).unwrap();
    truncated.truncate(truncated.len() / 2);
    let cases: &[(&[u8], &str, Kind)] = &[
        (b"", "empty file", Kind::Format),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG picture", Kind::Format),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG picture", Kind::Format),
        (b"\n <!DOCTYPE html><html>", "web page", Kind::Format),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer", Kind::Format),
        (b"\x93NUMPY\x01\x00", "numpy array", Kind::Format),
        (b"{\"a\": 1}", "JSON", Kind::Format),
        (b"just words", "text", Kind::Format),
        (b"\x1f\x8b\x08\0", "gzip", Kind::Format),
        (b"\0\x01\x02\x03", "no format that is known", Kind::Format),
        (zip, "without data.pkl", Kind::Format),
        (&tar, "tar archive", Kind::Format),
        (b"PK\x03\x04rest", "truncated or damaged zip", Kind::Format),
        (&truncated, "truncated", Kind::Format),
        (b"\x80\x04\x95\x01\0\0\0\0\0\0\0N.", "without a PyTorch tensor", Kind::Format),
    ];
    for (bytes, message, kind) in cases {
        let e = open_bytes(folder.path(), bytes).unwrap_err();
        assert!(e.to_string().contains(message), "{message}: {e}");
        assert!(e.to_string().contains("case"), "the file is named: {e}");
        assert_eq!(e.kind(), *kind, "{e}");
    }
    let legacy = load("legacy.pt");
    assert_eq!((legacy.format, legacy.f32("weight", None).unwrap().to_vec1().unwrap()), (Format::TorchLegacy, vec![1.0f32; 2]));
    assert_eq!(error(&folder.path().join("missing.pt")).kind(), Kind::NotFound);
    assert!(error(folder.path()).to_string().contains("folder"));
}

/// Reads all there is to read, as f32 and as it is.
fn read_all(checkpoint: &Checkpoint) -> bool {
    checkpoint.keys().map(|key| checkpoint.f32(key, None).is_ok() & checkpoint.tensor(key).is_ok()).fold(true, |all, ok| all & ok)
}

const CORPUS: [&str; 12] = [
    "trainer.pt",
    "views.pt",
    "views_deflated.pt",
    "protocol4.pt",
    "script.pt",
    "call.pt",
    "expected.safetensors",
    "legacy.pt",
    "formats/trainer_legacy.pt",
    "formats/ada.pkl",
    "formats/stylegan3_repository.pkl",
    "formats/arrays.npz",
];

/// The most that reading a broken copy of these files (at most 47 kB) may hold: pieces of 128 KiB, the 1 MiB that any compressed entry may
/// grow by, as f32 from bytes and beside its bytes, and the graphs of such pickles.
const ALLOWANCE: isize = 12 << 20;

#[test]
fn truncated_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    for name in CORPUS {
        let bytes = std::fs::read(data(name)).unwrap();
        for n in (0..bytes.len()).step_by(37.max(bytes.len() / 200)).chain(bytes.len().saturating_sub(80)..bytes.len()) {
            let held = peak(|| {
                if let Ok(checkpoint) = open_bytes(folder.path(), &bytes[..n]) {
                    // A zip file may carry bytes after its directory; nothing else survives a cut.
                    panic!("{name} cut to {n} of {} bytes was opened with {} tensors", bytes.len(), checkpoint.keys().count());
                }
            });
            assert!(held < ALLOWANCE, "{name} cut to {n}: {held} bytes");
        }
    }
}

#[test]
fn flipped_bytes_neither_panic_nor_take_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (mut refused, mut read) = (0, 0);
    for name in CORPUS {
        let whole = std::fs::read(data(name)).unwrap();
        // Every third byte (of larger files fewer, of all kinds), with a value that depends on the place; some become the largest number.
        for at in (0..whole.len()).step_by(3.max((whole.len() / 800) | 1)) {
            let mut bytes = whole.clone();
            bytes[at] = if at % 7 == 0 { 0xff } else { bytes[at] ^ (1 << (at % 8)) };
            let held = peak(|| match open_bytes(folder.path(), &bytes) {
                Ok(checkpoint) => {
                    read_all(&checkpoint);
                    read += 1;
                }
                Err(e) => {
                    assert_ne!(e.kind(), Kind::Internal, "{name} byte {at}: {e}");
                    refused += 1;
                }
            });
            assert!(held < ALLOWANCE, "{name} byte {at}: {held} bytes");
        }
    }
    println!("{refused} refused, {read} read");
    assert!(refused > 1000 && read > 1000);
}

/// A stored (or, for a bomb, deflated) zip file.
fn zip(entries: &[(&str, &[u8])], deflate: bool) -> Vec<u8> {
    let entries: Vec<_> = entries.iter().map(|&(name, bytes)| (name, bytes, deflate)).collect();
    common::zip(&entries)
}

/// The pickle of {"t": tensor} with these numbers, as torch.save writes it.
fn tensor_pickle(numel: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let mut p =
        b"\x80\x02}(X\x01\0\0\0tctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ"
            .to_vec();
    p.extend(numel.to_le_bytes());
    p.extend(b"tQJ");
    p.extend(offset.to_le_bytes());
    for numbers in [shape, strides] {
        p.push(b'(');
        for n in numbers {
            p.push(b'J');
            p.extend(n.to_le_bytes());
        }
        p.push(b't');
    }
    p.extend(b"\x89ccollections\nOrderedDict\n)RtRu.");
    p
}

#[test]
fn lies_about_sizes_are_found_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let storage = [0u8; 48]; // 12 f32
    let open_with = |numel, offset, shape: &[i32], strides: &[i32]| {
        open_bytes(folder.path(), &zip(&[("a/data.pkl", &tensor_pickle(numel, offset, shape, strides)), ("a/data/0", &storage)], false))
    };
    // The unchanged case is read, so that the others fail for the reason given.
    let good = open_with(12, 0, &[3, 4], &[4, 1]).unwrap();
    assert!(read_all(&good));
    let max = i32::MAX;
    type Case<'a> = (i32, i32, &'a [i32], &'a [i32], &'a str);
    let cases: &[Case] = &[
        (12, 1, &[3, 4], &[4, 1], "reach beyond their storage"),
        (12, 0, &[3, 4], &[5, 1], "reach beyond their storage"),
        (6, 0, &[3, 4], &[4, 1], "reach beyond their storage"),
        (max, 0, &[3, 4], &[4, 1], "storage '0' is declared with 2147483647 elements"),
        (12, 0, &[max, max], &[0, 0], "more elements than the file has bytes"),
        (12, 0, &[max, max, max], &[0, 0, 0], "too large"),
        (12, 0, &[max, max, max, 0], &[0, 0, 0, 0], "too large"),
        (12, max, &[1], &[1], "reach beyond their storage"),
        (12, 0, &[-1], &[1], "shape is not a tuple of numbers"),
        (12, 0, &[3, 4], &[-4, 1], "strides are not a tuple of numbers"),
        (12, 0, &[3, 4], &[4], "1 strides for 2 dimensions"),
        (12, 0, &[1; 17], &[1; 17], "17 dimensions"),
    ];
    for (numel, offset, shape, strides, message) in cases {
        let mut text = String::new();
        let held = peak(|| text = open_with(*numel, *offset, shape, strides).unwrap_err().to_string());
        assert!(text.contains(message) && text.contains("'t'"), "{message}: {text}");
        assert!(held < 1 << 20, "{message}: {held} bytes");
    }
    let missing = open_bytes(folder.path(), &zip(&[("a/data.pkl", &tensor_pickle(12, 0, &[12], &[1]))], false)).unwrap_err();
    assert!(missing.to_string().contains("no entry 'a/data/0'"), "{missing}");

    // A megabyte of zeros in a kilobyte is read, a gigabyte's worth of ratio is not.
    let bomb = vec![0u8; 64 << 20];
    let bytes = zip(&[("a/data.pkl", &tensor_pickle(16 << 20, 0, &[16 << 20], &[1])), ("a/data/0", &bomb)], true);
    drop(bomb);
    let mut text = String::new();
    let held = peak(|| text = open_bytes(folder.path(), &bytes).unwrap_err().to_string());
    assert!(text.contains("claims to grow"), "{text}");
    assert!(held < 2 << 20, "{held} bytes");

    // safetensors: offsets, shapes, overlaps, gaps, twice the same key.
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    let one = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    assert!(open_bytes(folder.path(), &file(&format!("{one}}}"), 8)).is_ok());
    let cases = [
        (format!("{one}}}"), 7, "truncated"),
        (format!("{one}}}"), 9, "has 9 bytes of data, where the header declares 8"),
        (format!(r#"{one},"b":{{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}}}"#), 12, "begins at byte 4"),
        (format!(r#"{one},"b":{{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}}}"#), 20, "begins at byte 12"),
        (format!(r#"{one},"a":{{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}}}"#), 16, "occurs twice"),
        (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#.into(), 8, "reach beyond"),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#.into(), 8, "takes 4 bytes and 8 are given"),
        (r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#.into(), 8, "too large"),
        (r#"{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}"#.into(), 8, "F8_E4M3 is not supported"),
        (r#"{"a":{"dtype":"F32""#.into(), 8, "damaged safetensors header"),
        ("{".to_string() + &"\"a\":[".repeat(100_000), 0, "damaged safetensors header"),
    ];
    for (header, data, message) in cases {
        let e = open_bytes(folder.path(), &file(&header, data)).unwrap_err();
        assert!(e.to_string().contains(message), "{message}: {e}");
    }
}

/// What a small file may cost, as the module says: 64 MiB (and twice its size).
const LIMIT: isize = 64 << 20;

#[test]
fn no_table_of_contents_takes_more_than_twice_the_file_and_64_mib() {
    let check = |name: &str, bytes: Vec<u8>| {
        let len = bytes.len() as isize;
        let mut result = None;
        // The copy that is handed over counts as the file's own.
        let held = peak(|| result = Some(checkpoint::open_bytes(Path::new("case"), bytes).map(drop)));
        println!(
            "{name}: {len} bytes, {held} held, {:?}",
            result.map(|r| r.map_err(|e| e.to_string().chars().take(120).collect::<String>()))
        );
        assert!(held < LIMIT + 2 * len, "{name}: {held} bytes for {len}");
    };
    let safetensors = |header: String, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.into_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    let list = |n: usize, one: &dyn Fn(usize) -> String| format!("{{{}}}", (0..n).map(one).collect::<Vec<_>>().join(","));
    for n in [60_000, 70_000, 140_000] {
        let header = list(n, &|i| format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#));
        check(&format!("safetensors with {n} tensors"), safetensors(header, 1));
    }
    for n in [60_000, 400_000] {
        let header = format!(r#"{{"__metadata__":{}}}"#, list(n, &|i| format!(r#""{i:x}":"""#)));
        check(&format!("safetensors with {n} lines of metadata"), safetensors(header, 0));
    }
    let numbers = vec!["0"; 4 << 20].join(",");
    check("safetensors with a long shape", safetensors(format!(r#"{{"a":{{"dtype":"U8","shape":[{numbers}],"data_offsets":[0,0]}}}}"#), 0));
    for n in [60_000, 100_000] {
        let names: Vec<String> = (0..n).map(|i| format!("{i:x}.npy")).collect();
        let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        check(&format!("zip with {n} entries"), zip(&entries, false));
    }
    let pickle = |repeated: &[u8], n: usize, end: &[u8]| [b"\x80\x02", repeated.repeat(n).as_slice(), end].concat();
    for (name, one) in [
        ("lists", &b"]"[..]),
        ("marks", b"("),
        ("numbers", b"K\x01"),
        ("none", b"N"),
        ("copies", b"]2"),
        ("memos", b"Nr\xff\xff\xff\x01"),
        ("sets", b"\x8f"),
        ("texts", b"X\x01\0\0\0a"),
        ("objects", b"ccollections\nOrderedDict\n)R"),
    ] {
        check(name, pickle(one, 3_000_000 / one.len(), b"."));
    }
    // One memo for each number.
    let memos: Vec<u8> = (0..600_000u32).flat_map(|i| [&b"r"[..], &i.to_le_bytes()].concat()).collect();
    check("many memos", [b"\x80\x02N", memos.as_slice(), b"."].concat());
    // A million keys in one dict, kept as metadata; a list of numbers.
    let items: Vec<u8> = (0..300_000u32).flat_map(|i| [&b"X\x08\0\0\0"[..], format!("{i:08x}").as_bytes(), b"K\x01"].concat()).collect();
    check("metadata", [b"\x80\x02}(", items.as_slice(), b"u."].concat());
    check("a list of numbers", [b"\x80\x02](".as_slice(), &b"K\x01".repeat(1_000_000), b"e."].concat());
}

#[test]
fn tensors_that_are_larger_than_their_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    // 64 MB of bytes would be 256 MB of f32.
    let n = 64 << 20;
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{n}],"data_offsets":[0,{n}]}}}}"#);
    let path = folder.path().join("bytes.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    std::fs::write(&path, &bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(bytes.len() as u64 + n).unwrap();
    let mut text = String::new();
    let held = peak(|| text = open(&path).unwrap_err().to_string());
    assert!(text.contains("tensors that take 268435456 bytes altogether"), "{text}");
    assert!(held < 1 << 20, "{held}");
    // An array by itself.
    let path = folder.path().join("bytes.npy");
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({n},), }}\n");
    let bytes = [b"\x93NUMPY\x01\x00", (header.len() as u16).to_le_bytes().as_slice(), header.as_bytes()].concat();
    std::fs::write(&path, &bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(bytes.len() as u64 + n).unwrap();
    let held = peak(|| text = checkpoint::read_npy(&path).unwrap_err().to_string());
    assert!(text.contains("needs 268435456 bytes"), "{text}");
    assert!(held < 1 << 20, "{held}");
    // Many tensors that share one storage of 4 MB.
    let mut shared = b"\x80\x02]q\x00(".to_vec();
    for _ in 0..40 {
        let one = tensor_pickle(1 << 20, 0, &[1 << 20], &[1]);
        let start = one.windows(2).position(|w| w == b"ct").unwrap();
        shared.extend(&one[start..one.len() - 2]);
    }
    shared.extend(b"e.");
    let e = open_bytes(folder.path(), &zip(&[("a/data.pkl", &shared), ("a/data/0", &vec![0; 4 << 20])], false)).unwrap_err();
    assert!(e.to_string().contains("tensors that take 167772160 bytes altogether"), "{e}");
}

#[test]
fn pickles_that_grow_without_end_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = |pickle: &[u8]| {
        let mut text = String::new();
        let bytes = zip(&[("a/data.pkl", pickle)], false);
        let held = peak(|| text = open_bytes(folder.path(), &bytes).unwrap_err().to_string());
        (text, held)
    };
    // A list in a list in a list: no recursion in the machine, a limit in the walk.
    let mut nested = b"\x80\x02".to_vec();
    nested.extend(b"]".repeat(50_000));
    nested.extend(b"a".repeat(49_999));
    nested.push(b'.');
    let (text, held) = run(&nested);
    assert!(text.contains("nested deeper"), "{text}");
    assert!(held < LIMIT, "{held} bytes for {}", nested.len());
    // A list that contains itself.
    assert!(run(b"\x80\x02]q\x00h\x00a.").0.contains("nested deeper"));
    // Each list holds the one before it ten times: 10^40 values.
    let mut laughs = b"\x80\x02]q\x00K\x01a".to_vec();
    for i in 0..40u8 {
        laughs.extend([b']', b'q', i + 1, b'(']);
        laughs.extend([b'h', i].repeat(10));
        laughs.push(b'e');
    }
    laughs.push(b'.');
    let (text, held) = run(&laughs);
    assert!(text.contains("more values than any checkpoint"), "{text}");
    assert!(held < LIMIT, "{held} bytes");
    // One opcode of each kind that has nothing to work on.
    for opcode in
        [&b"R"[..], b"b", b"a", b"e", b"s", b"u", b"t", b"\x85", b"\x81", b"\x93", b"h\x05", b"q\x00", b"Q", b"0", b"1", b"2", b"."]
    {
        let (text, _) = run(&[b"\x80\x02", opcode].concat());
        assert!(text.contains("data.pkl: "), "{opcode:?}: {text}");
    }
    // A tuple or list may not be popped from below an open mark.
    assert!(run(b"\x80\x02K\x01K\x02(\x86.").0.contains("empty stack"));
    // A 4 GB string, declared.
    let (text, held) = run(b"\x80\x02X\xff\xff\xff\xffabc.");
    assert!(text.contains("truncated") && held < 1 << 20, "{text} {held}");
}

#[test]
fn what_is_written_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    let device = &Device::Cpu;
    let base = Tensor::arange(0f32, 24f32, device).unwrap().reshape((2, 3, 4)).unwrap();
    let mut tensors = BTreeMap::new();
    tensors.insert("transposed".to_string(), base.transpose(0, 2).unwrap());
    for (name, dtype) in
        [("u8", DType::U8), ("f16", DType::F16), ("bf16", DType::BF16), ("f64", DType::F64), ("i64", DType::I64), ("u32", DType::U32)]
    {
        tensors.insert(name.to_string(), base.to_dtype(dtype).unwrap());
    }
    tensors.insert("scalar \"quoted\" ü".to_string(), Tensor::new(1.5f32, device).unwrap());
    tensors.insert("empty".to_string(), Tensor::zeros((0, 3), DType::F32, device).unwrap());
    let metadata: BTreeMap<String, String> = [("words".to_string(), "a \"sketch\"\nü".to_string())].into();
    std::fs::write(&path, "old").unwrap();
    checkpoint::save_safetensors(&path, &tensors, &metadata).unwrap();
    let back = open(&path).unwrap();
    assert_eq!(*back.metadata, metadata);
    assert_eq!(back.keys().map(String::from).collect::<Vec<_>>(), tensors.keys().cloned().collect::<Vec<_>>());
    for (key, want) in &tensors {
        let have = back.tensor(key).unwrap();
        assert_eq!(have.dtype(), want.dtype(), "{key}");
        close(key, &have, want, 0.0, 0.0);
    }
    // The crate of the format's authors reads it too.
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), tensors.len());
    // Nothing but the file is left, with the rights of any new file.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(folder.path().join("plain"), "").unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("out.safetensors"), mode("plain"));
    }
    // A failure leaves the old file.
    let wrong = [("x".to_string(), Tensor::zeros(2, DType::F8E4M3, device).unwrap())].into();
    assert_eq!(checkpoint::save_safetensors(&path, &wrong, &metadata).unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let nowhere = folder.path().join("no/such/folder.npy");
    assert_eq!(checkpoint::write_npy(&nowhere, &base).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn numpy_files() {
    let thirds = |n: usize, shape: &[usize]| {
        Tensor::from_vec((0..n).map(|i| (i as f64 / 3.0) as f32).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
    };
    // f4 is i / 3 in f32, whose rounding is that of f64 to f32 or one step beside it.
    close("f4", &checkpoint::read_npy(&data("f4.npy")).unwrap(), &thirds(6, &[2, 3]), 0.0, 1e-7);
    close("f8, Fortran order", &checkpoint::read_npy(&data("f8_fortran.npy")).unwrap(), &thirds(24, &[2, 3, 4]), 0.0, 0.0);
    let e = checkpoint::read_npy(&data("big_endian.npy")).unwrap_err();
    assert!(e.to_string().contains("'>f4'"), "{e}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for shape in [vec![], vec![6], vec![2, 3], vec![1, 2, 3], vec![0, 4]] {
        let tensor = thirds(shape.iter().product(), &shape);
        checkpoint::write_npy(&path, &tensor).unwrap();
        close("written", &checkpoint::read_npy(&path).unwrap(), &tensor, 0.0, 0.0);
        assert_eq!(std::fs::read(&path).unwrap().len(), 128 + 4 * tensor.elem_count(), "{shape:?}");
    }
    let bytes = std::fs::read(data("f4.npy")).unwrap();
    for n in 0..bytes.len() {
        std::fs::write(&path, &bytes[..n]).unwrap();
        assert_eq!(checkpoint::read_npy(&path).unwrap_err().kind(), Kind::Format, "cut to {n}");
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        let held = peak(|| drop(checkpoint::read_npy(&path)));
        assert!(held < 1 << 20, "byte {at}: {held}");
    }
}

/// Keys, shapes and element types as layout.json lists them.
fn has_layout(file: &Checkpoint, layout: &serde_json::Value) {
    let layout = layout.as_object().unwrap();
    for (key, entry) in layout {
        let shape: Vec<usize> = serde_json::from_value(entry[0].clone()).unwrap();
        assert_eq!(file.shape(key), Some(&shape[..]), "{}: {key}", file.path.display());
        assert_eq!(file.dtype(key).map(Dtype::name), entry[1].as_str(), "{}: {key}", file.path.display());
    }
    assert_eq!(file.keys().count(), layout.len(), "{}", file.path.display());
    for key in file.keys() {
        file.f32(key, None).unwrap();
    }
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn reference_clips() {
    let folder = reference();
    let folder = folder.join("clip");
    let layout: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("layout.json")).unwrap()).unwrap();
    let script = open(&folder.join("tiny_vit_jit_fp16.pt")).unwrap();
    assert_eq!(script.format, Format::TorchScript);
    has_layout(&script, &layout["tiny_vit_jit"]);
    let resnet = open(&folder.join("tiny_rn_openai_state_dict.pt")).unwrap();
    assert_eq!(resnet.format, Format::TorchZip);
    has_layout(&resnet, &layout["tiny_rn"]);
    let hf = open(&folder.join("tiny_vit_hf/model.safetensors")).unwrap();
    has_layout(&hf, &layout["tiny_vit_hf"]);

    // The same weights stand in both files, under other names.
    let mut compared = 0;
    for (tower, openai, width, layers) in [("vision_model", "visual.transformer", 128, 3), ("text_model", "transformer", 64, 2)] {
        for i in 0..layers {
            let (a, b) = (format!("{openai}.resblocks.{i}."), format!("{tower}.encoder.layers.{i}."));
            for end in ["weight", "bias"] {
                let whole = script.f32(&format!("{a}attn.in_proj_{end}"), None).unwrap();
                for (j, name) in ["q", "k", "v"].iter().enumerate() {
                    let want = hf.f32(&format!("{b}self_attn.{name}_proj.{end}"), None).unwrap();
                    close(name, &whole.narrow(0, j * width, width).unwrap(), &want, 0.0, 0.0);
                    compared += 1;
                }
                for (x, y) in [
                    ("attn.out_proj", "self_attn.out_proj"),
                    ("ln_1", "layer_norm1"),
                    ("ln_2", "layer_norm2"),
                    ("mlp.c_fc", "mlp.fc1"),
                    ("mlp.c_proj", "mlp.fc2"),
                ] {
                    let want = hf.f32(&format!("{b}{y}.{end}"), None).unwrap();
                    close(x, &script.f32(&format!("{a}{x}.{end}"), Some(want.dims())).unwrap(), &want, 0.0, 0.0);
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 5 * 2 * 8);
    for (a, b) in [
        ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
        ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
        ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
        ("logit_scale", "logit_scale"),
    ] {
        close(a, &script.f32(a, None).unwrap(), &hf.f32(b, None).unwrap(), 0.0, 0.0);
    }
    let projection = script.f32("text_projection", Some(&[64, 32])).unwrap();
    close("text_projection", &projection.t().unwrap(), &hf.f32("text_projection.weight", None).unwrap(), 0.0, 0.0);
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn reference_generators() {
    let folder = reference();
    let config = std::fs::read(folder.join("stylegan2_rosinality/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    for (path, prefix) in [("stylegan2_rosinality/tiny64.pt", "g_ema."), ("nada/tiny64_train.pt", "g_ema.")] {
        let file = open(&folder.join(path)).unwrap();
        assert_eq!(file.format, Format::TorchZip);
        let g_ema = file.with_prefix(prefix);
        let keys = config["keys"].as_object().unwrap();
        for (key, shape) in keys {
            let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
            g_ema.f32(key, Some(&shape)).unwrap();
        }
        assert_eq!(g_ema.keys().count(), keys.len());
    }
    let frozen = open(&folder.join("stylegan2_rosinality/tiny64.pt")).unwrap();
    assert_eq!(frozen.shape("latent_avg"), Some(&[64][..]));
    // The first layer's output is the constant itself, which the official code wrote as safetensors.
    let expected = open(&folder.join("stylegan2_rosinality/expected.safetensors")).unwrap();
    let constant = expected.f32("layer.input", None).unwrap().narrow(0, 0, 1).unwrap();
    close("input.input", &frozen.f32("g_ema.input.input", None).unwrap(), &constant, 0.0, 0.0);
}
