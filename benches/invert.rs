//! Inversion of pictures whose latents are known, and restyling as whole processes.
//!
//! `cargo bench --bench invert -- [PICTURES] [SEED]` (16 pictures of seed 20261 by default): pictures sampled from the starter's generator
//! (truncation 0.8, no noise), rounded to 8 bits, are inverted with the pack's settings from the mean latent. For each: PSNR in dB of what
//! the found latent draws; |w - w*| / |mean w - w*| over all rows of W+, w* being the true latent; seconds. Then `nada restyle` with a
//! finished domain, without and with inversion.

use candle_core::Tensor;
use nada::invert;
use nada::nn::generator::{Generator, Latent, Noise, Space};
use nada::pack::ModelPack;
use nada::picture::Picture;
use nada::progress::{Cancel, Flow};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const TRUNCATION: f32 = 0.8;
const RESTYLES: usize = 5;

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    (x[(x.len() - 1) / 2] + x[x.len() / 2]) / 2.0
}

fn norm(x: &Tensor) -> f64 {
    x.sqr().and_then(|x| x.sum_all()).and_then(|x| x.to_scalar::<f32>()).expect("a tensor of f32").sqrt() as f64
}

/// What an 8-bit file keeps of a picture.
fn eight_bits(mut picture: Picture) -> Picture {
    picture.data.iter_mut().for_each(|v| *v = (*v * 255.0).round() / 255.0);
    picture
}

fn psnr(a: &Picture, b: &Picture) -> f64 {
    let rgb = |p: &Picture| p.data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect::<Vec<f32>>();
    let (a, b) = (rgb(a), rgb(b));
    let square = a.iter().zip(&b).map(|(a, b)| ((a - b) as f64).powi(2)).sum::<f64>() / a.len() as f64;
    -10.0 * square.log10()
}

fn pictures(generator: &Generator, settings: &invert::Settings, count: usize, seed: u64) -> Vec<Picture> {
    let latent = |tensor: Tensor, space| Latent { space, tensor, noise: None };
    let w = generator.sample_w(count, seed, TRUNCATION).expect("latents");
    let drawn = generator.render(&latent(w.clone(), Space::W), 1.0, Noise::None).expect("pictures");
    let truth = generator.broadcast(&w).expect("W+");
    let mean = generator.mean_w().and_then(|m| generator.broadcast(&m.unsqueeze(0)?)).expect("the mean latent");
    let (mut decibels, mut errors, mut times, mut all) = (vec![], vec![], vec![], vec![]);
    for i in 0..count {
        let target = eight_bits(Picture::from_tensor(&drawn, i).expect("a picture"));
        let begin = Instant::now();
        let found = invert::invert(generator, &target, None, settings, &Cancel::new(), &mut |_| Flow::Continue).expect("an inversion");
        let seconds = begin.elapsed().as_secs_f64();
        let again = generator.render(&found.latent, 1.0, Noise::None).expect("a picture");
        let decibel = psnr(&Picture::from_tensor(&again, 0).expect("a picture"), &target);
        let truth = truth.narrow(0, i, 1).expect("a row");
        let error = norm(&(&found.latent.tensor - &truth).expect("shapes")) / norm(&(&mean - &truth).expect("shapes"));
        println!("picture {:2}: {decibel:5.1} dB, w error {error:.3}, {} steps, {seconds:.1} s", i + 1, found.steps);
        decibels.push(decibel);
        errors.push(error);
        times.push(seconds);
        all.push(target);
    }
    let least = decibels.iter().copied().fold(f64::INFINITY, f64::min);
    let most = |x: &[f64]| x.iter().copied().fold(0.0, f64::max);
    let (worst, slowest) = (most(&errors), most(&times));
    println!(
        "medians of {count}: {:.1} dB (least {least:.1}), w error {:.3} (most {worst:.3}), {:.1} s (most {slowest:.1})",
        median(decibels),
        median(errors),
        median(times)
    );
    all
}

fn nada(arguments: &[&str], folder: &Path, model: &Path) -> f64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nada"));
    command.current_dir(folder).args(["--quiet", "--threads", "2"]).args(arguments).arg("--model").arg(model);
    let begin = Instant::now();
    let status = command.status().expect("the program runs");
    assert!(status.success(), "{command:?} failed");
    begin.elapsed().as_secs_f64()
}

fn main() {
    nada::threads::prepare();
    let numbers: Vec<u64> =
        std::env::args().skip(1).filter(|a| a != "--bench").map(|a| a.parse().expect("PICTURES and SEED are numbers")).collect();
    let count = numbers.first().map_or(16, |&n| n.max(1) as usize);
    let seed = numbers.get(1).copied().unwrap_or(20261);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter");
    let pack = ModelPack::open(&folder).expect("the starter");
    let generator = pack.load_generator().expect("its generator");
    let settings = pack.invert_settings().expect("its settings");
    let targets = pictures(&generator, &settings, count, seed);

    let work = tempfile::tempdir().expect("a temporary folder");
    targets[0].save_png(&work.path().join("face.png")).expect("a PNG");
    // How the domain looks does not matter here.
    nada(&["adapt", "a pencil sketch", "--steps", "10", "--no-stop"], work.path(), &folder);
    let restyle = ["restyle", "face.png", "--domain", "a-pencil-sketch.nada.safetensors"];
    let inverting = nada(&[&restyle[..], &["--save-latent", "latent.safetensors"]].concat(), work.path(), &folder);
    let known = [&restyle[..], &["--latent", "latent.safetensors"]].concat();
    let known = median((0..RESTYLES).map(|_| nada(&known, work.path(), &folder)).collect());
    println!("restyle with a finished domain, whole process: {known:.2} s with the latent at hand (median of {RESTYLES}), {inverting:.1} s with inversion");
}
