//! Encoders of full size, of random weights: loading, one pass at 256 x 256, and `nada invert` as a whole process at 1024 px.
//!
//! `cargo bench --bench encoders -- [PASSES]` (5 by default): for IR-SE50 with the heads of e4e and of ReStyle and ResNet34 with ReStyle's, seconds
//! of loading the file, and the median, the least and the most of the passes; and of both the processor's seconds, which a busy machine changes
//! little. Then the program with a generator of 1024 px, the file with the same one inside: its seconds, the processor's, and peak memory.

#[path = "../tests/common/encoder.rs"]
mod encoder;
#[path = "../tests/common/random_generator.rs"]
mod random_generator;

use encoder::{save, tensors, Sizes};
use nada::checkpoint;
use nada::nn::encoders::Encoder;
use nada::picture::Picture;
use nada::rng::Rng;
use random_generator::Random;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Seconds that this process or those that it has waited for computed, on all cores, their work in the system included; and the most memory of
/// one of them, in KiB.
fn used(whose: libc::c_int) -> (f64, i64) {
    // SAFETY: zeros are such a struct, which the call fills.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(whose, &mut used);
        used
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    (seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss)
}

fn processor() -> f64 {
    used(libc::RUSAGE_SELF).0
}

fn main() {
    let passes: usize = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(5).max(1);
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let channels = |side: usize| (32_768 / side).min(512);
    Random { side: 1024, style_dim: 512, mapping_layers: 8, channels, spread: 1.0 }.write(&at("generator.safetensors"));
    let generator = checkpoint::open(&at("generator.safetensors")).expect("the generator");
    let blocks = |counts: [usize; 4]| -> Vec<usize> {
        [64, 128, 256, 512].iter().zip(counts).flat_map(|(&width, count)| vec![width; count]).collect()
    };
    let (ir_se50, resnet34) = (blocks([3, 4, 14, 3]), blocks([3, 4, 6, 3]));
    let e4e = Sizes { ir_se: true, inputs: 3, width: 64, blocks: &ir_se50, convolutions: &[4, 5, 6], rows: 18, style_dim: 512 };
    let restyle = Sizes { inputs: 6, convolutions: &[4], ..e4e.clone() };
    let resnet = Sizes { ir_se: false, blocks: &resnet34, ..restyle.clone() };
    for (name, kind, sizes) in [
        ("e4e, IR-SE50", "Encoder4Editing", e4e),
        ("ReStyle, IR-SE50", "BackboneEncoder", restyle),
        ("ReStyle, ResNet34", "ResNetBackboneEncoder", resnet),
    ] {
        let path = at("encoder.safetensors");
        let mut all = tensors(&sizes, 1);
        // `save` puts everything below the encoder.
        let decoder = generator.keys().map(|key| (format!("../decoder.{key}"), generator.tensor(key).expect("a tensor")));
        all.extend(decoder);
        save(&path, &all, Some(&[512]), &[("encoder_type", kind)]);
        drop(all);
        let (begin, work) = (Instant::now(), processor());
        let encoder = Encoder::open(&path).expect("an encoder");
        let (load, load_work) = (begin.elapsed().as_secs_f64(), processor() - work);
        assert!(encoder.decoder().is_some());
        let input = Rng::new(2).normals(&[1, sizes.inputs, 256, 256], &candle_core::Device::Cpu).expect("numbers");
        let work = processor();
        let mut seconds: Vec<f64> = (0..passes)
            .map(|_| {
                let begin = Instant::now();
                encoder.encode(&input).expect("codes");
                begin.elapsed().as_secs_f64()
            })
            .collect();
        let work = (processor() - work) / passes as f64;
        seconds.sort_by(f64::total_cmp);
        let (median, least, most) = (seconds[passes / 2], seconds[0], seconds[passes - 1]);
        println!("{name}: loaded in {load:.2} s, of the processor {load_work:.2} s; a pass takes {median:.3} s ({least:.3} to {most:.3}), {work:.3} s");
        drop(encoder);
        invert(folder.path(), name);
    }
}

/// The program, as a user runs it.
fn invert(folder: &Path, name: &str) {
    Picture::filled(1024, 1024, [0.5, 0.4, 0.3, 1.0]).and_then(|p| p.save(folder.join("face.png").as_path())).expect("a picture");
    let (begin, work) = (Instant::now(), used(libc::RUSAGE_CHILDREN).0);
    let mut program = Command::new(env!("CARGO_BIN_EXE_nada"));
    program.current_dir(folder).args(["invert", "face.png", "--generator", "generator.safetensors"]);
    let out = program.args(["--encoder", "encoder.safetensors", "-o", "face.latent.safetensors", "--force"]).output().expect("the program");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let (after, most) = used(libc::RUSAGE_CHILDREN);
    let (seconds, work) = (begin.elapsed().as_secs_f64(), after - work);
    println!("{name}: nada invert at 1024 px {seconds:.2} s, of the processor {work:.2} s, {:.2} GB at the most so far", most as f64 / 1e6);
}
