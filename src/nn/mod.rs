//! Networks only: configuration, weights, forward. Training lives in [`crate::adapt`].

pub mod clip;
pub mod encoders;
pub mod face;
pub mod generator;
