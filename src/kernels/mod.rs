//! The hot operations as candle custom operations, each with its gradient.
//!
//! All take and give f32. A gradient is computed only for arguments that candle tracks: frozen weights cost nothing backward.

mod activation;
mod attention;
mod bias_act;
mod buffer;
mod conv2d;
mod gemm;
mod linear;
mod modulated;
mod norm;
mod patches;
mod resample;
mod seed;
mod simd;
mod slices;
mod taps;
mod transformer;
mod upfirdn;

pub use activation::{gelu, gelu_tanh, quick_gelu, Activation};
pub use attention::attention;
pub use bias_act::bias_act;
pub(crate) use buffer::KEPT as SCRATCH_KEPT;
pub use conv2d::conv2d;
pub use linear::linear;
pub use modulated::{modulated_conv2d, Modulated};
pub use norm::layer_norm;
pub use patches::{embed_tokens, patches};
pub use resample::{affine_sample, channel_affine, resize, resize_rgb8, resize_rgb8_bilinear, Filter};
pub use seed::with_gradient;
pub use transformer::{Block, BlockWeights};
pub use upfirdn::{upfirdn2d, UpFirDn};
