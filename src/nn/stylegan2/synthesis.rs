//! The synthesis network with skips (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", figures 2 and 7).

use super::{Config, Noise};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::kernels::{bias_act, modulated_conv2d, upfirdn2d, Modulated, UpFirDn};
use crate::rng::Rng;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;

/// Named tensors in rosinality's layout.
pub(super) type Weights = BTreeMap<String, Tensor>;

/// Affine layer from w to a style, and the convolution that the style modulates.
#[derive(Clone)]
struct Convolution {
    /// [out, in, k, k]
    weight: Tensor,
    /// [in, style_dim]
    affine_weight: Tensor,
    /// [in]
    affine_bias: Tensor,
    /// Added to the style: [in].
    offset: Option<Tensor>,
    how: Modulated,
}

impl Convolution {
    fn style(&self, w: &Tensor) -> Result<Tensor> {
        // Equalised learning rate: the scale goes to the smaller factor.
        let scale = 1.0 / (self.affine_weight.dim(1)? as f64).sqrt();
        let s = w.affine(scale, 0.0)?.matmul(&self.affine_weight.t()?)?.broadcast_add(&self.affine_bias)?;
        Ok(match &self.offset {
            Some(offset) => s.broadcast_add(offset)?,
            None => s,
        })
    }
}

#[derive(Clone)]
struct StyledLayer {
    conv: Convolution,
    /// [1]
    noise_strength: Tensor,
    /// [out]
    bias: Tensor,
}

#[derive(Clone)]
struct ToRgb {
    conv: Convolution,
    /// [1, 3, 1, 1]
    bias: Tensor,
    /// Doubles the skip; None at 4 px.
    upsample: Option<UpFirDn>,
}

/// Names of the modulated layers in the order of [`Synthesis::styles`], each with the row of W+ that it reads:
/// conv1, to_rgb1, then convs.2i, convs.2i+1, to_rgbs.i for each further resolution.
pub(super) fn layers(config: &Config) -> Vec<(String, usize)> {
    let mut v = vec![("conv1".to_string(), 0), ("to_rgb1".to_string(), 1)];
    for i in 0..config.resolutions().count() - 1 {
        v.push((format!("convs.{}", 2 * i), 2 * i + 1));
        v.push((format!("convs.{}", 2 * i + 1), 2 * i + 2));
        v.push((format!("to_rgbs.{i}"), 2 * i + 3));
    }
    v
}

/// The layer's input channels: the length of its style.
pub(super) fn style_channels(config: &Config, layer: &str) -> usize {
    let at = |resolution: usize| config.channels[&resolution];
    match layer.split_once('.') {
        Some(("convs", i)) => {
            let i: usize = i.parse().unwrap_or(0);
            // convs.2i goes up from 4 * 2^i, convs.2i+1 stays at 8 * 2^i.
            at(if i.is_multiple_of(2) { 4 << (i / 2) } else { 8 << (i / 2) })
        }
        Some((_, i)) => at(8 << i.parse::<usize>().unwrap_or(0)),
        None => at(4),
    }
}

/// Sees layers go by.
pub(super) type Trace<'a> = dyn FnMut(&str, &Tensor) -> Result<()> + 'a;

#[derive(Clone)]
pub(super) struct Synthesis {
    /// [1, c, 4, 4]
    constant: Tensor,
    conv1: StyledLayer,
    to_rgb1: ToRgb,
    blocks: Vec<(StyledLayer, StyledLayer, ToRgb)>,
    clamp: Option<f64>,
}

