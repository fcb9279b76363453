//! Files that mean harm: model packs that reach for files outside, and what fuzzing found.

use nada::pack::{ModelPack, MANIFEST};
use nada::{checkpoint, Kind};
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
