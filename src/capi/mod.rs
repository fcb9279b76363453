//! The C ABI: opaque handles, statuses, options that grow, and a panic boundary around every function.
//!
//! One file per section of the header, and nothing in them but translation and safety: what a function computes lives in the modules below. The doc
//! comments here are what C programmers read; build.rs writes them into `include/nada.h` (cbindgen translates, build/header.rs puts them in
//! the order of use, a file's first sentence as the heading of its section), whose head states the rules that
//! all functions share (ownership, threads, errors, `struct_size`).
//!
//! How soundness is kept:
//! - Every function body runs inside `error::guard` or `error::value`: a panic becomes `NADA_PANIC` and never unwinds into C.
//! - Every pointer is checked for NULL, every string for UTF-8, every enum value for its range (enums come in as integers), and every
//!   handle carries the tag of its type (`handle`).
//! - A handle's content is `Send + Sync` by a trait bound. All handles are immutable inside except adaptations, which are locked for the
//!   length of a call and answer `NADA_BUSY` to a second one, and cancel tokens, which are atomic.
//! - Work runs on threads of the context (`runtime`), callbacks on the caller's own thread.
#![allow(non_camel_case_types)] // the names are C's
#![allow(clippy::enum_variant_names)] // C enumerators share one namespace: each carries its type's prefix
#![allow(clippy::missing_safety_doc)] // each function states its contract in C's terms, and the header's head the common part

#[cfg(panic = "abort")]
compile_error!(
    "nada must be built with panic = \"unwind\": its C functions promise that nothing ends the host, and catch a panic as NADA_PANIC. \
     Set `panic = \"unwind\"` in the profile of the workspace that builds it"
);

pub mod adaptation;
pub mod adaptation_options;
pub mod call;
pub mod cancel;
pub mod clip;
pub mod context;
pub mod domain;
pub mod encoder;
pub mod error;
pub mod evaluation;
pub mod face;
pub mod frame;
pub mod gallery;
pub mod generator;
mod handle;
pub mod image;
pub mod image_file;
pub mod inversion;
pub mod latent;
pub mod log;
pub mod model;
pub mod model_list;
mod options;
pub mod render;
mod runtime;
pub mod status;
mod values;
pub mod version;
