//! StyleGAN2 (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN").
//!
//! Tensors are named as in rosinality's PyTorch port, the layout that most trained checkpoints have; NVIDIA's ([`ada_name`]) and BasicSR's are
//! read too.

mod ada;
mod basicsr;
mod export;
mod place;
mod rosinality;
mod synthesis;

pub use ada::ada_name;
pub(crate) use export::to_half;
pub use export::Layout;
pub use place::{find, Naming, Place};
pub(super) use rosinality::{is_known, keys, mapping, store_mapping};
pub(super) use synthesis::Synthesis;

use super::layers::{Kind, Layer, Plane};
use super::{Config, Family};
use crate::checkpoint::Checkpoint;
use crate::device::Device;
use crate::error::Result;
use crate::rng::Rng;
use candle_core::Tensor;
use std::collections::BTreeMap;

/// The blur of an up-sampling: [1, 3, 3, 1] with gain 2 (rosinality's and NVIDIA's).
const BLUR: [f32; 4] = [0.25, 0.75, 0.75, 0.25];

/// Of [`super::Generator::unusual`].
pub(super) fn unusual(config: &Config, blur: [f32; 4]) -> Vec<(&'static str, String)> {
    let taps = |blur: [f32; 4]| blur.map(|tap| (f64::from(tap) * 65536.0).round() as i64);
    let mut unusual = Vec::new();
    if taps(blur) != taps(BLUR) {
        unusual.push(("blur", format!("{:?}", taps(blur))));
    }
    if let Some(clamp) = config.conv_clamp {
        unusual.push(("conv_clamp", (clamp as f32).to_string()));
    }
    if config.lr_mlp as f32 != export::DEFAULT_LR_MLP as f32 {
        unusual.push(("lr_mlp", (config.lr_mlp as f32).to_string()));
    }
    unusual
}

/// Up-samplings of the largest generator: 4 to 1024 px.
const MAX_UPS: usize = 8;

/// The sizes of a StyleGAN2.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    pub z_dim: usize,
    pub style_dim: usize,
    /// Layers of the mapping network.
    pub n_mlp: usize,
    /// Learning-rate multiplier of the mapping network.
    pub lr_mlp: f64,
    /// Length of the label; 0 for none.
    pub c_dim: usize,
    /// Height and width of the constant that it starts from: 4 and 4 for square pictures.
    pub start: [usize; 2],
    /// Channels of each resolution, the constant's first; each of the others is twice as high and wide as the one before.
    pub channels: Vec<usize>,
    /// Channels of the pictures: 1, 3 or 4.
    pub colours: usize,
    pub conv_clamp: Option<f64>,
}

impl Sizes {
    /// The table of layers: the constant and its convolution and ToRGB, then two convolutions and a ToRGB for each further resolution. The
    /// ToRGB reads its row of W+ together with the next resolution's first convolution.
    pub fn config(&self) -> Config {
        let plane = |level: usize, channels: usize| Plane { channels, height: self.start[0] << level, width: self.start[1] << level };
        let mut layers: Vec<Layer> = vec![];
        let mut add = |name: String, kind: Kind, row: Option<usize>, from: Plane, to: Plane| {
            let index = layers.iter().filter(|l| l.kind == kind).count();
            let kernel = match kind {
                Kind::Input => 0,
                Kind::Convolution => 3,
                Kind::ToRgb => 1,
            };
            layers.push(Layer { name, kind, index, row, from, to, kernel });
        };
        for (level, &channels) in self.channels.iter().enumerate() {
            let (here, picture) = (plane(level, channels), plane(level, self.colours));
            let Some(before) = level.checked_sub(1) else {
                add("input".into(), Kind::Input, None, plane(0, 0), here);
                add("conv1".into(), Kind::Convolution, Some(0), here, here);
                add("to_rgb1".into(), Kind::ToRgb, Some(1), here, picture);
                continue;
            };
            let (up, same) = (2 * before, 2 * before + 1);
            add(format!("convs.{up}"), Kind::Convolution, Some(up + 1), plane(before, self.channels[before]), here);
            add(format!("convs.{same}"), Kind::Convolution, Some(same + 1), here, here);
            add(format!("to_rgbs.{before}"), Kind::ToRgb, Some(same + 2), here, picture);
        }
        Config {
            family: Family::StyleGan2,
            z_dim: self.z_dim,
            style_dim: self.style_dim,
            n_mlp: self.n_mlp,
            lr_mlp: self.lr_mlp,
            c_dim: self.c_dim,
            conv_clamp: self.conv_clamp,
            layers,
        }
    }

    /// What is wrong with them; else the table of layers.
    fn checked(&self) -> std::result::Result<Config, String> {
        if self.n_mlp == 0 {
            return Err("the mapping network is missing".into());
        }
        let numbers = [self.z_dim, self.style_dim, self.start[0], self.start[1]];
        if numbers.iter().chain(&self.channels).any(|&n| n == 0) {
            return Err("a dimension of 0".into());
        }
        let ups = self.channels.len().saturating_sub(1);
        let longer = self.start[0].max(self.start[1]).saturating_mul(1 << ups.min(MAX_UPS + 1));
        if !(32..=1024).contains(&longer) {
            return Err(format!("a generator of {longer} px: sizes from 32 to 1024 px are supported"));
        }
        match self.colours {
            1 | 3 | 4 => Ok(self.config()),
            n => Err(format!("it draws {n} channels, where 1 (grey), 3 (RGB) or 4 (RGB and alpha) are supported")),
        }
    }
}

