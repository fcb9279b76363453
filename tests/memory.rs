//! Estimates of memory against what processes really took: not below 0.9 and not above 1.75 times the growth of the resident memory.
//! Each case runs in a process of its own, as an allocator keeps what an earlier one freed.

mod common;

use common::random_generator::Random;
use nada::adapt::{Adaptation, Concept, Memory, Parameters, Settings};
use nada::invert::{self, invert};
use nada::memory;
use nada::nn::generator::Generator;
use nada::pack::ModelPack;
use nada::picture::Picture;
use nada::pipeline::Drawing;
use nada::progress::{silent, Cancel};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const CASE: &str = "NADA_MEMORY_CASE";

fn starter() -> ModelPack {
    ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter")).unwrap()
}

/// A generator of random weights with the published channels.
fn random(size: usize, file: &Path) -> Generator {
    let channels = |side: usize| (32768 / side).min(512);
    Random { side: size, style_dim: 512, mapping_layers: 8, channels, spread: 0.1 }.write(file);
    Generator::open(file).unwrap()
}

/// A line of /proc/self/status, in bytes.
fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// The most resident memory while `work` runs, beyond what there was before.
fn growth(work: impl FnOnce()) -> u64 {
    // What loading freed goes back first, and the high-water mark starts anew.
    unsafe { libc::malloc_trim(0) };
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    work();
    status("VmHWM:").saturating_sub(before)
}

fn adapting(generator: Arc<Generator>, pack: &ModelPack, settings: Settings) -> (u64, u64) {
    let clips = pack.load_clips().unwrap();
    let sizes: Vec<_> = clips.iter().map(|c| c.clip.config()).collect();
    let need = memory::adapt(generator.config(), &settings, &sizes, pack.templates().0.len(), rayon::current_num_threads());
    let (source, target) = (Concept::Text("a photo".into()), Concept::Text("a pencil sketch".into()));
    let work = || {
        let mut adaptation = Adaptation::new(generator, &clips, source, target, &pack.templates(), settings).unwrap();
        adaptation.run(&Cancel::new(), &mut silent).unwrap();
    };
    (need, growth(work))
}

fn inverting(generator: &Generator, settings: invert::Settings) -> (u64, u64) {
    let need = memory::invert(generator.config(), &settings, None);
    let picture = Picture::filled(300, 300, [0.5, 0.4, 0.3, 1.0]).unwrap();
    let work = || drop(invert(generator, &picture, None, &settings, &Cancel::new(), &mut silent).unwrap());
    (need, growth(work))
}

fn rendering(generator: &Generator, count: usize) -> (u64, u64) {
    let latent = nada::nn::generator::Latent {
        space: nada::nn::generator::Space::W,
        tensor: generator.sample_w(count, 1, 0.7).unwrap(),
        noise: None,
    };
    (
        memory::render(generator.config(), count, 0),
        growth(|| drop(Drawing::default().pictures(generator, &latent, &nada::progress::Cancel::new()).unwrap())),
    )
}

