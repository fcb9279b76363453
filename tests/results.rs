//! Where the program's results go: nothing that was there is lost. Cases X01, X02, X04, X05, X08 and C12.

mod common;

use common::program::{bytes, error, here, json, nada, run, PACK};
use nada::adapt::Domain;
use nada::checkpoint::{self, read_npy};
use nada::picture::Picture;
use std::io::Read;
use std::path::Path;
use std::process::Output;

/// A step on the small pack, with more arguments.
fn adapt(folder: &Path, arguments: &[&str]) -> Output {
    run(folder, &[&["adapt", "--steps", "1", "--batch", "2", "--no-stop", "--model", PACK][..], arguments].concat())
}

/// X01. A file that an option of the call reads is never written, and a sheet that nobody asked for takes a name that is free.
#[test]
fn pictures_of_the_user_are_never_written_over() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    let face = bytes(&common::data("face.png"));
    ["face.png", "sketch.png", "sketch-before-after.png"].iter().for_each(|name| std::fs::write(at(name), &face).unwrap());
    let unchanged = || ["face.png", "sketch.png", "sketch-before-after.png"].iter().all(|name| bytes(&at(name)) == face);

    let out = adapt(folder.path(), &["--target-picture", "sketch.png"]);
    assert!(out.status.success() && unchanged(), "{}", error(&out));
    assert!(at("sketch.nada.safetensors").exists() && at("sketch-before-after-2.png").exists());
    let out = adapt(folder.path(), &["face"]);
    assert!(out.status.success() && unchanged(), "{}", error(&out));
    assert!(at("face.nada.safetensors").exists() && at("face-before-after.png").exists());

    // Not even where replacing is asked for.
    let domain = "face.nada.safetensors";
    std::os::unix::fs::symlink("face.png", at("linked.png")).unwrap();
    let quick = ["--invert-steps", "1", "--model", PACK, "--force"];
    for arguments in [
        &["restyle", "face.png", "--domain", domain, "-o", "face.png"][..],
        &["restyle", "face.png", "--domain", domain, "-o", "linked.png"],
        &["restyle", "linked.png", "--domain", domain, "-o", "./face.png"],
        &["restyle", "face.png", "--domain", domain, "--sheet", "face.png"],
        &["restyle", "face.png", "--domain", domain, "--save-latent", domain],
        &["invert", "face.png", "--sheet", "face.png"],
        &["invert", "face.png", "--clip", domain, "-o", domain],
    ] {
        let out = run(folder.path(), &[arguments, &quick].concat());
        assert!(out.status.code() == Some(1) && error(&out).contains("which this call reads"), "{arguments:?}: {}", error(&out));
    }
    // A copy: where the rule did not hold, its generator would be gone.
    common::program::pack_with_recipe(&at("pack"), "steps = 1\nbatch = 2");
    let pack = at("pack").to_str().unwrap().to_string();
    let pack = pack.as_str();
    for arguments in [
        &["adapt", "--target-picture", "sketch.png", "--sheet", "sketch.png"][..],
        &["adapt", "a", "--model", pack, "-o", &format!("{pack}/generator.safetensors")],
        &["convert", &format!("{pack}/generator.safetensors"), &format!("{pack}/generator.safetensors"), "--to", "nada"],
        &["convert", &format!("{pack}/model.toml"), &format!("{pack}/generator.safetensors"), "--to", "nada"],
        &["convert", pack, &format!("{pack}/generator.safetensors"), "--to", "nada"],
        &["eval", "--domain", domain, "--sheet", "linked.png", "--clip", "face.png"],
        &["clip", "--picture", "face.png", "--text", "a", "--clip", domain, "-o", domain],
        &["render", "--latents", domain, "--out-npy", "x.npy", "--sheet", "linked.png", "--domain", "face.png"],
    ] {
        let out = run(folder.path(), &[arguments, &["--force"]].concat());
        assert!(out.status.code() == Some(1) && error(&out).contains("which this call reads"), "{arguments:?}: {}", error(&out));
    }
    assert!(unchanged() && Domain::open(&at(domain)).is_ok());
}

