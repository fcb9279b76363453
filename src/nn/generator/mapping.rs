//! The mapping network, z -> w (Karras et al. 2019, "A Style-Based Generator Architecture", section 2), with labels as in
//! stylegan2-ada-pytorch.

use super::Config;
use crate::device::{Device, HOST};
use crate::error::{Error, Result};
use crate::kernels::bias_act;
use crate::progress::Cancel;
use candle_core::{Tensor, D};

/// A linear layer.
#[derive(Clone)]
pub(super) struct Dense {
    /// [outputs, inputs]
    pub weight: Tensor,
    /// [outputs]
    pub bias: Tensor,
}

/// Weights of a mapping network; a family reads them from where it keeps them.
#[derive(Clone)]
pub(super) struct Mapping {
    /// From a label to what stands beside z; None for a generator without classes.
    pub embed: Option<Dense>,
    pub layers: Vec<Dense>,
    /// Learning-rate multiplier.
    pub rate: f64,
}

impl Mapping {
    /// Where the weights lie.
    pub(super) fn device(&self) -> &Device {
        self.layers.first().map_or(HOST, |layer| layer.weight.device())
    }

    /// Labels [n, c_dim] as vectors that stand beside z, [n, style_dim], before they are normalised. None without classes.
    pub(super) fn embed(&self, labels: &Tensor) -> Result<Option<Tensor>> {
        let Some(Dense { weight, bias }) = &self.embed else { return Ok(None) };
        let scaled = labels.affine(1.0 / (weight.dim(1)? as f64).sqrt(), 0.0)?;
        Ok(Some(scaled.matmul(&weight.t()?)?.broadcast_add(bias)?))
    }

    /// z [n, z_dim] -> w [n, style_dim]. Labels are [n or 1, c_dim], for a generator with classes. Differentiable. `trace` sees every
    /// module's output as `map.<i>`, 0 being the normalised z, and `map.embed`.
    pub(super) fn forward(&self, z: &Tensor, labels: Option<&Tensor>, trace: &mut dyn FnMut(&str, &Tensor)) -> Result<Tensor> {
        self.walk(z, labels, &mut |name, x| {
            trace(name, x);
            Ok(())
        })
    }

    /// As [`Mapping::forward`]; `Cancelled` once the flag is raised, which is looked at after each module.
    pub(super) fn forward_unless(&self, z: &Tensor, labels: Option<&Tensor>, cancel: &Cancel) -> Result<Tensor> {
        self.walk(z, labels, &mut |_, _| cancel.check())
    }

    fn walk(&self, z: &Tensor, labels: Option<&Tensor>, seen: &mut dyn FnMut(&str, &Tensor) -> Result<()>) -> Result<Tensor> {
        let mut x = pixel_norm(z)?;
        seen("map.0", &x)?;
        if let Some(y) = labels.map(|labels| self.embed(labels)).transpose()?.flatten() {
            seen("map.embed", &y)?;
            let (n, d) = (x.dim(0)?, y.dim(1)?);
            x = Tensor::cat(&[x, pixel_norm(&y)?.broadcast_as((n, d))?.contiguous()?], 1)?;
        }
        for (i, Dense { weight, bias }) in self.layers.iter().enumerate() {
            let scale = self.rate / (weight.dim(1)? as f64).sqrt();
            let bias = bias.affine(self.rate, 0.0)?;
            let y = x.affine(scale, 0.0)?.matmul(&weight.t()?)?;
            x = bias_act(&y, &bias)?;
            seen(&format!("map.{}", i + 1), &x)?;
        }
        Ok(x)
    }

    /// The same numbers without their graph.
    pub(super) fn detached(&self) -> Self {
        let detach = |d: &Dense| Dense { weight: d.weight.detach(), bias: d.bias.detach() };
        Self { embed: self.embed.as_ref().map(detach), layers: self.layers.iter().map(detach).collect(), rate: self.rate }
    }

    /// The network of the label alone: the label's part of the first layer is the same for every z, so it goes into that layer's bias.
    pub(super) fn of_label(&self, config: &Config, label: &Tensor) -> Result<Self> {
        let (Some(embedded), [first, others @ ..]) = (self.embed(label)?, &self.layers[..]) else { return Ok(self.clone()) };
        let embedded = pixel_norm(&embedded)?;
        let z = config.z_dim;
        let inputs = first.weight.dim(1)?;
        // A layer computes x * weight * rate / sqrt(inputs) + bias * rate, and has fewer inputs from now on.
        let fewer = (z as f64 / inputs as f64).sqrt();
        let of_label = first.weight.narrow(1, z, inputs - z)?;
        let constant = embedded.matmul(&of_label.t()?)?.affine(fewer / (z as f64).sqrt(), 0.0)?.squeeze(0)?;
        let first = Dense { weight: first.weight.narrow(1, 0, z)?.affine(fewer, 0.0)?.contiguous()?, bias: (&first.bias + constant)? };
        Ok(Self { embed: None, layers: [&[first], others].concat(), rate: self.rate })
    }

    /// What is wrong with labels for `n` points.
    pub(super) fn check_labels(config: &Config, n: usize, labels: Option<&Tensor>) -> Result<()> {
        match (config.c_dim, labels) {
            (0, None) => Ok(()),
            (0, Some(_)) => Err(Error::argument("labels", "this generator takes none")),
            (c_dim, None) => {
                Err(Error::argument("class", format!("is not chosen, and this generator has classes 0 to {}", c_dim.saturating_sub(1))))
            }
            (c_dim, Some(labels)) if matches!(labels.dims(), &[m, c] if (m == 1 || m == n) && c == c_dim) => Ok(()),
            (c_dim, Some(labels)) => {
                let message = format!("have shape {:?}, this generator takes [{n} or 1, {c_dim}]", labels.dims());
                Err(Error::argument("labels", message))
            }
        }
    }
}

/// x / sqrt(mean(x^2)) for each row of [n, d].
fn pixel_norm(x: &Tensor) -> Result<Tensor> {
    let norm = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-8)?.sqrt()?.recip()?;
    Ok(x.broadcast_mul(&norm)?)
}
