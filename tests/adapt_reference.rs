//! `reference` mode against the published code's losses, gradients and runs, step by step.

mod common;

use candle_core::{Tensor, Var};
use common::{close, reference};
use nada::adapt::{Adaptation, AutoLayers, ClipResize, Concept, Draws, LossWeights, Mode, Settings, Templates, WeightedClip};
use nada::checkpoint::{self, Checkpoint};
use nada::nn::clip::Clip;
use nada::nn::generator::{Generator, Noise};
use nada::rng::Rng;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

fn settings(losses: LossWeights, auto_layers: Option<AutoLayers>) -> Settings {
    Settings { mode: Mode::Reference, losses, auto_layers, batch: 2, clip_resize: ClipResize::Aliased, ..Settings::default() }
}

/// `shaken` moves every start weight by a relative 1e-7, about its rounding, another way for each number; 0 leaves them.
fn adaptation(dir: &Path, settings: Settings, shaken: u64) -> Adaptation {
    let frozen = Arc::new(Generator::open(&dir.join("stylegan2_rosinality/tiny64.pt")).unwrap());
    let start = Generator::open(&dir.join("nada/tiny64_train.pt")).unwrap();
    let mut rng = Rng::new(shaken);
    let mut shake = |t: &Tensor| (t + (t * rng.normals(t.dims(), t.device()).unwrap()).unwrap().affine(1e-7, 0.0).unwrap()).unwrap();
    let start = match shaken {
        0 => start,
        _ => start.replacing(start.weights().iter().map(|(k, t)| (k.clone(), shake(t))).collect(), Default::default()).unwrap(),
    };
    let clip = Arc::new(Clip::open(&dir.join("clip/tiny_vit_hf")).unwrap());
    let text = |t: &str| Concept::Text(t.to_string());
    let clips = [WeightedClip { clip, weight: 1.0 }];
    Adaptation::from_start(frozen, &start, &clips, text("photo"), text("sketch"), &Templates::default(), settings).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The tensors of a run's step, in the order in which the published code draws them.
fn draws(run: &Checkpoint, step: usize, iterations: usize) -> Draws {
    let get = |k: String| run.f32(&k, None).unwrap();
    let noise = |from: usize| -> Vec<Tensor> { (from..from + 9).map(|i| get(format!("step{step}.noise.{i:03}"))).collect() };
    let selection = (iterations > 0).then(|| (get(format!("step{step}.auto_z")), (0..iterations).map(|i| noise(9 * i)).collect()));
    let from = 9 * iterations;
    Draws { z: get(format!("step{step}.z")), mixing: None, noise: Some([noise(from), noise(from + 9)]), selection }
}

/// Repeats a run with the tolerances of the README of the reference data, measured there on a second implementation: losses `rtol`
/// relative, norms 1e-3 relative, each element within the learning rate (Adam's first steps have the size of the rate and the sign of a
/// gradient that may be almost zero). Returns the largest relative
/// difference of a loss, of a norm, and the largest difference of an element in learning rates.
fn run(dir: &Path, name: &str, losses: LossWeights, auto_layers: Option<AutoLayers>, shaken: u64) -> [f64; 3] {
    let file = checkpoint::open(&dir.join(format!("nada/{name}.safetensors"))).unwrap();
    let want = json(&dir.join(format!("nada/{name}.json")));
    let mut a = adaptation(dir, settings(losses, auto_layers), shaken);
    let (mut worst, mut worst_norm, mut worst_element) = (0.0f64, 0.0f64, 0.0f64);
    let rate = a.settings().learning_rate;
    let mut compared = 0;
    for (step, want) in want["steps"].as_array().unwrap().iter().enumerate() {
        let report = a.step_with(&draws(&file, step, auto_layers.map_or(0, |a| a.iterations)), &mut Rng::new(0)).unwrap();
        let loss = want["loss"].as_f64().unwrap();
        worst = worst.max((report.loss as f64 - loss).abs() / loss);
        if auto_layers.is_some() {
            // In which order they were chosen decides nothing, and f32 tells no difference below 1e-2 (selection_over_three_iterations_agrees):
            // in the fifth step two of them are 2.5e-4 apart.
            let rows: BTreeSet<usize> = want["chosen_layers"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
            assert_eq!(report.rows.iter().copied().collect::<BTreeSet<_>>(), rows, "{name} step {step}");
            assert_eq!(report.rows.len(), rows.len());
        }
        let g = a.generator().unwrap();
        for (key, norm) in want["norms"].as_object().unwrap() {
            let norm = norm[0].as_f64().unwrap();
            let have = g.weights()[key]
                .to_dtype(candle_core::DType::F64)
                .unwrap()
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f64>()
                .unwrap()
                .sqrt();
            worst_norm = worst_norm.max((have - norm).abs() / norm.max(1e-9));
        }
        let prefix = format!("after{}.", step + 1);
        for key in file.keys().filter(|k| k.starts_with(&prefix)) {
            let name = &key[prefix.len()..];
            let want = file.f32(key, None).unwrap();
            let have = match name.strip_suffix(".first16") {
                Some(n) => g.weights()[n].flatten_all().unwrap().narrow(0, 0, want.elem_count()).unwrap(),
                None => g.weights()[name].clone(),
            };
            let apart = (have - want).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap() as f64;
            assert!(!apart.is_nan(), "{key}");
            worst_element = worst_element.max(apart / rate);
            compared += 1;
        }
    }
    assert_eq!(compared, file.keys().filter(|k| k.starts_with("after")).count(), "every saved weight is compared");
    [worst, worst_norm, worst_element]
}

/// After a step of Adam with a first beta of 0 a weight has moved by the rate along the sign of its gradient, and where that is almost
/// zero rounding decides. In the published run convs.6.noise.weight, a single number, is such a weight and decides the fourth loss: starts
/// that differ by 1e-7 end in 1.13800 (the published branch) or 1.13838. So some start within rounding must repeat every loss to 1e-4 and
/// every norm to 1e-3, every element to
/// a learning rate, and each may be one flip away: 5e-4, 5e-3 and three learning rates.
fn repeat(name: &str, losses: LossWeights, auto_layers: Option<AutoLayers>) {
    let dir = reference();
    let mut seen = vec![];
    for shaken in 0..8 {
        let worst = run(&dir, name, losses, auto_layers, shaken);
        let within = |limits: [f64; 3]| worst.iter().zip(limits).all(|(w, limit)| *w <= limit);
        assert!(within([5e-4, 5e-3, 3.0]), "{name}: loss, norm and element differ by {worst:?}");
        seen.push(worst);
        if within([1e-4, 1e-3, 1.0]) {
            return;
        }
    }
    panic!("{name}: no start within rounding repeats the run; the differences are {seen:?}");
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn the_published_run_is_repeated() {
    repeat("run_direction", LossWeights::default(), None);
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn the_run_with_layer_selection_is_repeated() {
    let losses = LossWeights { direction: 1.0, global: 0.5, manifold: 0.25, in_domain: 0.0, structure: 0.0 };
    repeat("run_auto_layers", losses, Some(AutoLayers { k: 3, iterations: 1, batch: 4 }));
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn selection_over_three_iterations_agrees() {
    let dir = reference();
    let file = checkpoint::open(&dir.join("nada/select_iters3.safetensors")).unwrap();
    let a = adaptation(&dir, settings(LossWeights::default(), Some(AutoLayers { k: 3, iterations: 3, batch: 4 })), 0);
    let noise: Vec<Vec<Tensor>> =
        (0..3).map(|i| (0..9).map(|j| file.f32(&format!("iter{i}.noise.{j:03}"), None).unwrap()).collect()).collect();
    let change = a.layer_changes(&file.f32("z", None).unwrap(), &noise).unwrap();
    let change = Tensor::new(change, &candle_core::Device::Cpu).unwrap();
    // Differences of w after steps of 1e-5: f32 keeps about 1e-2 of them in the published run too (its own distance to float64 is
    // printed by the script that made it); an order of magnitude less is asked for here, against float64.
    close("change", &change, &file.f32("change_float64", None).unwrap(), 0.0, 2e-2);
}

/// Losses and gradients of single calls: atol 1e-5 for losses and rtol 1e-3 for gradients, as the README of the reference data says.
#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn losses_and_gradients_agree() {
    let dir = reference();
    let file = checkpoint::open(&dir.join("nada/losses.safetensors")).unwrap();
    let get = |k: &str| file.f32(k, None).unwrap();
    let start = Generator::open(&dir.join("nada/tiny64_train.pt")).unwrap();
    let zero = LossWeights { direction: 0.0, global: 0.0, manifold: 0.0, in_domain: 0.0, structure: 0.0 };
    let cases = [
        ("direction", LossWeights { direction: 1.0, ..zero }),
        ("global", LossWeights { global: 1.0, ..zero }),
        ("manifold", LossWeights { manifold: 1.0, ..zero }),
    ];
    for (name, losses) in cases {
        let a = adaptation(&dir, settings(losses, None), 0);
        let image = Var::from_tensor(&get("trainable_img")).unwrap();
        let (loss, seed) = a.clip_gradients(&get("frozen_img"), image.as_tensor(), &mut Rng::new(0)).unwrap();
        let want = get(&format!("loss.{name}")).to_vec1::<f32>().unwrap()[0];
        assert!((loss - want).abs() <= 1e-5, "{name}: loss {loss} instead of {want}");
        let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap() as f64;
        let want = get(&format!("grad_img.{name}"));
        let grads = seed.backward().unwrap();
        close(&format!("grad_img.{name}"), grads.get(image.as_tensor()).unwrap(), &want, 1e-4 * largest(&want), 1e-3);

        let vars: std::collections::BTreeMap<String, Var> =
            start.weights().iter().map(|(k, t)| (k.clone(), Var::from_tensor(t).unwrap())).collect();
        let twin = start.replacing(vars.iter().map(|(k, v)| (k.clone(), v.as_tensor().clone())).collect(), Default::default()).unwrap();
        let image = twin.synthesize(&twin.broadcast(&get("w")).unwrap(), Noise::Const).unwrap();
        let (_, seed) = a.clip_gradients(&get("frozen_img"), &image, &mut Rng::new(0)).unwrap();
        let grads = seed.backward().unwrap();
        let prefix = format!("grad_param.{name}.");
        let mut compared = 0;
        for key in file.keys().filter(|k| k.starts_with(&prefix)) {
            let want = get(key);
            let have = grads.get(vars[&key[prefix.len()..]].as_tensor()).unwrap();
            close(key, have, &want, 1e-4 * largest(&want), 1e-3);
            compared += 1;
        }
        assert!(compared >= 6, "{name}: {compared} parameters compared");
    }
    // The direction between the texts, and the embeddings behind it.
    let clip = Clip::open(&dir.join("clip/tiny_vit_hf")).unwrap();
    for word in ["photo", "sketch"] {
        let texts: Vec<String> = Templates::default().0.iter().map(|t| t.replace("{}", word)).collect();
        close(word, &clip.embed_texts(&texts).unwrap(), &get(&format!("text_features_{word}")), 2e-5, 0.0);
    }
}