/// X02. Links stay links, pipes and devices are written to, a replaced file keeps its mode.
#[test]
fn links_pipes_devices_and_modes_stay() {
    use std::os::unix::fs::{symlink, FileTypeExt, PermissionsExt};
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    let sample = |arguments: &[&str]| run(folder.path(), &[&["sample", "-n", "1", "--model", PACK, "-o"][..], arguments].concat());
    std::fs::create_dir(at("real")).unwrap();
    symlink("real/target.png", at("link.png")).unwrap();
    let out = sample(&["link.png"]);
    assert!(out.status.success(), "{}", error(&out));
    assert!(at("link.png").symlink_metadata().unwrap().is_symlink());
    assert_eq!(Picture::open(&at("real/target.png")).unwrap().width, 32);

    let make = |name: &str, kind: u32, device: u64| {
        let path = std::ffi::CString::new(at(name).into_os_string().into_encoded_bytes()).unwrap();
        // SAFETY: a path that ends with NUL.
        unsafe { libc::mknod(path.as_ptr(), kind | 0o600, device) == 0 }
    };
    assert!(make("pipe", libc::S_IFIFO, 0));
    let pipe = at("pipe");
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        std::fs::File::open(pipe).unwrap().read_to_end(&mut all).unwrap();
        all
    });
    let out = sample(&["pipe"]);
    assert!(out.status.success(), "{}", error(&out));
    assert!(at("pipe").symlink_metadata().unwrap().file_type().is_fifo());
    assert_eq!(reader.join().unwrap(), bytes(&at("real/target.png")));
    // Only root makes devices; where the tests run as another user /dev/null itself is safe to try.
    let null = if make("nul", libc::S_IFCHR, libc::makedev(1, 3)) { at("nul") } else { "/dev/null".into() };
    let out = sample(&[null.to_str().unwrap()]);
    assert!(out.status.success(), "{}", error(&out));
    assert!(null.symlink_metadata().unwrap().file_type().is_char_device());

    std::fs::write(at("p.png"), b"old").unwrap();
    std::fs::set_permissions(at("p.png"), PermissionsExt::from_mode(0o640)).unwrap();
    assert!(!sample(&["p.png"]).status.success());
    assert_eq!(bytes(&at("p.png")), b"old");
    assert!(sample(&["p.png", "--force"]).status.success());
    assert_eq!(at("p.png").metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(Picture::open(&at("p.png")).unwrap().width, 32);
    assert_eq!(common::program::temporary(folder.path()), 0);
}

/// X02. What is an ordinary file is treated as one wherever it lies; an open file of the program's is shared with it.
#[cfg(target_os = "linux")]
#[test]
fn the_standard_output_and_files_below_dev() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    let sample = |out: &Path, append: bool, arguments: &[&str]| {
        let file = std::fs::OpenOptions::new().create(true).write(true).append(append).open(out).unwrap();
        let mut c = nada(folder.path());
        c.args(["sample", "-n", "1", "--model", PACK]).args(arguments).stdout(file);
        let out = c.stderr(std::process::Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert!(out.status.success(), "{}", error(&out));
        error(&out)
    };
    sample(&at("log"), false, &["-o", "plain.png"]);
    let picture = bytes(&at("plain.png"));
    // The picture and nothing else; behind what was there.
    let said = sample(&at("x.png"), false, &["-o", "/dev/stdout"]);
    assert!(bytes(&at("x.png")) == picture && said.contains("1 pictures: /dev/stdout"), "{said}");
    std::fs::write(at("log.bin"), b"before").unwrap();
    sample(&at("log.bin"), true, &["-o", "/dev/stdout"]);
    assert_eq!(bytes(&at("log.bin")), [&b"before"[..], &picture].concat());
    let out = run(folder.path(), &["sample", "-n", "1", "-o", "/dev/stdout", "--latents", "/dev/stdout", "--model", PACK]);
    assert!(out.status.code() == Some(1) && error(&out).contains("written twice"), "{}", error(&out));

    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return };
    let face = memory.path().join("me.png");
    std::fs::copy(common::data("face.png"), &face).unwrap();
    let face = face.to_str().unwrap();
    for (arguments, words) in
        [(&["sample", "-n", "1", "-o", face][..], "--force"), (&["invert", face, "--sheet", face, "--force"], "reads")]
    {
        let out = run(folder.path(), &[arguments, &["--model", PACK]].concat());
        assert!(out.status.code() == Some(1) && error(&out).contains(words), "{}", error(&out));
    }
    assert_eq!(bytes(Path::new(face)), bytes(&common::data("face.png")));
}

