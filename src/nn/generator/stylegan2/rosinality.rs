//! Rosinality's layout of a generator, whose names the tensors keep in memory and in domains.

use super::{noise_maps, separate, Loaded, Sizes, BLUR, MAX_UPS};
use crate::checkpoint::{above, Checkpoint};
use crate::error::{Error, Result};
use crate::nn::generator::layers::Kind;
use crate::nn::generator::mapping::{Dense, Mapping};
use crate::nn::generator::{Config, Weights};
use candle_core::{DType, Tensor};

/// Keys and shapes of the tensors that make pictures.
pub(in super::super) fn keys(config: &Config) -> Vec<(String, Vec<usize>)> {
    let d = config.style_dim;
    let mut keys: Vec<(String, Vec<usize>)> = vec![];
    // A label's embedding stands beside z.
    let c = config.c_dim;
    if c > 0 {
        keys.push(("embed.weight".into(), vec![d, c]));
        keys.push(("embed.bias".into(), vec![d]));
    }
    for i in 1..=config.n_mlp {
        let inputs = match i {
            1 => config.z_dim + if c > 0 { d } else { 0 },
            _ => d,
        };
        keys.push((format!("style.{i}.weight"), vec![d, inputs]));
        keys.push((format!("style.{i}.bias"), vec![d]));
    }
    for layer in &config.layers {
        let (name, from, to, k) = (&layer.name, layer.from.channels, layer.to, layer.kernel);
        if layer.kind == Kind::Input {
            keys.push(("input.input".into(), vec![1, to.channels, to.height, to.width]));
            continue;
        }
        keys.push((format!("{name}.conv.weight"), vec![1, to.channels, from, k, k]));
        keys.push((format!("{name}.conv.modulation.weight"), vec![from, d]));
        keys.push((format!("{name}.conv.modulation.bias"), vec![from]));
        if layer.kind == Kind::Convolution {
            keys.push((format!("{name}.noise.weight"), vec![1]));
            keys.push((format!("{name}.activate.bias"), vec![to.channels]));
        } else {
            keys.push((format!("{name}.bias"), vec![1, to.channels, 1, 1]));
        }
    }
    keys
}

/// Whether `key` is one of a generator's file that is no weight of it: noise maps and blur kernels.
pub(in super::super) fn is_known(config: &Config, key: &str) -> bool {
    let convolutions = config.of_kind(Kind::Convolution).count();
    key.strip_prefix("noises.noise_").is_some_and(|i| i.parse().is_ok_and(|i: usize| i < convolutions))
        || key.ends_with(".conv.blur.kernel")
        || key.ends_with(".upsample.kernel")
}

/// The mapping network of a generator's tensors.
pub(in super::super) fn mapping(config: &Config, weights: &Weights) -> Result<Mapping> {
    let get = |key: String| weights.get(&key).cloned().ok_or_else(|| Error::Internal(format!("generator without {key}")));
    let dense = |name: String| Ok(Dense { weight: get(format!("{name}.weight"))?, bias: get(format!("{name}.bias"))? });
    Ok(Mapping {
        embed: (config.c_dim > 0).then(|| dense("embed".into())).transpose()?,
        layers: (1..=config.n_mlp).map(|i| dense(format!("style.{i}"))).collect::<Result<_>>()?,
        rate: config.lr_mlp,
    })
}

/// Puts a mapping network among a generator's tensors, in the place of the one that is there.
pub(in super::super) fn store_mapping(config: &Config, mapping: &Mapping, weights: &mut Weights) {
    weights.retain(|key, _| config.layer_of(key).is_some());
    let named = mapping.layers.iter().enumerate().map(|(i, dense)| (format!("style.{}", i + 1), dense));
    for (name, Dense { weight, bias }) in named.chain(mapping.embed.iter().map(|dense| ("embed".to_string(), dense))) {
        weights.insert(format!("{name}.weight"), weight.clone());
        weights.insert(format!("{name}.bias"), bias.clone());
    }
}

