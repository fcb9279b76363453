//! Files that mean harm: model packs that reach for files outside, and what fuzzing found.

#[path = "common/zip.rs"]
mod archive;
#[path = "common/counting.rs"]
mod counting;

use counting::peak;
use nada::adapt::Domain;
use nada::nn::clip::Clip;
use nada::nn::encoders::EncoderFile;
use nada::nn::generator::{Generator, Latent, Space};
use nada::pack::{ModelPack, NewPack, MANIFEST};
use nada::picture::Picture;
use nada::progress::Cancel;
use nada::{checkpoint, Kind};
use std::fmt::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// A pack beside a file that is not its own.
fn pack(root: &Path) -> PathBuf {
    let pack = root.join("pack");
    std::fs::create_dir_all(pack.join("sub")).unwrap();
    std::fs::write(pack.join("g"), b"").unwrap();
    std::fs::write(pack.join("sub/g"), b"").unwrap();
    std::fs::create_dir(root.join("out")).unwrap();
    std::fs::write(root.join("out/secret"), b"{}").unwrap();
    symlink("../out/secret", pack.join("file_link")).unwrap();
    symlink("../out", pack.join("folder_link")).unwrap();
    symlink("g", pack.join("inner_link")).unwrap();
    symlink("loop", pack.join("loop")).unwrap();
    symlink("missing", pack.join("dangling")).unwrap();
    pack
}

#[test]
fn no_path_of_a_manifest_leaves_the_pack() {
    let root = tempfile::tempdir().unwrap();
    let pack = pack(root.path());
    let absolute = root.path().join("out/secret").display().to_string();
    let write = |text: String| std::fs::write(pack.join(MANIFEST), text).unwrap();
    let bad =
        ["../out/secret", "sub/../../out/secret", &absolute, "file_link", "folder_link/secret", "folder_link", "loop", "dangling", "", "/"];
    let good = ["g", "./g", "sub/g", "inner_link"];
    let keys = |path: &str| {
        let head = "name = 'p'\nresolution = 64\n";
        let g = format!("{head}generator = 'g'\n");
        [
            format!("{head}generator = '{path}'\n"),
            format!("{g}encoder = '{path}'\n"),
            format!("{g}held_out = '{path}'\n"),
            format!("{g}attribution = '{path}'\n"),
            format!("{g}boundaries = ['g', '{path}']\n"),
            format!("{g}words = '{path}'\n"),
            format!("{g}[[clip]]\npath = '{path}'\n"),
        ]
    };
    for path in bad {
        for text in keys(path) {
            write(text.clone());
            let e = ModelPack::open(&pack).err().unwrap_or_else(|| panic!("opened: {text}"));
            assert_eq!(e.kind(), Kind::Format, "{text}: {e}");
        }
    }
    for path in good {
        for text in keys(path).into_iter().filter(|t| !t.contains("words") && !t.contains("[[clip]]")) {
            write(text.clone());
            ModelPack::open(&pack).unwrap_or_else(|e| panic!("{text}: {e}"));
        }
    }
}

/// A CLIP's files are found by their names, so a link among them counts as well.
#[test]
fn links_in_a_clip_stay_in_the_pack() {
    let root = tempfile::tempdir().unwrap();
    let pack = pack(root.path());
    let clip = pack.join("clip");
    std::fs::create_dir(&clip).unwrap();
    std::fs::write(pack.join(MANIFEST), "name = 'p'\nresolution = 64\ngenerator = 'g'\n[[clip]]\npath = 'clip'\n").unwrap();
    symlink("../g", clip.join("model.safetensors")).unwrap();
    ModelPack::open(&pack).unwrap();
    symlink("../../out/secret", clip.join("config.json")).unwrap();
    let e = ModelPack::open(&pack).unwrap_err();
    assert!(e.to_string().contains("config.json") && e.to_string().contains("clip 1 path"), "{e}");
}