/// X05. Results of one call, or of several, do not overwrite each other.
#[test]
fn results_do_not_overwrite_each_other() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    // Two pictures of the generator's, which are found again.
    json(folder.path(), &["sample", "-n", "2", "--seed", "3", "--folder", "faces"]);
    Picture::open(&at("faces/0001.png")).unwrap().save(&at("p.png")).unwrap();
    Picture::open(&at("faces/0002.png")).unwrap().save(&at("p.jpg")).unwrap();
    let found = json(folder.path(), &["invert", "p.png", "p.jpg", "--invert-steps", "30"]);
    let latents: Vec<&str> = found["inversions"].as_array().unwrap().iter().map(|i| i["latent"].as_str().unwrap()).collect();
    assert_eq!(latents, ["p.latent.safetensors", "p-2.latent.safetensors"]);
    let pictures = ["p.png", "p.jpg"].map(|name| Picture::open(&at(name)).unwrap().data);
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>();
    for (i, latent) in latents.iter().enumerate() {
        let drawn = format!("drawn-{i}");
        json(folder.path(), &["render", "--latents", latent, "--noise", "none", "--folder", &drawn]);
        let drawn = Picture::open(&at(&drawn).join("0001.png")).unwrap().data;
        assert!(apart(&drawn, &pictures[i]) < apart(&drawn, &pictures[1 - i]), "{latent} draws the other picture");
    }

    for seed in ["1", "2"] {
        let out = adapt(folder.path(), &["A zombie!", "--seed", seed]);
        assert!(out.status.success(), "{}", error(&out));
    }
    let seed = |name: &str| Domain::open(&at(name)).unwrap().description.settings["seed"].clone();
    assert_eq!([seed("a-zombie.nada.safetensors"), seed("a-zombie-2.nada.safetensors")], [1, 2]);
    assert!(at("a-zombie-before-after.png").exists() && at("a-zombie-2-before-after.png").exists());

    json(folder.path(), &["sample", "-n", "1", "--latents", "w.safetensors", "-o", "w.png", "--model", PACK]);
    for name in ["a", "b"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    std::fs::copy(at("p.png"), at("a/me.png")).unwrap();
    std::fs::copy(at("p.jpg"), at("b/me.jpg")).unwrap();
    let restyle = |picture: &str, strength: &str| {
        let domain = format!("a-zombie.nada.safetensors:{strength}");
        let latent = ["--latent", "w.safetensors", "--model", PACK];
        json(folder.path(), &[&["restyle", picture, "--domain", &domain][..], &latent].concat())["output"].as_str().unwrap().to_string()
    };
    let names = [restyle("a/me.png", "0.3"), restyle("b/me.jpg", "1"), restyle("a/me.png", "1.5")];
    assert_eq!(names, ["me-a-zombie.png", "me-a-zombie-2.png", "me-a-zombie-3.png"]);
    assert_ne!(bytes(&at(&names[0])), bytes(&at(&names[2])));

    // A name that two options give.
    let out = run(folder.path(), &["restyle", "p.png", "--to", "a mask", "-o", "x.png", "--sheet", "./x.png", "--model", PACK]);
    assert!(out.status.code() == Some(1) && error(&out).contains("--output x.png") && error(&out).contains("--sheet"), "{}", error(&out));
    // Names that were given, and names in a folder.
    for arguments in [&["sample", "-n", "1", "-o", "p.png"][..], &["sample", "-n", "3", "--folder", "faces"]] {
        let out = run(folder.path(), &[arguments, &["--model", PACK]].concat());
        assert!(out.status.code() == Some(1) && error(&out).contains("--force"), "{}", error(&out));
    }
    assert!(!at("faces/0003.png").exists());
}

