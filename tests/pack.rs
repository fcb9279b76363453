//! Model packs: the starter's, and every way a model.toml can be wrong.

use nada::adapt::Settings;
use nada::nn::clip::ClipResize;
use nada::pack::{ModelPack, MANIFEST, STARTER};
use nada::{Error, Kind};
use std::path::Path;

fn starter() -> ModelPack {
    ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter")).unwrap()
}

#[test]
fn the_starter_is_found_from_the_build_tree() {
    let pack = ModelPack::find(STARTER).unwrap();
    assert_eq!(pack.folder, starter().folder);
    assert!(ModelPack::list().iter().flatten().any(|p| p.name == STARTER));
}

#[test]
fn the_starter_says_what_it_is() {
    let pack = starter();
    assert_eq!((pack.name.as_str(), pack.resolution, pack.licence.as_deref()), (STARTER, Some(128), Some("CC-BY-4.0")));
    let weights: Vec<f32> = pack.clips.iter().map(|c| c.weight).collect();
    assert_eq!(weights, [0.5, 0.5]);
    for path in pack.clips.iter().map(|c| &c.path).chain([&pack.generator]).chain(&pack.held_out).chain(&pack.attribution) {
        assert!(path.exists() && path.starts_with(&pack.folder), "{}", path.display());
    }
    assert_eq!(pack.templates.as_deref().unwrap(), ["{}", "an image of {}", "a picture of {}"]);
}

#[test]
fn the_recipe_wins_over_the_defaults_and_leaves_the_rest() {
    let (have, default) = (starter().settings().unwrap(), Settings::default());
    assert!(have.train_to_rgb && have.augment && !have.noise && have.stop.is_some());
    assert_eq!(have.clip_resize, ClipResize::Area);
    assert_eq!((have.floor, have.mode, have.losses.direction), (default.floor, default.mode, default.losses.direction));
}

#[test]
fn words_that_the_pack_does_not_know() {
    let pack = starter();
    let known = pack.known_phrases();
    for phrase in &known {
        assert_eq!(pack.unknown_words(phrase), Vec::<String>::new(), "{phrase}");
    }
    assert!(known.contains(&"a pencil sketch") && known.contains(&"a photo") && known.contains(&"pixel art"));
    assert_eq!(pack.unknown_words("An image of the ZOMBIE, with red hair!"), Vec::<String>::new());
    assert_eq!(pack.unknown_words("a Steampunk robot; steampunk-sketch"), ["steampunk", "robot"]);
    assert_eq!(pack.unknown_words(""), Vec::<String>::new());
}

