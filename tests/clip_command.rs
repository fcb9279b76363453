//! What the program and the C ABI say of CLIPs and of words.

mod common;

use candle_core::{DType, Device, Tensor};
use common::data;
use nada::adapt::{Adaptation, Concept, Domain, Templates};
use nada::checkpoint::{self, save_safetensors};
use nada::pack::ModelPack;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

fn nada(folder: &Path, arguments: &[&str]) -> Output {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nada"));
    command.current_dir(folder).env("NADA_MODELS", models).env("XDG_DATA_HOME", folder.join("data")).env_remove("NADA_LOG");
    command.args(arguments).output().unwrap()
}

/// What `--json` gives; the exit status must be 0.
fn json(folder: &Path, arguments: &[&str]) -> Value {
    let out = nada(folder, &[&["--json"][..], arguments].concat());
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stdout));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn error(folder: &Path, arguments: &[&str]) -> String {
    let out = nada(folder, arguments);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{arguments:?}: {text}");
    text
}

fn path(name: &str) -> String {
    data("clip").join(name).to_str().unwrap().to_string()
}

fn starter(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter").join(name)
}

fn row(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn apart(a: &Value, b: &Value) -> f32 {
    row(a).iter().zip(row(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn warnings(value: &Value) -> Vec<String> {
    serde_json::from_value(value["warnings"].clone()).unwrap()
}

#[test]
fn the_activation_is_said_shown_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let expected: Value = serde_json::from_slice(&std::fs::read(data("clip/gelu.json")).unwrap()).unwrap();
    let (file, face) = (path("gelu.pt"), path("open_clip/face32.png"));
    let embedded = |clip: &str| json(here, &["clip", "--clip", clip, "--picture", &face]);
    let plain = embedded(&file);
    let [warning] = &warnings(&plain)[..] else { panic!("{plain}") };
    assert!(warning.contains("QuickGELU") && warning.contains(":gelu") && warning.contains("open_clip_config.json"), "{warning}");
    assert!(apart(&plain["embeddings"][0]["pictures"][0], &expected["picture_quick_gelu"]) <= 1e-4);
    for (said, want) in [("gelu", "picture_gelu"), ("0.5:gelu", "picture_gelu"), ("quick_gelu", "picture_quick_gelu")] {
        let value = embedded(&format!("{file}:{said}"));
        assert!(warnings(&value).is_empty() && apart(&value["embeddings"][0]["pictures"][0], &expected[want]) <= 1e-4, "{said}: {value}");
    }
    let value = json(here, &["info", &file]);
    assert_eq!((value["files"][0]["activation"].as_str(), warnings(&value).len()), (Some("quick_gelu"), 1), "{value}");

    // A pack keeps what was said, and what was taken.
    let generator = starter("generator.safetensors").display().to_string();
    for (name, clip, taken, want) in
        [("said", format!("{file}:gelu"), "gelu", "picture_gelu"), ("taken", file.clone(), "quick_gelu", "picture_quick_gelu")]
    {
        let made = json(here, &["model", "add", name, "--generator", &generator, "--clip", &clip, "--licence", "CC0-1.0"]);
        assert_eq!(warnings(&made).len(), usize::from(name == "taken"), "{made}");
        let manifest = std::fs::read_to_string(here.join("data/nada/models").join(name).join("model.toml")).unwrap();
        assert!(manifest.contains(&format!("activation = \"{taken}\"")), "{manifest}");
        assert_eq!(json(here, &["model", "info", name])["clips"][0]["activation"], taken);
        let value = json(here, &["clip", "--model", name, "--picture", &face]);
        assert!(warnings(&value).is_empty() && apart(&value["embeddings"][0]["pictures"][0], &expected[want]) <= 1e-4, "{name}: {value}");
    }
    // Packs from before say nothing, and are asked; a word that is none is an error.
    let manifest = here.join("data/nada/models/said/model.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("activation = \"gelu\"\n", "")).unwrap();
    assert_eq!(warnings(&json(here, &["clip", "--model", "said", "--picture", &face])).len(), 1);
    std::fs::write(&manifest, text.replace("activation = \"gelu\"", "activation = \"relu\"")).unwrap();
    let e = error(here, &["clip", "--model", "said", "--picture", &face]);
    assert!(e.contains("model.toml") && e.contains("relu") && e.contains("quick_gelu"), "{e}");
}

#[test]
fn what_is_near_a_clip_is_named_by_each_command() {
    let folder = tempfile::tempdir().unwrap();
    let generator = starter("generator.safetensors").display().to_string();
    for (name, words) in [
        ("siglip", "a SigLIP model, which is not supported: it needs a CLIP"),
        ("clip_l.safetensors", "only the text tower of a CLIP (text_model.*)"),
        ("picture_tower", "only the picture tower of a CLIP"),
        ("open_clip_xlm_roberta.pt", "texts go through XLM-RoBERTa"),
        ("chinese_clip.pt", "texts go through BERT"),
    ] {
        let clip = path(name);
        for arguments in [
            &["clip", "--clip", &clip, "--text", "a photo"][..],
            &["adapt", "a zombie", "--clip", &clip],
            &["model", "add", "p", "--generator", &generator, "--clip", &clip],
        ] {
            let e = error(folder.path(), arguments);
            assert!(e.contains(words), "{arguments:?}: {e}");
        }
        let out = nada(folder.path(), &["info", &clip]);
        let told = [out.stdout, out.stderr].concat();
        assert!(String::from_utf8_lossy(&told).contains(words), "{}", String::from_utf8_lossy(&told));
    }
}

#[test]
fn what_nobody_sees_is_dropped_or_told() {
    let folder = tempfile::tempdir().unwrap();
    let pasted = std::fs::read_to_string(data("clip/bom.txt")).unwrap();
    let texts = [
        "a pencil sketch",
        pasted.as_str(),
        "\u{200b}a pencil sketch",
        "a pencil sketch\u{200b}",
        "\u{200f}a pencil sketch",
        "a pencil sketch\u{2060}",
    ];
    let mut arguments = vec!["clip"];
    texts.iter().for_each(|text| arguments.extend(["--text", text]));
    let value = json(folder.path(), &arguments);
    assert!(warnings(&value).is_empty(), "{value}");
    for embedded in value["embeddings"].as_array().unwrap() {
        let rows = embedded["texts"].as_array().unwrap();
        assert!(rows.len() == texts.len() && rows.iter().all(|row| row == &rows[0]), "{embedded}");
    }
    let value = json(folder.path(), &["clip", "--text", "a pencil sk\u{ad}etch"]);
    assert!(warnings(&value).iter().any(|w| w.contains("U+00AD behind \"a pencil sk\" (character 12)")), "{value}");
    // Nothing is left of these.
    assert!(error(folder.path(), &["adapt", "\u{200b}\u{feff}"]).contains("TARGET or --source"));
}

/// Before the generator is read, which is not there.
#[test]
fn words_that_are_too_long_are_told_first() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["pencil sketch golden statue"; 5].join(" ");
    for (arguments, argument) in [
        (&["adapt", &words, "--model", "starter", "--generator", "none.pt"][..], "TARGET"),
        (&["adapt", "a zombie", "--source", &words, "--model", "starter", "--generator", "none.pt"], "--source"),
        (&["clip", "--templates", "--text", &words], "--text"),
    ] {
        let e = error(folder.path(), arguments);
        for part in [argument, &words, "too long by 1 token", "it has 20 and 2 for start and end", "\"an image of {}\", adds 3", "takes 24"]
        {
            assert!(e.contains(part), "{e} lacks {part}");
        }
    }
    json(folder.path(), &["clip", "--text", &words]);
    json(folder.path(), &["clip", "--text", &words, "--template", "{}"]);
}

/// A CLIP with OpenAI's 49408 tokens.
fn english(folder: &Path) -> PathBuf {
    let file = checkpoint::open(&data("clip/gelu.pt")).unwrap();
    let mut tensors: BTreeMap<String, Tensor> = file.keys().map(|key| (key.to_string(), file.tensor(key).unwrap())).collect();
    let values: Vec<f32> = (0..49_408u32 * 64).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5).collect();
    tensors.insert(
        "token_embedding.weight".into(),
        Tensor::from_vec(values, (49_408, 64), &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap(),
    );
    let path = folder.join("english.safetensors");
    save_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    path
}

#[test]
fn words_of_other_languages_are_told_before_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let clip = format!("{}:gelu", english(folder.path()).display());
    let few = ["--source", "photo", "--template", "{}", "--steps", "1", "--batch", "1", "--no-stop", "--quiet", "-o", "a.nada.safetensors"];
    for (words, told) in [("Bleistiftzeichnung", 1), ("карандашный набросок", 1), ("鉛筆スケッチ", 1), ("pencil drawing", 0)]
    {
        let value = json(folder.path(), &[&["adapt", words, "--clip", &clip][..], &few].concat());
        let warnings = warnings(&value);
        assert_eq!(warnings.len(), told, "{warnings:?}");
        assert!(warnings.iter().all(|w| w.contains("reads English") && w.contains(words)), "{warnings:?}");
    }
    // Also where the work cannot begin.
    let out = nada(folder.path(), &["adapt", "鉛筆スケッチ", "--clip", &clip, "--generator", "none.pt", "--template", "{}"]);
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(text.find("reads English").unwrap() < text.find("none.pt").unwrap(), "{text}");
}