/// What a file holds, under rosinality's names.
pub(super) struct Loaded {
    pub config: Config,
    pub blur: [f32; 4],
    pub noise: Vec<Tensor>,
    pub latent_avg: Option<Tensor>,
    pub weights: BTreeMap<String, Tensor>,
}

/// Reads the generator that stands at `place` of `file`.
pub(super) fn load(file: &Checkpoint, place: &Place) -> Result<Loaded> {
    let network = file.with_prefix(&place.prefix);
    match place.naming {
        Naming::Nvidia => ada::load(&network),
        Naming::Rosinality => rosinality::load(file, &place.prefix, &network),
        Naming::BasicSr => rosinality::load(file, &place.prefix, &network.renamed(basicsr::name)),
    }
}

/// One noise map a convolution, [1, 1, h, w], from its index and size; maps of a fixed seed where there is none, as some converters leave
/// them out.
fn noise_maps(config: &Config, device: &Device, mut get: impl FnMut(usize, [usize; 2]) -> Result<Option<Tensor>>) -> Result<Vec<Tensor>> {
    let mut rng = Rng::stream(0, 1);
    config
        .of_kind(Kind::Convolution)
        .map(|layer| {
            let Plane { height, width, .. } = layer.to;
            match get(layer.index, [height, width])? {
                Some(map) => Ok(map),
                None => rng.normals(&[1, 1, height, width], device),
            }
        })
        .collect()
}

/// Taps of a separable 4 x 4 kernel, `None` when it is not the outer product of four numbers with themselves.
fn separate(kernel: &[f32]) -> Option<[f32; 4]> {
    let total: f32 = kernel.iter().sum();
    if kernel.len() != 16 || total.is_nan() || total <= 0.0 {
        return None;
    }
    let taps: [f32; 4] = std::array::from_fn(|i| kernel[i * 4..][..4].iter().sum::<f32>() / total.sqrt());
    let fits = (0..16).all(|i| (taps[i / 4] * taps[i % 4] - kernel[i]).abs() <= 1e-5 * total);
    fits.then_some(taps)
}

/// A small generator's sizes.
#[cfg(test)]
pub(super) fn small(c_dim: usize) -> Sizes {
    Sizes { z_dim: 6, style_dim: 8, n_mlp: 2, lr_mlp: 0.01, c_dim, start: [4, 4], channels: vec![8; 4], colours: 3, conv_clamp: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_each_layer_is() {
        let sizes = Sizes { start: [4, 2], channels: vec![16, 12, 8, 8], colours: 4, ..small(0) };
        let config = sizes.config();
        let rows: Vec<_> = config.layers.iter().map(|l| (l.name.as_str(), l.kind, l.index, l.row)).collect();
        use Kind::{Convolution, Input, ToRgb};
        assert_eq!(
            rows,
            [
                ("input", Input, 0, None),
                ("conv1", Convolution, 0, Some(0)),
                ("to_rgb1", ToRgb, 0, Some(1)),
                ("convs.0", Convolution, 1, Some(1)),
                ("convs.1", Convolution, 2, Some(2)),
                ("to_rgbs.0", ToRgb, 1, Some(3)),
                ("convs.2", Convolution, 3, Some(3)),
                ("convs.3", Convolution, 4, Some(4)),
                ("to_rgbs.1", ToRgb, 2, Some(5)),
                ("convs.4", Convolution, 5, Some(5)),
                ("convs.5", Convolution, 6, Some(6)),
                ("to_rgbs.2", ToRgb, 3, Some(7)),
            ]
        );
        let sizes: Vec<_> = config.layers.iter().map(|l| (l.from.channels, l.to.channels, l.to.height, l.to.width)).collect();
        assert_eq!(sizes[3..6], [(16, 12, 8, 4), (12, 12, 8, 4), (12, 4, 8, 4)]);
        assert_eq!((config.n_latent(), config.width(), config.height(), config.colours(), config.size()), (8, 16, 32, 4, 32));
        // Every tensor belongs to one layer or to the mapping network.
        for (key, _) in config.tensors() {
            let mapping = key.starts_with("style.");
            assert_eq!(config.layers.iter().filter(|l| l.owns(&key)).count(), usize::from(!mapping), "{key}");
        }
    }

    #[test]
    fn sizes_that_no_network_has_are_refused() {
        let message = |sizes: Sizes| sizes.checked().unwrap_err();
        assert!(message(Sizes { colours: 2, ..small(0) }).contains("draws 2 channels"));
        assert!(message(Sizes { channels: vec![8; 3], ..small(0) }).contains("16 px"));
        assert!(message(Sizes { channels: vec![8; 10], ..small(0) }).contains("2048 px"));
        assert!(message(Sizes { start: [usize::MAX / 2, 1], ..small(0) }).contains("1024"));
        assert!(message(Sizes { start: [4, 0], ..small(0) }).contains("of 0"));
        assert!(message(Sizes { z_dim: 0, ..small(0) }).contains("of 0"));
        assert!(message(Sizes { n_mlp: 0, ..small(0) }).contains("mapping"));
        assert!(Sizes { start: [3, 4], colours: 1, ..small(0) }.checked().is_ok());
    }
}