#[test]
fn the_manifest_itself_is_in_the_pack_and_small() {
    let root = tempfile::tempdir().unwrap();
    let pack = pack(root.path());
    let manifest = pack.join(MANIFEST);
    symlink("../out/secret", &manifest).unwrap();
    assert!(ModelPack::open(&pack).unwrap_err().to_string().contains("leads out of the pack"));
    std::fs::remove_file(&manifest).unwrap();
    let good = "name = 'p'\nresolution = 64\ngenerator = 'g'\n";
    std::fs::write(&manifest, format!("{good}#{}", "x".repeat(1 << 20))).unwrap();
    assert!(ModelPack::open(&pack).unwrap_err().to_string().contains("at most"));
    std::fs::write(&manifest, format!("{good}description = '{}'", "x".repeat(100_000))).unwrap();
    ModelPack::open(&pack).unwrap();
    std::fs::write(&manifest, [good.as_bytes(), b"\xff\xfe"].concat()).unwrap();
    ModelPack::open(&pack).unwrap_err();
    // Nested as deep as the file is long.
    for open in ["[", "{a="] {
        std::fs::write(&manifest, format!("{good}recipe = {}", open.repeat(50_000))).unwrap();
        ModelPack::open(&pack).unwrap_err();
    }
}

/// Opening a pipe waits for its other end, for ever.
#[test]
fn pipes_are_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let pack = pack(root.path());
    let pipe = |name: &str| {
        let path = std::ffi::CString::new(pack.join(name).into_os_string().into_encoded_bytes()).unwrap();
        // SAFETY: a C string that lives through the call.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    };
    pipe("pipe");
    std::fs::write(pack.join(MANIFEST), "name = 'p'\nresolution = 64\ngenerator = 'pipe'\n").unwrap();
    let (send, receive) = mpsc::channel();
    let within_a_minute = |work: Box<dyn FnOnce() -> nada::Result<()> + Send>| {
        let send = send.clone();
        std::thread::spawn(move || send.send(work().map_err(|e| e.to_string())));
        receive.recv_timeout(Duration::from_secs(60)).expect("waits for a pipe")
    };
    let open = |folder: PathBuf| within_a_minute(Box::new(move || ModelPack::open(&folder).map(|_| ())));
    let file = pack.join("pipe");
    let e = within_a_minute(Box::new(move || nada::checkpoint::open(&file).map(|_| ()))).unwrap_err();
    assert!(e.contains("is a pipe"), "{e}");
    let e = open(pack.clone()).unwrap_err();
    assert!(e.contains("neither an ordinary file nor a folder"), "{e}");
    type Open = fn(&Path) -> nada::Result<()>;
    let others: [(&str, Open); 4] = [
        ("picture", |path| Picture::open(path).map(drop)),
        ("latent", |path| Latent::open(path, Space::W).map(drop)),
        ("array", |path| checkpoint::read_npy(path).map(drop)),
        ("CLIP", |path| Clip::open(path).map(drop)),
    ];
    for (what, open) in others {
        let file = pack.join("pipe");
        let e = within_a_minute(Box::new(move || open(&file))).unwrap_err();
        assert!(e.contains("is a pipe"), "{what}: {e}");
    }
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter/generator.safetensors");
    let new = NewPack { name: "p".into(), generator: starter, boundaries: vec![pack.join("pipe")], ..NewPack::default() };
    let folder = root.path().join("packs");
    let e = within_a_minute(Box::new(move || new.make(&folder, &Cancel::new()).map(drop))).unwrap_err();
    assert!(e.contains("is a pipe"), "{e}");
    std::fs::remove_file(pack.join(MANIFEST)).unwrap();
    pipe(MANIFEST);
    open(pack).unwrap_err();
}

/// Tuples of twice the same tuple: 200 bytes that stand for 2^60 values. (Found by fuzzing: readers that walk a million of them are slow.)
#[test]
fn a_graph_that_doubles_is_not_walked_to_its_end() {
    // A dict with "a", then the empty tuple; 60 times DUP and TUPLE2; SETITEM, STOP.
    let bytes = [&b"\x80\x02}U\x01a)"[..], &b"2\x86".repeat(60), b"s."].concat();
    let e = checkpoint::open_bytes_as(Path::new("double.pkl"), bytes, checkpoint::Kind::Pickle).unwrap_err();
    assert!(e.kind() == Kind::Format && e.to_string().contains("more values than any checkpoint"), "{e}");
}

