//! Noise of the synthesis layers.

use crate::error::{Error, Result};
use crate::rng::Rng;
use candle_core::{Device, Tensor};

/// Noise of the synthesis layers.
pub enum Noise<'a> {
    /// The checkpoint's own maps.
    Const,
    None,
    Random(&'a mut Rng),
    /// One map a layer: [n or 1, 1, h, w].
    Given(&'a [Tensor]),
}

/// Noise by layer, ready to be asked for in order.
pub(super) enum LayerNoise<'a> {
    None,
    Random(&'a mut Rng),
    Maps(&'a [Tensor]),
}

impl<'a> LayerNoise<'a> {
    pub(super) fn new(noise: Noise<'a>, constant: &'a [Tensor]) -> Self {
        match noise {
            Noise::None => LayerNoise::None,
            Noise::Random(rng) => LayerNoise::Random(rng),
            Noise::Const => LayerNoise::Maps(constant),
            Noise::Given(maps) => LayerNoise::Maps(maps),
        }
    }

    /// That of layer `index` for `n` pictures of [height, width].
    pub(super) fn layer(&mut self, index: usize, n: usize, [height, width]: [usize; 2], device: &Device) -> Result<Option<Tensor>> {
        Ok(match self {
            LayerNoise::None => None,
            LayerNoise::Random(rng) => Some(rng.normals(&[n, 1, height, width], device)?),
            LayerNoise::Maps(maps) => {
                let map =
                    maps.get(index).ok_or_else(|| Error::argument("noise", format!("has {} maps, layer {index} needs one", maps.len())))?;
                match map.dims() {
                    &[m, 1, a, b] if (m == 1 || m == n) && a == height && b == width => Some(map.to_device(device)?),
                    dims => {
                        return Err(Error::argument(
                            "noise",
                            format!("map {index} has shape {dims:?}, it must be [1 or {n}, 1, {height}, {width}]"),
                        ))
                    }
                }
            }
        })
    }
}
