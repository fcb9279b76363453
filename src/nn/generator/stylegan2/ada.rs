//! NVIDIA's layout of a generator (stylegan2-ada-pytorch, and the StyleGAN2 of stylegan3's repository): other names and shapes of the same
//! numbers. Blocks that NVIDIA's code computes in f16 are computed in f32 here.

use super::{keys, noise_maps, separate, Loaded, Sizes, BLUR};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::nn::generator::{Config, Weights};

/// NVIDIA's name of a tensor of our layout (rosinality's): `convs.0.conv.weight` is `synthesis.b8.conv0.weight`. None where it has none.
pub fn ada_name(key: &str) -> Option<String> {
    if let Some(rest) = key.strip_prefix("embed.") {
        return Some(format!("mapping.embed.{rest}"));
    }
    if let Some((i, rest)) = key.strip_prefix("style.").and_then(|rest| rest.split_once('.')) {
        return Some(format!("mapping.fc{}.{rest}", i.parse::<usize>().ok()?.checked_sub(1)?));
    }
    if key == "input.input" {
        return Some("synthesis.b4.const".into());
    }
    let (layer, rest) = match key.strip_prefix("convs.").or_else(|| key.strip_prefix("to_rgbs.")) {
        Some(numbered) => {
            let (i, rest) = numbered.split_once('.')?;
            let i: usize = i.parse().ok()?;
            if i > 16 {
                return None;
            }
            match key.starts_with("convs.") {
                true => (format!("b{}.conv{}", 8usize << (i / 2), i % 2), rest),
                false => (format!("b{}.torgb", 8usize << i), rest),
            }
        }
        None => match key.split_once('.')? {
            ("conv1", rest) => ("b4.conv1".to_string(), rest),
            ("to_rgb1", rest) => ("b4.torgb".to_string(), rest),
            _ => return None,
        },
    };
    let rest = match rest {
        "conv.weight" => "weight",
        "conv.modulation.weight" => "affine.weight",
        "conv.modulation.bias" => "affine.bias",
        "noise.weight" => "noise_strength",
        "activate.bias" | "bias" => "bias",
        _ => return None,
    };
    Some(format!("synthesis.{layer}.{rest}"))
}

/// NVIDIA's shape of the tensor `key` of our layout, which is `shape` here: without dimensions of length 1.
fn ada_shape(key: &str, shape: &[usize]) -> Vec<usize> {
    match key {
        "input.input" => shape[1..].to_vec(),
        _ if key.ends_with(".conv.weight") => shape[1..].to_vec(),
        _ if key.ends_with(".noise.weight") => vec![],
        _ if shape.len() == 4 => vec![shape[1]],
        _ => shape.to_vec(),
    }
}

/// NVIDIA's name of noise map `i`.
fn noise_name(i: usize) -> String {
    match i.checked_sub(1) {
        None => "synthesis.b4.conv1.noise_const".into(),
        Some(i) => format!("synthesis.b{}.conv{}.noise_const", 8usize << (i / 2), i % 2),
    }
}

