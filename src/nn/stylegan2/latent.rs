//! Latents (replaced at the merge of the latent files).
use candle_core::Tensor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Z,
    W,
    WPlus,
}

#[derive(Clone, Debug)]
pub struct Latent {
    pub space: Space,
    pub tensor: Tensor,
    pub noise: Option<Vec<Tensor>>,
}