/// Everything that a file may be taken for is tried, and every tensor read. The message of `checkpoint::open`, or of all of them where it
/// opens the file.
///
/// Panics where this thread holds more than twice the `bytes` of the file and 64 MiB at any time.
fn tried(path: &Path, bytes: usize) -> String {
    let mut messages = String::new();
    let most = peak(|| match checkpoint::open(path) {
        Err(e) => messages = e.to_string(),
        Ok(file) => {
            let tensors = file.keys().try_for_each(|key| file.f32(key, None).map(drop));
            let all = [
                tensors.err(),
                Generator::from_checkpoint(&file).err(),
                EncoderFile::from_checkpoint(&file).err(),
                Domain::from_checkpoint(&file).err(),
                Clip::from_checkpoint(&file).err(),
            ];
            all.iter().flatten().for_each(|e| writeln!(messages, "{e}").unwrap());
        }
    });
    let allowed = 2 * bytes + (64 << 20);
    assert!(most < allowed as isize, "{}: {most} bytes were held, where {allowed} are allowed", path.display());
    messages
}

/// [`tried`] of one file.
fn tried_bytes(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    tried(&path, bytes.len())
}

/// A safetensors file of tensors (name, element type and its size, shape), all ones or zeros.
fn safetensors(tensors: &[(&str, &str, usize, &[usize])], metadata: &str) -> Vec<u8> {
    let (mut header, mut at) = (format!("{{\"__metadata__\":{{{metadata}}}"), 0);
    for (name, dtype, size, shape) in tensors {
        let end = at + size * shape.iter().product::<usize>();
        write!(header, ",\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{at},{end}]}}").unwrap();
        at = end;
    }
    header.push('}');
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; at]].concat()
}

/// Opcodes of a text.
fn text(text: &str) -> Vec<u8> {
    [b"X", (text.len() as u32).to_le_bytes().as_slice(), text.as_bytes()].concat()
}

/// Opcodes of a whole number.
fn number(n: u32) -> Vec<u8> {
    [b"J", n.to_le_bytes().as_slice()].concat()
}

/// Opcodes of the persistent id of storage "0", of floats.
fn storage(numel: u32, old: bool) -> Vec<u8> {
    let end: &[u8] = if old { b"NtQ" } else { b"tQ" };
    [b"(".as_slice(), &text("storage"), b"ctorch\nFloatStorage\n", &text("0"), &text("cpu"), &number(numel), end].concat()
}

const REBUILD: &[u8] = b"ctorch._utils\n_rebuild_tensor_v2\n";

/// Opcodes of a tensor of one element.
fn tensor(old: bool) -> Vec<u8> {
    [REBUILD, b"(", &storage(1, old), b"K\x00K\x01\x85K\x01\x85\x89}tR"].concat()
}

/// A file as torch.save wrote it before 1.6, of five pickles; `waste` stands in each, behind its first opcodes.
fn legacy(graph: &[u8], waste: &[u8]) -> Vec<u8> {
    let pickle = |content: &[u8]| [b"\x80\x02".as_slice(), waste, content, b"."].concat();
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    let (keys, count) = ([b"]".as_slice(), &text("0"), b"a"].concat(), 1u64.to_le_bytes());
    let storage = [0; 4];
    [magic.as_slice(), b"0", waste, b"N.", &pickle(b"M\xe9\x03"), &pickle(b"}"), &pickle(graph), &pickle(&keys), &count, &storage].concat()
}

/// The largest number in a key once was the number of blocks: it overflowed, or took all memory.
#[test]
fn a_number_in_a_key_sizes_nothing() {
    let (image, styles): (&[usize], &[usize]) = (&[1, 3, 3, 3], &[1, 1]);
    for n in ["18446744073709551614", "18446744073709551615", "99999999999999999999", "30000000000", "300000000"] {
        for part in ["body", "styles"] {
            let key = format!("{part}.{n}.x");
            let tensors = [("input_layer.0.weight", "F32", 4, image), ("styles.0.linear.weight", "F32", 4, styles), (&key, "F32", 4, &[1])];
            let e = tried_bytes("encoder.safetensors", &safetensors(&tensors, ""));
            assert!(e.contains("encoder"), "{key}: {e}");
        }
    }
}

