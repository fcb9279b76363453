//! Generators in other programs' formats: what is written is what was read, and other programs read it.

mod common;

use candle_core::{Device, Tensor};
use common::{close, reference};
use nada::adapt::Domain;
use nada::checkpoint;
use nada::nn::generator::{Generator, Latent, Layout, Noise, Space};
use nada::Kind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter/generator.safetensors")
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nada")).arg("--json").args(arguments).output().unwrap()
}

/// The JSON object of a call that must succeed.
fn json(arguments: &[&str]) -> Value {
    let out = run(arguments);
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn bits(t: &Tensor) -> Vec<u32> {
    t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Every tensor that a drawing depends on, bit by bit, and a drawing with the files' own noise maps.
fn same(a: &Generator, b: &Generator) {
    assert_eq!(a.config(), b.config());
    assert_eq!(a.fingerprint().unwrap(), b.fingerprint().unwrap());
    for (key, tensor) in a.weights() {
        assert_eq!(bits(tensor), bits(&b.weights()[key]), "{key}");
    }
    for (x, y) in a.noise_maps().iter().zip(b.noise_maps()) {
        assert_eq!(bits(x), bits(y));
    }
    assert_eq!(bits(&a.mean_w().unwrap()), bits(&b.mean_w().unwrap()));
    assert_eq!(bits(&draw(a)), bits(&draw(b)));
}

fn draw(g: &Generator) -> Tensor {
    let latent = Latent { space: Space::W, tensor: g.sample_w(1, 7, 0.8).unwrap(), noise: None };
    g.render(&latent, 1.0, Noise::Const).unwrap()
}

/// From any layout to any other and back.
fn round_trips(path: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let original = Generator::open(path).unwrap();
    for (layout, name) in [(Layout::Nada, "a.safetensors"), (Layout::Rosinality, "a.pt"), (Layout::AdaPytorch, "a.pkl")] {
        original.save(&at(name), layout, false).unwrap();
        let there = Generator::open(&at(name)).unwrap();
        same(&original, &there);
        there.save(&at("back"), Layout::Nada, false).unwrap();
        same(&original, &Generator::open(&at("back")).unwrap());
        assert_eq!(std::fs::read(at("back")).unwrap(), std::fs::read(at("a.safetensors")).unwrap(), "{layout:?}");
    }
}

#[test]
fn round_trips_are_exact() {
    round_trips(&starter());
    round_trips(&common::data("golden/generator.safetensors"));
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn round_trips_of_published_layouts_are_exact() {
    round_trips(&reference().join("stylegan2_rosinality/tiny64.pt"));
    round_trips(&reference().join("stylegan2_nvidia/tiny64.pkl"));
}

/// Classes and clamps stay; rosinality's code has no classes.
#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn generators_with_classes_keep_them() {
    let reference = reference();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let original = Generator::open(&reference.join("stylegan2_nvidia/tiny64_cond.pkl")).unwrap();
    assert_eq!((original.config().c_dim, original.config().conv_clamp), (3, Some(256.0)));
    for layout in [Layout::Nada, Layout::AdaPytorch] {
        original.save(&path, layout, false).unwrap();
        let written = Generator::open(&path).unwrap();
        same(&original.with_class(1).unwrap(), &written.with_class(1).unwrap());
    }
    let e = original.save(&path, Layout::Rosinality, false).unwrap_err();
    assert!(e.kind() == Kind::Unsupported && e.to_string().contains("3 classes"), "{e}");
    // One class of it fits.
    let one = original.with_class(1).unwrap();
    one.save(&path, Layout::Rosinality, false).unwrap();
    let written = Generator::open(&path).unwrap();
    assert_eq!(written.config().c_dim, 0);
    // Sums in another order, in units of w (about 1).
    let w = |g: &Generator| g.sample_w(4, 1, 0.7).unwrap();
    common::close("w of one class", &w(&written), &w(&one), 1e-5, 1e-5);
}

/// What rosinality's own file has, key by key.
#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn rosinality_files_have_every_key() {
    let reference = reference();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pt");
    let original = reference.join("stylegan2_rosinality/tiny64.pt");
    Generator::open(&original).unwrap().save(&path, Layout::Rosinality, false).unwrap();
    let (have, want) = (checkpoint::open(&path).unwrap(), checkpoint::open(&original).unwrap());
    assert_eq!(have.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for key in want.keys() {
        assert_eq!(bits(&have.tensor(key).unwrap()), bits(&want.tensor(key).unwrap()), "{key}");
    }
}

/// A domain of style offsets and one of weights, with strengths, end up in the weights.
#[test]
fn domains_are_built_in() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let starter = starter();
    let g = Generator::open(&starter).unwrap();
    let style = |layer: &str, n: usize| (format!("s.{layer}"), (Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap() * 0.01).unwrap());
    let c4 = g.config().layer("conv1").unwrap().style_channels();
    let mut domain = Domain::new(
        serde_json::from_value(serde_json::json!({
            "source": "a photo", "target": "a test", "clips": [], "parameters": "stylespace", "step": 1,
            "fingerprint": g.fingerprint().unwrap(), "settings": nada::adapt::Settings::default(),
        }))
        .unwrap(),
        BTreeMap::from([style("conv1", c4), style("to_rgb1", c4)]),
    );
    domain.save(&at("s.nada.safetensors")).unwrap();
    let bias = &g.weights()["conv1.activate.bias"];
    domain.deltas = BTreeMap::from([("conv1.activate.bias".to_string(), bias.affine(0.0, 0.25).unwrap())]);
    domain.save(&at("w.nada.safetensors")).unwrap();
    let (s, w) = (format!("{}:0.5", at("s.nada.safetensors")), at("w.nada.safetensors"));
    let open = |name: &str| Domain::open(at(name).as_ref()).unwrap();
    let want = g.with_domains(&[(&open("s.nada.safetensors"), 0.5), (&open("w.nada.safetensors"), 1.0)]).unwrap();
    assert!(bits(&draw(&want)) != bits(&draw(&g)));

    for (to, name) in [("nada", "a.safetensors"), ("rosinality", "a.pt"), ("ada-pytorch", "a.pkl")] {
        json(&["convert", starter.to_str().unwrap(), &at(name), "--to", to, "--domain", &s, "--domain", &w]);
        let have = Generator::open(at(name).as_ref()).unwrap();
        assert!(have.offsets().is_empty());
        let key = "conv1.activate.bias";
        assert_eq!(bits(&have.weights()[key]), bits(&want.weights()[key]));
        // affine(w) + (bias + offset) for (affine(w) + bias) + offset: rounding of a sum of numbers near 1, through 12 layers.
        close(to, &draw(&have), &draw(&want), 2e-5, 0.0);
    }
    let a = Generator::open(at("a.safetensors").as_ref()).unwrap();
    same(&a, &Generator::open(at("a.pt").as_ref()).unwrap());
    same(&a, &Generator::open(at("a.pkl").as_ref()).unwrap());
}

#[test]
fn half_is_another_generator() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h.safetensors");
    let g = Generator::open(&starter()).unwrap();
    g.save(&path, Layout::Nada, true).unwrap();
    let half = Generator::open(&path).unwrap();
    assert_ne!(half.fingerprint().unwrap(), g.fingerprint().unwrap());
    let size = |path: &Path| path.metadata().unwrap().len();
    assert!(size(&path) < size(&starter()) * 55 / 100, "{}", size(&path));
    // f16 keeps 11 bits: each number is off by at most 1/2048 of itself, and so, roughly, is what it draws, in [-1, 1].
    close("half", &draw(&half), &draw(&g), 2e-2, 0.0);
    let e = g.save(&path, Layout::Rosinality, true).unwrap_err();
    assert!(e.kind() == Kind::InvalidArgument && e.to_string().contains("nada"), "{e}");
    let big = g.replacing(
        BTreeMap::from([("conv1.activate.bias".to_string(), g.weights()["conv1.activate.bias"].affine(0.0, 1e6).unwrap())]),
        BTreeMap::new(),
    );
    let e = big.unwrap().save(&path, Layout::Nada, true).unwrap_err();
    assert!(e.kind() == Kind::Unsupported && e.to_string().contains("conv1.activate.bias"), "{e}");
}

