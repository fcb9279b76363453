//! The library against numbers of an independent implementation in float64 (tests/data/golden, whose README says how they were made): they
//! need nothing beside the repository, so that `cargo test` proves networks, losses, training and inversion anywhere.

mod common;

use candle_core::{DType, Device, Tensor, Var, D};
use common::{close, data, largest};
use nada::adapt::{Adaptation, AutoLayers, Concept, Draws, LossWeights, Mode, Parameters, Settings, Templates, WeightedClip};
use nada::checkpoint::{self, Checkpoint};
use nada::invert::{self, invert};
use nada::nn::clip::{Clip, ClipResize, Preprocessing};
use nada::nn::generator::{Generator, Noise};
use nada::picture::Picture;
use nada::progress::{Cancel, Flow};
use nada::rng::Rng;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

fn golden(name: &str) -> PathBuf {
    data("golden").join(name)
}

fn open(name: &str) -> Checkpoint {
    checkpoint::open(&golden(name)).unwrap()
}

fn generator() -> Generator {
    Generator::open(&golden("generator.safetensors")).unwrap()
}

/// Every `every`th number, as the files keep large tensors.
fn strided(tensor: &Tensor, every: usize) -> Tensor {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().step_by(every).collect();
    Tensor::new(values, tensor.device()).unwrap()
}

/// What make.py keeps of a tensor: every fifth number of a large one.
fn sampled(tensor: &Tensor) -> Tensor {
    strided(tensor, if tensor.elem_count() > 100 { 5 } else { 1 })
}

/// cos(0), cos(1), ...
fn waves(shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i as f64).cos() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn the_generator_draws_what_its_equations_say() {
    let (g, want) = (generator(), open("generator_expected.safetensors"));
    let get = |key: &str| want.f32(key, None).unwrap();
    let mut compared = vec![];
    let mut compare = |key: &str, have: &Tensor| {
        if !want.contains(key) {
            return;
        }
        let want = get(key);
        // Some keep the first sample only. float32 and float64 differ by 1e-6 of the largest number.
        close(key, &have.narrow(0, 0, want.dim(0).unwrap()).unwrap(), &want, 4e-6 * largest(&want), 0.0);
        compared.push(key.to_string());
    };
    let w = g.map(&get("z")).unwrap();
    let wplus = g.broadcast(&w).unwrap();
    compare("w", &w);
    let image = g.synthesize_traced(&wplus, Noise::Const, &mut compare).unwrap();
    compare("image", &image);
    compare("image_none", &g.synthesize(&wplus, Noise::None).unwrap());
    compare("image_trunc07", &g.synthesize(&g.truncate(&wplus, 0.7).unwrap(), Noise::Const).unwrap());
    let outputs = want.keys().filter(|k| !["z", "wplus"].contains(k) && !k.starts_with("grad.")).count();
    assert_eq!(compared.len(), outputs, "every output of the file is compared: {compared:?}");
}

#[test]
fn every_gradient_of_the_generator_is_right() {
    let (g, want) = (generator(), open("generator_expected.safetensors"));
    let wplus = Var::from_tensor(&want.f32("wplus", None).unwrap()).unwrap();
    let vars: BTreeMap<String, Var> = g.weights().iter().map(|(k, t)| (k.clone(), Var::from_tensor(t).unwrap())).collect();
    let g = g.replacing(vars.iter().map(|(k, v)| (k.clone(), v.as_tensor().clone())).collect(), BTreeMap::new()).unwrap();
    let image = g.synthesize(wplus.as_tensor(), Noise::Const).unwrap();
    let grads = (&image * waves(image.dims())).unwrap().sum_all().unwrap().backward().unwrap();
    let have = grads.get(wplus.as_tensor()).unwrap();
    let of_wplus = want.f32("grad.wplus", None).unwrap();
    close("grad.wplus", have, &of_wplus, 1e-5 * largest(&of_wplus), 0.0);
    let mut compared = 0;
    for (key, var) in vars.iter().filter(|(k, _)| !k.starts_with("style.")) {
        let key = format!("grad.{key}");
        let want = want.f32(&key, None).unwrap();
        // Sums of thousands of terms of both signs, 5 to 160 of them here; one strength of noise happens to come out at 0.015.
        close(&key, &sampled(grads.get(var.as_tensor()).unwrap()), &want, 2e-5 * largest(&want).max(5.0), 0.0);
        compared += 1;
    }
    assert_eq!(compared + 1, want.keys().filter(|k| k.starts_with("grad.")).count(), "every gradient of the file is compared");
}

