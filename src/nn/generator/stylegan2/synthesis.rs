//! The synthesis network with skips (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", figures 2 and 7).

use crate::error::{Error, Result};
use crate::kernels::{bias_act, modulated_conv2d, upfirdn2d, Modulated, UpFirDn};
use crate::nn::generator::layers::{Kind, Layer};
use crate::nn::generator::noise::LayerNoise;
use crate::nn::generator::{Config, Trace, Weights};
use candle_core::Tensor;

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
    /// [1, colours, 1, 1]
    bias: Tensor,
    /// Doubles the skip; None at the first resolution.
    upsample: Option<UpFirDn>,
}

#[derive(Clone)]
enum Drawn {
    Styled(StyledLayer),
    ToRgb(ToRgb),
}

impl Drawn {
    fn convolution(&self) -> &Convolution {
        match self {
            Drawn::Styled(layer) => &layer.conv,
            Drawn::ToRgb(layer) => &layer.conv,
        }
    }
}

#[derive(Clone)]
pub(in super::super) struct Synthesis {
    /// [1, c, h, w]
    constant: Tensor,
    /// Every layer that has a style, in the order of drawing.
    layers: Vec<(Layer, Drawn)>,
    clamp: Option<f64>,
    blur: [f32; 4],
}

impl Synthesis {
    /// `offsets` are added to styles, by layer name.
    pub(in super::super) fn new(config: &Config, blur: [f32; 4], weights: &Weights, offsets: &Weights) -> Result<Self> {
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
        let styled = |layer: &Layer| -> Result<StyledLayer> {
            let (name, up) = (&layer.name, layer.from.height != layer.to.height);
            Ok(StyledLayer {
                conv: conv(name, Modulated { up: up.then_some(blur), demodulate: true, scale: 1.0 })?,
                noise_strength: get(format!("{name}.noise.weight"))?,
                bias: get(format!("{name}.activate.bias"))?,
            })
        };
        let outer: Vec<f32> = (0..16).map(|i| blur[i / 4] * blur[i % 4]).collect();
        let to_rgb = |layer: &Layer| -> Result<ToRgb> {
            let (name, up) = (&layer.name, layer.index > 0);
            Ok(ToRgb {
                conv: conv(name, Modulated { up: None, demodulate: false, scale: 1.0 })?,
                bias: get(format!("{name}.bias"))?,
                upsample: up.then(|| UpFirDn { kernel: outer.clone(), kernel_size: (4, 4), up: 2, down: 1, pad: [2, 1, 2, 1] }),
            })
        };
        let drawn = config.styled().map(|layer| {
            let drawn = match layer.kind {
                Kind::ToRgb => Drawn::ToRgb(to_rgb(layer)?),
                Kind::Input | Kind::Convolution => Drawn::Styled(styled(layer)?),
            };
            Ok((layer.clone(), drawn))
        });
        let layers = drawn.collect::<Result<_>>()?;
        Ok(Self { constant: get("input.input".into())?, layers, clamp: config.conv_clamp, blur })
    }

    /// Of up-samplings.
    pub(in super::super) fn blur(&self) -> [f32; 4] {
        self.blur
    }

    /// W+ [n, n_latent, style_dim] -> one style [n, channels] a layer, in the order of [`Config::styled`].
    pub(in super::super) fn styles(&self, wplus: &Tensor) -> Result<Vec<Tensor>> {
        let rows: Vec<Tensor> = (0..wplus.dim(1)?).map(|i| Ok(wplus.narrow(1, i, 1)?.squeeze(1)?)).collect::<Result<_>>()?;
        let of = |(layer, drawn): &(Layer, Drawn)| match layer.row.and_then(|row| rows.get(row)) {
            Some(row) => drawn.convolution().style(row),
            None => Err(Error::Internal(format!("no row of W+ for {}", layer.name))),
        };
        self.layers.iter().map(of).collect()
    }

    /// Styles -> picture [n, colours, height, width]. `trace` sees every layer's output under its name; an error of it ends the pass.
    pub(in super::super) fn forward(
        &self,
        styles: &[Tensor],
        noise: &mut LayerNoise,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let too_few = || Error::argument("styles", "are fewer than the generator's layers");
        let n = styles.first().ok_or_else(too_few)?.dim(0)?;
        let (_, c, h, w) = self.constant.dims4()?;
        let mut x = self.constant.broadcast_as((n, c, h, w))?.contiguous()?;
        trace("layer.input", &x)?;
        let mut image: Option<Tensor> = None;
        for (i, (Layer { name, index, .. }, drawn)) in self.layers.iter().enumerate() {
            let conv = drawn.convolution();
            let y = modulated_conv2d(&x, styles.get(i).ok_or_else(too_few)?, &conv.weight, conv.how)?;
            trace(&format!("modconv.{name}"), &y)?;
            match drawn {
                Drawn::Styled(layer) => {
                    let (_, _, height, width) = y.dims4()?;
                    let noise = noise.layer(*index, n, [height, width], y.device())?;
                    x = clamp(bias_act(&y, &layer.bias, &layer.noise_strength, noise.as_ref())?, self.clamp)?;
                    trace(&format!("layer.{name}"), &x)?;
                }
                Drawn::ToRgb(layer) => {
                    let mut y = clamp(y.broadcast_add(&layer.bias)?, self.clamp)?;
                    if let (Some(skip), Some(up)) = (&image, &layer.upsample) {
                        y = (y + upfirdn2d(skip, up)?)?;
                    }
                    trace(&format!("layer.{name}"), &y)?;
                    image = Some(y);
                }
            }
        }
        image.ok_or_else(|| Error::Internal("a generator without ToRGB".into()))
    }
}

fn clamp(x: Tensor, most: Option<f64>) -> candle_core::Result<Tensor> {
    match most {
        Some(most) => x.clamp(-most, most),
        None => Ok(x),
    }
}