/// 64 files, each within what a file may take: 5000 texts of 4 kB, all one in the file.
#[test]
fn many_files_take_no_more_than_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (mut places, mut bytes) = (serde_json::Map::new(), 0);
    for i in 0..64 {
        let (key, name) = (format!("k{i:02}"), format!("part{i:02}.bin"));
        let again = b"h\x05".repeat(1000);
        let mut graph =
            [b"}(".as_slice(), &text(&key), &tensor(true), &text("m"), b"](", &text(&"x".repeat(4096)), b"q\x05", &again, b"e"].concat();
        for list in ["n0", "n1", "n2", "n3"] {
            graph.extend([&text(list), b"](".as_slice(), &again, b"e"].concat());
        }
        graph.extend(b"u");
        let file = legacy(&graph, b"");
        bytes += file.len();
        std::fs::write(path(&name), file).unwrap();
        places.insert(key, name.into());
    }
    let index = serde_json::json!({"weight_map": places}).to_string();
    std::fs::write(path("model.index.json"), &index).unwrap();
    let e = tried(&path("model.index.json"), bytes + index.len());
    assert!(e.contains("more values than any checkpoint"), "{e}");
}

/// Tensors without strides: each file is within its limit, all are not.
#[test]
fn many_files_of_broadcast_tensors_take_no_more_than_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut places, mut bytes) = (serde_json::Map::new(), 0);
    for i in 0..24 {
        let (key, name) = (format!("k{i:02}"), format!("part{i:02}.bin"));
        // 2^20 elements are always allowed: 4 MB a file, of which the first twelve fit.
        let wide = [REBUILD, b"(", &storage(1, true), b"K\x00", &number(1 << 20), b"\x85K\x00\x85\x89}tR"].concat();
        let file = legacy(&[b"}(".as_slice(), &text(&key), &wide, b"u"].concat(), b"");
        bytes += file.len();
        std::fs::write(folder.path().join(&name), file).unwrap();
        places.insert(key, name.into());
    }
    let index = serde_json::json!({"weight_map": places}).to_string();
    let path = folder.path().join("model.index.json");
    std::fs::write(&path, &index).unwrap();
    let e = tried(&path, bytes + index.len());
    assert!(e.contains("tensors that take 100663296 bytes altogether"), "{e}");
}