#[test]
fn wrong_packs_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    std::fs::create_dir(&pack).unwrap();
    std::fs::write(pack.join("g.safetensors"), b"").unwrap();
    std::fs::write(pack.join("broken.json"), b"{").unwrap();
    std::fs::write(folder.path().join("outside.safetensors"), b"").unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside.safetensors"), pack.join("link.safetensors")).unwrap();
    let good = "name = 'p'\nresolution = 64\ngenerator = 'g.safetensors'\n";
    std::fs::write(pack.join(MANIFEST), good).unwrap();
    let opened = ModelPack::open(&pack).unwrap();
    assert_eq!(opened.settings().unwrap(), Settings::default());
    assert_eq!(opened.unknown_words("anything goes"), Vec::<String>::new());
    let e = opened.load_clips().err().unwrap();
    assert!(e.kind() == Kind::Unsupported && e.to_string().contains("[[clip]]"), "{e}");

    let outside = folder.path().join("outside.safetensors").display().to_string();
    for (text, words) in [
        ("name = ".to_string(), vec!["line 1"]),
        ("resolution = 64\ngenerator = 'g.safetensors'".into(), vec!["name"]),
        ("name = 'p'\nresolution = 64".into(), vec!["generator"]),
        ("name = ' '\nresolution = 64\ngenerator = 'g.safetensors'".into(), vec!["name", "empty"]),
        ("name = 'p'\nresolution = -1\ngenerator = 'g.safetensors'".into(), vec!["resolution"]),
        ("name = 'p'\nresolution = 64\ngenerator = 'missing.safetensors'".into(), vec!["generator", "missing.safetensors"]),
        ("name = 'p'\nresolution = 64\ngenerator = '../outside.safetensors'".into(), vec!["generator", "inside the pack"]),
        (format!("name = 'p'\nresolution = 64\ngenerator = '{outside}'"), vec!["generator", "not absolute"]),
        ("name = 'p'\nresolution = 64\ngenerator = 'link.safetensors'".into(), vec!["generator", "leads out of the pack"]),
        (format!("format = 'two'\n{good}"), vec!["format"]),
        (format!("{good}words = 'broken.json'"), vec!["broken.json"]),
        (format!("{good}templates = ['no place']"), vec!["templates", "no place", "{}"]),
        (format!("{good}templates = []"), vec!["templates", "empty"]),
        (format!("{good}[[clip]]\npath = 'g.safetensors'\nweight = 0"), vec!["clip 1 weight", "above 0"]),
        (format!("{good}[[clip]]\npath = 'g.safetensors'\nweight = nan"), vec!["clip 1 weight"]),
        (format!("{good}[[clip]]\npath = 'none'"), vec!["clip 1 path", "none"]),
        (format!("{good}[recipe]\nbatch = 'x'"), vec!["[recipe]", "batch"]),
        (format!("{good}[recipe]\nbatch = 0"), vec!["[recipe]", "batch"]),
        (format!("{good}[invert]\nspace = 'z'"), vec!["[invert]", "space", "w_plus"]),
        (format!("{good}[invert]\nsteps = 0"), vec!["[invert]", "steps"]),
    ] {
        std::fs::write(pack.join(MANIFEST), &text).unwrap();
        let e = ModelPack::open(&pack).err().unwrap_or_else(|| panic!("opened: {text}"));
        assert_eq!(e.kind(), Kind::Format, "{text}: {e}");
        for word in words.into_iter().chain([pack.file_name().unwrap().to_str().unwrap()]) {
            assert!(e.to_string().contains(word), "{text}: {e} lacks {word}");
        }
    }
    let e = ModelPack::open(&folder.path().join("nowhere")).unwrap_err();
    assert!(e.kind() == Kind::NotFound && e.to_string().contains(MANIFEST), "{e}");
    let e = ModelPack::find("no-such-pack").unwrap_err();
    assert!(matches!(&e, Error::NotFound { .. }) && e.to_string().contains("NADA_MODELS"), "{e}");
}

