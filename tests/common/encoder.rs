//! Encoders of random weights, as the trainers' files are laid out.

use candle_core::{DType, Device, Tensor};
use nada::checkpoint;
use nada::rng::Rng;
use std::collections::BTreeMap;
use std::path::Path;

/// What an encoder of random weights is like.
#[derive(Clone)]
pub struct Sizes<'a> {
    pub ir_se: bool,
    pub inputs: usize,
    /// Of the stem.
    pub width: usize,
    /// Of each block; where it changes, and at the first block of IR-SE50, the map is halved.
    pub blocks: &'a [usize],
    /// Convolutions of the heads that read the last map, the one in the middle and the finest; one number where all read the last.
    pub convolutions: &'a [usize],
    /// 0 for one layer into W.
    pub rows: usize,
    pub style_dim: usize,
}

struct Tensors(BTreeMap<String, Tensor>, Rng);

impl Tensors {
    fn put(&mut self, key: String, shape: &[usize], scale: f64) {
        let tensor = (self.1.normals(shape, &Device::Cpu).unwrap() * scale).unwrap();
        self.0.insert(key, tensor);
    }

    fn convolution(&mut self, key: String, shape: [usize; 4]) {
        let scale = 1.0 / ((shape[1] * shape[2] * shape[3]) as f64).sqrt();
        self.put(key, &shape, scale);
    }

    fn norm(&mut self, name: &str, channels: usize) {
        for part in ["weight", "bias", "running_mean"] {
            self.put(format!("{name}.{part}"), &[channels], 0.5);
        }
        let spread = self.1.normals(&[channels], &Device::Cpu).unwrap();
        self.0.insert(format!("{name}.running_var"), (spread.sqr().unwrap() + 0.5).unwrap());
        self.0.insert(format!("{name}.num_batches_tracked"), Tensor::new(7i64, &Device::Cpu).unwrap());
    }
}

/// The tensors of such an encoder.
pub fn tensors(sizes: &Sizes, seed: u64) -> BTreeMap<String, Tensor> {
    let Sizes { ir_se, inputs, width: stem, blocks, convolutions, rows, style_dim: d } = *sizes;
    let mut t = Tensors(BTreeMap::new(), Rng::new(seed));
    let (conv, norm, slopes, k) = if ir_se { ("input_layer.0", "input_layer.1", "input_layer.2", 3) } else { ("conv1", "bn1", "relu", 7) };
    t.convolution(format!("{conv}.weight"), [stem, inputs, k, k]);
    t.norm(norm, stem);
    t.put(format!("{slopes}.weight"), &[stem], 0.3);
    let mut width = stem;
    let mut ends = vec![];
    for (i, &out) in blocks.iter().enumerate() {
        let b = format!("body.{i}");
        if out != width {
            ends.push(width);
            let shortcut = if ir_se { "shortcut_layer" } else { "downsample" };
            t.convolution(format!("{b}.{shortcut}.0.weight"), [out, width, 1, 1]);
            t.norm(&format!("{b}.{shortcut}.1"), out);
        }
        if ir_se {
            t.norm(&format!("{b}.res_layer.0"), width);
            t.convolution(format!("{b}.res_layer.1.weight"), [out, width, 3, 3]);
            t.put(format!("{b}.res_layer.2.weight"), &[out], 0.3);
            t.convolution(format!("{b}.res_layer.3.weight"), [out, out, 3, 3]);
            t.norm(&format!("{b}.res_layer.4"), out);
            t.convolution(format!("{b}.res_layer.5.fc1.weight"), [2, out, 1, 1]);
            t.convolution(format!("{b}.res_layer.5.fc2.weight"), [out, 2, 1, 1]);
        } else {
            for (j, from) in [(1, width), (2, out)] {
                t.convolution(format!("{b}.conv{j}.weight"), [out, from, 3, 3]);
                t.norm(&format!("{b}.bn{j}"), out);
            }
        }
        width = out;
    }
    if rows == 0 {
        t.put("linear.weight".into(), &[d, width], 1.0);
        t.put("linear.bias".into(), &[d], 0.5);
    }
    let pyramid = convolutions.len() == 3;
    if pyramid {
        for (i, from) in [(1, ends[ends.len() - 1]), (2, ends[ends.len() - 2])] {
            t.convolution(format!("latlayer{i}.weight"), [d, from, 1, 1]);
            t.put(format!("latlayer{i}.bias"), &[d], 0.5);
        }
    }
    for i in 0..rows {
        let map = if !pyramid || i < 3 { 0 } else { 1 + usize::from(i >= 7) };
        for j in 0..convolutions[map] {
            let from = if j == 0 && !pyramid { width } else { d };
            t.convolution(format!("styles.{i}.convs.{}.weight", 2 * j), [d, from, 3, 3]);
            t.put(format!("styles.{i}.convs.{}.bias", 2 * j), &[d], 0.5);
        }
        t.put(format!("styles.{i}.linear.weight"), &[d, d], 1.0);
        t.put(format!("styles.{i}.linear.bias"), &[d], 0.5);
    }
    t.0
}

/// Writes a trainer's file as safetensors: tensors under `state_dict.encoder.` (those of a generator whose keys begin with `../` beside it), an
/// average of zeros of that shape, and settings.
pub fn save(path: &Path, tensors: &BTreeMap<String, Tensor>, average: Option<&[usize]>, opts: &[(&str, &str)]) {
    let name = |key: &String| key.strip_prefix("../").map_or(format!("state_dict.encoder.{key}"), |key| format!("state_dict.{key}"));
    let mut all: BTreeMap<String, Tensor> = tensors.iter().map(|(key, t)| (name(key), t.clone())).collect();
    if let Some(shape) = average {
        all.insert("latent_avg".into(), Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap());
    }
    let opts = opts.iter().map(|(key, value)| (format!("opts.{key}"), value.to_string())).collect();
    checkpoint::save_safetensors(path, &all, &opts).unwrap();
}
