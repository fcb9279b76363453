//! model.toml, in a folder with files, links that stay and links that lead out. Whatever it says, no path of an opened pack lies outside.
#![no_main]

use nada::pack::{ModelPack, MANIFEST};
use nada_fuzz::within_limit;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = tempfile::tempdir().expect("a folder").keep();
    std::fs::write(root.join("o.json"), b"{}").expect("a file");
    let pack = root.join("pack");
    let make = || {
        std::fs::create_dir_all(pack.join("d"))?;
        for file in ["g", "d/g", "w.json"] {
            std::fs::write(pack.join(file), br#"{"source":["a"],"filters":{},"templates":["{}"]}"#)?;
        }
        symlink("g", pack.join("l"))?;
        symlink("../o.json", pack.join("o"))?;
        symlink("..", pack.join("u"))?;
        symlink("/", pack.join("r"))?;
        pack.canonicalize()
    };
    make().expect("a pack")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder: &Path = &FOLDER;
    std::fs::write(folder.join(MANIFEST), bytes).expect("a file");
    within_limit(bytes.len(), || {
        let Ok(pack) = ModelPack::open(folder) else { return };
        let clips = pack.clips.iter().map(|c| &c.path);
        let single = [&pack.held_out, &pack.encoder, &pack.attribution].into_iter().flatten();
        for path in clips.chain(single).chain(&pack.boundaries).chain([&pack.generator]) {
            assert!(path.canonicalize().is_ok_and(|p| p.starts_with(folder)), "{} is not in the pack", path.display());
        }
    });
});
