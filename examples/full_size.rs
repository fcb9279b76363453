//! Full-size networks: loads generators of 256 and 1024 px and CLIP's ViT-B/32 from the folder that `scripts/full-size` fills, compares
//! their forward passes with PyTorch's, then adapts at 1024 px. Prints times and peak memory; fails where something differs.
//!
//! `cargo run --release --example full_size -- FOLDER`; NADA_REFERENCE names the reference data (default ../shared/reference).

use candle_core::{DType, Device, Tensor, Var};
use nada::adapt::{Adaptation, Concept, Settings, Templates, WeightedClip};
use nada::checkpoint::{self, Checkpoint};
use nada::nn::clip::Clip;
use nada::nn::generator::stylegan2::ada_name;
use nada::nn::generator::{Generator, Noise};
use nada::{Error, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Allowed difference, as a share of the tensor's standard deviation: the README of the reference data.
const TOLERANCE: f64 = 1e-3;
/// The most memory that the whole may take.
const MOST_GB: f64 = 20.0;

fn main() {
    nada::threads::prepare();
    if let Err(e) = run() {
        eprintln!("error: {e}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let folder = std::env::args().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| Error::argument("FOLDER", "name the one that scripts/full-size filled"))?;
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference");
    let manifests = std::env::var_os("NADA_REFERENCE").map_or_else(default, PathBuf::from).join("manifests");
    let mut checks = Checks::default();
    let mut generator = None;
    for size in [256, 1024] {
        let expected = Expected::open(&manifests, &format!("expected_rosinality_{size}"))?;
        let open = |ending: &str| {
            timed(&format!("load rosinality_g_ema_{size}.{ending}"), || {
                Generator::open(&folder.join(format!("rosinality_g_ema_{size}.{ending}")))
            })
        };
        let (g, other) = (open("safetensors")?, open("pt")?);
        checks.truth(&format!("{size}: both formats hold one generator"), g.fingerprint().unwrap() == other.fingerprint().unwrap());
        drop(other);
        compare_generator(&g, &expected, &mut checks, size)?;
        let nvidia = folder.join(format!("ada_G_ema_{size}.pkl"));
        let other = timed(&format!("load ada_G_ema_{size}.pkl"), || Generator::open(&nvidia))?;
        checks.truth(&format!("{size}: NVIDIA's pickle holds it too"), g.fingerprint().unwrap() == other.fingerprint().unwrap());
        compare_generator(&other, &expected, &mut checks, size)?;
        drop(other);
        check_nvidia(&folder, size, &mut checks)?;
        generator = Some(g);
    }
    let expected = Expected::open(&manifests, "expected_clip_openai_ViT-B-32")?;
    for ending in ["pt", "safetensors"] {
        let clip =
            timed(&format!("load clip_openai_ViT-B-32.{ending}"), || Clip::open(&folder.join(format!("clip_openai_ViT-B-32.{ending}"))))?;
        compare_clip(&clip, &expected, &mut checks, ending)?;
        if ending == "safetensors" {
            let generator = generator.take().ok_or_else(|| Error::Internal("no generator".into()))?;
            adapt(Arc::new(generator), Arc::new(clip), &mut checks)?;
        }
    }
    checks.truth(&format!("peak memory of {:.2} GB is under {MOST_GB} GB", peak_gb()), peak_gb() < MOST_GB);
    println!("{} comparisons, {} failed", checks.done, checks.failed);
    match checks.failed {
        0 => Ok(()),
        n => Err(Error::Mismatch(format!("{n} comparisons failed"))),
    }
}

/// Peak memory of this process until now.
fn peak_gb() -> f64 {
    // SAFETY: rusage is plain numbers, for which zeros are values, and the pointer is to a live variable.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    usage.ru_maxrss as f64 * 1024.0 / 1e9
}

fn timed<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    let done = work()?;
    println!("{name}: {:.2} s, peak memory {:.2} GB", begin.elapsed().as_secs_f64(), peak_gb());
    Ok(done)
}

/// Outputs of PyTorch, and their statistics.
struct Expected {
    tensors: Checkpoint,
    json: Value,
}

impl Expected {
    fn open(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(format!("{name}.json"));
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
        let json = serde_json::from_str(&text).map_err(|e| Error::format(&path, e.to_string()))?;
        Ok(Self { tensors: checkpoint::open(&folder.join(format!("{name}.safetensors")))?, json })
    }

    fn get(&self, key: &str) -> Result<Tensor> {
        self.tensors.f32(key, None)
    }
}

#[derive(Default)]
struct Checks {
    done: usize,
    failed: usize,
    /// Largest difference since it was last told, as a share of what is allowed.
    worst: f64,
}

impl Checks {
    fn truth(&mut self, what: &str, holds: bool) {
        self.done += 1;
        self.failed += usize::from(!holds);
        println!("{}: {what}", if holds { "ok" } else { "FAILED" });
    }

    /// `difference` of `what` may be `allowed` at the most.
    fn difference(&mut self, what: &str, difference: f64, allowed: f64) {
        self.done += 1;
        // NaN is no difference that is allowed.
        if difference.is_nan() || difference > allowed {
            self.failed += 1;
            println!("FAILED: {what} differs by {difference:e}, {allowed:e} is allowed");
        }
        self.worst = self.worst.max(if difference.is_nan() { f64::INFINITY } else { difference / allowed });
    }

    fn tensors(&mut self, what: &str, have: &Tensor, want: &Tensor, deviation: f64) -> Result<()> {
        if have.dims() != want.dims() {
            return Err(Error::Mismatch(format!("{what} has shape {:?}, {:?} is expected", have.dims(), want.dims())));
        }
        let (have, want) = (numbers(have)?, numbers(want)?);
        let difference = have.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, nan_max);
        self.difference(what, difference, TOLERANCE * deviation);
        Ok(())
    }

    /// Mean, deviation and extremes of `have` against those in `want`. Returns the deviation expected.
    fn statistics(&mut self, what: &str, have: &Tensor, want: &Value) -> Result<f64> {
        let get = |key: &str| want[key].as_f64().ok_or_else(|| Error::Mismatch(format!("the expected statistics of {what} lack {key}")));
        let x = numbers(have)?;
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let std = (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        let min = x.iter().copied().fold(f64::INFINITY, f64::min);
        let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let absolute = x.iter().map(|v| v.abs()).sum::<f64>() / n;
        let deviation = get("std")?;
        let wanted = get("sum_abs")? / n;
        for (name, have, want) in [
            ("mean", mean, get("mean")?),
            ("standard deviation", std, deviation),
            ("least", min, get("min")?),
            ("most", max, get("max")?),
            ("mean size", absolute, wanted),
        ] {
            self.difference(&format!("{what}: {name}"), (have - want).abs(), TOLERANCE * deviation);
        }
        Ok(deviation)
    }

    fn tell_worst(&mut self, what: &str) {
        println!("{what}: the largest difference is {:.3} of what is allowed", self.worst);
        self.worst = 0.0;
    }
}

fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// Population standard deviation.
fn deviation(t: &Tensor) -> Result<f64> {
    let x = numbers(t)?;
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    Ok((x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64).sqrt())
}

fn compare_generator(g: &Generator, expected: &Expected, checks: &mut Checks, size: usize) -> Result<()> {
    let w = g.map(&expected.get("z")?)?;
    let wanted = expected.get("w")?;
    checks.tensors("w", &w, &wanted, deviation(&wanted)?)?;
    let wanted = expected.get("latent_avg")?;
    checks.tensors("latent_avg", &g.mean_w()?, &wanted, deviation(&wanted)?)?;
    let layers = expected.json["layers"].as_object().ok_or_else(|| Error::Mismatch("the expected layers are missing".into()))?;
    let mut seen = BTreeSet::new();
    let mut trouble = None;
    let begin = Instant::now();
    let image = g.synthesize_traced(&g.broadcast(&w)?, Noise::Const, &mut |name, x| {
        let Some((layer, statistics)) = name.strip_prefix("layer.").and_then(|l| layers.get_key_value(l)) else { return };
        let mut compare = || -> Result<()> {
            let deviation = checks.statistics(&format!("{size}, {layer}"), x, statistics)?;
            let crop = x.narrow(0, 0, 1)?.squeeze(0)?.narrow(0, 0, 3)?.narrow(1, 0, 4)?.narrow(2, 0, 4)?;
            checks.tensors(&format!("{size}, crop of {layer}"), &crop, &expected.get(&format!("crop.{layer}"))?, deviation)
        };
        trouble = trouble.take().or(compare().err());
        seen.insert(layer.clone());
    })?;
    if let Some(e) = trouble {
        return Err(e);
    }
    println!("{size}: a forward pass with its comparisons: {:.2} s, peak memory {:.2} GB", begin.elapsed().as_secs_f64(), peak_gb());
    let missing: Vec<&String> = layers.keys().filter(|k| !k.starts_with("image") && !seen.contains(*k)).collect();
    checks.truth(&format!("{size}: {} layers were compared, none is missing", seen.len()), missing.is_empty());
    let deviation = checks.statistics(&format!("{size}, image"), &image, &layers["image"])?;
    let crop = |x: &Tensor, at: usize, side: usize| x.narrow(2, at, side)?.narrow(3, at, side);
    for (key, at, side) in [("tl16", 0, 16), ("center32", size / 2 - 16, 32), ("br16", size - 16, 16)] {
        let key = format!("image_crop_{key}");
        checks.tensors(&format!("{size}, {key}"), &crop(&image, at, side)?, &expected.get(&key)?, deviation)?;
    }
    let pooled = image.avg_pool2d(size / 64)?;
    checks.tensors(&format!("{size}, image_avgpool64"), &pooled, &expected.get("image_avgpool64")?, deviation)?;
    let truncated = g.synthesize(&g.broadcast(&g.truncate(&w, 0.7)?)?, Noise::Const)?;
    let deviation = checks.statistics(&format!("{size}, truncated image"), &truncated, &layers["image_trunc07"])?;
    let key = "trunc07_crop_center32";
    checks.tensors(&format!("{size}, {key}"), &crop(&truncated, size / 2 - 16, 32)?, &expected.get(key)?, deviation)?;
    checks.tell_worst(&format!("generator of {size} px"));
    Ok(())
}

/// NVIDIA's layout with numbers of its own: each where the formula says, and pictures that are finite.
fn check_nvidia(folder: &Path, size: usize, checks: &mut Checks) -> Result<()> {
    let name = format!("ada_G_ema_{size}.safetensors");
    let g = timed(&format!("load {name}"), || Generator::open(&folder.join(&name)))?;
    let mut right = true;
    for (key, tensor) in g.weights() {
        let theirs = ada_name(key).ok_or_else(|| Error::Internal(format!("{key} has no name")))?;
        let scale = match (theirs.starts_with("mapping.fc"), theirs.rsplit('.').next()) {
            (true, Some("weight")) => 100.0 * 3f32.sqrt(),
            (true, _) => 20.0,
            (false, Some("noise_strength")) => 0.2,
            (false, Some("bias")) if theirs.ends_with("affine.bias") => 0.1,
            (false, Some("bias")) => 0.2,
            _ => 3f32.sqrt(),
        };
        let base = if theirs.ends_with("affine.bias") { 1.0 } else { 0.0 };
        let have = tensor.flatten_all()?.to_vec1::<f32>()?;
        let wanted = unit(&theirs, have.len());
        // The formula rounds the scale to f32 from f64.
        right &= have.iter().zip(&wanted).all(|(have, unit)| (have - (base + scale * unit)).abs() <= 1e-6 * scale);
    }
    checks.truth(&format!("{name}: {} tensors have the numbers of the formula", g.weights().len()), right);
    let image = g.synthesize(&g.sample_w(1, 1, 0.7).and_then(|w| g.broadcast(&w))?, Noise::Const)?;
    let finite = numbers(&image)?.iter().all(|x| x.is_finite());
    checks.truth(&format!("{name}: draws {:?}", image.dims()), finite && image.dims() == [1, 3, size, size]);
    Ok(())
}

/// Numbers in [-1, 1) by the formula of the reference data's make_checkpoint.py.
fn unit(key: &str, n: usize) -> Vec<f32> {
    let hash = key.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ b as u64).wrapping_mul(0x100_0000_01B3));
    let one = |i: usize| {
        let mut z = hash.wrapping_add(i as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 * (1.0 / (1 << 23) as f32) - 1.0
    };
    (0..n).map(one).collect()
}

fn compare_clip(clip: &Clip, expected: &Expected, checks: &mut Checks, ending: &str) -> Result<()> {
    let (shape, scale) = ((2, 3, 224, 224), 3f32.sqrt());
    let image = unit("image", 2 * 3 * 224 * 224).iter().map(|v| scale * v).collect();
    let image = Var::from_tensor(&Tensor::from_vec(image, shape, &Device::Cpu)?)?;
    checks.statistics("input of ViT-B/32", image.as_tensor(), &expected.json["image_stats"])?;
    let begin = Instant::now();
    let images = clip.encode_image(image.as_tensor())?;
    let cosines: Vec<f32> = (0..images.elem_count()).map(|i| (i as f64).cos() as f32).collect();
    let along = Tensor::from_vec(cosines, images.dims(), &Device::Cpu)?;
    let gradients = (&images * along)?.sum_all()?.backward()?;
    println!(
        "ViT-B/32 ({ending}): forward and backward of 2 pictures: {:.2} s, peak memory {:.2} GB",
        begin.elapsed().as_secs_f64(),
        peak_gb()
    );
    let texts = clip.encode_tokens(&expected.tensors.tensor("tokens")?.to_dtype(DType::U32)?)?;
    for (key, features) in [("image_features", &images), ("text_features", &texts)] {
        let deviation = checks.statistics(key, features, &expected.json[key])?;
        checks.tensors(key, features, &expected.get(key)?, deviation)?;
    }
    let normalise = |x: &Tensor| x.broadcast_div(&x.sqr()?.sum_keepdim(1)?.sqrt()?);
    let logits = (normalise(&images.detach())?.matmul(&normalise(&texts)?.t()?)? * clip.logit_scale() as f64)?;
    let wanted = expected.get("logits_per_image")?;
    // Each logit is a cosine times the scale; the features' tolerance is one of their deviation, hence of their length.
    checks.tensors("logits_per_image", &logits, &wanted, clip.logit_scale() as f64)?;
    let gradient = gradients.get(image.as_tensor()).ok_or_else(|| Error::Internal("no gradient reached the picture".into()))?;
    let deviation = checks.statistics("gradient of the picture", gradient, &expected.json["grad_stats"])?;
    let crop = gradient.narrow(2, 100, 16)?.narrow(3, 100, 16)?;
    checks.tensors("grad_crop16", &crop, &expected.get("grad_crop16")?, deviation)?;
    checks.tell_worst(&format!("ViT-B/32 ({ending})"));
    Ok(())
}

fn adapt(generator: Arc<Generator>, clip: Arc<Clip>, checks: &mut Checks) -> Result<()> {
    let settings = Settings { steps: 3, batch: 1, snapshot_every: 0, ..Settings::default() };
    let clips = [WeightedClip { clip, weight: 1.0 }];
    let concept = |text: &str| Concept::Text(text.into());
    let mut run = timed("prepare an adaptation at 1024 px", || {
        Adaptation::new(generator, &clips, concept("photo"), concept("sketch"), &Templates::default(), settings)
    })?;
    let mut finite = true;
    for _ in 0..3 {
        let begin = Instant::now();
        let report = run.step()?;
        println!("step {}: loss {:.4}, {:.2} s, peak memory {:.2} GB", report.step, report.loss, begin.elapsed().as_secs_f64(), peak_gb());
        finite &= report.loss.is_finite();
    }
    let changed = run.domain()?.deltas.values().try_fold(0f32, |most, d| Result::Ok(most.max(d.abs()?.max_all()?.to_scalar()?)))?;
    checks.truth(
        &format!("3 steps at 1024 px, batch 1: weights moved by up to {changed:.4}"),
        finite && changed > 0.0 && changed.is_finite(),
    );
    Ok(())
}
