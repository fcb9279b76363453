//! Generators of random weights, in rosinality's layout.

use candle_core::{Device, Tensor};
use nada::rng::Rng;
use std::collections::BTreeMap;
use std::path::Path;

/// What a random generator is like.
pub struct Random {
    /// Of its pictures, in pixels.
    pub side: usize,
    pub style_dim: usize,
    pub mapping_layers: usize,
    /// Channels at each resolution.
    pub channels: fn(usize) -> usize,
    /// Standard deviation of the weights.
    pub spread: f64,
}

impl Random {
    /// Writes it as safetensors.
    pub fn write(&self, file: &Path) {
        let (mut tensors, mut rng) = (BTreeMap::<String, Tensor>::new(), Rng::new(1));
        let (style, channels) = (self.style_dim, self.channels);
        let mut put = |key: String, shape: &[usize]| {
            tensors.insert(key, rng.normals(shape, &Device::Cpu).unwrap().affine(self.spread, 0.0).unwrap());
        };
        for i in 1..=self.mapping_layers {
            put(format!("style.{i}.weight"), &[style, style]);
            put(format!("style.{i}.bias"), &[style]);
        }
        put("input.input".into(), &[1, channels(4), 4, 4]);
        let mut layer = |name: String, o: usize, c: usize, k: usize| {
            put(format!("{name}.conv.weight"), &[1, o, c, k, k]);
            put(format!("{name}.conv.modulation.weight"), &[c, style]);
            put(format!("{name}.conv.modulation.bias"), &[c]);
            match k {
                3 => {
                    put(format!("{name}.noise.weight"), &[1]);
                    put(format!("{name}.activate.bias"), &[o]);
                }
                _ => put(format!("{name}.bias"), &[1, 3, 1, 1]),
            }
        };
        layer("conv1".into(), channels(4), channels(4), 3);
        layer("to_rgb1".into(), 3, channels(4), 1);
        let sides = std::iter::successors(Some(8), |side| Some(side * 2)).take_while(|&side| side <= self.side);
        for (i, side) in sides.enumerate() {
            layer(format!("convs.{}", 2 * i), channels(side), channels(side / 2), 3);
            layer(format!("convs.{}", 2 * i + 1), channels(side), channels(side), 3);
            layer(format!("to_rgbs.{i}"), 3, channels(side), 1);
        }
        nada::checkpoint::save_safetensors(file, &tensors, &BTreeMap::new()).unwrap();
    }
}