/// Keys and shapes of the tensors that make pictures, in rosinality's layout.
pub(super) fn keys(config: &Config) -> Vec<(String, Vec<usize>)> {
    let d = config.style_dim;
    let mut keys: Vec<(String, Vec<usize>)> = vec![];
    // A label's embedding stands beside z.
    let c = config.c_dim;
    if c > 0 {
        keys.push(("embed.weight".into(), vec![d, c]));
        keys.push(("embed.bias".into(), vec![d]));
    }
    for i in 1..=config.n_mlp {
        keys.push((format!("style.{i}.weight"), vec![d, if i == 1 && c > 0 { 2 * d } else { d }]));
        keys.push((format!("style.{i}.bias"), vec![d]));
    }
    let c4 = config.channels[&4];
    keys.push(("input.input".into(), vec![1, c4, 4, 4]));
    let mut conv = |name: &str, o: usize, c: usize, k: usize| {
        keys.push((format!("{name}.conv.weight"), vec![1, o, c, k, k]));
        keys.push((format!("{name}.conv.modulation.weight"), vec![c, d]));
        keys.push((format!("{name}.conv.modulation.bias"), vec![c]));
        if k == 3 {
            keys.push((format!("{name}.noise.weight"), vec![1]));
            keys.push((format!("{name}.activate.bias"), vec![o]));
        } else {
            keys.push((format!("{name}.bias"), vec![1, 3, 1, 1]));
        }
    };
    conv("conv1", c4, c4, 3);
    conv("to_rgb1", 3, c4, 1);
    let mut below = c4;
    for (i, resolution) in config.resolutions().skip(1).enumerate() {
        let o = config.channels[&resolution];
        conv(&format!("convs.{}", 2 * i), o, below, 3);
        conv(&format!("convs.{}", 2 * i + 1), o, o, 3);
        conv(&format!("to_rgbs.{i}"), 3, o, 1);
        below = o;
    }
    keys
}

/// Taps of a separable 4 x 4 kernel, `None` when it is not the outer product of four numbers with themselves.
pub(super) fn separate(kernel: &[f32]) -> Option<[f32; 4]> {
    let total: f32 = kernel.iter().sum();
    if kernel.len() != 16 || total.is_nan() || total <= 0.0 {
        return None;
    }
    let taps: [f32; 4] = std::array::from_fn(|i| kernel[i * 4..][..4].iter().sum::<f32>() / total.sqrt());
    let fits = (0..16).all(|i| (taps[i / 4] * taps[i % 4] - kernel[i]).abs() <= 1e-5 * total);
    fits.then_some(taps)
}

/// The blur of an up-sampling: [1, 3, 3, 1] with gain 2 (rosinality's and NVIDIA's).
pub(super) const BLUR: [f32; 4] = [0.25, 0.75, 0.75, 0.25];

impl Synthesis {
    /// `offsets` are added to styles, by layer name.
    pub(super) fn new(config: &Config, blur: [f32; 4], weights: &Weights, offsets: &Weights) -> Result<Self> {
        let get = |key: String| weights.get(&key).cloned().ok_or_else(|| Error::Internal(format!("generator without {key}")));
        let conv = |name: &str, how: Modulated| -> Result<Convolution> {
            let weight = get(format!("{name}.conv.weight"))?.squeeze(0)?;
            let (_, c, kh, kw) = weight.dims4()?;
            Ok(Convolution {
                how: Modulated { scale: 1.0 / ((c * kh * kw) as f32).sqrt(), ..how },
                weight,
                affine_weight: get(format!("{name}.conv.modulation.weight"))?,
                affine_bias: get(format!("{name}.conv.modulation.bias"))?,
                offset: offsets.get(name).cloned(),
            })
        };
        let styled = |name: &str, up: bool| -> Result<StyledLayer> {
            Ok(StyledLayer {
                conv: conv(name, Modulated { up: up.then_some(blur), demodulate: true, scale: 1.0 })?,
                noise_strength: get(format!("{name}.noise.weight"))?,
                bias: get(format!("{name}.activate.bias"))?,
            })
        };
        let outer: Vec<f32> = (0..16).map(|i| blur[i / 4] * blur[i % 4]).collect();
        let to_rgb = |name: &str, up: bool| -> Result<ToRgb> {
            Ok(ToRgb {
                conv: conv(name, Modulated { up: None, demodulate: false, scale: 1.0 })?,
                bias: get(format!("{name}.bias"))?,
                upsample: up.then(|| UpFirDn { kernel: outer.clone(), kernel_size: (4, 4), up: 2, down: 1, pad: [2, 1, 2, 1] }),
            })
        };
        let blocks = (0..config.resolutions().count() - 1).map(|i| {
            Ok((
                styled(&format!("convs.{}", 2 * i), true)?,
                styled(&format!("convs.{}", 2 * i + 1), false)?,
                to_rgb(&format!("to_rgbs.{i}"), true)?,
            ))
        });
        Ok(Self {
            constant: get("input.input".into())?,
            conv1: styled("conv1", false)?,
            to_rgb1: to_rgb("to_rgb1", false)?,
            blocks: blocks.collect::<Result<_>>()?,
            clamp: config.conv_clamp,
        })
    }