/// An unusual learning-rate multiplier and blur are numbers of the generator, too.
#[test]
fn unusual_generators_keep_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let file = checkpoint::open(&starter()).unwrap();
    let mut tensors: BTreeMap<String, Tensor> = file.keys().map(|k| (k.to_string(), file.tensor(k).unwrap())).collect();
    let taps = [0.5f32, 0.5, 0.5, 0.5];
    let outer: Vec<f32> = (0..16).map(|i| taps[i / 4] * taps[i % 4]).collect();
    tensors.insert("convs.0.conv.blur.kernel".into(), Tensor::from_vec(outer, (4, 4), &Device::Cpu).unwrap());
    let metadata = BTreeMap::from([("lr_mlp".to_string(), "0.02".to_string())]);
    checkpoint::save_safetensors(&at("odd.safetensors"), &tensors, &metadata).unwrap();
    let odd = Generator::open(&at("odd.safetensors")).unwrap();
    assert_eq!(odd.config().lr_mlp, 0.02);
    assert!(bits(&draw(&odd)) != bits(&draw(&Generator::open(&starter()).unwrap())));
    for (layout, name) in [(Layout::Nada, "a"), (Layout::Rosinality, "b"), (Layout::AdaPytorch, "c")] {
        odd.save(&at(name), layout, false).unwrap();
        same(&odd, &Generator::open(&at(name)).unwrap());
    }
}