#[test]
fn templates_can_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for command in ["adapt", "restyle", "clip", "eval"] {
        assert!(String::from_utf8_lossy(&nada(here, &[command, "--help"]).stdout).contains("--template"), "{command}");
    }
    // What adapting with the library and the bare template gives.
    let few = ["--steps", "1", "--batch", "1", "--no-stop"];
    json(here, &[&["adapt", "a zombie", "--template", "{}", "-o", "bare.nada.safetensors"][..], &few].concat());
    json(here, &[&["adapt", "a zombie", "-o", "pack.nada.safetensors"][..], &few].concat());
    let pack = ModelPack::find(starter("").to_str().unwrap()).unwrap();
    let mut settings = pack.settings().unwrap();
    (settings.steps, settings.batch, settings.stop) = (1, 1, None);
    let text = |words: &str| Concept::Text(words.into());
    let (generator, clips) = (Arc::new(pack.load_generator().unwrap()), pack.load_clips().unwrap());
    let bare = Templates(vec!["{}".into()]);
    let mut run = Adaptation::new(generator, &clips, text("a photo"), text("\u{feff}a zombie"), &bare, settings).unwrap();
    run.step().unwrap();
    let want = run.domain().unwrap();
    assert_eq!(want.description.target, "a zombie");
    let apart = |name: &str| {
        let have = Domain::open(&here.join(name)).unwrap();
        assert!(have.deltas.keys().eq(want.deltas.keys()));
        let apart =
            |(a, b): (&Tensor, &Tensor)| (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        have.deltas.values().zip(want.deltas.values()).map(apart).fold(0.0, f32::max)
    };
    // The same numbers but for the order of sums; a step of the recipe moves by 0.0015.
    assert!(apart("bare.nada.safetensors") < 1e-4 && apart("pack.nada.safetensors") > 1e-3);

    let rows =
        |arguments: &[&str]| json(here, &[&["clip", "--text", "a zombie"][..], arguments].concat())["embeddings"][0]["texts"][0].clone();
    let inside = json(here, &["clip", "--text", "an image of a zombie"])["embeddings"][0]["texts"][0].clone();
    assert!(self::apart(&rows(&["--template", "{}"]), &rows(&[])) < 1e-6);
    assert!(self::apart(&rows(&["--template", "an image of {}"]), &inside) < 1e-6);
    assert!(self::apart(&rows(&["--template", "an image of {}", "--template", "{}"]), &inside) > 1e-3);
    for (template, command) in [("a photo", "adapt"), ("{} and {}", "clip"), ("", "eval"), ("{ }", "restyle")] {
        let arguments = match command {
            "adapt" => vec!["adapt", "a zombie"],
            "clip" => vec!["clip", "--text", "a zombie"],
            "eval" => vec!["eval", "--domain", "bare.nada.safetensors"],
            _ => vec!["restyle", "a.png", "--to", "a zombie"],
        };
        if command == "restyle" {
            json(here, &["sample", "-n", "1", "--folder", "faces"]);
            std::fs::copy(here.join("faces/0001.png"), here.join("a.png")).unwrap();
        }
        let e = error(here, &[&arguments[..], &["--template", template]].concat());
        assert!(e.contains("--template") && e.contains(&format!("\"{template}\"")) && e.contains("exactly one {}"), "{command}: {e}");
    }
    // A domain does not say its templates, so one that is there is not taken for another.
    std::fs::copy(here.join("bare.nada.safetensors"), here.join("a-zombie.nada.safetensors")).unwrap();
    let e = error(here, &["restyle", "a.png", "--to", "a zombie", "--template", "{}"]);
    assert!(e.contains("a-zombie.nada.safetensors") && e.contains("templates"), "{e}");
    let e = error(here, &["restyle", "a.png", "--domain", "bare.nada.safetensors", "--template", "{}"]);
    assert!(e.contains("--template") && e.contains("--to"), "{e}");
    let quality = |arguments: &[&str]| {
        let value = json(here, &[&["eval", "--domain", "pack.nada.safetensors"][..], arguments].concat());
        value["clips"][0]["quality_before"].as_f64().unwrap()
    };
    assert_ne!(quality(&["--template", "{}"]), quality(&[]));
}