    fn convolutions(&self) -> Vec<&Convolution> {
        let mut v = vec![&self.conv1.conv, &self.to_rgb1.conv];
        for (a, b, rgb) in &self.blocks {
            v.extend([&a.conv, &b.conv, &rgb.conv]);
        }
        v
    }

    /// W+ [n, n_latent, style_dim] -> one style [n, channels] a layer, in the order of [`layers`].
    pub(super) fn styles(&self, wplus: &Tensor) -> Result<Vec<Tensor>> {
        let rows: Vec<Tensor> = (0..wplus.dim(1)?).map(|i| Ok(wplus.narrow(1, i, 1)?.squeeze(1)?)).collect::<Result<_>>()?;
        let row = |i: usize| match i {
            0 | 1 => i,
            // After the first two come triples, of which the last shares its row with the next triple's first.
            i => (i - 2) / 3 * 2 + (i - 2) % 3 + 1,
        };
        self.convolutions().iter().enumerate().map(|(i, c)| c.style(&rows[row(i)])).collect()
    }

    /// Styles -> picture [n, 3, size, size]. `trace` sees every layer's output under its name; an error of it ends the pass.
    pub(super) fn forward(&self, styles: &[Tensor], noise: &mut LayerNoise, trace: &mut Trace) -> Result<Tensor> {
        let n = styles[0].dim(0)?;
        let (_, c, h, w) = self.constant.dims4()?;
        let mut styles = styles.iter();
        let mut next = || styles.next().ok_or_else(|| Error::argument("styles", "are fewer than the generator's layers"));
        let mut x = self.constant.broadcast_as((n, c, h, w))?.contiguous()?;
        trace("layer.input", &x)?;
        let mut index = 0;
        let mut layer = |x: &Tensor, layer: &StyledLayer, s: &Tensor, name: &str, trace: &mut Trace| -> Result<Tensor> {
            let y = modulated_conv2d(x, s, &layer.conv.weight, layer.conv.how)?;
            trace(&format!("modconv.{name}"), &y)?;
            let noise = noise.layer(index, n, y.dim(2)?, y.device())?;
            index += 1;
            let y = clamp(bias_act(&y, &layer.bias, &layer.noise_strength, noise.as_ref())?, self.clamp)?;
            trace(&format!("layer.{name}"), &y)?;
            Ok(y)
        };
        let rgb = |x: &Tensor, to_rgb: &ToRgb, s: &Tensor, skip: Option<&Tensor>, name: &str, trace: &mut Trace| {
            let y = modulated_conv2d(x, s, &to_rgb.conv.weight, to_rgb.conv.how)?;
            trace(&format!("modconv.{name}"), &y)?;
            let mut y = clamp(y.broadcast_add(&to_rgb.bias)?, self.clamp)?;
            if let (Some(skip), Some(up)) = (skip, &to_rgb.upsample) {
                y = (y + upfirdn2d(skip, up)?)?;
            }
            trace(&format!("layer.{name}"), &y)?;
            Result::Ok(y)
        };
        x = layer(&x, &self.conv1, next()?, "conv1", trace)?;
        let mut image = rgb(&x, &self.to_rgb1, next()?, None, "to_rgb1", trace)?;
        for (i, (up, same, to_rgb)) in self.blocks.iter().enumerate() {
            x = layer(&x, up, next()?, &format!("convs.{}", 2 * i), trace)?;
            x = layer(&x, same, next()?, &format!("convs.{}", 2 * i + 1), trace)?;
            image = rgb(&x, to_rgb, next()?, Some(&image), &format!("to_rgbs.{i}"), trace)?;
        }
        Ok(image)
    }
}