/// Reads the network `file`, which stands at `prefix` of `root`.
pub(super) fn load(root: &Checkpoint, prefix: &str, file: &Checkpoint) -> Result<Loaded> {
    let config = config(file)?;
    let mut weights = Weights::new();
    for (key, shape) in keys(&config) {
        let tensor = file.f32(&key, Some(&shape))?;
        weights.insert(key, tensor);
    }
    let noise = noise_maps(&config, file.device(), |i, [height, width]| {
        let key = format!("noises.noise_{i}");
        match file.contains(&key) {
            true => file.f32(&key, Some(&[1, 1, height, width])).map(Some),
            false => Ok(None),
        }
    })?;
    Ok(Loaded { blur: blur(file)?, noise, latent_avg: latent_avg(root, prefix, &config)?, config, weights })
}

/// The mean of w, beside the generator or beside what it is in.
fn latent_avg(root: &Checkpoint, prefix: &str, config: &Config) -> Result<Option<Tensor>> {
    let Some(key) = above(prefix).chain([prefix]).map(|place| format!("{place}latent_avg")).find(|k| root.contains(k)) else {
        return Ok(None);
    };
    let d = config.style_dim;
    Ok(Some(match *root.shape(&key).unwrap_or_default() {
        // What was trained to find w alone has one row.
        [1, _] => root.f32(&key, Some(&[1, d]))?.squeeze(0)?,
        // Some tools store the mean once a layer, all rows the same.
        [_, _] => root.f32(&key, Some(&[config.n_latent(), d]))?.mean(0)?,
        _ => root.f32(&key, Some(&[d]))?,
    }))
}

/// Reads the sizes from the tensors' shapes.
fn config(checkpoint: &Checkpoint) -> Result<Config> {
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
    let constant = dims("input.input", 4)?;
    let mut channels = vec![constant[1]];
    while checkpoint.contains(&format!("to_rgbs.{}.conv.weight", channels.len() - 1)) {
        channels.push(dims(&format!("convs.{}.conv.weight", 2 * channels.len() - 1), 5)?[1]);
        if channels.len() - 1 > MAX_UPS {
            return Err(bad("more than 8 up-sampling blocks: sizes from 32 to 1024 px are supported".into()));
        }
    }
    let number = |key: &str| match checkpoint.metadata.get(key).map(|v| v.parse::<f64>()) {
        None => Ok(None),
        Some(Ok(v)) if v.is_finite() && v > 0.0 => Ok(Some(v)),
        Some(_) => Err(bad(format!("metadata {key} is not a positive number"))),
    };
    let c_dim = if checkpoint.contains("embed.weight") { dims("embed.weight", 2)?[1] } else { 0 };
    // The first layer takes z and, with classes, the embedded label.
    let inputs = if n_mlp > 0 { dims("style.1.weight", 2)?[1] } else { style_dim };
    let sizes = Sizes {
        z_dim: inputs.saturating_sub(if c_dim > 0 { style_dim } else { 0 }),
        style_dim,
        n_mlp,
        lr_mlp: number("lr_mlp")?.unwrap_or(0.01),
        c_dim,
        start: [constant[2], constant[3]],
        channels,
        colours: dims("to_rgb1.conv.weight", 5)?[1],
        conv_clamp: number("conv_clamp")?,
    };
    sizes.checked().map_err(bad)
}

/// The blur kernel that the file names, or the usual one.
fn blur(checkpoint: &Checkpoint) -> Result<[f32; 4]> {
    let key = "convs.0.conv.blur.kernel";
    if !checkpoint.contains(key) {
        return Ok(BLUR);
    }
    let kernel = checkpoint.f32(key, Some(&[4, 4]))?.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    separate(&kernel)
        .ok_or_else(|| Error::format(&checkpoint.path, format!("{key} is not the outer product of four numbers with themselves")))
}