/// Keys of a later version, and slips.
#[test]
fn unknown_keys_of_a_model_toml_are_left_out_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("p");
    std::fs::create_dir(&pack).unwrap();
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/models/starter/generator.safetensors"), pack.join("g.safetensors"))
        .unwrap();
    let open = |text: &str| {
        std::fs::write(pack.join(MANIFEST), text).unwrap();
        ModelPack::open(&pack)
    };
    let good = "name = 'p'\ngenerator = 'g.safetensors'\n";
    for (text, words) in [
        ("smell = 'roses'", vec!["'smell'"]),
        ("[manners]\nmethod = 'good'", vec!["'manners'"]),
        ("[[source]]\nfile = 'a'\nsha256 = 'b'\nbytes = 1\npath = 'c'\nsmell = 1", vec!["'source.0.smell'"]),
        ("[recipe]\nlearning_rat = 1", vec!["'recipe.learning_rat'", "learning_rate"]),
        ("[recipe.stop]\nsmell = 1", vec!["'recipe.stop.smell'"]),
        ("[invert]\nsmell = 1", vec!["'invert.smell'", "steps"]),
        ("words = 'w.json'", vec!["'smell'", "w.json"]),
    ] {
        std::fs::write(pack.join("w.json"), "{\"source\": [], \"filters\": {}, \"templates\": [\"{}\"], \"smell\": 1}").unwrap();
        let opened = open(&format!("{good}{text}")).unwrap_or_else(|e| panic!("{text}: {e}"));
        let [warning] = &opened.warnings[..] else { panic!("{text}: {:?}", opened.warnings) };
        let name = if text.starts_with("words") { "w.json" } else { MANIFEST };
        let own = [name, "libnada", "later version"];
        assert!(words.iter().chain(&own).all(|word| warning.contains(word)), "{text}: {warning}");
        // Everything else is as it was.
        assert_eq!(opened.settings().unwrap(), Settings { stop: opened.settings().unwrap().stop, ..Settings::default() });
        // The size need not be said.
        assert_eq!((opened.resolution, opened.load_generator().unwrap().config().size()), (None, 32));
    }
    // What was known keeps its place.
    let opened = open(&format!("{good}[recipe]\nsmell = 1\nbatch = 3")).unwrap();
    assert_eq!(opened.settings().unwrap().batch, 3);
    for format in ["", "format = 1\n", "format = 2\n"] {
        assert_eq!(open(&format!("{format}{good}resolution = 32\n[requires]")).unwrap().warnings, Vec::<String>::new());
    }
    open(&format!("{good}smell = 1")).unwrap();
    let info = std::process::Command::new(env!("CARGO_BIN_EXE_nada")).arg("info").arg(&pack).output().unwrap();
    assert!(
        info.status.success() && String::from_utf8_lossy(&info.stderr).contains("'smell'"),
        "{}",
        String::from_utf8_lossy(&info.stderr)
    );

    for (text, words) in [
        (format!("format = 3\n{good}"), vec![MANIFEST, "format is 3", "libnada"]),
        (format!("format = 0\n{good}"), vec!["format is 0"]),
        // Whatever else is in it.
        ("format = 9\nname = ['a', 'b']".into(), vec!["format is 9"]),
        (format!("{good}[requires]\nsmell = '4.2'"), vec![MANIFEST, "smell", "libnada 4.2"]),
    ] {
        let e = open(&text).unwrap_err();
        assert_eq!(e.kind(), Kind::Unsupported, "{e}");
        words.iter().for_each(|word| assert!(e.to_string().contains(word), "{text}: {e} lacks {word}"));
    }
}

/// A pack from before the fingerprint covered the clamp is checked by the rule of its time.
#[test]
fn packs_of_format_1_are_checked_by_the_old_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/models/starter/generator.safetensors");
    let file = nada::checkpoint::open(&source).unwrap();
    let tensors = file.keys().map(|key| (key.to_string(), file.tensor(key).unwrap())).collect();
    let mut metadata = (*file.metadata).clone();
    metadata.insert("conv_clamp".into(), "256".into());
    nada::checkpoint::save_safetensors(&folder.path().join("g.safetensors"), &tensors, &metadata).unwrap();
    let good =
        "name = 'p'\ngenerator = 'g.safetensors'\nfingerprint = '4463cbb053fc20aa253df56f59f68a57cd16ac82817fb3adcec78c3d25103944'\n";
    let checked = |format: &str| {
        std::fs::write(folder.path().join(MANIFEST), format!("{format}{good}")).unwrap();
        let findings = ModelPack::open(folder.path()).unwrap().check();
        findings.into_iter().find(|f| f.what == "fingerprint").unwrap().outcome
    };
    assert!(checked("").is_ok());
    assert_eq!(checked("format = 2\n").unwrap_err().kind(), Kind::Mismatch);
}