/// Reads the sizes from the tensors' shapes, and the rest from the attributes that a pickle has (or from a file's metadata).
fn config(file: &Checkpoint) -> Result<Config> {
    let bad = |message: String| Error::format(&file.path, message);
    let unsupported = |message: String| Error::unsupported(file.path.display().to_string(), message);
    let dims = |key: &str, rank: usize| match file.shape(key) {
        Some(shape) if shape.len() == rank => Ok(shape.to_vec()),
        Some(shape) => Err(bad(format!("tensor {key} has shape {shape:?}, a StyleGAN2 generator's has {rank} dimensions"))),
        None => Err(bad(format!("no tensor {key}: this is not a whole StyleGAN2 generator in NVIDIA's layout"))),
    };
    let number = |key: &str, metadata: &str| -> Result<Option<f64>> {
        match file.value(key).or_else(|| file.metadata.get(metadata).map(String::as_str)).map(|text| (text, text.parse::<f64>())) {
            None => Ok(None),
            Some((_, Ok(n))) if n.is_finite() && n > 0.0 => Ok(Some(n)),
            Some((text, _)) => Err(bad(format!("{key} is {text}, where a positive number is right"))),
        }
    };
    for (key, known) in
        [("synthesis.b8.architecture", "skip"), ("mapping.fc0.activation", "lrelu"), ("synthesis.b8.conv0.activation", "lrelu")]
    {
        if let Some(other) = file.value(key).filter(|&value| value != known) {
            return Err(unsupported(format!("its {key} is '{other}', where '{known}' is supported")));
        }
    }
    if file.contains("synthesis.b8.skip.weight") {
        return Err(unsupported("its architecture is 'resnet', where 'skip' is supported".into()));
    }
    let start = match dims("synthesis.b4.const", 3)?[1..] {
        [4, 4] => [4, 4],
        [height, width] => {
            let message = format!("it is not square ({height} x {width} at its start), which is not supported in NVIDIA's layout");
            return Err(unsupported(message));
        }
        _ => return Err(bad("tensor synthesis.b4.const has no height and width".into())),
    };
    let channels = (2..)
        .map(|i| 1usize << i)
        .take_while(|r| *r <= 2048 && file.contains(&format!("synthesis.b{r}.conv1.weight")))
        .map(|r| Ok(dims(&format!("synthesis.b{r}.conv1.weight"), 4)?[0]))
        .collect::<Result<Vec<_>>>()?;
    let style_dim = dims("synthesis.b4.conv1.affine.weight", 2)?[1];
    let n_mlp = (0..).take_while(|i| file.contains(&format!("mapping.fc{i}.weight"))).count();
    let c_dim = match file.contains("mapping.embed.weight") {
        true => dims("mapping.embed.weight", 2)?[1],
        false => 0,
    };
    // The first layer takes z and, with classes, the embedded label.
    let inputs = if n_mlp > 0 { dims("mapping.fc0.weight", 2)?[1] } else { style_dim };
    let z_dim = inputs.saturating_sub(if c_dim > 0 { style_dim } else { 0 });
    let colours = dims("synthesis.b4.torgb.weight", 4)?[0];
    let lr_mlp = number("mapping.fc0.bias_gain", "lr_mlp")?.unwrap_or(0.01);
    let conv_clamp = number("synthesis.b4.conv1.conv_clamp", "conv_clamp")?;
    let sizes = Sizes { z_dim, style_dim, n_mlp, lr_mlp, c_dim, start, channels, colours, conv_clamp };
    sizes.checked().map_err(bad)
}

pub(super) fn load(file: &Checkpoint) -> Result<Loaded> {
    let config = config(file)?;
    let mut weights = Weights::new();
    for (key, shape) in keys(&config) {
        let name = ada_name(&key).ok_or_else(|| Error::Internal(format!("{key} has no name in NVIDIA's layout")))?;
        let tensor = file.f32(&name, Some(&ada_shape(&key, &shape)))?;
        weights.insert(key, tensor.reshape(shape)?);
    }
    let kernel = "synthesis.b8.conv0.resample_filter";
    let blur = match file.contains(kernel) {
        true => {
            // Theirs has the sum 1, ours that of the pixels that come in between: 4.
            let taps: Vec<f32> = file.f32(kernel, Some(&[4, 4]))?.affine(4.0, 0.0)?.flatten_all()?.to_vec1()?;
            let message = || Error::format(&file.path, format!("{kernel} is not the outer product of four numbers with themselves"));
            separate(&taps).ok_or_else(message)?
        }
        false => BLUR,
    };
    let latent_avg = match file.contains("mapping.w_avg") {
        true => Some(file.f32("mapping.w_avg", Some(&[config.style_dim]))?),
        false => None,
    };
    let noise = noise_maps(&config, file.device(), |i, [height, width]| {
        let name = noise_name(i);
        Ok(match file.contains(&name) {
            true => Some(file.f32(&name, Some(&[height, width]))?.reshape((1, 1, height, width))?),
            false => None,
        })
    })?;
    Ok(Loaded { config, blur, noise, latent_avg, weights })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tensor_has_one_name_in_nvidias_layout() {
        let config = crate::nn::generator::stylegan2::small(3).config();
        let names: std::collections::BTreeSet<String> = keys(&config).iter().map(|(key, _)| ada_name(key).unwrap()).collect();
        assert_eq!(names.len(), keys(&config).len());
        for (ours, theirs) in [
            ("convs.3.conv.modulation.weight", "synthesis.b16.conv1.affine.weight"),
            ("to_rgbs.2.bias", "synthesis.b32.torgb.bias"),
            ("conv1.noise.weight", "synthesis.b4.conv1.noise_strength"),
            ("style.1.weight", "mapping.fc0.weight"),
        ] {
            assert_eq!(ada_name(ours).as_deref(), Some(theirs));
        }
        for none in ["noises.noise_0", "style.0.weight", "convs.99.conv.weight", "convs.0.conv.blur.kernel", "latent_avg"] {
            assert_eq!(ada_name(none), None, "{none}");
        }
    }
}
