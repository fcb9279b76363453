//! Loading of full-size files: time against one read of the whole file into fresh memory, both warm and in turns, and peak memory against
//! what is kept (in f32).
//!
//! `cargo bench --bench load -- [FOLDER]`: the folder that `scripts/full-size` fills. Without one a generator of 1024 px is written to a
//! temporary folder, with numbers that mean nothing. Fails where a load takes more than 2 reads or holds more than 1.3 times what it keeps.

use candle_core::{Device, Tensor};
use nada::checkpoint::save_safetensors;
use nada::nn::clip::Clip;
use nada::nn::generator::stylegan2::Sizes;
use nada::nn::generator::Generator;
use nada::rng::Rng;
use std::alloc::{GlobalAlloc, Layout, System};
use std::any::Any;
use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

const ROUNDS: usize = 9;
const MOST_TIME: f64 = 2.0;
const MOST_MEMORY: f64 = 1.3;
const FILES: [&str; 5] = [
    "rosinality_g_ema_1024.safetensors",
    "rosinality_g_ema_1024.pt",
    "ada_G_ema_1024.pkl",
    "clip_openai_ViT-B-32.safetensors",
    "clip_openai_ViT-B-32.pt",
];

/// Counts what is held, and the most that was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let held = HELD.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(held, Relaxed);
}

// SAFETY: everything is the system's allocator, and a count beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        System.alloc(layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        System.alloc_zeroed(layout)
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        System.dealloc(pointer, layout)
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn load(path: &Path) -> nada::Result<Box<dyn Any>> {
    match path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("clip")) {
        true => Ok(Box::new(Clip::open(path)?)),
        false => Ok(Box::new(Generator::open(path)?)),
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::with_capacity(file.metadata()?.len() as usize);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Seconds of `work` without those of dropping what it makes.
fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let begin = Instant::now();
    let made = black_box(work());
    let time = begin.elapsed().as_secs_f64();
    drop(made);
    time
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}

fn measure(path: &Path) -> bool {
    let must = |e: String| -> ! {
        eprintln!("error: {e}");
        std::process::exit(1);
    };
    let bytes = read(path).unwrap_or_else(|e| must(format!("{}: {e}", path.display()))).len();
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let loaded = load(path).unwrap_or_else(|e| must(e.to_string()));
    let (peak, kept) = (PEAK.load(Relaxed) - before, HELD.load(Relaxed) - before);
    if let Some(g) = loaded.downcast_ref::<Generator>() {
        // What is kept is the tensors, once.
        let numbers = g.weights().values().chain(g.noise_maps()).map(Tensor::elem_count).sum::<usize>();
        println!("{}: {:.1} MB of tensors, {:.1} MB are held", path.display(), numbers as f64 * 4e-6, kept as f64 * 1e-6);
    }
    drop(loaded);
    let (mut reads, mut loads) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        reads.push(seconds(|| read(path)));
        loads.push(seconds(|| load(path)));
    }
    let (reads, loads) = (median(reads), median(loads));
    let (time, memory) = (loads / reads, peak as f64 / kept as f64);
    // The limit on time is for the generator, whose numbers are kept as the file has them.
    let fine = memory <= MOST_MEMORY && (time <= MOST_TIME || path.to_string_lossy().contains("clip"));
    println!(
        "{}: file {:.1} MB, one read {:.1} ms, load {:.1} ms, ratio {time:.2}; peak {:.1} MB of {:.1} MB kept, ratio {memory:.3}{}",
        path.file_name().unwrap_or_default().to_string_lossy(),
        bytes as f64 * 1e-6,
        reads * 1e3,
        loads * 1e3,
        peak as f64 * 1e-6,
        kept as f64 * 1e-6,
        if fine { "" } else { " FAILED" }
    );
    fine
}

/// A generator of 1024 px of the usual sizes.
fn write_generator(path: &Path) -> nada::Result<()> {
    let (start, channels) = ([4, 4], (2..=10).map(|i| (32768 >> i).min(512)).collect());
    let sizes = Sizes { z_dim: 512, style_dim: 512, n_mlp: 8, lr_mlp: 0.01, c_dim: 0, start, channels, colours: 3, conv_clamp: None };
    let config = sizes.config();
    let mut rng = Rng::new(1);
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for (key, shape) in config.tensors() {
        tensors.insert(key, rng.normals(&shape, &Device::Cpu)?);
    }
    for i in 0..config.n_latent() - 1 {
        let side = 4usize << i.div_ceil(2);
        tensors.insert(format!("noises.noise_{i}"), rng.normals(&[1, 1, side, side], &Device::Cpu)?);
    }
    tensors.insert("latent_avg".into(), rng.normals(&[512], &Device::Cpu)?);
    save_safetensors(path, &tensors, &BTreeMap::new())
}

fn main() {
    // Cargo adds --bench.
    let folder = std::env::args().skip(1).find(|a| !a.starts_with('-')).map(PathBuf::from);
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let files: Vec<PathBuf> = match folder {
        Some(folder) => FILES.iter().map(|name| folder.join(name)).filter(|file| file.is_file()).collect(),
        None => {
            let path = temporary.path().join("generator_1024.safetensors");
            write_generator(&path).expect("a generator");
            vec![path]
        }
    };
    assert!(!files.is_empty(), "the folder has none of {FILES:?}");
    let failed = files.iter().filter(|file| !measure(file)).count();
    if failed > 0 {
        eprintln!("{failed} of {} files take too long or too much memory", files.len());
        std::process::exit(1);
    }
}
