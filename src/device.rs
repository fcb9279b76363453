//! What computes, and where tensors lie: a property of the context, and of the packs and checkpoints that are read for it. A network's
//! parameters say its device; what it draws at random or is given is brought there.

use crate::error::{Error, Result};
pub use candle_core::Device;

/// Where files, pictures and what a program hands in or takes out lie.
pub const HOST: &Device = &Device::Cpu;

/// The device of a name: "cpu", the only one of this library so far.
///
/// Errors: `Unsupported` with the names that there are.
pub fn named(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(HOST.clone()),
        _ => Err(Error::unsupported("device", format!("no device {name:?} in this library, only \"cpu\""))),
    }
}