/// C12. A place that cannot be written to is told before any work.
#[test]
fn where_results_go_is_shown_before_the_work() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    std::fs::copy(common::data("face.png"), at("face.png")).unwrap();
    std::fs::write(at("FILE"), b"").unwrap();
    std::fs::write(at("x.nada.safetensors"), b"no domain, which would be told next").unwrap();
    // Endless: where the work began the test would not end.
    let endless = ["--steps", "100000000", "--no-stop", "--model", PACK];
    let searching = ["--invert-steps", "100000000", "--model", PACK];
    for (arguments, more, words) in [
        (&["adapt", "a zombie", "-o", "nowhere/x.nada.safetensors"][..], &endless[..], "the folder 'nowhere'"),
        (&["adapt", "a zombie", "-o", "FILE/x.nada.safetensors"], &endless, "'FILE' is a file"),
        (&["adapt", "a zombie", "-o", "/proc/x.nada.safetensors"], &endless, "nothing can be written into this folder"),
        (&["adapt", "a zombie", "--snapshots", "FILE/x"], &endless, "FILE"),
        (&["adapt", "a zombie", "--sheet", "nowhere/s.png"], &endless, "the folder 'nowhere'"),
        (&["invert", "face.png", "-o", "nowhere/l.safetensors"], &searching, "the folder 'nowhere'"),
        (&["invert", "face.png", "--sheet", "nowhere/l.png"], &searching, "the folder 'nowhere'"),
        (&["restyle", "face.png", "--to", "a zombie", "-o", "nowhere/l.png"], &searching, "the folder 'nowhere'"),
        (&["restyle", "face.png", "--to", "a zombie", "--save-latent", "nowhere/l"], &searching, "the folder 'nowhere'"),
        (&["restyle", "face.png", "--to", "a zombie", "--sheet", "nowhere/l.png"], &searching, "the folder 'nowhere'"),
        (&["sample", "-n", "4096", "-o", "nowhere/s.png"], &["--model", PACK], "the folder 'nowhere'"),
        (&["sample", "-n", "4096", "--latents", "nowhere/s"], &["--model", PACK], "the folder 'nowhere'"),
        (&["sample", "-n", "4096", "--folder", "FILE"], &["--model", PACK], "FILE"),
        (&["render", "--latents", "missing", "--out-npy", "nowhere/s.npy"], &["--model", PACK], "the folder 'nowhere'"),
        (&["clip", "--text", "a", "-o", "nowhere/s.npy"], &["--model", PACK], "the folder 'nowhere'"),
        (&["convert", "missing.pt", "nowhere/s.pt", "--to", "rosinality"], &[], "the folder 'nowhere'"),
        (&["adapt", "a zombie", "-o", "made/"], &endless, "names a folder"),
        (&["invert", "face.png", "--invert-optimise-noise", "true", "-o", "l.npy"], &searching, "noise maps"),
        (
            &["restyle", "face.png", "--to", "a zombie", "--invert-optimise-noise", "true", "--save-latent", "l.npy"],
            &searching,
            "noise maps",
        ),
        (&["clip", "--text", "a", "-o", "two.npy"], &[], "one CLIP's rows"),
        (&["invert", "face.png", "FILE"], &searching, "FILE"),
    ] {
        let out = run(folder.path(), &[arguments, more].concat());
        let message = error(&out);
        assert!(out.status.code() == Some(1) && message.contains(words) && !message.contains(".nada-"), "{arguments:?}: {message}");
    }
    // In a folder that takes no files.
    let out = nada(Path::new("/proc")).args(["adapt", "a zombie"]).args(endless).output().unwrap();
    assert!(out.status.code() == Some(1) && error(&out).contains("nothing can be written"), "{}", error(&out));
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["FILE", "face.png", "x.nada.safetensors"]);
}

