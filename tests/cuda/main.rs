//! Each operation and whole steps on a GPU against the CPU. The GPU is a real one, or the emulated one of `tests/cuda/emulate` that
//! `NADA_CUDA_LIBS` names: scripts/test-cuda. `NADA_CUDA_MATH` chooses what is compared.
#![cfg(feature = "cuda")]

#[path = "../common/random_generator.rs"]
#[allow(dead_code)]
mod random_generator;

use candle_core::{DType, Device, Result, Tensor, Var};
use nada::cancel::Cancel;
use nada::kernels::*;
use nada::nn::generator::{Generator, Noise};
use nada::progress::{silent, Flow};
use random_generator::Random;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const HOST: &Device = &Device::Cpu;

fn gpu() -> Device {
    let choice = nada::device::named("cuda").unwrap();
    assert!(choice.device.is_cuda(), "no GPU: {}", choice.why);
    choice.device
}

/// Relative distance that is allowed: sums of thousands of f32 in other orders; with TF32 factors are rounded to 2^-11, layer after layer, but for
/// an emulated GPU that does not round (`NADA_CUDA_EXACT`).
fn allowed() -> f64 {
    match std::env::var("NADA_CUDA_MATH").as_deref() {
        Ok("f32") => 2e-5,
        _ if std::env::var_os("NADA_CUDA_EXACT").is_some() => 2e-5,
        _ => 1e-2,
    }
}

