//! The hot operations as candle custom operations, each with its gradient.
//!
//! All take and give f32. A gradient is computed only for arguments that candle tracks: frozen weights cost nothing backward.

mod bias_act;
mod buffer;
mod conv2d;
mod gemm;
mod modulated;
mod simd;
mod taps;
mod upfirdn;
mod activation; // owner: clip helper: quick_gelu, gelu
mod attention; // owner: clip helper
mod linear; // owner: clip helper
mod norm; // owner: clip helper: layer_norm
mod resample; // owner: clip helper: resize (bicubic antialiased or not, area), affine_sample (reflect)

pub use bias_act::bias_act;
pub use conv2d::conv2d;
pub use modulated::{modulated_conv2d, Modulated};
pub use upfirdn::{upfirdn2d, UpFirDn};
pub use activation::*;
pub use attention::*;
pub use linear::*;
pub use norm::*;
pub use resample::*;