/// (estimate, growth) of a case by its name.
fn measured(case: &str) -> (u64, u64) {
    let pack = starter();
    let folder = tempfile::tempdir().unwrap();
    let load = |size: usize| match size {
        128 => pack.load_generator().unwrap(),
        size => random(size, &folder.path().join("g.safetensors")),
    };
    let recipe = Settings { steps: 2, snapshot_every: 1, ..pack.settings().unwrap() };
    let full = Settings { parameters: Parameters::Full, batch: 2, steps: 3, snapshot_every: 0, stop: None, ..recipe.clone() };
    let search = invert::Settings { steps: 4, ..pack.invert_settings().unwrap() };
    match case {
        "starter: adapt" => adapting(Arc::new(load(128)), &pack, recipe),
        "starter: adapt, batch 4" => adapting(Arc::new(load(128)), &pack, Settings { batch: 4, ..recipe }),
        "starter: adapt, full" => adapting(Arc::new(load(128)), &pack, Settings { batch: 16, ..full }),
        "starter: adapt, layer selection" => {
            let auto_layers = Some(nada::adapt::AutoLayers { k: 6, iterations: 2, batch: 16 });
            adapting(Arc::new(load(128)), &pack, Settings { auto_layers, noise: true, steps: 1, ..full })
        }
        "starter: invert" => inverting(&load(128), search),
        "starter: invert with noise" => inverting(&load(128), invert::Settings { optimise_noise: true, ..search }),
        "starter: render 1" => rendering(&load(128), 1),
        "starter: render 64" => rendering(&load(128), 64),
        "256 px: adapt, stylespace" => {
            let settings = Settings { parameters: Parameters::Stylespace, batch: 2, snapshot_every: 0, stop: None, ..recipe };
            adapting(Arc::new(load(256)), &pack, settings)
        }
        "256 px: adapt, low" => adapting(Arc::new(load(256)), &pack, Settings { memory: Memory::Low, ..full }),
        "256 px: adapt, full" => adapting(Arc::new(load(256)), &pack, full),
        "256 px: adapt, layer selection" => {
            let auto_layers = Some(nada::adapt::AutoLayers { k: 6, iterations: 1, batch: 4 });
            adapting(Arc::new(load(256)), &pack, Settings { auto_layers, ..full })
        }
        "256 px: invert" => inverting(&load(256), search),
        "256 px: render 4" => rendering(&load(256), 4),
        "1024 px: adapt, low" => adapting(Arc::new(load(1024)), &pack, Settings { memory: Memory::Low, steps: 1, ..full }),
        "1024 px: adapt, full" => adapting(Arc::new(load(1024)), &pack, Settings { steps: 1, ..full }),
        "1024 px: invert" => inverting(&load(1024), search),
        "1024 px: render 2" => rendering(&load(1024), 2),
        _ => panic!("no case {case:?}"),
    }
}

/// Not a test: what the one below starts for each case.
#[test]
fn case() {
    if let Ok(case) = std::env::var(CASE) {
        let (need, have) = measured(&case);
        println!("MEASURED {need} {have}");
    }
}

fn compare(cases: &[&str]) {
    let program: PathBuf = std::env::current_exe().unwrap();
    let mut wrong = vec![];
    for case in cases {
        let child = Command::new(&program).args(["case", "--exact", "--nocapture"]).env(CASE, case).env("CANDLE_NUM_THREADS", "1").output();
        let child = child.unwrap();
        let text = String::from_utf8_lossy(&child.stdout).into_owned();
        let line = text.lines().find_map(|l| l.split_once("MEASURED ").map(|(_, l)| l.to_string()));
        let line = line.unwrap_or_else(|| panic!("{case}: {text}{}", String::from_utf8_lossy(&child.stderr)));
        let numbers: Vec<f64> = line.split(' ').map(|n| n.parse::<f64>().unwrap() / (1 << 20) as f64).collect();
        let ratio = numbers[0] / numbers[1];
        println!("{case:32} estimate {:7.1} MiB, measured {:7.1} MiB, ratio {ratio:.2}", numbers[0], numbers[1]);
        // Below by what an allocator keeps of large blocks for a while (0.93 was seen, drawing 4 pictures of 256 px), above by what a small
        // case has no time to take.
        // A little that no estimate counts: an allocator's own, pages of code that are read for the first time.
        const SMALL: f64 = 2.0;
        if numbers[0] < 0.9 * numbers[1] - SMALL || numbers[0] > 1.75 * numbers[1] + SMALL {
            wrong.push(*case);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}: the estimate must be 0.9 to 1.75 times what was measured");
}

#[test]
fn estimates_are_near_what_is_taken() {
    compare(&[
        "starter: adapt",
        "starter: adapt, batch 4",
        "starter: adapt, full",
        "starter: adapt, layer selection",
        "starter: invert",
        "starter: invert with noise",
        "starter: render 1",
        "starter: render 64",
        "256 px: invert",
        "256 px: render 4",
    ]);
}

/// cargo test --release --test memory -- --ignored --nocapture
#[test]
#[ignore = "takes minutes and 6 GiB"]
fn estimates_for_large_generators() {
    compare(&["256 px: adapt, stylespace", "256 px: adapt, low", "256 px: adapt, full", "256 px: adapt, layer selection"]);
    compare(&["1024 px: adapt, low", "1024 px: adapt, full", "1024 px: invert", "1024 px: render 2"]);
}