/// Features, logits and the gradient with respect to the picture, of which the file has every `every`th number.
fn check_clip(clip: &Clip, image: &Tensor, want: &Checkpoint, every: usize) {
    let get = |key: &str| want.f32(key, None).unwrap();
    let compare = |key: &str, have: &Tensor| close(key, have, &get(key), 5e-6 * largest(&get(key)), 0.0);
    let image = Var::from_tensor(image).unwrap();
    let images = clip.encode_image(image.as_tensor()).unwrap();
    let texts = clip.encode_tokens(&want.tensor("tokens").unwrap().to_dtype(DType::U32).unwrap()).unwrap();
    compare("image_features", &images);
    compare("text_features", &texts);
    let unit = |x: &Tensor| x.broadcast_div(&x.sqr().unwrap().sum_keepdim(D::Minus1).unwrap().sqrt().unwrap()).unwrap();
    let cosines = unit(&images).matmul(&unit(&texts).t().unwrap()).unwrap();
    compare("logits", &(cosines * f64::from(clip.logit_scale())).unwrap());
    let grads = (&images * waves(images.dims())).unwrap().sum_all().unwrap().backward().unwrap();
    compare("gradient", &strided(grads.get(image.as_tensor()).unwrap(), every));
}

#[test]
fn a_clip_with_a_vision_transformer_embeds_what_its_equations_say() {
    let (clip, want) = (Clip::open(&golden("clip")).unwrap(), open("clip_expected.safetensors"));
    assert_eq!((clip.resolution(), clip.dimension()), (32, 24));
    check_clip(&clip, &want.f32("image", None).unwrap(), &want, 3);
    // The same pictures, from the generator's values to the network's; and the same texts, from words to tokens.
    let drawn = open("generator_expected.safetensors").f32("image", None).unwrap();
    close("normalised", &clip.normalise(&drawn).unwrap(), &want.f32("image", None).unwrap(), 2e-5, 0.0);
    let texts = ["photo", "a picture of photo", "sketch", "a picture of sketch"].map(String::from);
    let features = want.f32("text_features", None).unwrap();
    let norms = features.sqr().unwrap().sum_keepdim(D::Minus1).unwrap().sqrt().unwrap();
    close("words", &clip.embed_texts(&texts).unwrap(), &features.broadcast_div(&norms).unwrap(), 2e-6, 0.0);
}

#[test]
fn a_clip_with_a_resnet_embeds_what_its_equations_say() {
    let clip = Clip::open(&golden("resnet.safetensors")).unwrap();
    assert_eq!((clip.resolution(), clip.dimension()), (64, 24));
    check_clip(&clip, &waves(&[1, 3, 64, 64]), &open("resnet_expected.safetensors"), 11);
}

const NONE: LossWeights = LossWeights { direction: 0.0, global: 0.0, manifold: 0.0, in_domain: 0.0, structure: 0.0 };

/// From `photo` to `sketch`, with a trained twin that starts apart from the frozen one.
fn adaptation(settings: Settings) -> Adaptation {
    let frozen = Arc::new(generator());
    let file = open("start.safetensors");
    let weights = file.keys().map(|k| (k.to_string(), file.f32(k, None).unwrap())).collect();
    let start = frozen.replacing(weights, BTreeMap::new()).unwrap();
    let clips = [WeightedClip { clip: Arc::new(Clip::open(&golden("clip")).unwrap()), weight: 1.0 }];
    let text = |t: &str| Concept::Text(t.into());
    let templates = Templates(vec!["{}".into(), "a picture of {}".into()]);
    Adaptation::from_start(frozen, &start, &clips, text("photo"), text("sketch"), &templates, settings).unwrap()
}

