//! The program `nada`, run as a user runs it.

mod common;

use nada::adapt::Domain;
use nada::checkpoint::{self, read_npy};
use nada::picture::Picture;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn nada(folder: &Path) -> Command {
    common::program::hear_signals();
    let mut c = Command::new(env!("CARGO_BIN_EXE_nada"));
    c.current_dir(folder).env_remove("NADA_MODELS");
    c
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    nada(folder).args(arguments).output().unwrap()
}

/// The JSON object of a call that must succeed.
fn json(folder: &Path, arguments: &[&str]) -> Value {
    let out = nada(folder).arg("--json").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e} in {text}"))
}

#[test]
fn every_command_has_an_example() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["adapt", "invert", "render", "sample", "restyle", "info", "eval", "clip"] {
        let out = run(folder.path(), &[command, "--help"]);
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && text.contains("Example") && text.contains(&format!("nada {command}")), "{text}");
    }
    assert_eq!(run(folder.path(), &[]).status.code(), Some(2));
    assert_eq!(run(folder.path(), &["adapt", "x", "--no-such-flag"]).status.code(), Some(2));
    assert_eq!(run(folder.path(), &["adapt", "x", "--mode", "slow"]).status.code(), Some(2));
}

#[test]
fn names_out_of_files_command_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let header = r#"{"\u001b[2Jwiped\u0007":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
    std::fs::write(folder.path().join("a.safetensors"), bytes).unwrap();
    for arguments in [&["info", "a.safetensors"][..], &["sample", "--generator", "a.safetensors"]] {
        let out = run(folder.path(), arguments);
        let text = [out.stdout, out.stderr].concat();
        assert!(!text.contains(&0x1b) && !text.contains(&0x07), "{}", String::from_utf8_lossy(&text));
        assert!(String::from_utf8_lossy(&text).contains(r"\u{1b}[2Jwiped\u{7}"), "{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn errors_name_their_cause() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty.npy"), b"").unwrap();
    for (arguments, words) in [
        (&["info", "missing.pt"][..], "missing.pt"),
        (&["invert", "missing.png"], "missing.png"),
        (&["sample", "--model", "no-such-pack"], "NADA_MODELS"),
        (&["sample", "-n", "0"], "--count"),
        (&["sample", "--domain", "missing.nada.safetensors:0.5"], "missing.nada.safetensors"),
        (&["render", "--latents", "empty.npy", "--out-npy", "x.npy"], "empty.npy"),
        (&["render", "--latents", "empty.npy"], "--out-npy"),
        (&["adapt", "a sketch", "--batch", "0"], "batch"),
        (&["adapt", "  "], "TARGET"),
        (&["adapt", "a sketch", "--generator", "missing.pt", "--clip", "missing.pt"], "missing.pt"),
        (&["eval"], "--domain"),
        (&["clip", "--text", "a photo", "--output", "x.txt"], "x.txt"),
    ] {
        let out = run(folder.path(), arguments);
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.starts_with("error: ") && text.contains(words), "{arguments:?}: {text}");
        let out = nada(folder.path()).arg("--json").args(arguments).output().unwrap();
        let value: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert!(value["error"]["message"].as_str().unwrap().contains(words), "{value}");
        assert!(out.stderr.is_empty());
    }
}

#[test]
fn render_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter");
    let expected = checkpoint::open(&starter.join("expected.safetensors")).unwrap();
    for space in ["z", "w"] {
        checkpoint::write_npy(&folder.path().join("in.npy"), &expected.f32(space, None).unwrap()).unwrap();
        let arguments =
            ["render", "--latents", "in.npy", "--space", space, "--noise", "none", "--out-npy", "out.npy", "--folder", "out", "--force"];
        let value = json(folder.path(), &arguments);
        assert_eq!(value["shape"], serde_json::json!([4, 3, 128, 128]));
        let have = read_npy(&folder.path().join("out.npy")).unwrap();
        // 32-bit sums in another order; PyTorch differs from its own 64-bit result by 5e-6.
        common::close(space, &have, &expected.f32("image_zero_noise", None).unwrap(), 5e-5, 0.0);
    }
    assert_eq!(Picture::open(&folder.path().join("out/0004.png")).unwrap().width, 128);
    // A .npy of two dimensions may be z or w.
    let out = run(folder.path(), &["render", "--latents", "in.npy", "--out-npy", "out.npy", "--force"]);
    assert!(out.status.code() == Some(1) && String::from_utf8_lossy(&out.stderr).contains("--space"));
}

#[test]
fn samples_are_what_their_latents_draw() {
    let folder = tempfile::tempdir().unwrap();
    json(folder.path(), &["sample", "-n", "3", "--seed", "4", "--folder", "a", "--latents", "w.safetensors", "-o", "sheet.png"]);
    json(folder.path(), &["render", "--latents", "w.safetensors", "--folder", "b"]);
    for name in ["0001.png", "0002.png", "0003.png"] {
        let open = |sub: &str| Picture::open(&folder.path().join(sub).join(name)).unwrap();
        assert_eq!(open("a"), open("b"));
    }
    assert_eq!(Picture::open(&folder.path().join("sheet.png")).unwrap().width, 3 * 128 + 4);
    let value = json(folder.path(), &["info", "w.safetensors", "sheet.png"]);
    assert_eq!(value["files"][0]["kind"], "latents");
    assert_eq!(value["files"][1]["kind"], "picture");
}

