//! The operations that networks and losses are made of, with their gradients.
//!
//! All take and give f32. A gradient is computed only for arguments that candle tracks: frozen weights cost nothing backward. One file an
//! operation: shapes and gradient (`op.rs` says how); the arithmetic, where it is more than a loop, in `cpu/` and `cuda/`, one folder a device.

// Shapes stand in square brackets.
#![allow(rustdoc::broken_intra_doc_links)]

mod activation;
mod affine_sample;
mod attention;
mod bias_act;
mod channel_affine;
mod conv2d;
mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod features;
mod filters;
mod grey16;
mod linear;
mod norm;
mod op;
mod patches;
mod prelu_pool;
mod pyramid;
mod resize;
mod resize_rgb8;
pub(crate) mod synthesis;
mod synthesis_network;
mod transformer;
mod unit_rows;
mod upfirdn;
mod with_gradient;

pub use activation::{gelu, gelu_tanh, quick_gelu, Activation};
pub use affine_sample::affine_sample;
pub use attention::attention;
pub use bias_act::bias_act;
pub use channel_affine::channel_affine;
pub use conv2d::conv2d;
pub(crate) use cpu::conv::{is_worth, is_worth_up, PANEL, UP_POINTS, WINOGRAD_POINTS, WINOGRAD_ROOM};
pub(crate) use cpu::scratch::Warm;
pub(crate) use cpu::View;
pub(crate) use features::{Convolution, Features};
pub use filters::Filter;
pub(crate) use filters::{cubic, weights};
pub(crate) use grey16::{grey16, grey16_gradient, GREY_SIDE};
pub use linear::linear;
pub use norm::layer_norm;
pub(crate) use op::{change, InPlace};
pub use patches::{EmbedWeights, PatchEmbedding};
pub(crate) use prelu_pool::prelu_pool;
pub(crate) use pyramid::{mean_square_error, pyramid_distance};
pub use resize::resize;
pub use resize_rgb8::{resize_rgb8, resize_rgb8_bilinear, resize_rgb8_lanczos, Part};
pub use transformer::{Block, BlockWeights};
pub(crate) use unit_rows::{unit_rows, LEAST_LENGTH};
pub use upfirdn::{upfirdn2d, UpFirDn};
pub use with_gradient::with_gradient;