#[test]
fn each_loss_alone_has_its_value_and_gradient() {
    let want = open("losses.safetensors");
    let get = |key: &str| want.f32(key, None).unwrap();
    let (before, after) = (get("before"), get("after"));
    // So near that the default mode takes the edits to be longer than they are.
    let near = (&before + (&after - &before).unwrap().affine(0.02, 0.0).unwrap()).unwrap();
    let one = |name: &str| match name {
        "direction" => LossWeights { direction: 1.0, ..NONE },
        "global" => LossWeights { global: 1.0, ..NONE },
        "manifold" => LossWeights { manifold: 1.0, ..NONE },
        // A loss that pulls towards the target must stand beside it.
        "in_domain" => LossWeights { direction: 0.001, in_domain: 1.0, ..NONE },
        _ => panic!("no loss {name}"),
    };
    let mut compared = 0;
    for key in want.keys().filter_map(|k| k.strip_suffix(".loss")) {
        let (mode, name) = key.split_once('.').unwrap();
        let (mode, after) = match mode {
            "reference" => (Mode::Reference, &after),
            "default" => (Mode::Default, &after),
            _ => (Mode::Default, &near),
        };
        let a = adaptation(Settings { mode, losses: one(name), ..Settings::default() });
        let after = Var::from_tensor(after).unwrap();
        let (loss, seed) = a.clip_gradients(&before, after.as_tensor(), &mut Rng::new(0)).unwrap();
        close(&format!("{key}.loss"), &Tensor::new(&[loss], &Device::Cpu).unwrap(), &get(&format!("{key}.loss")), 1e-7, 2e-6);
        let gradient = get(&format!("{key}.gradient"));
        let grads = seed.backward().unwrap();
        let have = strided(grads.get(after.as_tensor()).unwrap(), 23);
        close(&format!("{key}.gradient"), &have, &gradient, 2e-5 * largest(&gradient), 0.0);
        compared += 1;
    }
    assert_eq!(compared, 8);
}

/// Two steps with given draws: the losses, the rows chosen and how far everything trained has moved.
fn train(name: &str, settings: Settings) {
    let (given, want) = (open("runs_given.safetensors"), open("runs_expected.safetensors"));
    let rate = settings.learning_rate;
    let maps = |prefix: String| -> Option<Vec<Tensor>> {
        let maps: Vec<Tensor> = (0..).map_while(|i| given.f32(&format!("{prefix}.{i}"), None).ok()).collect();
        (!maps.is_empty()).then_some(maps)
    };
    let numbers = |key: &str| -> Vec<usize> {
        let numbers = want.tensor(key).unwrap().to_dtype(DType::I64).unwrap().to_vec1::<i64>().unwrap();
        numbers.into_iter().map(|n| n as usize).collect()
    };
    let mut a = adaptation(settings.clone());
    for step in 0..2 {
        let key = |part: &str| format!("{name}.{step}.{part}");
        let get = |part: &str| given.f32(&key(part), None).unwrap();
        let mixing = given.contains(&key("mixing.z")).then(|| {
            let rows = numbers(&key("mixing.rows"));
            [(get("mixing.z"), rows[0]), (get("mixing.z"), rows[1])]
        });
        let noise = maps(key("noise.0")).map(|first| {
            let second = maps(key("noise.1")).unwrap_or_else(|| first.clone());
            [first, second]
        });
        let selection = settings.auto_layers.map(|_| (get("selection.z"), maps(key("selection.noise.0")).into_iter().collect()));
        let report = a.step_with(&Draws { z: get("z"), mixing, noise, selection }, &mut Rng::new(0)).unwrap();
        let loss = want.f32(&key("loss"), None).unwrap();
        close(&key("loss"), &Tensor::new(&[report.loss], &Device::Cpu).unwrap(), &loss, 1e-7, 1e-5);
        if settings.auto_layers.is_some() {
            assert_eq!(report.rows, numbers(&key("rows")), "{}", key("rows"));
        }
    }
    let deltas = a.domain().unwrap().deltas;
    let (mut near, mut all, mut moved) = (0, 0, 0.0f32);
    for key in want.keys().filter_map(|k| k.strip_prefix(&format!("{name}.delta."))) {
        let expected = want.f32(&format!("{name}.delta.{key}"), None).unwrap().to_vec1::<f32>().unwrap();
        let steady = numbers(&format!("{name}.steady.{key}"));
        let have = match deltas.get(key) {
            Some(delta) => sampled(delta).to_vec1::<f32>().unwrap(),
            // What never moved is no part of a domain.
            None => vec![0.0; expected.len()],
        };
        assert_eq!(have.len(), expected.len(), "{name}: {key}");
        for (i, (have, want)) in have.iter().zip(&expected).enumerate() {
            // A gradient of almost nothing has the sign that rounding gives it, and Adam takes a whole step along it.
            let allowed = if steady[i] == 1 { 0.01 * rate } else { 4.0 * rate };
            assert!(((have - want).abs() as f64) < allowed, "{name}: {key}[{i}] differs by {have} instead of {want}");
            near += steady[i];
            all += 1;
            moved = moved.max(want.abs());
        }
    }
    assert!(near as f64 > 0.95 * all as f64 && moved as f64 > rate, "{name}: {near} of {all} are compared closely");
}

