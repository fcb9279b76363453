//! Words into image domains: StyleGAN-NADA (Gal et al. 2021) with the systems around it.
//!
//! Each module knows only those in the rows below it:
//!
//! | module | what |
//! |---|---|
//! | [`capi`] | the C ABI: one file per section of the header, translation and safety only |
//! | [`eval`], [`gallery`] | measuring domains; the folder of installed ones |
//! | [`pipeline`] | picture in, restyled picture out |
//! | [`memory`] | what a call will need, told before it begins |
//! | [`pack`] | model packs: folders that name a generator, CLIPs, words and a recipe |
//! | [`adapt`], [`invert`] | training a domain; finding the latent of a picture |
//! | [`face`] | faces in photos: found, aligned, put back |
//! | [`nn`] | generators (StyleGAN2), CLIP, encoders' files, what finds faces |
//! | [`progress`] | what the callbacks of long calls are told |
//! | [`optim`] | optimisers and schedules, for whoever trains |
//! | [`picture`], `pairing` | pixels, their colours and files; whether pictures still show the same |
//! | [`checkpoint`] | file formats to tensors and back |
//! | `kernels` | the operations that networks and losses are made of, with their gradients, and their arithmetic for each device |
//! | [`files`] | opening ordinary files; where results go: temporary names, links, what dead processes left |
//! | `formats`, [`settings`] | what the library's own formats have in common; settings by name |
//! | [`cancel`], [`rng`], [`machine`], [`device`], [`threads`] | what all of them share |
//! | [`error`] | one error for the whole crate |

pub mod adapt;
pub mod cancel;
pub mod capi;
pub mod checkpoint;
pub mod device;
pub mod error;
pub mod eval;
pub mod face;
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
mod pairing;
pub mod picture;
pub mod pipeline;
pub mod progress;
pub mod rng;
pub mod settings;
pub mod threads;

pub use error::{Error, Kind, Result};