#[test]
fn a_path_of_a_model_toml_is_taken_for_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("a");
    std::fs::create_dir(&pack).unwrap();
    std::fs::write(pack.join("g.safetensors"), b"").unwrap();
    std::fs::write(pack.join(MANIFEST), "name = 'called-so'\nresolution = 64\ngenerator = 'g.safetensors'\n").unwrap();
    let manifest = pack.join(MANIFEST);
    let want = pack.canonicalize().unwrap();
    assert_eq!(ModelPack::open(&manifest).unwrap().folder, want);
    assert_eq!(ModelPack::find(manifest.to_str().unwrap()).unwrap().folder, want);
    // As a folder to search in, too.
    let folders = std::slice::from_ref(&manifest);
    assert_eq!(ModelPack::find_in("called-so", folders).unwrap().folder, want);
    assert_eq!(ModelPack::find_in("a", folders).unwrap().folder, want);
    assert_eq!(ModelPack::list_in(folders).len(), 1);
    // Another file is none, nor is a model.toml that is not there.
    for wrong in [pack.join("g.safetensors"), folder.path().join(MANIFEST)] {
        assert_eq!(ModelPack::find(wrong.to_str().unwrap()).err().unwrap().kind(), Kind::NotFound);
    }
}

/// The program with NADA_MODELS: its JSON, and what it wrote to the standard error without --json.
fn with_models(folder: &Path, models: &str, arguments: &[&str]) -> (serde_json::Value, String) {
    let run = |arguments: &[&str]| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_nada"));
        program.current_dir(folder).env("NADA_MODELS", models).env("HOME", folder).args(arguments).output().unwrap()
    };
    let out = run(&[&["--json"], arguments].concat());
    assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    (serde_json::from_slice(&out.stdout).unwrap(), String::from_utf8(run(arguments).stderr).unwrap())
}

#[test]
fn entries_of_the_variable_that_lead_nowhere_are_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("file"), b"").unwrap();
    std::fs::create_dir(folder.join("empty")).unwrap();
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter");
    let (file, manifest) = (folder.join("file").display().to_string(), starter.join(MANIFEST).display().to_string());
    for (models, words) in [
        (file.clone(), &["/file, which is a file", "model.toml"][..]),
        ("/nonexistent/models".into(), &["/nonexistent/models, which does not exist"]),
        ("relative".into(), &["NADA_MODELS names relative, which does not exist"]),
        ("~/models".into(), &["names ~/models, which does not exist", "'~' in quotes", "\"$HOME/models\""]),
        ("empty".into(), &["empty folder", "disk mounted"]),
        // Of several only those; empty ones are none.
        (format!(":{}:/nonexistent::", starter.display()), &["/nonexistent, which does not exist"]),
    ] {
        for arguments in [&["sample", "-n", "1"][..], &["model", "list"], &["info"]] {
            let (value, text) = with_models(folder, &models, arguments);
            let warnings = value["warnings"].as_array().unwrap();
            assert_eq!(warnings.len(), 1, "{models} {arguments:?}: {value}");
            let warning = warnings[0].as_str().unwrap();
            assert!(words.iter().all(|word| warning.contains(word)), "{models}: {warning}");
            assert_eq!(text, format!("warning: {warning}\n"), "{models} {arguments:?}");
        }
    }
    // Each of two has a sentence of its own.
    assert_eq!(with_models(folder, &format!("/nonexistent:{file}"), &["model", "list"]).0["warnings"].as_array().unwrap().len(), 2);
    for models in ["", "::", &manifest, starter.to_str().unwrap(), starter.parent().unwrap().to_str().unwrap()] {
        let (value, text) = with_models(folder, models, &["model", "list"]);
        assert_eq!((&value["warnings"], text.as_str()), (&serde_json::json!([]), ""), "{models}");
    }
    // So are folders on the command line.
    let (value, _) = with_models(folder, "", &["model", "list", "--folder", "nowhere"]);
    assert_eq!(value["warnings"], serde_json::json!(["--folder names nowhere, which does not exist"]));
    // The entry is used: its pack comes first.
    let (value, _) = with_models(folder, &manifest, &["model", "list"]);
    let first = value["packs"][0]["folder"].as_str().unwrap();
    assert_eq!(Path::new(first).canonicalize().unwrap(), starter.canonicalize().unwrap());
    assert_eq!(with_models(folder, "", &["info", &manifest]).0["files"][0]["kind"], "model pack");
}