#[test]
fn info_knows_the_starter() {
    let folder = tempfile::tempdir().unwrap();
    let value = json(folder.path(), &["info"]);
    let starter = value["packs"].as_array().unwrap().iter().find(|p| p["name"] == "starter").unwrap();
    let pack = starter["folder"].as_str().unwrap();
    let files = [pack.to_string(), format!("{pack}/generator.safetensors"), format!("{pack}/clip-a")];
    let arguments: Vec<&str> = ["info"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let value = json(folder.path(), &arguments);
    let kinds: Vec<&str> = value["files"].as_array().unwrap().iter().map(|f| f["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["model pack", "generator", "clip"]);
    assert_eq!(value["files"][1]["size"], 128);
}

/// The rows of the program's embeddings are the pack's expected ones.
#[test]
fn clip_embeds_texts() {
    let folder = tempfile::tempdir().unwrap();
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter");
    let texts: Vec<String> = serde_json::from_slice(&std::fs::read(starter.join("expected_texts.json")).unwrap()).unwrap();
    let mut arguments = vec!["clip", "--output", "e.safetensors"];
    texts.iter().for_each(|t| arguments.extend(["--text", t]));
    json(folder.path(), &arguments);
    let have = checkpoint::open(&folder.path().join("e.safetensors")).unwrap();
    let want = checkpoint::open(&starter.join("expected.safetensors")).unwrap();
    for name in ["clip-a", "clip-b"] {
        let have = have.f32(&format!("{name}.texts"), None).unwrap();
        // Unit vectors; 32-bit sums in another order.
        common::close(name, &have, &want.f32(&format!("{name}.text_embeds"), None).unwrap(), 1e-5, 0.0);
    }
}

#[test]
fn from_words_to_a_restyled_picture() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let out = nada(here).args(["adapt", "a steampunk sketch", "--steps", "3", "--batch", "2", "--no-stop"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}");
    assert!(text.contains("'steampunk'") && text.contains("a pencil sketch"), "no warning with the known words: {text}");

    let made = json(
        here,
        &["adapt", "a pencil sketch", "--steps", "4", "--batch", "2", "--no-stop", "--snapshot-every", "2", "--snapshots", "steps"],
    );
    assert_eq!((made["steps"].as_u64(), made["chosen"].as_u64()), (Some(4), Some(4)));
    assert_eq!(made["warnings"], serde_json::json!([]));
    let steps: Vec<_> = made["snapshots"].as_array().unwrap().iter().map(|s| s["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [2, 4]);
    let domain = "a-pencil-sketch.nada.safetensors";
    assert_eq!(Domain::open(&here.join(domain)).unwrap().description.target, "a pencil sketch");
    let sheet = Picture::open(&here.join("a-pencil-sketch-before-after.png")).unwrap();
    assert_eq!((sheet.width, sheet.height), (8 * 128 + 7 * 2, 2 * 128 + 2));

    json(here, &["sample", "-n", "1", "--folder", "faces", "--latents", "w.safetensors"]);
    let value = json(here, &["restyle", "faces/0001.png", "--latent", "w.safetensors", "--domain", domain, "--sheet", "row.png"]);
    assert_eq!(value["output"], "0001-a-pencil-sketch.png");
    assert_eq!(Picture::open(&here.join("row.png")).unwrap().width, 3 * 128 + 2 * 2);
    // Strength 0 is the picture as it was.
    json(here, &["restyle", "faces/0001.png", "--latent", "w.safetensors", "--domain", &format!("{domain}:0"), "-o", "same.png"]);
    let open = |name: &str| Picture::open(&here.join(name)).unwrap();
    assert_eq!(open("same.png"), open("faces/0001.png"));
    assert_ne!(open("0001-a-pencil-sketch.png"), open("same.png"));
    // --to takes the domain that is there.
    let value = json(here, &["restyle", "faces/0001.png", "--latent", "w.safetensors", "--to", "a pencil sketch", "-o", "to.png"]);
    assert_eq!(open("to.png"), open("0001-a-pencil-sketch.png"), "{value}");

    let report = json(here, &["eval", "--domain", domain]);
    assert_eq!((report["truth"].as_str(), report["pictures"].as_u64()), (Some("sketch"), Some(32)));
    assert!(report["distance"].as_f64().unwrap() > 0.0 && report["clips"].as_array().unwrap().len() == 2);
    assert_eq!(json(here, &["info", domain])["files"][0]["kind"], "domain");

    let found = json(here, &["invert", "faces/0001.png", "--invert-steps", "5"]);
    assert_eq!(found["inversions"][0]["steps"], 5);
    assert_eq!(json(here, &["info", "faces/0001.latent.safetensors"])["files"][0]["kind"], "latents");
}

#[test]
fn an_interrupt_keeps_what_was_reached() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = nada(folder.path())
        .args(["adapt", "a pencil sketch", "--steps", "100000", "--batch", "1", "--no-stop"])
        .env("NADA_LOG", "debug")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("step 2 of 100000")), "no step was made");
    // SAFETY: a signal to a child that is not yet waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    let names: Vec<String> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let kept = "a-pencil-sketch-stopped.nada.safetensors";
    assert!(Domain::open(&folder.path().join(kept)).unwrap().description.step >= 2);
    assert!(names.contains(&"a-pencil-sketch-stopped-before-after.png".to_string()) && names.len() == 2, "{names:?}");
}

/// A name is looked for where packs are, not in the current folder, which may be one of downloads.
#[test]
fn a_name_is_no_folder_of_the_current_one() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["starter", "mine"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("model.toml"), "name = 'another'").unwrap();
    }
    assert_eq!(json(folder.path(), &["model", "info", "starter"])["name"], "starter");
    let error = |name: &str| String::from_utf8_lossy(&run(folder.path(), &["model", "info", name]).stderr).into_owned();
    assert!(error("mine").contains("is named by ./mine"), "{}", error("mine"));
    assert!(error("./mine").contains("model.toml"), "{}", error("./mine"));
}