fn clamp(x: Tensor, most: Option<f64>) -> candle_core::Result<Tensor> {
    match most {
        Some(most) => x.clamp(-most, most),
        None => Ok(x),
    }
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

    fn layer(&mut self, index: usize, n: usize, side: usize, device: &Device) -> Result<Option<Tensor>> {
        Ok(match self {
            LayerNoise::None => None,
            LayerNoise::Random(rng) => Some(rng.normals(&[n, 1, side, side], device)?),
            LayerNoise::Maps(maps) => {
                let map =
                    maps.get(index).ok_or_else(|| Error::argument("noise", format!("has {} maps, layer {index} needs one", maps.len())))?;
                match map.dims() {
                    &[m, 1, a, b] if (m == 1 || m == n) && a == side && b == side => Some(map.clone()),
                    dims => {
                        return Err(Error::argument(
                            "noise",
                            format!("map {index} has shape {dims:?}, it must be [1 or {n}, 1, {side}, {side}]"),
                        ))
                    }
                }
            }
        })
    }
}

/// The checkpoint's noise maps, in rosinality's layout.
pub(super) fn noise_maps(checkpoint: &Checkpoint, config: &Config) -> Result<Vec<Tensor>> {
    noise_maps_by(config, |i, side| {
        let key = format!("noises.noise_{i}");
        match checkpoint.contains(&key) {
            true => checkpoint.f32(&key, Some(&[1, 1, side, side])).map(Some),
            false => Ok(None),
        }
    })
}

/// One noise map a layer, from its index and side length; maps of a fixed seed where there is none, as some converters leave them out.
pub(super) fn noise_maps_by(config: &Config, mut get: impl FnMut(usize, usize) -> Result<Option<Tensor>>) -> Result<Vec<Tensor>> {
    let mut rng = Rng::stream(0, 1);
    (0..config.n_latent() - 1)
        .map(|i| {
            let side = 4 << i.div_ceil(2);
            match get(i, side)? {
                Some(map) => Ok(map),
                None => rng.normals(&[1, 1, side, side], &Device::Cpu),
            }
        })
        .collect()
}

/// Reads the sizes from the tensors' shapes.
pub(super) fn config(checkpoint: &Checkpoint) -> Result<Config> {
    let bad = |m: String| Error::format(&checkpoint.path, m);
    let dims = |key: &str, rank: usize| -> Result<Vec<usize>> {
        match checkpoint.shape(key) {
            Some(s) if s.len() == rank => Ok(s.to_vec()),
            Some(s) => Err(bad(format!("tensor {key} has shape {s:?}, a StyleGAN2 generator's has {rank} dimensions"))),
            None => Err(bad(format!("no tensor {key}: this is not a StyleGAN2 generator in rosinality's layout"))),
        }
    };
    let style_dim = dims("conv1.conv.modulation.weight", 2)?[1];
    let n_mlp = (1..).take_while(|i| checkpoint.contains(&format!("style.{i}.weight"))).count();
    let mut channels = BTreeMap::from([(4, dims("input.input", 4)?[1])]);
    let mut blocks = 0;
    while checkpoint.contains(&format!("to_rgbs.{blocks}.conv.weight")) {
        channels.insert(8 << blocks, dims(&format!("convs.{}.conv.weight", 2 * blocks + 1), 5)?[1]);
        blocks += 1;
        if blocks > 8 {
            return Err(bad("more than 8 up-sampling blocks: sizes from 32 to 1024 px are supported".into()));
        }
    }
    let number = |key: &str| match checkpoint.metadata.get(key).map(|v| v.parse::<f64>()) {
        None => Ok(None),
        Some(Ok(v)) if v.is_finite() && v > 0.0 => Ok(Some(v)),
        Some(_) => Err(bad(format!("metadata {key} is not a positive number"))),
    };
    let config = Config {
        size: 4usize << blocks,
        style_dim,
        n_mlp,
        lr_mlp: number("lr_mlp")?.unwrap_or(0.01),
        channels,
        c_dim: if checkpoint.contains("embed.weight") { dims("embed.weight", 2)?[1] } else { 0 },
        conv_clamp: number("conv_clamp")?,
    };
    config.check().map_err(bad)?;
    Ok(config)
}

/// The blur kernel that the file names, or the usual one.
pub(super) fn blur(checkpoint: &Checkpoint) -> Result<[f32; 4]> {
    let key = "convs.0.conv.blur.kernel";
    if !checkpoint.contains(key) {
        return Ok(BLUR);
    }
    let kernel = checkpoint.f32(key, Some(&[4, 4]))?.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    separate(&kernel)
        .ok_or_else(|| Error::format(&checkpoint.path, format!("{key} is not the outer product of four numbers with themselves")))
}
