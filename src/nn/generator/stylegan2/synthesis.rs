//! The synthesis network with skips (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", figures 2 and 7).

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::kernels::synthesis::{self, Network, Role};
use crate::nn::generator::layers::{Kind, Layer};
use crate::nn::generator::noise::LayerNoise;
use crate::nn::generator::{Config, Weights};
use candle_core::Tensor;
use std::sync::Arc;

/// From w to a layer's style.
#[derive(Clone)]
struct Affine {
    /// [in, style_dim]
    weight: Tensor,
    /// [in]
    bias: Tensor,
    /// Added to the style: [in].
    offset: Option<Tensor>,
}

impl Affine {
    fn style(&self, w: &Tensor) -> Result<Tensor> {
        // Equalised learning rate: the scale goes to the smaller factor.
        let scale = 1.0 / (self.weight.dim(1)? as f64).sqrt();
        let s = w.affine(scale, 0.0)?.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?;
        Ok(match &self.offset {
            Some(offset) => s.broadcast_add(offset)?,
            None => s,
        })
    }
}

/// A layer that has a style.
#[derive(Clone)]
struct Styled {
    layer: Layer,
    affine: Affine,
}

#[derive(Clone)]
pub(in super::super) struct Synthesis {
    /// In the order of drawing.
    layers: Vec<Styled>,
    network: Arc<Network>,
}

impl Synthesis {
    /// `offsets` are added to styles, by layer name. `before`: the synthesis that this one differs from in some tensors.
    pub(in super::super) fn new(
        config: &Config,
        blur: [f32; 4],
        weights: &Weights,
        offsets: &Weights,
        before: Option<&Self>,
    ) -> Result<Self> {
        let get = |key: String| weights.get(&key).cloned().ok_or_else(|| Error::Internal(format!("generator without {key}")));
        let constant = get("input.input".into())?;
        let (_, c, h, w) = constant.dims4()?;
        let (mut parameters, mut network, mut layers, mut style) = (vec![constant], vec![], vec![], 0);
        for layer in config.styled() {
            let name = &layer.name;
            let mut put = |tensor: Tensor| {
                parameters.push(tensor);
                parameters.len() - 1
            };
            let weight = put(get(format!("{name}.conv.weight"))?);
            let (bias, role) = match layer.kind {
                Kind::ToRgb => (put(get(format!("{name}.bias"))?), Role::Colours),
                Kind::Input | Kind::Convolution => {
                    let bias = put(get(format!("{name}.activate.bias"))?);
                    (bias, Role::Convolution { strength: put(get(format!("{name}.noise.weight"))?), noise: layer.index })
                }
            };
            let (inputs, outputs) = (layer.style_channels(), layer.to.channels);
            let (height, width) = (layer.to.height, layer.to.width);
            let up = layer.kind == Kind::Convolution && layer.from.height != height;
            network.push(synthesis::Layer { name: name.clone(), role, inputs, outputs, height, width, up, style, weight, bias });
            style += inputs;
            layers.push(Styled {
                layer: layer.clone(),
                affine: Affine {
                    weight: get(format!("{name}.conv.modulation.weight"))?,
                    bias: get(format!("{name}.conv.modulation.bias"))?,
                    offset: offsets.get(name).cloned(),
                },
            });
        }
        let clamp = config.conv_clamp.map(|most| most as f32);
        let network = Network::new([c, h, w], network, parameters, blur, clamp, before.map(|b| &*b.network));
        Ok(Self { layers, network: Arc::new(network) })
    }

    /// The same, without what its device has made of weights.
    pub(in super::super) fn afresh(&self) -> Self {
        Self { network: Arc::new(self.network.afresh()), ..self.clone() }
    }

    /// The same, which keeps nothing that its device makes of weights.
    pub(in super::super) fn lean(&self) -> Self {
        Self { network: Arc::new(self.network.lean()), ..self.clone() }
    }

    /// Makes what passes of `n` pictures will ask for.
    pub(in super::super) fn prepare(&self, n: usize, back: bool) -> Result<()> {
        Ok(self.network.prepare(n, back)?)
    }

    /// Of up-samplings.
    pub(in super::super) fn blur(&self) -> [f32; 4] {
        self.network.blur
    }

    /// W+ [n, n_latent, style_dim] -> one style [n, channels] a layer, in the order of [`Config::styled`].
    pub(in super::super) fn styles(&self, wplus: &Tensor) -> Result<Vec<Tensor>> {
        let rows: Vec<Tensor> = (0..wplus.dim(1)?).map(|i| Ok(wplus.narrow(1, i, 1)?.squeeze(1)?)).collect::<Result<_>>()?;
        let of = |Styled { layer, affine }: &Styled| match layer.row.and_then(|row| rows.get(row)) {
            Some(row) => affine.style(row),
            None => Err(Error::Internal(format!("no row of W+ for {}", layer.name))),
        };
        self.layers.iter().map(of).collect()
    }

    /// The noise of each convolution for `n` pictures.
    fn noise(&self, n: usize, noise: &mut LayerNoise) -> Result<Vec<Option<Tensor>>> {
        let convolutions = self.layers.iter().filter(|l| l.layer.kind == Kind::Convolution);
        let device = self.network.parameters[0].device();
        convolutions.map(|l| noise.layer(l.layer.index, n, [l.layer.to.height, l.layer.to.width], device)).collect()
    }

    /// Styles -> picture [n, colours, height, width]. `Cancelled` once the flag is raised, which is looked at after each layer, on the way
    /// back too.
    pub(in super::super) fn forward(&self, styles: &[Tensor], noise: &mut LayerNoise, cancel: &Cancel) -> Result<Tensor> {
        let noise = self.noise(self.count(styles)?, noise)?;
        Ok(synthesis::synthesis(&self.network, styles, &noise, cancel)?)
    }

    /// As [`Synthesis::forward`], untracked; `trace` sees every layer's output under its name.
    pub(in super::super) fn traced(&self, styles: &[Tensor], noise: &mut LayerNoise, trace: &mut dyn FnMut(&str, &Tensor)) -> Result<()> {
        let n = self.count(styles)?;
        let noise = self.noise(n, noise)?;
        let constant = self.network.parameters[0].broadcast_as((n, self.network.start[0], self.network.start[1], self.network.start[2]))?;
        trace("layer.input", &constant.contiguous()?);
        synthesis::seen(&self.network, styles, &noise, |layer, what, features| {
            trace(&format!("{what}.{layer}"), &features);
            Ok(())
        })?;
        Ok(())
    }

    /// Of pictures.
    fn count(&self, styles: &[Tensor]) -> Result<usize> {
        match styles.first() {
            Some(first) if styles.len() == self.layers.len() => Ok(first.dim(0)?),
            _ => Err(Error::argument("styles", "are not as many as the generator's layers")),
        }
    }
}