/// C12. What cannot be written in the end, as on a disk that fills up meanwhile, goes to a place that is named.
#[test]
fn a_result_that_cannot_be_written_is_kept_elsewhere() {
    let folder = here();
    let arguments = ["adapt", "a zombie", "--steps", "1", "--batch", "2", "--no-stop", "--model", PACK, "-o", "/dev/full"];
    let out = nada(folder.path()).args(arguments).env("TMPDIR", folder.path()).output().unwrap();
    let message = error(&out);
    assert!(out.status.code() == Some(1) && message.contains("No space left on device"), "{message}");
    let kept = message.split("it is kept as ").nth(1).unwrap_or_else(|| panic!("{message}")).trim();
    assert_eq!(Domain::open(Path::new(kept)).unwrap().description.target, "a zombie");
    assert!(Path::new(kept).starts_with(folder.path()));
}

/// What there is already is named where a later part of the call fails.
#[test]
fn what_is_written_is_named_when_a_later_part_fails() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    let out = nada(folder.path())
        .args(["adapt", "a zombie", "--steps", "1", "--batch", "2", "--no-stop", "--model", PACK, "--sheet", "/dev/full"])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let message = error(&out);
    assert!(out.status.code() == Some(1) && message.contains("written before that: a-zombie.nada.safetensors"), "{message}");
    // A picture that turns out to be none: those before it are kept.
    std::fs::copy(common::data("face.png"), at("face.png")).unwrap();
    let whole = bytes(&at("face.png"));
    std::fs::write(at("cut.png"), &whole[..whole.len() / 2]).unwrap();
    let out = run(folder.path(), &["clip", "--picture", "face.png", "--picture", "cut.png", "-o", "rows.npy", "--model", PACK]);
    assert!(out.status.code() == Some(1) && error(&out).contains("cut.png") && error(&out).contains("rows.npy"), "{}", error(&out));
    assert_eq!(read_npy(&at("rows.npy")).unwrap().dim(0).unwrap(), 1);
    let invert = ["invert", "face.png", "cut.png", "--invert-steps", "2", "--sheet", "sheet.png", "--model", PACK];
    let out = run(folder.path(), &invert);
    let message = error(&out);
    assert!(
        out.status.code() == Some(1) && message.contains("cut.png") && message.contains("face.latent.safetensors, sheet.png"),
        "{message}"
    );
}

/// X08. The ending of a name is honoured, or refused before the work.
#[test]
fn endings_are_what_is_written() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    std::fs::copy(common::data("face.png"), at("face.png")).unwrap();
    let endless = ["--steps", "100000000", "--no-stop", "--model", PACK];
    let searching = ["--invert-steps", "100000000", "--model", PACK];
    let generator = format!("{PACK}/generator.safetensors");
    for (arguments, more, right) in [
        (&["sample", "-n", "1", "-o", "s.webp"][..], &["--model", PACK][..], ".png"),
        (&["restyle", "face.png", "--to", "a zombie", "-o", "s.tiff"], &searching, ".jpg"),
        (&["adapt", "a zombie", "-o", "z.png"], &endless, ".safetensors"),
        (&["adapt", "a zombie", "--sheet", "z.safetensors"], &endless, ".png"),
        (&["invert", "face.png", "-o", "l.pt"], &searching, ".safetensors or .npy"),
        (&["sample", "-n", "1", "--latents", "l.txt"], &["--model", PACK], ".safetensors or .npy"),
        (&["render", "--latents", "face.png", "--out-npy", "l.npz"], &["--model", PACK], ".npy"),
        (&["clip", "--text", "a", "-o", "l.pt"], &["--model", PACK], ".safetensors or .npy"),
        (&["convert", &generator, "x.pkl", "--to", "nada"], &[], ".safetensors"),
        (&["convert", &generator, "x.safetensors", "--to", "rosinality"], &[], ".pt"),
        (&["convert", &generator, "x.pt", "--to", "ada-pytorch"], &[], ".pkl"),
    ] {
        let out = run(folder.path(), &[arguments, more].concat());
        let message = error(&out);
        let named = arguments.iter().any(|a| a.contains('.') && message.contains(a));
        assert!(out.status.code() == Some(1) && message.contains(right) && named, "{arguments:?}: {message}");
    }
    json(folder.path(), &["sample", "-n", "2", "--seed", "4", "-o", "s.JPG", "--latents", "l.npy", "--model", PACK]);
    assert_eq!(bytes(&at("s.JPG"))[..3], [0xff, 0xd8, 0xff]);
    assert_eq!(read_npy(&at("l.npy")).unwrap().dim(0).unwrap(), 2);
    json(folder.path(), &["sample", "-n", "2", "--seed", "4", "-o", "s.png", "--model", PACK]);
    let (jpeg, png) = (Picture::open(&at("s.JPG")).unwrap(), Picture::open(&at("s.png")).unwrap());
    let apart = jpeg.data.iter().zip(&png.data).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / jpeg.data.len() as f64;
    // Quality 95: a few levels of 255 for each number of a noisy picture.
    assert!((jpeg.width, jpeg.height) == (png.width, png.height) && apart < 4.0 / 255.0, "{apart}");
}