/// Numbers in long lists and pairs of dicts under keys that are no names are passed over, but not for ever.
#[test]
fn what_is_passed_over_is_counted() {
    let nothing = b"N".repeat(100_000);
    let again = b"h\x01".repeat(3000);
    let list = [b"](".as_slice(), &nothing, b"eq\x01a("].concat();
    let dict = [b"}q\x01(".as_slice(), &nothing, b"ua("].concat();
    let described =
        [b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n}(".as_slice(), &nothing, &text("state"), b"}u\x85Rq\x01a("].concat();
    for (what, first) in [("list", list), ("dict", dict), ("description", described)] {
        let e = tried_bytes("case.pkl", &[b"\x80\x02]q\x00", first.as_slice(), &again, b"e."].concat());
        assert!(e.contains("more values than any checkpoint"), "{what}: {e}");
    }
}

/// A compressed storage can only be read from its beginning: 3000 tensors at its end would inflate 180 GB.
#[test]
fn a_compressed_storage_is_not_inflated_without_end() {
    let elements = 15_000_000u32;
    let mut pickle = b"\x80\x02}(".to_vec();
    for i in 0..3000 {
        let (again, first) = (b"j\x01\0\0\0".to_vec(), [&storage(elements, false), b"r\x01\0\0\0".as_slice()].concat());
        let storage = if i == 0 { first } else { again };
        pickle
            .extend([&text(&format!("s.{i}")), REBUILD, b"(", &storage, &number(elements - 1 - i), b"K\x01\x85K\x01\x85\x89}tR"].concat());
    }
    pickle.extend(b"u.");
    // 2 kB that do not compress in every 64 kB: else the entry grows more than any is allowed to.
    let next = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    let noise: Vec<u8> = std::iter::successors(Some(1u64), next).map(|state| (state >> 56) as u8).take(2048).collect();
    let block = [noise, vec![0; 63 << 10]].concat();
    let data: Vec<u8> = block.into_iter().cycle().take(elements as usize * 4).collect();
    let bytes = archive::zip(&[("a/data.pkl", &pickle, false), ("a/data/0", &data, true)]);
    let e = tried_bytes("deflated.pt", &bytes);
    assert!(e.contains("would inflate"), "{e}");
}

/// The old format has five pickles, and memory is for all together.
#[test]
fn pickles_of_one_file_share_what_it_may_take() {
    let graph = [b"}".as_slice(), &text("a"), &tensor(true), b"s"].concat();
    let whole = legacy(&graph, b"");
    assert!(checkpoint::open_bytes(Path::new("whole.pt"), whole).unwrap().contains("a"));
    // Dicts of one pair that nothing refers to.
    for n in [5_000, 100_000, 400_000] {
        let e = tried_bytes("waste.pt", &legacy(&graph, &b"}NNs0".repeat(n)));
        assert!(e.contains("needs far more memory than a checkpoint of its size"), "{n}: {e}");
    }
}

#[test]
fn metadata_of_safetensors_is_bounded() {
    let short: Vec<String> = (0..700_000).map(|i| format!("\"{i:x}\":\"\"")).collect();
    let e = tried_bytes("metadata.safetensors", &safetensors(&[("a", "F32", 4, &[1])], &short.join(",")));
    assert!(e.contains("more texts in __metadata__"), "{e}");
}

/// A byte becomes four.
#[test]
fn bytes_do_not_grow_beyond_what_their_file_allows() {
    let n: &[usize] = &[10_000_000];
    let names: Vec<String> = (0..10).map(|i| format!("s.{i}")).collect();
    let tensors: Vec<_> = names.iter().map(|name| (name.as_str(), "U8", 1, n)).collect();
    let e = tried_bytes("bytes.safetensors", &safetensors(&tensors, "\"format\":\"nada domain 1\""));
    assert!(e.contains("tensors that take 400000000 bytes altogether"), "{e}");
}

/// What stands beside a CLIP is small.
#[test]
fn texts_beside_a_clip_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let key = "vision_model.embeddings.patch_embedding.weight";
    let tokens = "text_model.embeddings.token_embedding.weight";
    let file = safetensors(&[(key, "F32", 4, &[1, 3, 8, 8]), (tokens, "F32", 4, &[2, 1])], "");
    std::fs::write(path("model.safetensors"), &file).unwrap();
    std::fs::File::create(path("config.json")).unwrap().set_len(1 << 30).unwrap();
    let e = tried(&path("model.safetensors"), file.len());
    assert!(e.contains("config.json") && e.contains("has 1073741824 bytes"), "{e}");
}

/// Blocks are numbered by their keys, and were looked for among all of them: a file of many took minutes to be looked at.
#[test]
fn many_keys_take_no_more_than_their_number() {
    let numbered = |first: &[(&'static str, &'static [usize])], name: &dyn Fn(usize) -> String| -> Vec<u8> {
        let names: Vec<String> = (0..50_000).map(name).collect();
        let named = names.iter().map(|name| (name.as_str(), "F32", 4, &[1usize, 1][..]));
        let first = first.iter().map(|(name, shape)| (*name, "F32", 4, *shape));
        safetensors(&first.chain(named).collect::<Vec<_>>(), "")
    };
    let encoder = [("input_layer.0.weight", &[1usize, 3, 3, 3][..]), ("styles.0.linear.weight", &[1, 1])];
    let clip = [("visual.conv1.weight", &[2usize, 3, 2, 2][..]), ("token_embedding.weight", &[2, 2])];
    let begin = std::time::Instant::now();
    tried_bytes("encoder.safetensors", &numbered(&encoder, &|i| format!("body.{i}.x")));
    tried_bytes("clip.safetensors", &numbered(&clip, &|i| format!("transformer.resblocks.{i}.x")));
    let projected = checkpoint::open_bytes(Path::new("projected.safetensors"), numbered(&[], &|i| format!("{i}.latent"))).unwrap();
    assert_eq!(Latent::describe(&projected).unwrap().shape, [50_000, 1, 1]);
    // A quadratic search is a billion comparisons or more for each.
    let seconds = begin.elapsed().as_secs_f64();
    assert!(seconds < 30.0, "{seconds:.1} s");
}
