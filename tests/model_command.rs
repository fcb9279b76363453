//! `nada model`: packs made from checkpoints, as a user makes, uses, checks and removes them.

mod common;

use common::random_generator::Random;
use common::reference;
use nada::capi::{context::*, generator::*, model::*, status::nada_status};
use nada::checkpoint;
use nada::nn::clip::Clip;
use nada::nn::generator::Generator;
use nada::pack::{ModelPack, NewPack, MANIFEST};
use nada::progress::Cancel;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

fn starter(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter").join(name)
}

/// A user's home, in which the program looks for packs.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn models(&self) -> PathBuf {
        self.path("data/nada/models")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut c = Command::new(env!("CARGO_BIN_EXE_nada"));
        c.current_dir(self.0.path()).env_remove("NADA_MODELS").env("XDG_DATA_HOME", self.path("data")).stdin(Stdio::null());
        c.arg("--json").args(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let out = self.run(arguments);
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    /// The message of a call that must fail.
    fn error(&self, arguments: &[&str]) -> String {
        let out = self.run(arguments);
        assert_eq!(out.status.code(), Some(1), "{arguments:?}");
        let value: Value = serde_json::from_slice(&out.stdout).unwrap();
        value["error"]["message"].as_str().unwrap().to_string()
    }

    fn add(&self, name: &str, more: &[&str]) -> Value {
        let (generator, clip) = (starter("generator.safetensors"), starter("clip-a"));
        let arguments = ["model", "add", name, "--generator", generator.to_str().unwrap(), "--clip", clip.to_str().unwrap()];
        self.json(&[&arguments, more].concat())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_command_has_an_example() {
    let home = Home::new();
    for command in [
        &["convert"][..],
        &["domain"],
        &["model"],
        &["model", "add"],
        &["model", "list"],
        &["model", "info"],
        &["model", "check"],
        &["model", "remove"],
    ] {
        let out = home.run(&[command, &["--help"]].concat());
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && text.contains("Example") && text.contains(&format!("nada {}", command.join(" "))), "{text}");
    }
}

#[test]
fn a_pack_is_made_used_checked_and_removed() {
    let home = Home::new();
    let original = Generator::open(&starter("generator.safetensors")).unwrap();
    let made = home.add("mine", &["--description", "a test", "--licence", "CC-BY-4.0"]);
    assert_eq!((made["name"].as_str(), made["resolution"].as_u64()), (Some("mine"), Some(128)));
    assert_eq!(made["fingerprint"], original.fingerprint().unwrap());
    let manifest = std::fs::read_to_string(Path::new(made["folder"].as_str().unwrap()).join(MANIFEST)).unwrap();
    assert!(manifest.starts_with("format = 2\n"), "{manifest}");
    assert_eq!(names(&home.models()), ["mine"]);
    let pack = ModelPack::open(&home.models().join("mine")).unwrap();
    assert_eq!((pack.licence.as_deref(), pack.description.as_str()), (Some("CC-BY-4.0"), "a test"));
    assert!(pack.licence_note.is_some() && pack.clips[0].path.ends_with("clip-a"));
    // sha256sum of the files.
    let source = pack.sources.iter().find(|s| s.path == "generator.safetensors").unwrap();
    assert_eq!(source.file, "generator.safetensors");
    assert_eq!(source.bytes, starter("generator.safetensors").metadata().unwrap().len());
    let sum = Command::new("sha256sum").arg(starter("generator.safetensors")).output().unwrap();
    assert!(String::from_utf8_lossy(&sum.stdout).starts_with(&source.sha256));
    let made_of: Vec<&str> = pack.sources.iter().map(|s| s.path.as_str()).collect();
    assert!(made_of.contains(&"clip-a/vocab.json") && made_of.contains(&"clip-a/model.safetensors"), "{made_of:?}");
    // The CLIP is the same one, with the same name.
    let (a, b) = (Clip::open(&starter("clip-a")).unwrap(), Clip::open(&pack.clips[0].path).unwrap());
    let embed = |clip: &Clip| clip.embed_texts(&["a zombie".into()]).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!((a.name.as_str(), embed(&a)), (b.name.as_str(), embed(&b)));

    assert_eq!(home.json(&["model", "info", "mine"])["fingerprint"], original.fingerprint().unwrap());
    let listed = home.json(&["model", "list"]);
    assert!(listed["packs"].as_array().unwrap().iter().any(|p| p["name"] == "mine"), "{listed}");
    assert!(listed["packs"].as_array().unwrap().iter().any(|p| p["name"] == "starter"), "{listed}");
    let checked = home.json(&["model", "check", "mine"]);
    let what: Vec<&str> = checked["findings"].as_array().unwrap().iter().map(|f| f["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["generator", "fingerprint", "picture", "clip clip-a"]);

    // A domain that was made on the raw file fits the pack, and the other way round.
    let generator = starter("generator.safetensors").display().to_string();
    let clip = starter("clip-a").display().to_string();
    let few = ["--steps", "1", "--batch", "1", "--no-stop"];
    home.json(&[&["adapt", "a zombie", "--generator", &generator, "--clip", &clip, "-o", "raw.nada.safetensors"][..], &few].concat());
    home.json(&["sample", "-n", "1", "--model", "mine", "--domain", "raw.nada.safetensors", "-o", "a.png"]);
    home.json(&[&["adapt", "a zombie", "--model", "mine", "-o", "packed.nada.safetensors"][..], &few].concat());
    home.json(&["sample", "-n", "1", "--domain", "packed.nada.safetensors", "-o", "b.png"]);

    // From C, by its folder.
    let folder = std::ffi::CString::new(home.models().join("mine").into_os_string().into_encoded_bytes()).unwrap();
    let (mut context, mut model, mut generator) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: valid pointers to write to, a C string, and each handle freed once.
    unsafe {
        assert_eq!(nada_context_new(std::ptr::null(), &mut context), nada_status::NADA_OK);
        assert_eq!(nada_model_open(context, folder.as_ptr(), &mut model), nada_status::NADA_OK);
        assert_eq!(nada_model_generator(model, std::ptr::null(), &mut generator), nada_status::NADA_OK);
        nada_generator_free(generator);
        nada_model_free(model);
        nada_context_free(context);
    }

    // Nobody is there to be asked.
    assert!(home.error(&["model", "remove", "mine"]).contains("--yes"));
    assert!(home.models().join("mine").join(MANIFEST).exists());
    home.json(&["model", "remove", "mine", "--yes"]);
    assert_eq!(names(&home.models()), Vec::<String>::new());
}

#[test]
fn half_is_smaller_and_says_that_it_is_another() {
    let home = Home::new();
    let full = home.add("full", &[]);
    let half = home.add("half", &["--half"]);
    assert_ne!(full["fingerprint"], half["fingerprint"]);
    let size = |name: &str, file: &str| home.models().join(name).join(file).metadata().unwrap().len();
    for file in ["generator.safetensors", "clip-a/model.safetensors"] {
        assert!(size("half", file) < size("full", file) * 55 / 100, "{file}");
    }
    home.json(&["model", "check", "half"]);
    home.json(&["adapt", "a zombie", "--steps", "1", "--batch", "1", "--no-stop", "--model", "full", "-o", "d.nada.safetensors"]);
    let e = home.error(&["sample", "--model", "half", "--domain", "d.nada.safetensors"]);
    assert!(e.contains("fingerprint"), "{e}");
}

#[test]
fn nothing_is_left_of_a_pack_that_cannot_be_made() {
    let home = Home::new();
    home.add("taken", &[]);
    let (generator, clip) = (starter("generator.safetensors").display().to_string(), starter("clip-a").display().to_string());
    std::fs::write(home.path("text.pt"), "hello").unwrap();
    let text = home.path("text.pt").display().to_string();
    let add =
        |name: &'static str, generator: &str, clip: &str| home.error(&["model", "add", name, "--generator", generator, "--clip", clip]);
    for (message, words) in [
        (add("taken", &generator, &clip), "is there already"),
        (add("starter", &generator, &clip), "comes with the library"),
        (add("../up", &generator, &clip), "cannot be a pack's name"),
        (add(".hidden", &generator, &clip), "cannot be a pack's name"),
        (add("new", "missing.pt", &clip), "missing.pt"),
        (add("new", &clip, &clip), "folder"),
        (add("new", &generator, &generator), "not a CLIP"),
        (add("new", &generator, &text), "text.pt"),
        (add("new", &generator, &format!("{clip}:0")), "above 0"),
        (home.error(&["model", "add", "new", "--generator", &generator, "--encoder", &text]), "text.pt"),
        (home.error(&["model", "add", "new", "--generator", &generator, "--boundary", "missing.npy"]), "missing.npy"),
    ] {
        assert!(message.contains(words), "{message} lacks {words}");
    }
    assert_eq!(names(&home.models()), ["taken"]);
}

#[test]
fn only_packs_of_the_user_are_removed() {
    let home = Home::new();
    home.add("mine", &[]);
    let models = home.models();
    std::fs::create_dir(models.join("notes")).unwrap();
    std::fs::write(models.join("notes/letter.txt"), "keep").unwrap();
    std::fs::create_dir(models.join("broken")).unwrap();
    std::fs::write(models.join("broken").join(MANIFEST), "name = ").unwrap();
    std::os::unix::fs::symlink(starter(""), models.join("elsewhere")).unwrap();
    let outside = home.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join(MANIFEST), "name = 'o'").unwrap();
    std::os::unix::fs::symlink(&outside, models.join("link")).unwrap();
    for (name, words) in [
        ("starter", "comes with the library"),
        ("elsewhere", "starter"),
        ("notes", "no folder with a model.toml"),
        ("nothing", "no folder with a model.toml"),
        ("../../../outside", "cannot be a pack's name"),
        (".", "cannot be a pack's name"),
        ("", "cannot be a pack's name"),
    ] {
        let e = home.error(&["model", "remove", name, "--yes"]);
        assert!(e.contains(words), "{name}: {e}");
    }
    assert_eq!(names(&models), ["broken", "elsewhere", "link", "mine", "notes"]);
    for name in ["broken", "link", "mine"] {
        home.json(&["model", "remove", name, "--yes"]);
    }
    assert_eq!(names(&models), ["elsewhere", "notes"]);
    assert!(models.join("notes/letter.txt").exists() && outside.join(MANIFEST).exists() && starter(MANIFEST).exists());
    // A folder of one's own.
    let shelf = home.path("shelf").display().to_string();
    home.add("there", &["--folder", &shelf]);
    assert_eq!(home.json(&["model", "list", "--folder", &shelf])["packs"].as_array().unwrap().len(), 1);
    home.json(&["model", "check", "there", "--folder", &shelf]);
    home.json(&["model", "remove", "there", "--yes", "--folder", &shelf]);
    assert_eq!(names(&home.path("shelf")), Vec::<String>::new());
}

#[test]
fn check_says_what_is_wrong() {
    let home = Home::new();
    home.json(&["model", "check", "starter"]);
    home.add("mine", &[]);
    let file = |name: &str| home.models().join("mine").join(name);
    let check = || home.error(&["model", "check", "mine"]);
    // A number of the generator changed.
    let generator = std::fs::read(file("generator.safetensors")).unwrap();
    let mut changed = generator.clone();
    let key = checkpoint::open(&file("generator.safetensors")).unwrap();
    let conv = key.f32("conv1.conv.weight", None).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let bytes: Vec<u8> = conv[..4].iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = changed.windows(16).position(|w| w == bytes).unwrap();
    changed[at] ^= 1;
    std::fs::write(file("generator.safetensors"), &changed).unwrap();
    assert!(check().contains("its file was changed"), "{}", check());
    // Not finite.
    changed[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(file("generator.safetensors"), &changed).unwrap();
    assert!(check().contains("not finite"), "{}", check());
    // Truncated, of a wrong size, gone.
    std::fs::write(file("generator.safetensors"), &generator[..generator.len() / 2]).unwrap();
    assert!(check().contains("generator.safetensors"), "{}", check());
    std::fs::write(file("generator.safetensors"), &generator).unwrap();
    let manifest = std::fs::read_to_string(file(MANIFEST)).unwrap();
    std::fs::write(file(MANIFEST), manifest.replace("resolution = 128", "resolution = 64")).unwrap();
    assert!(check().contains("draws 128 pixels"), "{}", check());
    std::fs::write(file(MANIFEST), &manifest).unwrap();
    std::fs::remove_file(file("clip-a/vocab.json")).unwrap();
    assert!(check().contains("vocab.json"), "{}", check());
    std::fs::remove_file(file("clip-a/model.safetensors")).unwrap();
    assert!(check().contains("clip-a"), "{}", check());
    std::fs::remove_file(file("generator.safetensors")).unwrap();
    assert!(check().contains("generator.safetensors"), "{}", check());
}

/// CLIPs of open_clip and in several files, and an encoder as it is published: the pack has all of them.
#[test]
fn other_formats_become_packs() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = common::data("formats/e4e.pt");
    let new = NewPack {
        name: "formats".into(),
        generator: common::data("formats/trainer_legacy.pt"),
        clips: vec![(common::data("formats/open_clip"), 1.0).into(), (common::data("formats/hf_sharded"), 1.0).into()],
        encoder: Some(encoder.clone()),
        ..NewPack::default()
    };
    let pack = new.make(folder.path(), &Cancel::new()).unwrap();
    // Their 32 tokens have no table, so texts cannot be embedded, and the encoder's widths are those of no network: check says so.
    let wrong: Vec<(String, String)> = pack.check().into_iter().filter_map(|f| Some((f.what, f.outcome.err()?.to_string()))).collect();
    assert_eq!(wrong.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["clip open_clip", "clip hf_sharded", "encoder"]);
    assert!(wrong[..2].iter().all(|(_, e)| e.contains("vocab.json")), "{wrong:?}");
    assert!(wrong[2].1.contains("encoder-e4e.safetensors") && wrong[2].1.contains("latlayer1"), "{wrong:?}");
    let names: Vec<_> = pack.clips.iter().map(|c| Clip::open(&c.path).unwrap().name).collect();
    assert_eq!(names, ["open_clip", "hf_sharded"]);
    for (clip, original) in pack.clips.iter().zip(&new.clips) {
        let picture = candle_core::Tensor::zeros((1, 3, 64, 64), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let embed = |path: &Path| {
            let clip = Clip::open(path).unwrap();
            clip.encode_image(&clip.preprocess(&picture, nada::nn::clip::ClipResize::Antialias).unwrap()).unwrap().to_vec2::<f32>().unwrap()
        };
        assert_eq!(embed(&clip.path), embed(&original.path), "{}", clip.path.display());
    }
    // The index and each of its files.
    assert!(pack.sources.iter().filter(|s| s.path == "hf_sharded/model.safetensors").count() > 2, "{:?}", pack.sources);
    let (have, want) = (checkpoint::open(pack.encoder.as_ref().unwrap()).unwrap(), checkpoint::open(&encoder).unwrap());
    assert_eq!(have.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    assert_eq!(have.metadata, want.metadata);
}

/// Encoders and edit directions are kept, every tensor of them; NVIDIA's and OpenAI's files make packs as well.
#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn reference_files_become_packs() {
    let reference = reference();
    let folder = tempfile::tempdir().unwrap();
    let encoder = reference.join("encoder/tiny_psp_GradualStyle.safetensors");
    let boundary = folder.path().join("smile.npy");
    checkpoint::write_npy(&boundary, &candle_core::Tensor::arange(0f32, 64f32, &candle_core::Device::Cpu).unwrap()).unwrap();
    let new = NewPack {
        name: "tiny".into(),
        generator: reference.join("stylegan2_rosinality/tiny64.pt"),
        clips: vec![
            (reference.join("clip/tiny_vit_jit_fp16.pt"), 1.0).into(),
            (reference.join("clip/tiny_rn_openai_state_dict.pt"), 0.5).into(),
            (reference.join("clip/tiny_vit_hf"), 1.0).into(),
        ],
        encoder: Some(encoder.clone()),
        boundaries: vec![boundary.clone(), boundary],
        ..NewPack::default()
    };
    let pack = new.make(folder.path(), &Cancel::new()).unwrap();
    let original = Generator::open(&new.generator).unwrap();
    assert_eq!(pack.fingerprint.as_deref(), Some(original.fingerprint().unwrap()));
    let (have, want) = (checkpoint::open(pack.encoder.as_ref().unwrap()).unwrap(), checkpoint::open(&encoder).unwrap());
    assert_eq!(have.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for key in want.keys() {
        common::close(key, &have.tensor(key).unwrap(), &want.tensor(key).unwrap(), 0.0, 0.0);
    }
    assert_eq!(pack.boundaries.len(), 2);
    assert_ne!(pack.boundaries[0], pack.boundaries[1]);
    assert_eq!(checkpoint::open(&pack.boundaries[0]).unwrap().shape("boundary"), Some(&[64][..]));
    // The tiny ResNet's vocabulary is not OpenAI's and has no table: it cannot embed texts. The encoder's file has tensors alone, which do not tell
    // what becomes of its rows. Check says so.
    let wrong: Vec<(String, String)> = pack.check().into_iter().filter_map(|f| Some((f.what, f.outcome.err()?.to_string()))).collect();
    assert_eq!(wrong.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["clip tiny_rn_openai_state_dict", "encoder"]);
    assert!(wrong[1].1.contains("opts"), "{wrong:?}");

    for name in ["tiny64", "tiny64_cond"] {
        let generator = reference.join(format!("stylegan2_nvidia/{name}.pkl"));
        let nvidia = NewPack { name: name.into(), generator, ..NewPack::default() };
        let pack = nvidia.make(folder.path(), &Cancel::new()).unwrap();
        assert_eq!(pack.fingerprint.as_deref(), Some(Generator::open(&nvidia.generator).unwrap().fingerprint().unwrap()));
        let findings = pack.check();
        assert!(findings.iter().all(|f| f.outcome.is_ok()), "{findings:?}");
    }

    // A class: of the pack, or of the call.
    let home = Home::new();
    let classes = reference.join("stylegan2_nvidia/tiny64_cond.pkl").display().to_string();
    let all = home.json(&["model", "add", "all", "--generator", &classes]);
    assert!(all["warnings"].as_array().unwrap().iter().any(|w| w.as_str().unwrap().contains("--class")), "{all}");
    assert_eq!(home.json(&["model", "add", "one", "--generator", &classes, "--class", "1"])["class"], 1);
    assert!(home.error(&["model", "add", "three", "--generator", &classes, "--class", "3"]).contains("0 to 2"));
    assert!(home.error(&["sample", "--model", "all"]).contains("0 to 2"));
    home.json(&["model", "check", "one"]);
    let draw = |name: &str, arguments: &[&str]| {
        home.json(&[&["sample", "-n", "1", "--latents", name][..], arguments].concat());
        checkpoint::read_npy(&home.path(name)).unwrap().to_vec2::<f32>().unwrap()
    };
    let one = draw("one.npy", &["--model", "one"]);
    assert_eq!(draw("all.npy", &["--model", "all", "--class", "1"]), one);
    assert_eq!(draw("file.npy", &["--generator", &classes, "--class", "1"]), one);
    assert_ne!(draw("two.npy", &["--model", "one", "--class", "2"]), one);
    // For programs that know no classes; the label is in a bias, so numbers are rounded otherwise.
    assert!(home.error(&["convert", &classes, "one.pt", "--to", "rosinality"]).contains("3 classes"));
    home.json(&["convert", &classes, "one.pt", "--to", "rosinality", "--class", "1"]);
    let converted = draw("converted.npy", &["--generator", "one.pt"]);
    assert!(converted[0].iter().zip(&one[0]).all(|(a, b)| (a - b).abs() < 1e-5), "{converted:?}\n{one:?}");
}

/// Temporary names that are left in a folder.
fn unfinished(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.starts_with(".nada-")).collect()
}

/// All look for the name before any of them has made the folder, or some later: one makes it, and the others say why they do not.
#[test]
fn of_packs_made_at_once_under_one_name_the_first_stays() {
    let folder = tempfile::tempdir().unwrap();
    let new = NewPack { name: "twice".into(), generator: common::data("formats/trainer.pt"), ..NewPack::default() };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..4).map(|_| scope.spawn(|| new.make(folder.path(), &Cancel::new()))).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    let errors: Vec<_> = outcomes.into_iter().filter_map(|outcome| outcome.err()).collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    for e in &errors {
        assert!(e.kind() == nada::Kind::InvalidArgument && e.to_string().contains("twice is there already"), "{e}");
    }
    assert_eq!(unfinished(folder.path()), [""; 0]);
    assert_eq!(ModelPack::open(&folder.path().join("twice")).unwrap().name, "twice");
}

#[test]
fn a_cancelled_pack_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let new = NewPack { name: "p".into(), generator: starter("generator.safetensors"), ..NewPack::default() };
    assert!(matches!(new.make(folder.path(), &cancel), Err(nada::Error::Cancelled)));
    assert_eq!(names(folder.path()), [""; 0]);
}

/// Folders that killed processes left go with the next pack that is made or removed; those of running ones stay.
#[test]
fn what_killed_processes_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let begun = |name: &str, age: Duration| {
        std::fs::create_dir_all(path(name).join("clip")).unwrap();
        std::fs::write(path(name).join("clip/model.safetensors"), "half of it").unwrap();
        for part in ["clip/model.safetensors", "clip", ""] {
            let part = std::fs::File::open(path(name).join(part)).unwrap();
            part.set_modified(SystemTime::now() - age).unwrap();
        }
    };
    let day = Duration::from_secs(24 * 3600);
    begun(".nada-killed.tmp", day);
    begun(".nada-running.tmp", day);
    std::fs::write(path(".nada-running.tmp/clip/model.safetensors"), "more of it").unwrap();
    begun("somebody's", day);
    let new = NewPack { name: "p".into(), generator: starter("generator.safetensors"), ..NewPack::default() };
    new.make(folder.path(), &Cancel::new()).unwrap();
    assert_eq!(names(folder.path()), [".nada-running.tmp", "p", "somebody's"]);
    begun(".nada-killed.tmp", day);
    nada::pack::remove(folder.path(), "p").unwrap();
    assert_eq!(names(folder.path()), [".nada-running.tmp", "somebody's"]);
}

