//! What computes, and where tensors lie: a property of the context, and of the packs and checkpoints that are read for it. A network's
//! parameters say its device; what it draws at random or is given is brought there.

use crate::error::{Error, Result};
pub use candle_core::Device;
use std::sync::OnceLock;

/// Where files, pictures and what a program hands in or takes out lie.
pub const HOST: &Device = &Device::Cpu;

/// A device, and why it is that one.
#[derive(Clone, Debug)]
pub struct Choice {
    pub device: Device,
    /// For people, one line: its name and memory, or why it is not a GPU.
    pub why: String,
}

impl Choice {
    fn host(why: impl Into<String>) -> Self {
        Self { device: HOST.clone(), why: why.into() }
    }
}

/// What a name asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Auto,
    Cpu,
    Cuda(usize),
}

fn wish(name: &str) -> Result<Wish> {
    match name {
        "auto" => Ok(Wish::Auto),
        "cpu" => Ok(Wish::Cpu),
        "cuda" => Ok(Wish::Cuda(0)),
        _ => match name.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
            Some(n) => Ok(Wish::Cuda(n)),
            None => Err(Error::unsupported("device", format!("no device {name:?}, only \"auto\", \"cpu\", \"cuda\" and \"cuda:N\""))),
        },
    }
}

/// The device of a name: "cpu"; "cuda", the first GPU; "cuda:N", the one of that number from 0; "auto", the first GPU where there is one. What
/// cannot be used is the CPU instead, with a line in the log where a GPU was asked for.
///
/// Errors: `Unsupported` with the names that there are.
pub fn named(name: &str) -> Result<Choice> {
    Ok(match wish(name)? {
        Wish::Cpu => Choice::host("the CPU was asked for"),
        Wish::Auto => gpu(0).unwrap_or_else(Choice::host),
        Wish::Cuda(n) => gpu(n).unwrap_or_else(|why| {
            log::warn!("{name} cannot be used, so the CPU is: {why}");
            Choice::host(why)
        }),
    })
}

/// The device of the environment variable `NADA_DEVICE`, which holds a name as for [`named`]; "auto" where it is not set. The same for as long
/// as the process lives.
///
/// Errors: as [`named`].
pub fn preferred() -> Result<Choice> {
    static PREFERRED: OnceLock<Choice> = OnceLock::new();
    if let Some(choice) = PREFERRED.get() {
        return Ok(choice.clone());
    }
    let name = std::env::var("NADA_DEVICE").unwrap_or_default();
    let choice = match name.as_str() {
        "" => named("auto")?,
        name => named(name).map_err(|_| {
            Error::unsupported("NADA_DEVICE", format!("is {name:?}, which is none of \"auto\", \"cpu\", \"cuda\" and \"cuda:N\""))
        })?,
    };
    Ok(PREFERRED.get_or_init(|| choice).clone())
}

#[cfg(feature = "cuda")]
fn gpu(ordinal: usize) -> std::result::Result<Choice, String> {
    let device = crate::kernels::cuda::open(ordinal)?;
    let why = match crate::kernels::cuda::about(&device) {
        Some((name, free, all)) => format!("{name}, {:.1} of {:.1} GiB free", gib(free), gib(all)),
        None => return Err(format!("GPU {ordinal} does not say what memory it has")),
    };
    Ok(Choice { device, why })
}

#[cfg(feature = "cuda")]
fn gib(bytes: usize) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

#[cfg(not(feature = "cuda"))]
fn gpu(_: usize) -> std::result::Result<Choice, String> {
    Err("this build has no CUDA".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_they_say() {
        assert_eq!(["auto", "cpu", "cuda", "cuda:3"].map(|n| wish(n).unwrap()), [Wish::Auto, Wish::Cpu, Wish::Cuda(0), Wish::Cuda(3)]);
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            let error = named(name).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains("\"cuda:N\""), "{error}");
        }
        assert!(named("cpu").unwrap().device.is_cpu());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_computes_on_the_cpu_and_says_why() {
        for name in ["auto", "cuda", "cuda:1"] {
            let choice = named(name).unwrap();
            assert!(choice.device.is_cpu() && choice.why.contains("no CUDA"), "{choice:?}");
        }
    }
}
