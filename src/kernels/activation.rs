//! Activations of transformers: x * sigmoid(1.702 x) (OpenAI's CLIP) and x * Phi(x) (Hendrycks and Gimpel 2016, "Gaussian error linear units"),
//! also with their section 2's approximation of Phi by tanh.

use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{alike, apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{Result, Shape, Tensor};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};

/// The function between the two linear layers of a transformer's MLP. Displayed and serialised as `quick_gelu`, `gelu`, `gelu_tanh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x * sigmoid(1.702 x)
    QuickGelu,
    /// x * Phi(x), with the error function.
    Gelu,
    /// x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2
    GeluTanh,
}

impl Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Activation::QuickGelu => "quick_gelu",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_tanh",
        })
    }
}

impl Op<1> for Activation {
    const NAME: &'static str = "activation";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        Ok([x.clone()])
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let mut out = vec![0.0; x.values.len()];
        self.forward(x.values, &mut out);
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        Ok([self.on_gpu(gpu, x.at(), x.values.len())?])
    }
}

impl Differentiable<1> for Activation {
    fn gradient(&self, given: &Backward<1>) -> Result<[Option<Tensor>; 1]> {
        let [x] = &given.inputs;
        Ok([Some(run1(&ActivationGradient(*self), [x, &given.gradient])?)])
    }
}

/// x, gradient of the result -> gradient of x.
struct ActivationGradient(Activation);

impl Op<2> for ActivationGradient {
    const NAME: &'static str = "activation's gradient";
    fn shapes(&self, [x, gradient]: [&Shape; 2]) -> Result<[Shape; 1]> {
        Ok([alike(Self::NAME, x, gradient)?])
    }
    fn cpu(&self, [x, gradient]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        let mut out = gradient.values.to_vec();
        self.0.backward(x.values, &mut out);
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, gradient]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        Ok([self.0.back_on_gpu(gpu, x.at(), gradient.at(), x.values.len())?])
    }
}

/// x * sigmoid(1.702 x) elementwise, within 4e-7 of it relatively. Differentiable.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    apply(Activation::QuickGelu, [&f32s(x)?])
}

/// x * Phi(x) elementwise, within 3e-7 * |x| of it absolutely. Differentiable.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    apply(Activation::Gelu, [&f32s(x)?])
}

/// x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2 elementwise, within 4e-7 of it relatively. Differentiable.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    apply(Activation::GeluTanh, [&f32s(x)?])
}
