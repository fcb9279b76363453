//! The synthesis network of StyleGAN2 with skips, as one operation (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN",
//! figures 2 and 7).
//!
//! One operation, because what lies between two layers is a device's own business: how features are laid out, what is fused, what is kept for the
//! way back and for how long.
//!
//! The paper scales weights by the style and normalises them per output channel. Scaling the input by the style and the output by the norm is
//! the same function, needs one set of weights for the whole batch, and is what happens here:
//! `y[o] = d[o] * sum over i of w[o][i] * (s[i] * x[i])`, `d[o] = (sum over i, k of (s[i] * w[o][i][k])^2 + 1e-8)^(-1/2)`; then noise, bias and
//! `sqrt(2) * leaky_relu` of slope 0.2.

use super::cpu::synthesis::{Given, Need, Tape};
use super::cpu::{self, View};
#[cfg(feature = "cuda")]
use super::cuda;
use super::op::{apply, run1, Backward, Differentiable, Op};
pub(crate) use super::synthesis_network::{Layer, Network, Role};
use crate::cancel::Cancel;
use candle_core::{bail, DType, Error, Result, Shape, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// Styles [n, channels of the layer], one a layer -> pictures [n, colours, h, w]. `noise`: a map [n or 1, 1, h, w] a convolution, or none at all.
///
/// Gradients of styles, parameters and noise, each only where candle tracks it. `Cancelled` once the flag is raised, which is looked at
/// after each layer, on the way back too.
pub(crate) fn synthesis(net: &Arc<Network>, styles: &[Tensor], noise: &[Option<Tensor>], cancel: &Cancel) -> Result<Tensor> {
    let tracked = |tensors: &[Tensor]| tensors.iter().map(Tensor::track_op).collect::<Vec<_>>();
    let of_noise = noise.iter().map(|m| m.as_ref().is_some_and(Tensor::track_op)).collect();
    let need = Need { styles: tracked(styles), parameters: tracked(&net.parameters), noise: of_noise };
    let keep = need.styles.iter().chain(&need.parameters).chain(&need.noise).any(|n| *n);
    let pass = Arc::new(Pass {
        net: net.clone(),
        noise: noise.iter().map(|m| m.as_ref().map(Tensor::detach)).collect(),
        need,
        keep,
        cancel: cancel.clone(),
        tape: Mutex::new(None),
        #[cfg(feature = "cuda")]
        cuda_tape: Mutex::new(None),
        found: Mutex::new(vec![]),
    });
    let mut chain = Tensor::zeros(1, DType::F32, net.parameters[0].device())?;
    for (slot, t) in net.parameters.iter().map(Some).chain(noise.iter().map(Option::as_ref)).enumerate() {
        if let Some(t) = t.filter(|t| t.track_op()) {
            chain = apply(Link { pass: pass.clone(), slot }, [&chain, t])?;
        }
    }
    apply(Synthesis { pass }, [&Tensor::cat(styles, 1)?, &chain])
}

/// As [`synthesis`], untracked; `seen` sees what each layer gives, in candle's order [n, c, h, w]: under "modconv" the modulated
/// convolution before noise and bias, under "layer" the output (ToRGB: after the skip is added).
pub(crate) fn seen(
    net: &Arc<Network>,
    styles: &[Tensor],
    noise: &[Option<Tensor>],
    mut seen: impl FnMut(&str, &str, Tensor) -> Result<()>,
) -> Result<()> {
    let host = crate::device::HOST;
    if !net.parameters[0].device().is_cpu() {
        // What is looked at is computed on the host.
        let parameters = net.parameters.iter().map(|t| t.to_device(host)).collect::<Result<_>>()?;
        let net = Arc::new(Network::new(net.start, net.layers.clone(), parameters, net.blur, net.clamp, None));
        let styles = styles.iter().map(|t| t.to_device(host)).collect::<Result<Vec<_>>>()?;
        let noise = noise.iter().map(|m| m.as_ref().map(|t| t.to_device(host)).transpose()).collect::<Result<Vec<_>>>()?;
        return self::seen(&net, &styles, &noise, &mut seen as &mut dyn FnMut(&str, &str, Tensor) -> Result<()>);
    }
    let need = Need { styles: vec![], parameters: vec![], noise: vec![] };
    let pass = Pass {
        net: net.clone(),
        noise: noise.iter().map(|m| m.as_ref().map(Tensor::detach)).collect(),
        need,
        keep: false,
        cancel: Cancel::new(),
        tape: Mutex::new(None),
        #[cfg(feature = "cuda")]
        cuda_tape: Mutex::new(None),
        found: Mutex::new(vec![]),
    };
    let styles = Tensor::cat(styles, 1)?.detach();
    let n = styles.dim(0)?;
    let numbers = styles.flatten_all()?.to_vec1::<f32>()?;
    pass.on_cpu(n, &numbers, |given| {
        given.forward(
            false,
            Some(&mut |layer: &Layer, what: &str, numbers: &[f32]| {
                let (c, h, w) = (layer.outputs, layer.height, layer.width);
                let tensor = match layer.role {
                    Role::Colours => Tensor::from_slice(numbers, (n, c, h, w), host)?,
                    Role::Convolution { .. } => Tensor::from_slice(numbers, (n, h, w, c), host)?.permute((0, 3, 1, 2))?.contiguous()?,
                };
                seen(&layer.name, what, tensor)
            }),
        )
    })?;
    Ok(())
}

/// One call.
struct Pass {
    net: Arc<Network>,
    noise: Vec<Option<Tensor>>,
    need: Need,
    keep: bool,
    cancel: Cancel,
    tape: Mutex<Option<Tape>>,
    #[cfg(feature = "cuda")]
    cuda_tape: Mutex<Option<cuda::synthesis::Tape>>,
    /// Gradients on their way to who they are of: parameters, then noise maps.
    found: Mutex<Vec<Option<Tensor>>>,
}

/// What a lock is poisoned by.
fn lost<T>(_: PoisonError<T>) -> Error {
    Error::Msg("synthesis: another thread failed".into())
}

impl Pass {
    fn on_cpu<T>(&self, n: usize, styles: &[f32], f: impl FnOnce(Given) -> Result<T>) -> Result<T> {
        let noise: Vec<Option<Tensor>> =
            self.noise.iter().map(|m| m.as_ref().map(Tensor::contiguous).transpose()).collect::<Result<_>>()?;
        let all: Vec<Tensor> = self.net.parameters.iter().map(Tensor::contiguous).collect::<Result<_>>()?;
        let held: Vec<_> = all.iter().map(Tensor::storage_and_layout).collect();
        let parameters = held.iter().map(|(storage, layout)| cpu::on_host(storage, layout, Synthesis::NAME)).collect::<Result<Vec<_>>>()?;
        let held: Vec<_> = noise.iter().map(|m| m.as_ref().map(Tensor::storage_and_layout)).collect();
        let noise = held.iter().map(|held| match held {
            Some((storage, layout)) => cpu::on_host(storage, layout, Synthesis::NAME),
            None => Ok(&[][..]),
        });
        let noise = noise.collect::<Result<Vec<_>>>()?;
        f(Given { net: &self.net, n, styles, parameters: &parameters, noise: &noise, cancel: &self.cancel })
    }

    #[cfg(feature = "cuda")]
    fn on_cuda<T>(&self, gpu: &cuda::Gpu, styles: &cuda::View, f: impl FnOnce(cuda::synthesis::Given) -> Result<T>) -> Result<T> {
        let all: Vec<Tensor> = self.net.parameters.iter().map(Tensor::contiguous).collect::<Result<_>>()?;
        let at = |t: &Tensor| cuda::with(t, Synthesis::NAME, Ok);
        let parameters = all.iter().map(at).collect::<Result<Vec<_>>>()?;
        let noise: Vec<Option<Tensor>> =
            self.noise.iter().map(|m| m.as_ref().map(Tensor::contiguous).transpose()).collect::<Result<_>>()?;
        let noise = noise.iter().map(|m| match m {
            Some(map) => Ok((at(map)?, map.dim(0)?)),
            None => Ok((cuda::Argument::NULL, 0)),
        });
        let noise = noise.collect::<Result<Vec<_>>>()?;
        let (n, styles) = (styles.dims()[0], cuda::At::at(styles));
        f(cuda::synthesis::Given { gpu, net: &self.net, n, styles, parameters: &parameters, noise: &noise, cancel: &self.cancel })
    }

    fn sizes(&self, styles: &Shape) -> Result<usize> {
        let (n, all) = styles.dims2()?;
        let net = &self.net;
        let convolutions = net.convolutions();
        if all != net.styles || self.noise.len() != convolutions || n == 0 {
            bail!("synthesis: styles {styles:?} and {} noise maps; want [n, {}] and {convolutions}", self.noise.len(), net.styles)
        }
        for layer in &net.layers {
            let Role::Convolution { noise, .. } = layer.role else { continue };
            if let Some(map) = &self.noise[noise] {
                let &[m, 1, h, w] = map.dims() else { bail!("synthesis: a noise map of shape {:?}", map.dims()) };
                if m != 1 && m != n || (h, w) != (layer.height, layer.width) {
                    bail!("synthesis: a noise map of shape {:?} for {n} of {} x {}", map.dims(), layer.height, layer.width)
                }
            }
        }
        Ok(n)
    }
}

/// A number that stands for all that is tracked beside the styles, and one tensor more -> such a number. Candle's operations take three tensors, and
/// laying dozens of weights and their gradients end to end costs copies of all.
struct Link {
    pass: Arc<Pass>,
    slot: usize,
}

impl Op<2> for Link {
    const NAME: &'static str = "synthesis' parameters";

    fn shapes(&self, [chain, _]: [&Shape; 2]) -> Result<[Shape; 1]> {
        Ok([chain.clone()])
    }

    fn cpu(&self, [chain, _]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        Ok([chain.values.to_vec()])
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &cuda::Gpu, _: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        Ok([gpu.zeros(1)?])
    }
}

impl Differentiable<2> for Link {
    fn gradient(&self, given: &Backward<2>) -> Result<[Option<Tensor>; 2]> {
        // The synthesis' way back, which is always before, has left it here.
        let found = self.pass.found.lock().map_err(lost)?.get_mut(self.slot).and_then(Option::take);
        Ok([Some(given.gradient.clone()), found])
    }
}

/// Styles [n, all] and the number of [`Link`] -> pictures.
struct Synthesis {
    pass: Arc<Pass>,
}

impl Op<2> for Synthesis {
    const NAME: &'static str = "synthesis";

    fn shapes(&self, [styles, _]: [&Shape; 2]) -> Result<[Shape; 1]> {
        let n = self.pass.sizes(styles)?;
        match self.pass.net.layers.last() {
            Some(last) => Ok([(n, last.outputs, last.height, last.width).into()]),
            None => bail!("a synthesis network without layers"),
        }
    }

    fn cpu(&self, [styles, _]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        let pass = &self.pass;
        let (pictures, tape) = pass.on_cpu(styles.dims()[0], styles.values, |given| given.forward(pass.keep, None))?;
        *pass.tape.lock().map_err(lost)? = tape;
        Ok([pictures])
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &cuda::Gpu, [styles, _]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        let pass = &self.pass;
        let (pictures, tape) = pass.on_cuda(gpu, &styles, |given| given.forward(pass.keep))?;
        *pass.cuda_tape.lock().map_err(lost)? = tape;
        Ok([pictures])
    }
}

impl Differentiable<2> for Synthesis {
    fn gradient(&self, given: &Backward<2>) -> Result<[Option<Tensor>; 2]> {
        let [styles, chain] = &given.inputs;
        let of_styles = run1(&SynthesisGradient { pass: self.pass.clone() }, [styles, &given.gradient])?;
        Ok([Some(of_styles), Some(chain.zeros_like()?)])
    }
}

/// Styles and the pictures' gradient -> gradient of styles; those of the tracked parameters and noise maps stay with the pass.
struct SynthesisGradient {
    pass: Arc<Pass>,
}

impl Op<2> for SynthesisGradient {
    const NAME: &'static str = "synthesis' gradient";

    fn shapes(&self, [styles, _]: [&Shape; 2]) -> Result<[Shape; 1]> {
        Ok([styles.clone()])
    }

    fn cpu(&self, [styles, gradient]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        let pass = &self.pass;
        let tape = pass.tape.lock().map_err(lost)?.take();
        let gradients = pass.on_cpu(styles.dims()[0], styles.values, |given| {
            // The way back uses up what the way there kept; who goes back again pays for it.
            let tape = match tape {
                Some(tape) => Some(tape),
                None => given.forward(true, None)?.1,
            };
            match tape {
                Some(tape) => given.backward(tape, &pass.need, gradient.values),
                None => bail!("synthesis kept nothing"),
            }
        })?;
        let parameters = gradients.parameters.into_iter().zip(pass.net.parameters.iter().map(Some));
        let maps = gradients.noise.into_iter().zip(pass.noise.iter().map(Option::as_ref));
        let tensor = |(numbers, like): (Vec<f32>, Option<&Tensor>)| match like {
            Some(like) if numbers.len() == like.elem_count() => cpu::tensor(numbers, like.shape().clone()).map(Some),
            // It was not asked for, or nothing reaches it.
            _ => Ok(None),
        };
        *pass.found.lock().map_err(lost)? = parameters.chain(maps).map(tensor).collect::<Result<_>>()?;
        Ok([gradients.styles])
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &cuda::Gpu, [styles, gradient]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        let pass = &self.pass;
        let tape = pass.cuda_tape.lock().map_err(lost)?.take();
        let gradients = pass.on_cuda(gpu, &styles, |given| {
            let tape = match tape {
                Some(tape) => Some(tape),
                None => given.forward(true)?.1,
            };
            match tape {
                Some(tape) => given.backward(tape, &pass.need, cuda::At::at(&gradient)),
                None => bail!("synthesis kept nothing"),
            }
        })?;
        let parameters = gradients.parameters.into_iter().zip(pass.net.parameters.iter().map(Some));
        let maps = gradients.noise.into_iter().zip(pass.noise.iter().map(Option::as_ref));
        let tensor = |(numbers, like): (Option<cuda::Numbers>, Option<&Tensor>)| match (numbers, like) {
            (Some(numbers), Some(like)) if numbers.len() == like.elem_count() => Ok(Some(gpu.tensor(numbers, like.shape().clone()))),
            (Some(numbers), _) => bail!("synthesis: a gradient of {} numbers belongs to nothing", numbers.len()),
            // It was not asked for, or nothing reaches it.
            (None, _) => Ok(None),
        };
        *pass.found.lock().map_err(lost)? = parameters.chain(maps).map(tensor).collect::<Result<_>>()?;
        Ok([gradients.styles])
    }
}
