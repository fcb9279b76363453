//! Files that last: domains of both formats, of later versions, of two generators, and on other generators.
//!
//! tests/data/domains was made by the last program that wrote format 1, on tests/c/models/starter: styles (3 steps of "a zombie" with
//! --parameters stylespace) and weights (2 steps with --phase shape), each with what it drew of z.npy (`nada render --space z --noise none`),
//! and the snapshot of the second step of the former.

mod common;

use candle_core::{DType, Device, Tensor};
use common::program::{error, here, json, run, PACK};
use common::{close, data};
use nada::adapt::{Description, Domain, Origin, Parameters, SavedState, Settings};
use nada::checkpoint::{self, save_safetensors};
use nada::gallery::Gallery;
use nada::nn::generator::{Generator, Latent, Layout, Noise, Space};
use nada::picture::Picture;
use nada::progress::Cancel;
use nada::{Error, Kind};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Tensors = BTreeMap<String, Tensor>;
type Texts = BTreeMap<String, String>;

fn file(name: &str) -> PathBuf {
    data("domains").join(name)
}

fn starter() -> PathBuf {
    Path::new(PACK).join("generator.safetensors")
}

fn generator() -> Generator {
    Generator::open(&starter()).unwrap()
}

fn bits(t: &Tensor) -> Vec<u32> {
    t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn draw(g: &Generator) -> Tensor {
    let latent = Latent::open(&file("z.npy"), Space::Z).unwrap();
    g.render(&latent, 1.0, Noise::None).unwrap()
}

fn with(domain: &Domain) -> Tensor {
    draw(&generator().with_domains(&[(domain, 1.0)]).unwrap())
}

/// A safetensors file with other tensors and metadata.
fn changed(from: &Path, to: &Path, change: impl FnOnce(&mut Tensors, &mut Texts)) {
    let file = checkpoint::open(from).unwrap();
    let mut tensors: Tensors = file.keys().map(|k| (k.to_string(), file.tensor(k).unwrap())).collect();
    let mut metadata = (*file.metadata).clone();
    change(&mut tensors, &mut metadata);
    save_safetensors(to, &tensors, &metadata).unwrap();
}

/// The same with another description.
fn described(from: &Path, to: &Path, change: impl FnOnce(&mut Value)) {
    changed(from, to, |_, metadata| {
        let mut description = serde_json::from_str(&metadata["description"]).unwrap();
        change(&mut description);
        metadata.insert("description".into(), description.to_string());
    });
}

/// The starter's generator with other numbers in its metadata, or another blur.
fn variant(folder: &Path, name: &str, number: Option<(&str, &str)>, blur: Option<[f32; 4]>) -> Generator {
    let path = folder.join(name);
    changed(&starter(), &path, |tensors, metadata| {
        metadata.extend(number.map(|(key, value)| (key.to_string(), value.to_string())));
        if let Some(blur) = blur {
            let outer: Vec<f32> = (0..16).map(|i| blur[i / 4] * blur[i % 4]).collect();
            let kernel = Tensor::from_vec(outer, (4, 4), &Device::Cpu).unwrap();
            tensors.iter_mut().filter(|(key, _)| key.ends_with("kernel")).for_each(|(_, t)| *t = kernel.clone());
        }
    });
    Generator::open(&path).unwrap()
}

fn failed<T>(result: nada::Result<T>, kind: Kind, words: &[&str]) {
    let e: Error = result.err().expect("it was taken");
    assert_eq!(e.kind(), kind, "{e}");
    words.iter().for_each(|word| assert!(e.to_string().contains(word), "{e} lacks {word}"));
}

/// A domain of format 2 with a thumbnail, as a file.
fn format_2(folder: &Path) -> PathBuf {
    let domain = Domain::open(&file("weights.nada.safetensors")).unwrap();
    let mut renewed = domain.for_generator(&generator()).unwrap();
    renewed.description.settings = json!({"seed": 7});
    let picture = Picture::filled(8, 8, [1.0, 0.0, 0.0, 1.0]).unwrap();
    renewed.save_as_new(std::iter::once(folder.join("two.nada.safetensors")), Some(&picture), &Cancel::new()).unwrap()
}

#[test]
fn domains_of_format_1_draw_what_they_drew() {
    let folder = here();
    for name in ["styles", "weights"] {
        let path = file(&format!("{name}.nada.safetensors"));
        assert_eq!(checkpoint::open(&path).unwrap().metadata["format"], "nada domain 1");
        let domain = Domain::open(&path).unwrap();
        assert_eq!((&domain.description.origin, domain.description.target.as_str()), (&Origin::Adapted, "a zombie"));
        let drawn = with(&domain);
        for i in 0..2 {
            let mut want = Picture::open(&file(&format!("{name}-{}.png", i + 1))).unwrap();
            let mut have = Picture::from_tensor(&drawn, i).unwrap();
            // The bytes, one level off at the most: other processors sum in another order.
            let round = |p: &mut Picture| p.data.iter_mut().for_each(|v| *v = (v.clamp(0.0, 1.0) * 255.0).round());
            [&mut want, &mut have].into_iter().for_each(round);
            let apart = want.data.iter().zip(&have.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let others = want.data.iter().zip(&have.data).filter(|(a, b)| a != b).count();
            assert!(apart <= 1.0 && others * 200 <= want.data.len(), "{name} {i}: {apart}, {others} of {}", want.data.len());
        }
        // Written again it is of format 2, and draws the same bits.
        let again = folder.path().join(format!("{name}.nada.safetensors"));
        domain.save(&again).unwrap();
        assert_eq!(checkpoint::open(&again).unwrap().metadata["format"], "nada domain 2");
        let again = Domain::open(&again).unwrap();
        assert_eq!(again.description, domain.description);
        assert_eq!(bits(&with(&again)), bits(&drawn));
    }
}

#[test]
fn settings_are_carried_as_they_are() {
    let folder = here();
    let path = folder.path().join("a.nada.safetensors");
    let domain = Domain::open(&file("styles.nada.safetensors")).unwrap();
    assert_eq!((&domain.description.settings["seed"], &domain.description.settings["clip_resize"]), (&json!(1), &json!("area")));
    let settings = json!({"steps": "many", "losses": [1, 2], "of_the_future": {"x": null}});
    for from in ["styles.nada.safetensors", "weights.nada.safetensors"] {
        described(&file(from), &path, |d| d["settings"] = settings.clone());
        let domain = Domain::open(&path).unwrap();
        domain.save(&path).unwrap();
        assert_eq!(Domain::describe(&path).unwrap().settings, settings);
    }
    // And a domain without any.
    described(&file("styles.nada.safetensors"), &path, |d| _ = d.as_object_mut().unwrap().remove("settings"));
    assert_eq!(Domain::open(&path).unwrap().description.settings, Value::Null);
}

#[test]
fn what_is_not_known_is_kept() {
    let folder = here();
    let (two, path) = (format_2(folder.path()), folder.path().join("later.nada.safetensors"));
    described(&two, &path, |d| {
        d["smell"] = json!({"of": ["roses", 2.5]});
        d["origin"] = json!("dreamt");
    });
    let extra = Tensor::new(&[1u8, 2, 3], &Device::Cpu).unwrap();
    changed(&path.clone(), &path, |tensors, metadata| {
        tensors.insert("second.thumbnail".into(), extra.clone());
        metadata.insert("signed_by".into(), "me".into());
        metadata.insert("requires".into(), "{}".into());
    });
    let plain = with(&Domain::open(&two).unwrap());
    let domain = Domain::open(&path).unwrap();
    assert_eq!(bits(&with(&domain)), bits(&plain));
    assert_eq!(Domain::describe(&path).unwrap().other["smell"]["of"][1], 2.5);
    domain.save(&path).unwrap();
    let written = checkpoint::open(&path).unwrap();
    assert_eq!(written.metadata["signed_by"], "me");
    assert_eq!(written.tensor("second.thumbnail").unwrap().to_vec1::<u8>().unwrap(), [1, 2, 3]);
    assert!(Domain::thumbnail(&path).unwrap().is_some());
    let again = Domain::open(&path).unwrap();
    assert_eq!(again.description.other["smell"], json!({"of": ["roses", 2.5]}));
    assert_eq!(again.description.origin.name(), "dreamt");
    assert_eq!(again.description, domain.description);
    let about = &json(folder.path(), &["info", "later.nada.safetensors"])["files"][0];
    assert_eq!((&about["kind"], &about["smell"]["of"][0], &about["origin"]), (&json!("domain"), &json!("roses"), &json!("dreamt")));
}

#[test]
fn what_is_required_and_not_known_is_refused() {
    let folder = here();
    let (two, path) = (format_2(folder.path()), folder.path().join("later.nada.safetensors"));
    let with = |key: &str, text: &str| changed(&two, &path, |_, metadata| _ = metadata.insert(key.into(), text.into()));
    let name = "later.nada.safetensors";
    with("requires", r#"{"modulation": "4.2"}"#);
    failed(Domain::open(&path), Kind::Unsupported, &[name, "modulation", "libnada 4.2"]);
    failed(Domain::describe(&path), Kind::Unsupported, &["modulation", "4.2"]);
    let told = error(&run(folder.path(), &["info", name]));
    assert!(told.contains("modulation") && told.contains("4.2"), "{told}");
    with("requires", "[1]");
    failed(Domain::open(&path), Kind::Format, &[name, "requires"]);
    with("format", "nada domain 3");
    failed(
        Domain::open(&path),
        Kind::Unsupported,
        &[name, "nada domain 3", "nada domain 2", concat!("libnada ", env!("CARGO_PKG_VERSION"))],
    );
    with("format", "nada domain two");
    failed(Domain::open(&path), Kind::Unsupported, &["nada domain two"]);
    with("format", "nada adaptation 1");
    failed(Domain::open(&path), Kind::Format, &["is not a domain"]);
    changed(&two, &path, |_, metadata| _ = metadata.insert("written_by".into(), "libnada 9.9".into()));
    changed(&path.clone(), &path, |_, metadata| _ = metadata.insert("format".into(), "nada domain 9".into()));
    failed(Domain::open(&path), Kind::Unsupported, &["libnada 9.9"]);
    // What a reader must know is there.
    for key in ["target", "parameters", "fingerprint"] {
        described(&two, &path, |d| _ = d.as_object_mut().unwrap().remove(key));
        failed(Domain::open(&path), Kind::Format, &[name, key]);
    }
    changed(&two, &path, |tensors, _| tensors.retain(|key, _| key == "thumbnail"));
    failed(Domain::open(&path), Kind::Format, &[name, "weights."]);
}

#[test]
fn the_fingerprint_covers_blur_clamp_and_learning_rate() {
    let folder = here();
    let plain = generator();
    // What the last version that knew one rule alone gave.
    assert_eq!(plain.fingerprint().unwrap(), "4463cbb053fc20aa253df56f59f68a57cd16ac82817fb3adcec78c3d25103944");
    let make = |name: &str, number, blur| variant(folder.path(), name, number, blur);
    let clamp = make("c.safetensors", Some(("conv_clamp", "256")), None);
    let others = [
        &clamp,
        &make("d.safetensors", Some(("conv_clamp", "128")), None),
        &make("l.safetensors", Some(("lr_mlp", "0.02")), None),
        &make("b.safetensors", None, Some([0.5, 0.5, 0.5, 0.5])),
    ];
    let mut seen = vec![plain.fingerprint().unwrap()];
    for g in others {
        assert!(!seen.contains(&g.fingerprint().unwrap()), "{:?}", g.unusual());
        seen.push(g.fingerprint().unwrap());
        assert_eq!(g.fingerprint_of_format_1().unwrap(), plain.fingerprint().unwrap());
        // Every format keeps it.
        for (layout, name) in [(Layout::Nada, "g.safetensors"), (Layout::Rosinality, "g.pt"), (Layout::AdaPytorch, "g.pkl")] {
            let path = folder.path().join(name);
            g.save(&path, layout, false).unwrap();
            assert_eq!(Generator::open(&path).unwrap().fingerprint().unwrap(), g.fingerprint().unwrap(), "{name} {:?}", g.unusual());
        }
    }
    // A domain of format 1 is checked by the rule of its time, also when it was written anew; one of format 2 by the new one.
    let path = folder.path().join("again.nada.safetensors");
    let first = Domain::open(&file("weights.nada.safetensors")).unwrap();
    first.save(&path).unwrap();
    for domain in [&first, &Domain::open(&path).unwrap()] {
        clamp.with_domains(&[(domain, 1.0)]).unwrap();
    }
    let second = Domain::open(&format_2(folder.path())).unwrap();
    failed(clamp.with_domains(&[(&second, 1.0)]), Kind::Mismatch, &["a zombie", "another generator", &clamp.fingerprint().unwrap()[..12]]);
    generator().with_domains(&[(&second, 1.0)]).unwrap();
    // By a rule of a later version nobody knows.
    let mut later = second.clone();
    later.description.fingerprint_version = 3;
    failed(generator().with_domains(&[(&later, 1.0)]), Kind::Mismatch, &["rule"]);
}

#[test]
fn the_fingerprint_fails_where_a_tensor_cannot_be_read() {
    let g = generator();
    let wide = g.weights()["style.1.weight"].to_dtype(DType::F64).unwrap();
    let g = g.replacing(BTreeMap::from([("style.1.weight".to_string(), wide)]), BTreeMap::new()).unwrap();
    failed(g.fingerprint(), Kind::Internal, &["style.1.weight"]);
    failed(Domain::open(&file("styles.nada.safetensors")).unwrap().description.fits(&g), Kind::Internal, &["style.1.weight"]);
}

#[test]
fn deltas_may_be_f16() {
    let folder = here();
    let path = folder.path().join("half.nada.safetensors");
    let whole = Domain::open(&file("weights.nada.safetensors")).unwrap();
    let half = whole.to_half().unwrap();
    half.save(&path).unwrap();
    let written = checkpoint::open(&path).unwrap();
    assert!(written.keys().all(|key| written.dtype(key) == Some(checkpoint::Dtype::F16)));
    let read = Domain::open(&path).unwrap();
    for (key, delta) in &read.deltas {
        assert_eq!(delta.dtype(), DType::F16);
        // Half of the last of 11 bits, or of the smallest number.
        close(key, &delta.to_dtype(DType::F32).unwrap(), &whole.deltas[key], 3.1e-8, 4.9e-4);
    }
    assert_eq!(bits(&with(&read)), bits(&with(&half)));
    close("pictures", &with(&read), &with(&whole), 2e-3, 0.0);
    assert!(bits(&with(&read)) != bits(&with(&whole)));
    // Both kinds add up.
    generator().with_domains(&[(&read, 0.5), (&whole, 0.5)]).unwrap();
    let huge = Tensor::full(1e6f32, 1, &Device::Cpu).unwrap();
    let huge = Domain::new(whole.description.clone(), BTreeMap::from([("conv1.noise.weight".to_string(), huge)]));
    failed(huge.to_half(), Kind::Unsupported, &["conv1.noise.weight", "f16"]);
    // In format 1, too, and by the program.
    changed(&file("weights.nada.safetensors"), &path, |tensors, _| {
        tensors.values_mut().for_each(|t| *t = t.to_dtype(DType::F16).unwrap());
    });
    assert_eq!(bits(&with(&Domain::open(&path).unwrap())), bits(&with(&half)));
    let whole = file("weights.nada.safetensors");
    json(folder.path(), &["domain", whole.to_str().unwrap(), "--half", "-o", "h.nada.safetensors"]);
    let written = Domain::open(&folder.path().join("h.nada.safetensors")).unwrap();
    assert_eq!(bits(&with(&written)), bits(&with(&half)));
    let about = &json(folder.path(), &["info", "h.nada.safetensors"])["files"][0];
    assert_eq!((&about["number_types"], &about["format"]), (&json!(["f16"]), &json!("nada domain 2")));
}

#[test]
fn a_relative_of_the_generator_takes_a_domain_where_the_caller_says_so() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    generator().save(&at("half.safetensors"), Layout::Nada, true).unwrap();
    let relative = Generator::open(&at("half.safetensors")).unwrap();
    for name in ["styles.nada.safetensors", "weights.nada.safetensors"] {
        let domain = Domain::open(&file(name)).unwrap();
        failed(relative.with_domains(&[(&domain, 1.0)]), Kind::Mismatch, &["another generator"]);
        let moved = domain.for_generator(&relative).unwrap();
        assert_eq!(moved.description.made_from.as_ref(), Some(&domain.description.fingerprint));
        let drawn = draw(&relative.with_domains(&[(&moved, 1.0)]).unwrap());
        close(name, &drawn, &with(&domain), 5e-2, 0.0);
        // It goes through a file, and is no domain of the first generator any more.
        moved.save(&at("moved.nada.safetensors")).unwrap();
        let again = Domain::open(&at("moved.nada.safetensors")).unwrap();
        assert_eq!(bits(&draw(&relative.with_domains(&[(&again, 1.0)]).unwrap())), bits(&drawn));
        failed(generator().with_domains(&[(&again, 1.0)]), Kind::Mismatch, &["another generator"]);

        // The program: refused with a hint, then taken.
        let (source, half) = (file(name).display().to_string(), at("half.safetensors").display().to_string());
        let z = file("z.npy").display().to_string();
        let render = ["render", "--generator", &half, "--latents", &z, "--space", "z", "--noise", "none", "--domain", &source];
        let out = run(folder.path(), &[&render[..], &["--out-npy", "no.npy"]].concat());
        assert!(!out.status.success() && error(&out).contains("--any-generator"), "{}", error(&out));
        json(folder.path(), &[&render[..], &["--out-npy", "yes.npy", "--any-generator", "--force"]].concat());
        close("program", &checkpoint::read_npy(&at("yes.npy")).unwrap(), &drawn, 0.0, 0.0);
        json(folder.path(), &["domain", &source, "--for", &half, "-o", "for.nada.safetensors", "--force"]);
        assert!(Domain::describe(&at("for.nada.safetensors")).unwrap().fits(&relative).unwrap());
    }
    // restyle as well.
    let source = file("styles.nada.safetensors").display().to_string();
    json(folder.path(), &["sample", "-n", "1", "--model", PACK, "-o", "p.png", "--latents", "w.safetensors"]);
    let restyle = ["restyle", "p.png", "--generator", "half.safetensors", "--latent", "w.safetensors", "--domain", &source, "-o", "r.png"];
    assert!(!run(folder.path(), &restyle).status.success());
    json(folder.path(), &[&restyle[..], &["--any-generator"]].concat());
    // Where a shape is another, saying so does not help.
    let other = Generator::open(&data("generators").join("basicsr.pt")).unwrap();
    let domain = Domain::open(&file("weights.nada.safetensors")).unwrap();
    failed(domain.for_generator(&other), Kind::Mismatch, &["a zombie", "shape"]);
    // The thumbnail was drawn by another generator.
    let moved = Domain::open(&format_2(folder.path())).unwrap().for_generator(&relative).unwrap();
    moved.save(&at("bare.nada.safetensors")).unwrap();
    assert!(Domain::thumbnail(&at("bare.nada.safetensors")).unwrap().is_none());
}

/// `g` with a change of some of its tensors, as another program's training leaves it.
fn trained(g: &Generator) -> Generator {
    let changed = |key: &&String| key.starts_with("convs.") && key.ends_with("conv.weight") || *key == "to_rgb1.bias";
    let weights = g.weights().iter().filter(|(key, _)| changed(key)).map(|(key, t)| {
        let n = t.elem_count();
        let wave = Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap().sin().unwrap().reshape(t.dims()).unwrap();
        (key.clone(), (t + wave.affine(0.2, 0.0).unwrap()).unwrap())
    });
    g.replacing(weights.collect(), BTreeMap::new()).unwrap()
}

#[test]
fn two_generators_make_a_domain() {
    let folder = here();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let basicsr = data("generators").join("basicsr.pt").display().to_string();
    for base in [basicsr, starter().display().to_string()] {
        let first = Generator::open(Path::new(&base)).unwrap();
        let adapted = trained(&first);
        for (layout, name) in [(Layout::Nada, "a.safetensors"), (Layout::Rosinality, "fine-tuned_1.pt"), (Layout::AdaPytorch, "a.pkl")] {
            adapted.save(Path::new(&at(name)), layout, false).unwrap();
            let made = json(folder.path(), &["domain", &base, &at(name), "-o", "d.nada.safetensors", "--force"]);
            let domain = Domain::open(Path::new(&at("d.nada.safetensors"))).unwrap();
            let d = &domain.description;
            let stem = Path::new(name).file_stem().unwrap().to_str().unwrap();
            assert_eq!((&d.origin, d.source.as_str(), d.target.as_str(), d.parameters), (&Origin::Imported, "", stem, Parameters::Full));
            assert_eq!((d.fingerprint.as_str(), &made["tensors"]), (first.fingerprint().unwrap(), &json!(domain.deltas.len())));
            // Those that differ, and no other.
            let different = first.weights().iter().filter(|(key, t)| bits(t) != bits(&adapted.weights()[*key])).map(|(key, _)| key);
            assert!(domain.deltas.keys().eq(different), "{:?}", domain.deltas.keys());
            for strength in [0.0, 0.5, 1.0] {
                let half_way = |(key, t): (&String, &Tensor)| {
                    let change = (&adapted.weights()[key] - t).unwrap().affine(f64::from(strength), 0.0).unwrap();
                    (key.clone(), (t + change).unwrap())
                };
                let want = first.replacing(first.weights().iter().map(half_way).collect(), BTreeMap::new()).unwrap();
                let w = first.sample_w(2, 3, 0.8).unwrap();
                let draw = |g: &Generator| g.synthesize(&g.broadcast(&w).unwrap(), Noise::Const).unwrap();
                close(name, &draw(&first.with_domains(&[(&domain, strength)]).unwrap()), &draw(&want), 5e-5, 0.0);
            }
        }
    }
    // Words, half numbers, and the folder where plug-ins look, with a picture.
    let (base, adapted) = (starter().display().to_string(), at("a.safetensors"));
    let made = json(folder.path(), &["domain", &base, &adapted, "--source", " a head ", "--target", "a wave", "--half", "--install"]);
    let gallery = Gallery::open(&folder.path().join("gallery")).unwrap();
    let [installed] = &gallery.domains[..] else { panic!("{made}: {gallery:?}") };
    assert_eq!((installed.description.source.as_str(), installed.description.target.as_str()), ("a head", "a wave"));
    assert_eq!((installed.name.as_str(), made["domain"].as_str()), ("a-wave", installed.file.to_str()));
    assert!(Domain::thumbnail(&installed.file).unwrap().is_some_and(|p| (p.width, p.height) == (32, 32)));
    // Style offsets are a change too.
    let styles = Domain::open(&file("styles.nada.safetensors")).unwrap();
    let shifted = generator().with_domains(&[(&styles, 1.0)]).unwrap();
    let back = Domain::between(&generator(), &shifted, "", "x").unwrap();
    assert_eq!(back.description.parameters, Parameters::Stylespace);
    assert!(back.deltas.iter().all(|(key, delta)| bits(delta) == bits(&styles.deltas[key])));
}

#[test]
fn generators_that_make_no_domain_are_refused() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    let base = starter().display().to_string();
    let told = |adapted: &str| {
        let out = run(folder.path(), &["domain", &base, adapted, "-o", "d.nada.safetensors"]);
        assert!(!out.status.success() && !at("d.nada.safetensors").exists());
        error(&out)
    };
    let basicsr = data("generators").join("basicsr.pt").display().to_string();
    let other = told(&basicsr);
    assert!(other.contains("basicsr.pt") && other.contains("shape ["), "{other}");
    assert!(told(&base).contains("the same numbers"));
    variant(folder.path(), "l.safetensors", Some(("lr_mlp", "0.02")), None);
    let rate = told(at("l.safetensors").to_str().unwrap());
    assert!(rate.contains("lr_mlp") && rate.contains("0.02"), "{rate}");
    let blur = variant(folder.path(), "b.safetensors", None, Some([0.5, 0.5, 0.5, 0.5]));
    failed(Domain::between(&generator(), &blur, "", "x"), Kind::Mismatch, &["blur"]);
    let larger = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter/generator.safetensors");
    failed(Domain::between(&generator(), &Generator::open(&larger).unwrap(), "", "x"), Kind::Mismatch, &["32 px", "128 px"]);
    // A clamp is lost in programs that have none: what they trained is welcome.
    let clamp = variant(folder.path(), "c.safetensors", Some(("conv_clamp", "256")), None);
    let domain = Domain::between(&clamp, &trained(&generator()), "", "x").unwrap();
    clamp.with_domains(&[(&domain, 1.0)]).unwrap();
    // One generator alone, and no file.
    assert!(error(&run(folder.path(), &["domain", &base])).contains("ADAPTED"));
    assert!(error(&run(folder.path(), &["domain", "nowhere.pt", &base])).contains("nowhere.pt"));
}

#[test]
fn states_of_the_version_before_open_and_states_with_unknown_settings_do_not() {
    let folder = here();
    let path = folder.path().join("step-0002.state.safetensors");
    let state = SavedState::open(&file("step-0002.state.safetensors")).unwrap();
    assert_eq!((state.step(), state.settings().steps, state.settings().parameters), (2, 3, Parameters::Stylespace));
    assert!(state.description().fits(&generator()).unwrap());
    let domain = Domain::describe(&file("step-0002.nada.safetensors")).unwrap();
    assert!(state.made(&domain) && !state.made(&Description { target: "a robot".into(), ..domain }));
    let with = |change: &dyn Fn(&mut Value)| {
        changed(&file("step-0002.state.safetensors"), &path, |_, metadata| {
            let mut about = serde_json::from_str(&metadata["state"]).unwrap();
            change(&mut about);
            metadata.insert("state".into(), about.to_string());
        });
        SavedState::open(&path)
    };
    // It would change the bits; what is said of the domain beside does not.
    failed(with(&|s| s["description"]["settings"]["smell"] = json!(1)), Kind::Unsupported, &["step-0002", "smell"]);
    failed(with(&|s| s["description"]["settings"]["losses"]["smell"] = json!(1)), Kind::Unsupported, &["losses.smell"]);
    failed(with(&|s| s["description"]["settings"]["steps"] = json!("all")), Kind::Format, &["settings", "all"]);
    let kept = with(&|s| s["description"]["smell"] = json!(1)).unwrap();
    assert_eq!(kept.description().other["smell"], 1);
    assert_eq!(kept.settings(), state.settings());
    assert_ne!(*state.settings(), Settings::default());
}
