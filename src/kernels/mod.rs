//! The hot operations as candle custom operations, each with its gradient.
//!
//! All take and give f32. A gradient is computed only for arguments that candle tracks: frozen weights cost nothing backward.

mod activation; // owner: clip helper: quick_gelu, gelu
mod attention; // owner: clip helper
mod bias_act;
mod buffer;
mod conv2d;
mod gemm;
mod linear; // owner: clip helper
mod modulated;
mod norm; // owner: clip helper: layer_norm
mod resample;
mod seed;
mod simd;
mod taps;
mod upfirdn; // owner: clip helper: resize (bicubic antialiased or not, area), affine_sample (reflect)

pub use activation::*;
pub use attention::*;
pub use bias_act::bias_act;
pub use conv2d::conv2d;
pub use linear::*;
pub use modulated::{modulated_conv2d, Modulated};
pub use norm::*;
pub use resample::*;
pub use seed::with_gradient;
pub use upfirdn::{upfirdn2d, UpFirDn};