/// Starts the program, waits until it has begun to write in `folder`, and sends it SIGTERM. Its exit status.
fn ended_while_writing(home: &Home, folder: &Path, arguments: &[&str]) -> Option<i32> {
    common::program::hear_signals();
    let mut command = Command::new(env!("CARGO_BIN_EXE_nada"));
    command.current_dir(home.0.path()).stdin(Stdio::null()).stdout(Stdio::null()).args(arguments);
    let mut child = command.spawn().unwrap();
    // SAFETY: signals to a process of our own that was not waited for.
    let send = |signal| unsafe { libc::kill(child.id() as i32, signal) };
    let start = Instant::now();
    while unfinished(folder).is_empty() && start.elapsed() < Duration::from_secs(60) {}
    // It stands still until the request is there.
    for signal in [libc::SIGSTOP, libc::SIGTERM, libc::SIGCONT] {
        send(signal);
    }
    child.wait().unwrap().code()
}

/// Ctrl-C in the middle of writing: what is there is whole, and nothing temporary is left.
#[test]
fn an_interrupt_leaves_nothing_half_written() {
    let home = Home::new();
    let folder = home.path("out");
    std::fs::create_dir(&folder).unwrap();
    // Large enough to be met while it is written.
    let big = home.path("big.npy");
    let numbers = candle_core::Tensor::zeros(30_000_000, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    checkpoint::write_npy(&big, &numbers).unwrap();
    let (generator, into, big) = (starter("generator.safetensors"), folder.display().to_string(), big.display().to_string());
    let add = ["model", "add", "p", "--generator", generator.to_str().unwrap(), "--boundary", &big, "--folder", &into];
    // The starter is written in less time than a request takes.
    let large = home.path("large.safetensors");
    Random { side: 64, style_dim: 512, mapping_layers: 8, channels: |_| 512, spread: 0.1 }.write(&large);
    let output = folder.join("g.pkl").display().to_string();
    let convert = ["convert", large.to_str().unwrap(), &output, "--to", "ada-pytorch"];
    for arguments in [&add[..], &convert] {
        // The request may come too late, when all is done.
        let met = (0..20).any(|_| {
            let code = ended_while_writing(&home, &folder, arguments);
            assert_eq!(unfinished(&folder), [""; 0], "{arguments:?}");
            let there = names(&folder);
            for name in &there {
                let path = folder.join(name);
                if path.is_dir() {
                    assert!(ModelPack::open(&path).unwrap().check().iter().all(|f| f.outcome.is_ok()));
                    std::fs::remove_dir_all(path).unwrap();
                } else {
                    Generator::open(&path).unwrap();
                    std::fs::remove_file(path).unwrap();
                }
            }
            code == Some(130) && there.is_empty()
        });
        assert!(met, "{arguments:?} was never ended");
    }
}
