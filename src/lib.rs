//! Words into image domains: StyleGAN-NADA (Gal et al. 2021) with the systems around it.
//!
//! Each module knows only those below it:
//!
//! | module | what |
//! |---|---|
//! | [`capi`] | the C ABI: one file per handle, translation and safety only |
//! | [`pipeline`] | picture in, restyled picture out; measuring (`eval`) |
//! | [`memory`] | what a call will need, told before it begins |
//! | [`gallery`] | the folder of installed domains |
//! | [`adapt`], [`invert`] | training a domain; finding the latent of a picture |
//! | [`optim`] | optimisers and schedules, for whoever trains |
//! | [`pack`] | model packs: folders that name a generator, CLIPs, words and a recipe |
//! | [`nn`] | generators (StyleGAN2), CLIP, encoders' files |
//! | [`picture`], [`pairing`] | pixels, their colours and files; whether pictures still show the same |
//! | `kernels` | the operations that networks and losses are made of, with their gradients, and their arithmetic for each device |
//! | [`checkpoint`] | file formats to tensors and back |
//! | [`files`] | opening ordinary files; where results go: temporary names, links, what dead processes left |
//! | `formats` | what the library's own formats have in common |
//! | [`rng`], [`cancel`], [`progress`], [`settings`], [`threads`], [`machine`], [`device`], [`error`] | what all of them share |

pub mod adapt;
pub mod cancel;
pub mod capi;
pub mod checkpoint;
pub mod device;
pub mod error;
pub mod eval;
pub mod files;
mod formats;
pub mod gallery;
pub mod invert;
// Public for the project's own tests only.
#[doc(hidden)]
pub mod kernels;
pub mod machine;
pub mod memory;
pub mod nn;
pub mod optim;
pub mod pack;
pub mod pairing;
pub mod picture;
pub mod pipeline;
pub mod progress;
pub mod rng;
pub mod settings;
pub mod threads;

pub use error::{Error, Kind, Result};