/// X04. Names of files may be any bytes; what is not UTF-8 is shown as U+FFFD.
#[cfg(target_os = "linux")]
#[test]
fn names_may_be_any_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = here();
    let at = |name: &[u8]| folder.path().join(OsStr::from_bytes(name));
    std::fs::copy(common::data("face.png"), at(b"caf\xe9.png")).unwrap();
    std::fs::copy(common::data("face.png"), at(b"b.png")).unwrap();
    let run = |json: bool, arguments: &[&[u8]]| {
        let mut c = nada(folder.path());
        c.args(json.then_some("--json")).args(arguments.iter().map(|a| OsStr::from_bytes(a)));
        let out = c.output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{arguments:?}: {}", error(&out));
        String::from_utf8(out.stdout).unwrap()
    };
    let pack: [&[u8]; 2] = [b"--model", PACK.as_bytes()];
    let with = |arguments: &[&'static [u8]]| [arguments, &pack].concat();
    assert!(run(false, &[b"info", b"caf\xe9.png"]).contains("caf\u{fffd}.png: picture"));
    assert!(run(true, &[b"info", b"caf\xe9.png"]).contains("caf\u{fffd}.png"));
    run(false, &with(&[b"invert", b"caf\xe9.png", b"b.png", b"--invert-steps", b"2"]));
    assert!(at(b"caf\xe9.latent.safetensors").exists() && at(b"b.latent.safetensors").exists());
    run(true, &with(&[b"adapt", b"a zombie", b"--steps", b"1", b"--batch", b"2", b"--no-stop", b"-o", b"d\xe9.nada.safetensors"]));
    let text = run(true, &with(&[b"restyle", b"caf\xe9.png", b"--domain", b"d\xe9.nada.safetensors:0.5", b"--invert-steps", b"2"]));
    assert!(text.contains("caf\u{fffd}-a-zombie.png") && at(b"caf\xe9-a-zombie.png").exists(), "{text}");
    run(false, &with(&[b"sample", b"-n", b"1", b"-o", b"caf\xe9-sheet.png", b"--domain", b"d\xe9.nada.safetensors"]));
    run(true, &with(&[b"sample", b"-n", b"1", b"--folder", b"\xff", b"--latents", b"w\xe9.safetensors"]));
    run(true, &with(&[b"render", b"--latents", b"w\xe9.safetensors", b"--out-npy", b"\xe9.npy", b"--folder", b"\xfe"]));
    run(true, &with(&[b"clip", b"--picture", b"caf\xe9.png", b"-o", b"c\xe9.npy"]));
    run(true, &[b"convert", PACK.as_bytes(), b"g\xe9.pt", b"--to", b"rosinality", b"--domain", b"d\xe9.nada.safetensors"]);
    run(true, &[b"info", b"g\xe9.pt", b"c\xe9.npy", b"w\xe9.safetensors", b"d\xe9.nada.safetensors"]);
    // A pack in such a folder, and one made from such files.
    run(true, &[b"model", b"add", b"made", b"--generator", b"g\xe9.pt", b"--folder", b"p\xe9"]);
    run(true, &[b"sample", b"-n", b"1", b"-o", b"made.png", b"--model", b"p\xe9/made"]);
    run(true, &[b"model", b"list", b"--folder", b"p\xe9"]);
    assert!(checkpoint::open(&at(b"p\xe9/made/generator.safetensors")).is_ok());
}