#[test]
fn errors_name_their_cause() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let starter = starter().display().to_string();
    std::fs::copy(&starter, at("g.safetensors")).unwrap();
    for (arguments, words) in [
        (vec!["convert", "missing.pt", &at("o"), "--to", "nada"], "missing.pt"),
        (vec!["convert", &at("g.safetensors"), &at("g.safetensors"), "--to", "nada"], "OUT"),
        (vec!["convert", &starter, &at("o"), "--to", "rosinality", "--half"], "half"),
        (vec!["convert", &starter, &at("o"), "--to", "nada", "--domain", "missing.nada.safetensors"], "missing.nada.safetensors"),
        (vec!["convert", &starter, &at("no/o"), "--to", "nada"], "/no'"),
    ] {
        let out = run(&arguments);
        let value: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert!(value["error"]["message"].as_str().is_some_and(|m| m.contains(words)), "{arguments:?}: {value}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["g.safetensors"]);
    // A pack by its name.
    json(&["convert", "starter", &at("o.safetensors"), "--to", "nada"]);
    same(&Generator::open(at("o.safetensors").as_ref()).unwrap(), &Generator::open(starter.as_ref()).unwrap());
}

/// The real torch loads what is written (see tests/convert.py).
#[test]
#[ignore = "needs NADA_PYTHON, a Python with torch, and the reference data"]
fn torch_reads_what_is_written() {
    let python = std::env::var_os("NADA_PYTHON").expect("needs NADA_PYTHON, a Python with torch");
    let reference = reference();
    let folder = tempfile::tempdir().unwrap();
    for (name, path) in [("starter", starter()), ("tiny64", reference.join("stylegan2_rosinality/tiny64.pt"))] {
        let g = Generator::open(&path).unwrap();
        let at = |ending: &str| folder.path().join(format!("{name}.{ending}"));
        for (layout, ending) in [(Layout::Nada, "safetensors"), (Layout::Rosinality, "pt"), (Layout::AdaPytorch, "pkl")] {
            g.save(&at(ending), layout, false).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert.py");
        let mut check = Command::new(&python);
        check.arg(script).args(["pt", "pkl", "safetensors"].map(at));
        if name == "tiny64" {
            check.arg(reference.join("stylegan2_rosinality"));
        }
        let out = check.output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
        println!("{name}: {text}");
    }
    for name in ["tiny64", "tiny64_cond"] {
        let original = reference.join(format!("stylegan2_nvidia/{name}.pkl"));
        let written = folder.path().join("nvidia.pkl");
        Generator::open(&original).unwrap().save(&written, Layout::AdaPytorch, false).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert.py");
        let out = Command::new(&python).args([script, written, original]).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
        println!("{name}: {text}");
    }
}
