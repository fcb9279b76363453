//! Forward and backward of a CLIP's image tower, as an adaptation step needs them, alternating with the same in PyTorch.
//!
//! `cargo bench --bench clip -- FOLDER [BATCH] [PYTHON]`: FOLDER is a Hugging Face CLIP; PYTHON has torch and transformers (without it only
//! ours is measured). Prints medians in milliseconds over rounds that alternate, so that both see the same load.

use candle_core::{DType, Device, Tensor, Var};
use nada::nn::clip::Clip;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const ROUNDS: usize = 15;
const STEPS: usize = 10;

/// Answers each line with the time of one round.
const PEER: &str = r#"
import sys, time, torch
from transformers import CLIPVisionModelWithProjection
torch.set_num_threads(2)
model = CLIPVisionModelWithProjection.from_pretrained(sys.argv[1]).eval().requires_grad_(False)
r = model.config.image_size
x = torch.randn(int(sys.argv[2]), 3, r, r)
def forward():
    with torch.no_grad():
        model(pixel_values=x).image_embeds
def both():
    y = x.clone().requires_grad_(True)
    model(pixel_values=y).image_embeds.sum().backward()
for line in sys.stdin:
    f = forward if line.strip() == "forward" else both
    t = time.perf_counter()
    for _ in range(int(sys.argv[3])):
        f()
    print((time.perf_counter() - t) / int(sys.argv[3]) * 1e3, flush=True)
"#;

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(folder) = arguments.first() else {
        println!("usage: cargo bench --bench clip -- FOLDER [BATCH] [PYTHON]");
        return;
    };
    let batch = arguments.get(1).map_or(4, |b| b.parse().expect("BATCH is a number"));
    let clip = Clip::open(Path::new(folder)).expect("FOLDER is a CLIP");
    let r = clip.resolution();
    let x = Tensor::randn(0f32, 1.0, (batch, 3, r, r), &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    let x = Var::from_tensor(&x).unwrap();
    let forward = || drop(clip.encode_image(&x.as_tensor().detach()).unwrap());
    let both = || drop(clip.encode_image(x.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap());
    let ours = |what: &str| {
        let start = Instant::now();
        for _ in 0..STEPS {
            if what == "forward" {
                forward()
            } else {
                both()
            }
        }
        start.elapsed().as_secs_f64() * 1e3 / STEPS as f64
    };
    let mut peer = arguments.get(2).map(|python| {
        let steps = STEPS.to_string();
        let batch = batch.to_string();
        let mut command = Command::new(python);
        command.args(["-c", PEER, folder, &batch, &steps]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("PYTHON runs");
        let (to, from) = (child.stdin.take().expect("piped"), BufReader::new(child.stdout.take().expect("piped")));
        (child, to, from)
    });
    for what in ["forward", "forward and backward"] {
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let time = ours(what);
            let other = peer.as_mut().map(|(_, to, from)| {
                writeln!(to, "{what}").expect("the peer listens");
                let mut line = String::new();
                from.read_line(&mut line).expect("the peer answers");
                line.trim().parse::<f64>().expect("a time")
            });
            // The first round warms up.
            if round > 0 {
                mine.push(time);
                theirs.extend(other);
            }
        }
        let mine = median(mine);
        match theirs.is_empty() {
            true => println!("{what}: {mine:.2} ms"),
            false => {
                let theirs = median(theirs);
                println!("{what}: {mine:.2} ms, PyTorch {theirs:.2} ms, ratio {:.2}", mine / theirs);
            }
        }
    }
    if let Some((mut child, to, _)) = peer {
        drop(to);
        let _ = child.wait();
    }
}