fn settings(mode: Mode, losses: LossWeights) -> Settings {
    Settings { mode, losses, steps: 2, noise: false, snapshot_every: 0, ..Settings::default() }
}

#[test]
fn steps_in_reference_mode_are_repeated() {
    let losses = LossWeights { direction: 1.0, global: 0.5, manifold: 0.25, ..NONE };
    train("reference", Settings { noise: true, mixing: 0.9, ..settings(Mode::Reference, losses) });
}

/// The second step chooses other layers, to_rgb1 among them, while the first ones' moments decay.
#[test]
fn steps_in_reference_mode_with_selected_layers_are_repeated() {
    let auto_layers = Some(AutoLayers { k: 2, iterations: 1, batch: 3 });
    train("reference_layers", Settings { noise: true, auto_layers, ..settings(Mode::Reference, LossWeights::default()) });
}

/// All losses, a batch in two parts, a rate that falls.
#[test]
fn steps_in_default_mode_are_repeated() {
    let losses = LossWeights { direction: 1.0, global: 0.5, manifold: 0.25, in_domain: 2.0, structure: 3.0 };
    train("default", Settings { noise: true, mixing: 0.9, batch: 5, decay: true, ..settings(Mode::Default, losses) });
}

#[test]
fn steps_in_default_mode_with_selected_layers_are_repeated() {
    let auto_layers = Some(AutoLayers { k: 2, iterations: 2, batch: 3 });
    train("default_layers", Settings { auto_layers, ..settings(Mode::Default, LossWeights::default()) });
}

/// Offsets of styles, ToRGB's too, by each loss alone (and a thousandth of the direction where the loss does not pull to the target).
#[test]
fn steps_by_each_loss_alone_are_repeated() {
    for (name, losses) in [
        ("direction", LossWeights { direction: 1.0, ..NONE }),
        ("global", LossWeights { global: 1.0, ..NONE }),
        ("manifold", LossWeights { manifold: 1.0, ..NONE }),
        ("in_domain", LossWeights { direction: 0.001, in_domain: 1.0, ..NONE }),
        ("structure", LossWeights { direction: 0.001, structure: 1.0, ..NONE }),
    ] {
        let offsets = Settings { parameters: Parameters::Stylespace, train_to_rgb: true, batch: 4, ..settings(Mode::Default, losses) };
        train(name, offsets);
    }
}

/// Six steps in W and two in W+, with a CLIP: each step's loss, and the latent that was found.
#[test]
fn an_inversion_is_repeated() {
    let want = open("inversion.safetensors");
    let get = |key: &str| want.f32(key, None).unwrap();
    let clip = Clip::open(&golden("clip")).unwrap();
    let target = Picture::from_tensor(&get("target"), 0).unwrap();
    let settings = invert::Settings { steps: 8, clip_weight: 0.1, ..invert::Settings::default() };
    let mut losses = vec![];
    let mut keep = |p: &nada::progress::Progress| {
        losses.push(p.loss);
        Flow::Continue
    };
    let found = invert(&generator(), &target, Some(&clip), &settings, &Cancel::new(), &mut keep).unwrap();
    close("losses", &Tensor::new(losses, &Device::Cpu).unwrap(), &get("losses"), 0.0, 1e-5);
    close("best", &Tensor::new(&[found.loss], &Device::Cpu).unwrap(), &get("best"), 0.0, 1e-5);
    // The first steps of Adam go along the signs of gradients, here of 16 numbers, none of them near 0.
    close("wplus", &found.latent.tensor, &get("wplus"), 2e-5, 0.0);
}

#[test]
fn pictures_reach_a_clip_as_published() {
    let want = open("resized.safetensors");
    let get = |key: &str| want.f32(key, None).unwrap();
    let preprocessing = Preprocessing::openai(16);
    let picture = waves(&[1, 3, 20, 28]);
    for (key, how) in [("antialias", ClipResize::Antialias), ("aliased", ClipResize::Aliased)] {
        // Sums of up to 8 x 8 products, whose weights are of both signs.
        close(key, &preprocessing.tensor(&picture, how).unwrap(), &get(key), 5e-6, 0.0);
    }
    let bytes: Vec<u8> = (0..20 * 28 * 3u32).map(|i| ((i * i * 31 + i * 7) % 256) as u8).collect();
    // The same bytes; what is left is rounding of (x - mean) / std.
    close("bytes", &preprocessing.rgb8(&bytes, 28, 20).unwrap(), &get("bytes"), 1e-6, 0.0);
}