/// Uniform in [-1, 1), always the same.
fn numbers(shape: &[usize], seed: u32) -> Tensor {
    let mut s = seed.wrapping_mul(2_654_435_769).wrapping_add(1);
    let mut next = || {
        s ^= s << 13;
        s ^= s >> 17;
        s ^= s << 5;
        s as f32 / 2f32.powi(31) - 1.0
    };
    Tensor::from_vec((0..shape.iter().product()).map(|_| next()).collect::<Vec<f32>>(), shape, HOST).unwrap()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.to_device(HOST).unwrap().to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// |have - want| / |want|
fn distance(have: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(have.dims(), want.dims());
    let (have, want) = (values(have), values(want));
    let error: f64 = have.iter().zip(&want).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let size: f64 = want.iter().map(|b| f64::from(*b).powi(2)).sum();
    if size == 0.0 {
        return error.sqrt();
    }
    (error / size).sqrt()
}

/// Result and gradients of `f` on both devices.
fn same(name: &str, arguments: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    same_of(name, arguments, &vec![true; arguments.len()], f);
}

/// As [`same`], with gradients of those arguments alone that are `tracked`.
fn same_of(name: &str, arguments: &[Tensor], tracked: &[bool], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let on = |device: &Device| -> Result<Vec<Tensor>> {
        let vars = arguments.iter().map(|a| Var::from_tensor(&a.to_device(device)?)).collect::<Result<Vec<_>>>()?;
        let given = vars.iter().zip(tracked).map(|(v, t)| if *t { v.as_tensor().clone() } else { v.as_detached_tensor() });
        let y = f(&given.collect::<Vec<_>>())?;
        let weights = numbers(y.dims(), 99).to_device(device)?;
        let gradients = (&y * weights)?.sum_all()?.backward()?;
        let mut all = vec![y];
        all.extend(vars.iter().zip(tracked).filter(|(_, t)| **t).map(|(v, _)| gradients.get(v).expect("a gradient").clone()));
        Ok(all)
    };
    let (have, want) = (on(&gpu()).unwrap(), on(HOST).unwrap());
    for (i, (a, b)) in have.iter().zip(&want).enumerate() {
        let d = distance(a, b);
        assert!(values(b).iter().any(|v| *v != 0.0), "{name}: result {i} is nothing but zeros");
        assert!(d < allowed(), "{name}: {} is off by {d:e}", if i == 0 { "the result".into() } else { format!("gradient {i}") });
    }
}

#[test]
fn a_device_says_its_name_and_one_that_is_not_there_is_the_cpu() {
    let choice = nada::device::named("cuda:0").unwrap();
    assert!(choice.device.is_cuda() && choice.why.contains("GiB"), "{}", choice.why);
    let none = nada::device::named("cuda:99").unwrap();
    assert!(none.device.is_cpu() && none.why.contains("99"), "{}", none.why);
}

#[test]
fn linear_layers() {
    for (rows, inputs, outputs) in [(1, 1, 1), (5, 7, 3), (33, 64, 40)] {
        let arguments = [numbers(&[rows, inputs], 1), numbers(&[outputs, inputs], 2), numbers(&[outputs], 3)];
        same("linear", &arguments, |a| linear(&a[0], &a[1], Some(&a[2])));
        same("linear without bias", &arguments[..2], |a| linear(&a[0], &a[1], None));
    }
    let turned = [numbers(&[7, 5], 1), numbers(&[7, 4], 2)];
    same("linear of views", &turned, |a| linear(&a[0].t()?, &a[1].t()?.contiguous()?, None));
}

#[test]
fn norms_activations_and_attention() {
    for width in [3, 32, 130] {
        let arguments = [numbers(&[2, 5, width], 4), numbers(&[width], 5), numbers(&[width], 6)];
        same_of("layer_norm", &arguments, &[true, false, false], |a| layer_norm(&a[0], &a[1], &a[2], 1e-5));
    }
    let x = [(numbers(&[300], 7) * 5.0).unwrap()];
    same("quick_gelu", &x, |a| quick_gelu(&a[0]));
    same("gelu", &x, |a| gelu(&a[0]));
    same("gelu_tanh", &x, |a| gelu_tanh(&a[0]));
    for (n, tokens, heads, width) in [(1, 1, 1, 1), (2, 5, 3, 4), (1, 35, 2, 33)] {
        let qkv = [(numbers(&[n, tokens, 3 * heads * width], 8) * 2.0).unwrap()];
        for causal in [false, true] {
            same("attention", &qkv, |a| attention(&a[0], heads, causal));
        }
    }
}

#[test]
fn transformer_blocks() {
    let (d, hidden) = (12, 20);
    for (causal, queries, activation) in [(false, 6, Activation::QuickGelu), (true, 6, Activation::Gelu), (false, 1, Activation::GeluTanh)]
    {
        let shapes: [&[usize]; 12] =
            [&[d], &[d], &[3 * d, d], &[3 * d], &[d, d], &[d], &[d], &[d], &[hidden, d], &[hidden], &[d, hidden], &[d]];
        let weights: Vec<Tensor> = shapes.iter().zip(20..).map(|(shape, seed)| numbers(shape, seed)).collect();
        same("block", &[numbers(&[2, 6, d], 9)], |a| {
            let mut w = weights.iter().map(|w| w.to_device(a[0].device()).unwrap());
            let mut pair = || (w.next().unwrap(), w.next().unwrap());
            let weights = BlockWeights { norm1: pair(), qkv: pair(), out: pair(), norm2: pair(), up: pair(), down: pair() };
            Block::new(&weights, 3, causal, activation, 1e-5)?.first(&a[0], queries)
        });
    }
}

#[test]
fn pictures_to_tokens() {
    for (h, w, patch) in [(4, 4, 4), (9, 13, 4), (6, 5, 1)] {
        let (d, patches) = (7, (h / patch) * (w / patch));
        let shapes: [&[usize]; 5] = [&[d, 3, patch, patch], &[d], &[1 + patches, d], &[d], &[d]];
        let weights: Vec<Tensor> = shapes.iter().zip(30..).map(|(shape, seed)| numbers(shape, seed)).collect();
        let embedding = |device: &Device, normed: bool| {
            let w: Vec<Tensor> = weights.iter().map(|w| w.to_device(device).unwrap()).collect();
            let norm = normed.then_some((&w[3], &w[4], 1e-5));
            PatchEmbedding::new(&EmbedWeights { convolution: &w[0], class: &w[1], position: &w[2], norm })
        };
        let x = [numbers(&[2, 3, h, w], 1)];
        same("patch embedding", &x, |a| embedding(a[0].device(), false)?.forward(&a[0]));
        same("normalised patch embedding", &x, |a| embedding(a[0].device(), true)?.forward(&a[0]));
        let alone = |device: &Device| embedding(device, true)?.convolution(&x[0].to_device(device)?);
        let d = distance(&alone(&gpu()).unwrap(), &alone(HOST).unwrap());
        assert!(d < allowed(), "patches are off by {d:e}");
    }
    // The way back again, which what the way there kept is no longer there for.
    let x = Var::from_tensor(&numbers(&[2, 3, 8, 8], 1).to_device(&gpu()).unwrap()).unwrap();
    let there = |shape: &[usize], seed| numbers(shape, seed).to_device(&gpu()).unwrap();
    let (convolution, class, position) = (there(&[7, 3, 4, 4], 2), there(&[7], 3), there(&[5, 7], 4));
    let norm = (there(&[7], 5), there(&[7], 6));
    let weights = EmbedWeights { convolution: &convolution, class: &class, position: &position, norm: Some((&norm.0, &norm.1, 1e-5)) };
    let y = (PatchEmbedding::new(&weights).unwrap().forward(x.as_tensor()).unwrap() * there(&[2, 5, 7], 7)).unwrap().sum_all().unwrap();
    let gradient = || values(y.backward().unwrap().get(x.as_tensor()).unwrap());
    assert_eq!(gradient(), gradient());
}

#[test]
fn resizing() {
    for filter in [Filter::BicubicAntialias, Filter::Bicubic, Filter::BilinearAntialias, Filter::Bilinear, Filter::Area] {
        for (h, w, to, crop) in [
            (16, 16, (16, 16), (0..16, 0..16)),
            (33, 20, (7, 9), (0..7, 0..9)),
            (9, 14, (30, 21), (3..25, 1..20)),
            (1, 1, (3, 2), (0..3, 0..2)),
        ] {
            same("resize", &[numbers(&[2, 3, h, w], 1)], |a| resize(&a[0], to, crop.clone(), filter));
        }
    }
}

#[test]
fn pictures_under_maps_and_scales() {
    same("channel_affine", &[numbers(&[2, 3, 5, 7], 1)], |a| channel_affine(&a[0], &[0.5, -2.0, 3.0], &[1.0, 0.0, -1.0]));
    same("bias_act", &[numbers(&[2, 5], 1), numbers(&[5], 2)], |a| bias_act(&a[0], &a[1]));
    same("bias_act of planes", &[numbers(&[2, 5, 3, 7], 1), numbers(&[5], 2)], |a| bias_act(&a[0], &a[1]));
    let maps: [[f32; 6]; 5] = [
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        [0.9, 0.3, 0.1, -0.3, 0.9, -0.2],
        // Far outside, smaller, larger, and turned over.
        [1.1, -0.2, 2.7, 0.1, 0.8, -3.1],
        [2.6, 0.4, 0.3, 0.2, 3.3, 0.1],
        [-0.4, 0.1, 0.2, 0.3, 0.5, -0.6],
    ];
    for map in maps {
        for (h, w) in [(8, 8), (13, 9), (1, 6)] {
            let theta: Vec<f32> = map.iter().chain(&maps[1]).copied().collect();
            same("affine_sample", &[numbers(&[2, 3, h, w], 1)], |a| affine_sample(&a[0], &theta));
        }
    }
    let kernel = |k: usize| (0..k * k).map(|i| 0.1 + i as f32 * 0.03).collect::<Vec<_>>();
    for (k, up, down, pad, h, w) in [
        (4, 1, 1, [2, 1, 2, 1], 9, 33),
        (4, 2, 1, [2, 1, 2, 1], 16, 17),
        (4, 1, 2, [1, 1, 1, 1], 35, 20),
        (6, 2, 2, [3, 0, -1, 4], 20, 13),
        (3, 3, 2, [-2, 5, 0, 0], 11, 40),
    ] {
        let how = UpFirDn { kernel: kernel(k), kernel_size: (k, k), up, down, pad };
        same("upfirdn2d", &[numbers(&[2, 3, h, w], 5)], |a| upfirdn2d(&a[0], &how));
    }
}

#[test]
fn plain_convolutions() {
    for (n, c, h, w, o, k, stride, padding) in [(1, 1, 1, 1, 1, 1, 1, 0), (2, 3, 9, 7, 5, 3, 1, 1), (2, 4, 11, 12, 3, 4, 3, 2)] {
        same("conv2d", &[numbers(&[n, c, h, w], 1), numbers(&[o, c, k, k], 2)], |a| conv2d(&a[0], &a[1], stride, padding));
    }
}

/// A random generator of rosinality's layout, on both devices.
fn generators(side: usize, channels: fn(usize) -> usize) -> [Generator; 2] {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("random.safetensors");
    Random { side, style_dim: 16, mapping_layers: 2, channels, spread: 1.0 }.write(&file);
    [HOST.clone(), gpu()].map(|device| Generator::open_on(&file, &device, &Cancel::new()).unwrap())
}

/// Pictures, and gradients of every weight, of W+ and of the noise maps.
fn drawn_and_back(g: &Generator, wplus: &Tensor, n: usize) -> BTreeMap<String, Tensor> {
    let device = g.device();
    let wplus = Var::from_tensor(&wplus.to_device(device).unwrap()).unwrap();
    let vars: BTreeMap<String, Var> = g.weights().iter().map(|(k, t)| (k.clone(), Var::from_tensor(t).unwrap())).collect();
    let maps: Vec<Var> = g
        .noise_maps()
        .iter()
        .map(|m| {
            let (h, w) = (m.dim(2).unwrap(), m.dim(3).unwrap());
            // One map for all pictures, or one each.
            Var::from_tensor(&numbers(&[if h > 8 { 1 } else { n }, 1, h, w], 70).to_device(device).unwrap()).unwrap()
        })
        .collect();
    let moved = g.replacing(vars.iter().map(|(k, v)| (k.clone(), v.as_tensor().clone())).collect(), BTreeMap::new()).unwrap();
    let noise: Vec<Tensor> = maps.iter().map(|m| m.as_tensor().clone()).collect();
    let picture = moved.synthesize(wplus.as_tensor(), Noise::Given(&noise)).unwrap();
    let weights = numbers(picture.dims(), 98).to_device(device).unwrap();
    let gradients = (&picture * weights).unwrap().sum_all().unwrap().backward().unwrap();
    let mut all = BTreeMap::from([("picture".to_string(), picture)]);
    all.insert("wplus".into(), gradients.get(wplus.as_tensor()).unwrap().clone());
    for (name, var) in vars.iter().map(|(k, v)| (k.clone(), v)).chain(maps.iter().enumerate().map(|(i, m)| (format!("map {i}"), m))) {
        if let Some(gradient) = gradients.get(var.as_tensor()) {
            all.insert(name, gradient.clone());
        }
    }
    // Sums of a picture's every number, of either sign: one alone may be about 0, and says nothing of its error then.
    let single: Vec<String> = all.iter().filter(|(_, t)| t.elem_count() == 1).map(|(k, _)| k.clone()).collect();
    let single: Vec<Tensor> = single.iter().map(|k| all.remove(k).unwrap().flatten_all().unwrap()).collect();
    all.insert("single numbers".into(), Tensor::cat(&single, 0).unwrap());
    all
}

#[test]
fn generators_draw_and_learn_the_same() {
    // Channels that tensor cores' tiles take, that only some take, and that none takes.
    let cases: [(usize, usize, fn(usize) -> usize); 2] = [(32, 2, |side| if side > 8 { 32 } else { 64 }), (32, 3, |side| 35 - side)];
    for (side, n, channels) in cases {
        let [host, device] = generators(side, channels);
        let wplus = numbers(&[n, host.config().n_latent(), 16], 5);
        let (want, have) = (drawn_and_back(&host, &wplus, n), drawn_and_back(&device, &wplus, n));
        assert_eq!(want.keys().collect::<Vec<_>>(), have.keys().collect::<Vec<_>>());
        assert!(want.len() > 30, "{:?}", want.keys());
        for (name, want) in &want {
            let d = distance(&have[name], want);
            // Of a style's gradient the norm takes most away again: what remains has the error of the whole, most of all where factors are rounded.
            let room = if allowed() > 1e-3 { 10.0 } else { 5.0 };
            assert!(d < room * allowed(), "{name} of {side} px, {n} pictures: off by {d:e}");
        }
    }
}

#[test]
fn a_render_from_z_is_the_same() {
    let [host, device] = generators(32, |_| 8);
    let latent = nada::nn::generator::Latent { space: nada::nn::generator::Space::Z, tensor: numbers(&[2, 16], 3), noise: None };
    let draw = |g: &Generator| g.render(&latent, 0.7, Noise::Const).unwrap();
    let d = distance(&draw(&device), &draw(&host));
    assert!(d < allowed(), "off by {d:e}");
}

fn pack(device: &Device) -> nada::pack::ModelPack {
    // Tests run in the root of the tree, wherever it is.
    nada::pack::ModelPack::open(Path::new("tests/c/models/starter")).unwrap().on(device)
}

fn templates() -> nada::adapt::Templates {
    nada::adapt::Templates(vec!["{}".into(), "a picture of {}".into()])
}

fn adaptation(device: &Device, settings: nada::adapt::Settings) -> nada::adapt::Adaptation {
    use nada::adapt::{Adaptation, Concept};
    let pack = pack(device);
    let (generator, clips) = (Arc::new(pack.load_generator().unwrap()), pack.load_clips().unwrap());
    let text = |t: &str| Concept::Text(t.into());
    Adaptation::new(generator, &clips, text("a photo"), text("a zombie"), &templates(), settings).unwrap()
}

#[test]
fn adaptations_take_the_same_steps() {
    use nada::adapt::{Memory, Mode, Parameters, Settings};
    let base = Settings { steps: 2, batch: 2, noise: true, train_to_rgb: true, augment: true, ..Settings::default() };
    for settings in [
        base.clone(),
        Settings { parameters: Parameters::Stylespace, ..base.clone() },
        Settings { mode: Mode::Reference, augment: false, ..base.clone() },
        // One picture after the other, through a lower one, and what CLIPs saw of unadapted ones kept.
        Settings { memory: Memory::Low, pool: 3, train_resolution: 16, ..base },
    ] {
        let (mode, parameters) = (settings.mode, settings.parameters);
        let run = |device: &Device| {
            let mut a = adaptation(device, settings.clone());
            let mut losses = vec![];
            a.run(&Cancel::new(), &mut |p| {
                losses.push(p.loss);
                Flow::Continue
            })
            .unwrap();
            (losses, a.domain().unwrap())
        };
        let ((want, one), (have, other)) = (run(HOST), run(&gpu()));
        assert_eq!(want.len(), have.len());
        for (a, b) in want.iter().zip(&have) {
            // Losses of about 1; a cosine of rounded embeddings.
            assert!((a - b).abs() < 0.02, "{mode:?} {parameters:?}: {want:?} and {have:?}");
        }
        // Adam's first steps are as long as the learning rate whatever the gradient: where one is about 0 its sign is chance, so most must
        // agree, not all.
        let (mut near, mut all) = (0, 0);
        for (key, delta) in &one.deltas {
            for (a, b) in values(delta).iter().zip(values(&other.deltas[key])) {
                near += usize::from((a - b).abs() < 1e-3);
                all += 1;
            }
        }
        assert!(near as f64 > 0.9 * all as f64, "{mode:?} {parameters:?}: {near} of {all} numbers are the same");
    }
}

/// A run that goes on from a file is the run that was not interrupted, with the stop rule's looks: cuBLAS promises the same bits for the
/// same products on one chip and one stream.
#[test]
fn an_adaptation_goes_on_from_its_file() {
    use nada::adapt::{SavedState, Settings, StopRule};
    let rule = StopRule { latents: 2, every: 1, pairing: 0.0, structure: 0.0, earliest: 1, plateau: 10.0, plateau_steps: 9, patience: 9 };
    let settings = Settings { steps: 2, batch: 1, noise: true, snapshot_every: 1, stop: Some(rule), ..Settings::default() };
    let folder = tempfile::tempdir().unwrap();
    let file = |step: usize| folder.path().join(format!("{step}.safetensors"));
    let mut whole = adaptation(&gpu(), settings.clone());
    let mut steps = vec![];
    let mut keep = |run: &nada::adapt::Adaptation, snapshot: &nada::adapt::Snapshot| {
        steps.push(snapshot.step);
        run.save_state(&file(snapshot.step), &templates(), "")
    };
    whole.run_keeping(&Cancel::new(), &mut silent, &mut keep).unwrap();
    assert_eq!(steps, [1, 2]);
    let mut rest = adaptation(&gpu(), settings);
    rest.restore(&SavedState::open(&file(1)).unwrap()).unwrap();
    rest.run(&Cancel::new(), &mut silent).unwrap();
    assert_eq!((rest.steps_done(), whole.steps_done()), (2, 2));
    let (have, want) = (rest.domain().unwrap(), whole.domain().unwrap());
    assert!(!want.deltas.is_empty() && have.deltas.keys().eq(want.deltas.keys()));
    for (key, delta) in &want.deltas {
        assert!(values(&have.deltas[key]) == values(delta), "{key} differs");
    }
}

#[test]
fn an_inversion_takes_the_same_steps() {
    use nada::invert::{invert, Settings};
    let run = |device: &Device| {
        let generator = pack(device).load_generator().unwrap();
        let drawn = pack(HOST).load_generator().unwrap();
        let latent =
            nada::nn::generator::Latent { space: nada::nn::generator::Space::W, tensor: drawn.sample_w(1, 4, 0.8).unwrap(), noise: None };
        let picture = nada::picture::Picture::from_tensor(&drawn.render(&latent, 1.0, Noise::None).unwrap(), 0).unwrap();
        let settings = Settings { steps: 4, optimise_noise: true, ..Settings::default() };
        invert(&generator, &picture, None, &settings, &Cancel::new(), &mut silent).unwrap()
    };
    let (want, have) = (run(HOST), run(&gpu()));
    assert!((want.psnr - have.psnr).abs() < 0.1 && (want.loss / have.loss - 1.0).abs() < 0.02, "{} and {} dB", want.psnr, have.psnr);
    let d = distance(&have.latent.tensor, &want.latent.tensor);
    assert!(d < 0.02, "latents are {d:e} apart");
}

#[test]
fn optimisers_take_the_same_steps_and_refuse_what_is_not_finite() {
    use candle_nn::Optimizer;
    use nada::optim::{Config, Optimiser, Rule};
    for rule in [Rule::Sgd, Rule::adam(0.0, 0.99), Rule::adam(0.9, 0.999), Rule::RANGER] {
        let run = |device: &Device| {
            let var = Var::from_tensor(&numbers(&[3, 2, 50], 1).to_device(device).unwrap()).unwrap();
            let mut optimiser = Optimiser::new(vec![var.clone()], Config { rule, learning_rate: 0.05, weight_decay: 0.01 }).unwrap();
            let gradient = |t: Tensor| (var.as_tensor() * t.to_device(device).unwrap()).unwrap().sum_all().unwrap().backward().unwrap();
            for seed in 2..9 {
                optimiser.step(&gradient(numbers(&[3, 2, 50], seed))).unwrap();
            }
            let before = values(&var);
            let bad = (numbers(&[3, 2, 50], 1) * f64::INFINITY).unwrap();
            let error = nada::Error::from(optimiser.step(&gradient(bad)).unwrap_err());
            assert!(matches!(error, nada::Error::NotFinite(_)), "{error}");
            assert_eq!(before, values(&var));
            var.as_detached_tensor()
        };
        let d = distance(&run(&gpu()), &run(HOST));
        assert!(d < 2e-6, "{rule:?}: off by {d:e}");
    }
}
