//! Encoders of full size, of random weights: loading, and one pass at 256 x 256.
//!
//! `cargo bench --bench encoders -- [PASSES]` (5 by default): for IR-SE50 with the heads of e4e and of ReStyle and ResNet34 with ReStyle's, seconds
//! of loading the file, and the median, the least and the most of the passes; and of both the processor's seconds, which a busy machine changes
//! little.

#[path = "../tests/common/encoder.rs"]
mod encoder;

use encoder::{save, tensors, Sizes};
use nada::nn::encoders::Encoder;
use nada::rng::Rng;
use std::time::Instant;

/// Seconds that this process has computed, on all cores, its work in the system included.
fn processor() -> f64 {
    // SAFETY: zeros are such a struct, which the call fills.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut used);
        used
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(used.ru_utime) + seconds(used.ru_stime)
}

fn main() {
    let passes: usize = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(5).max(1);
    let folder = tempfile::tempdir().expect("a folder");
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
        let path = folder.path().join("encoder.safetensors");
        save(&path, &tensors(&sizes, 1), Some(&[512]), &[("encoder_type", kind)]);
        let (begin, work) = (Instant::now(), processor());
        let encoder = Encoder::open(&path).expect("an encoder");
        let (load, load_work) = (begin.elapsed().as_secs_f64(), processor() - work);
        let input = Rng::new(2).normals(&[1, sizes.inputs, 256, 256], &candle_core::Device::Cpu).expect("numbers");
        let work = processor();
        let mut seconds: Vec<f64> = (0..passes)
            .map(|_| {
                let begin = Instant::now();
                encoder.encode(&input).expect("codes");
                begin.elapsed().as_secs_f64()
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        let (median, least, most) = (seconds[passes / 2], seconds[0], seconds[passes - 1]);
        let work = (processor() - work) / passes as f64;
        println!("{name}: loaded in {load:.2} s, of the processor {load_work:.2} s; a pass takes {median:.3} s ({least:.3} to {most:.3}), {work:.3} s");
    }
}
