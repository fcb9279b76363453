//! Points of the latent spaces, in memory and in files.

use crate::checkpoint::{self, read_npy, save_safetensors, write_npy, Checkpoint};
use crate::error::{Error, Result};
use crate::output::Destination;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Z,
    W,
    WPlus,
}

impl Space {
    /// The tensor's key in a safetensors file, and the space's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Space::Z => "z",
            Space::W => "w",
            Space::WPlus => "wplus",
        }
    }

    fn rank(self) -> usize {
        match self {
            Space::Z | Space::W => 2,
            Space::WPlus => 3,
        }
    }

    fn shape(self) -> &'static str {
        match self {
            Space::Z | Space::W => "[N, style_dim]",
            Space::WPlus => "[N, n_latent, style_dim]",
        }
    }

    /// What is wrong with `shape` for this space.
    fn check(self, shape: &[usize]) -> std::result::Result<(), String> {
        if shape.len() != self.rank() {
            return Err(format!("has shape {shape:?}, where latents of {} have {}", self.name(), self.shape()));
        }
        if shape.contains(&0) {
            return Err(format!("has shape {shape:?}: no latent is in it"));
        }
        Ok(())
    }
}

/// Points of a latent space, and with them the noise maps that belong to them, where they were optimised.
#[derive(Clone, Debug)]
pub struct Latent {
    pub space: Space,
    /// Z, W: [n, style_dim]; W+: [n, n_latent, style_dim].
    pub tensor: Tensor,
    /// One map a layer: [n or 1, 1, h, w].
    pub noise: Option<Vec<Tensor>>,
}

impl Latent {
    /// Reads an .npy file (recognised by its content), for which `space` says what it holds, or a safetensors or PyTorch file, which must
    /// hold the key z, w or wplus that `space` names, and may hold noise.0, noise.1, ... As f32 on the CPU.
    ///
    /// A `Format` error where the shape is not that of the space, a value is not finite, or the key is missing.
    pub fn open(path: &Path, space: Space) -> Result<Self> {
        if checkpoint::is_npy(path)? {
            let tensor = read_npy(path)?;
            space.check(tensor.dims()).map_err(|e| Error::format(path, e))?;
            let finite = tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|x| x.is_finite());
            if !finite {
                return Err(Error::format(path, "holds NaN or infinite values"));
            }
            return Ok(Latent { space, tensor, noise: None });
        }
        let file = checkpoint::open(path)?;
        // NVIDIA's projector writes an .npz with W+ under the name of W.
        let key = match space {
            Space::WPlus if !file.contains("wplus") && file.shape("w").is_some_and(|shape| shape.len() == 3) => "w",
            _ => space.name(),
        };
        if !file.contains(key) {
            let held: Vec<&str> =
                [Space::Z, Space::W, Space::WPlus].map(Space::name).into_iter().filter(|key| file.contains(key)).collect();
            let held = if held.is_empty() { "none of z, w and wplus".into() } else { format!("'{}'", held.join("' and '")) };
            return Err(Error::format(path, format!("has no latents of {key} (tensor '{key}'), but {held}")));
        }
        space.check(file.shape(key).unwrap_or(&[])).map_err(|e| Error::format(path, format!("tensor '{key}' {e}")))?;
        let tensor = file.f32(key, None)?;
        let noise = read_noise(&file, tensor.dim(0)?)?;
        Ok(Latent { space, tensor, noise })
    }

    /// Writes safetensors with the key z, w or wplus, and noise.<i> where there are noise maps; or .npy where `path` ends so. As f32, to a
    /// temporary name first.
    ///
    /// `InvalidArgument` where the tensor does not have the space's shape, and for .npy with noise maps, which it could not hold.
    pub fn save<'a>(&self, to: impl Into<Destination<'a>>) -> Result<()> {
        let to = to.into();
        let path = to.path();
        self.space.check(self.tensor.dims()).map_err(|e| Error::argument("latent", e))?;
        let tensor = plain(&self.tensor)?;
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) {
            if self.noise.is_some() {
                return Err(Error::argument(
                    "path",
                    format!("{} would lose the noise maps; use a name that ends in .safetensors", path.display()),
                ));
            }
            return write_npy(to, &tensor);
        }
        let mut tensors = BTreeMap::from([(self.space.name().to_string(), tensor)]);
        for (i, map) in self.noise.iter().flatten().enumerate() {
            check_noise(map.dims(), self.tensor.dim(0)?).map_err(|e| Error::argument("latent", format!("noise map {i} {e}")))?;
            tensors.insert(format!("noise.{i}"), plain(map)?);
        }
        save_safetensors(to, &tensors, &BTreeMap::new())
    }
}

fn plain(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?)
}

fn check_noise(shape: &[usize], n: usize) -> std::result::Result<(), String> {
    match shape {
        [m, 1, h, w] if (*m == 1 || *m == n) && *h > 0 && *w > 0 => Ok(()),
        _ => Err(format!("has shape {shape:?}, where [1, 1, h, w] or [{n}, 1, h, w] is right")),
    }
}

/// noise.0, noise.1, ... without a gap.
fn read_noise(file: &Checkpoint, n: usize) -> Result<Option<Vec<Tensor>>> {
    let maps = file.with_prefix("noise.");
    let count = maps.keys().count();
    let mut noise = Vec::with_capacity(count);
    for i in 0..count {
        let key = i.to_string();
        let shape = maps.shape(&key).ok_or_else(|| Error::format(&file.path, format!("has {count} noise maps, but no 'noise.{i}'")))?;
        check_noise(shape, n).map_err(|e| Error::format(&file.path, format!("tensor 'noise.{i}' {e}")))?;
        noise.push(maps.f32(&key, None)?);
    }
    Ok((!noise.is_empty()).then_some(noise))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn numbers(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap().reshape(shape).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_space_goes_through_both_formats() {
        let folder = tempfile::tempdir().unwrap();
        for (space, shape) in [(Space::Z, vec![2, 3]), (Space::W, vec![1, 4]), (Space::WPlus, vec![2, 3, 4])] {
            for name in ["a.npy", "a.NPY", "a.safetensors", "a"] {
                let path = folder.path().join(name);
                let latent = Latent { space, tensor: numbers(&shape), noise: None };
                latent.save(&path).unwrap();
                let back = Latent::open(&path, space).unwrap();
                assert_eq!((back.space, back.tensor.dims(), values(&back.tensor)), (space, &shape[..], values(&latent.tensor)), "{name}");
                assert!(back.noise.is_none());
            }
        }
        // What is saved need not be f32 or contiguous.
        let path = folder.path().join("b");
        let tensor = numbers(&[3, 2]).to_dtype(DType::F64).unwrap().t().unwrap();
        Latent { space: Space::W, tensor, noise: None }.save(&path).unwrap();
        assert_eq!(values(&Latent::open(&path, Space::W).unwrap().tensor), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    }

    #[test]
    fn noise_maps_stay_with_their_latents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        // Twelve maps: by name noise.10 comes before noise.2.
        let noise: Vec<Tensor> = (1..=12).map(|i| numbers(&[if i % 2 == 0 { 1 } else { 2 }, 1, i, i])).collect();
        let latent = Latent { space: Space::WPlus, tensor: numbers(&[2, 3, 4]), noise: Some(noise) };
        latent.save(&path).unwrap();
        let back = Latent::open(&path, Space::WPlus).unwrap().noise.unwrap();
        assert_eq!(back.len(), 12);
        for (have, want) in back.iter().zip(latent.noise.iter().flatten()) {
            assert_eq!((have.dims(), values(have)), (want.dims(), values(want)));
        }
        let e = latent.save(&folder.path().join("a.npy")).unwrap_err();
        assert!(e.kind() == Kind::InvalidArgument && e.to_string().contains("noise maps"), "{e}");
    }

    #[test]
    fn wrong_files_are_told_what_would_be_right() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("case");
        let message = |space| {
            let e = Latent::open(&path, space).unwrap_err();
            assert_eq!(e.kind(), Kind::Format, "{e}");
            assert!(e.to_string().contains("case"), "{e}");
            e.to_string()
        };
        write_npy(&path, &numbers(&[2, 3])).unwrap();
        assert!(message(Space::WPlus).ends_with("has shape [2, 3], where latents of wplus have [N, n_latent, style_dim]"));
        write_npy(&path, &numbers(&[2, 3, 4])).unwrap();
        assert!(message(Space::Z).ends_with("has shape [2, 3, 4], where latents of z have [N, style_dim]"));
        write_npy(&path, &numbers(&[0, 3])).unwrap();
        assert!(message(Space::W).contains("no latent is in it"));
        write_npy(&path, &Tensor::new(&[[1f32, f32::NAN]], &Device::Cpu).unwrap()).unwrap();
        assert!(message(Space::W).contains("NaN"));
        let save = |tensors: Vec<(&str, Tensor)>| {
            let tensors = tensors.into_iter().map(|(key, tensor)| (key.to_string(), tensor)).collect();
            save_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
        };
        save(vec![("w", numbers(&[2, 3])), ("z", numbers(&[2, 3]))]);
        assert!(message(Space::WPlus).ends_with("has no latents of wplus (tensor 'wplus'), but 'z' and 'w'"));
        save(vec![("other", numbers(&[2, 3]))]);
        assert!(message(Space::W).ends_with("but none of z, w and wplus"));
        save(vec![("w", numbers(&[3]))]);
        assert!(message(Space::W).contains("tensor 'w' has shape [3], where latents of w have [N, style_dim]"));
        save(vec![("w", Tensor::new(&[[f32::INFINITY]], &Device::Cpu).unwrap())]);
        assert!(message(Space::W).contains("not finite"));
        save(vec![("w", numbers(&[2, 3])), ("noise.0", numbers(&[1, 1, 4, 4])), ("noise.2", numbers(&[1, 1, 4, 4]))]);
        assert!(message(Space::W).contains("no 'noise.1'"));
        save(vec![("w", numbers(&[2, 3])), ("noise.0", numbers(&[3, 1, 4, 4]))]);
        assert!(message(Space::W).contains("'noise.0' has shape [3, 1, 4, 4], where [1, 1, h, w] or [2, 1, h, w] is right"));
        std::fs::write(&path, "").unwrap();
        assert!(message(Space::W).contains("empty"));
        std::fs::write(&path, b"\x89PNG\r\n\x1a\n").unwrap();
        assert!(message(Space::W).contains("PNG"));
        assert_eq!(Latent::open(&folder.path().join("none"), Space::W).unwrap_err().kind(), Kind::NotFound);
        let e = Latent { space: Space::W, tensor: numbers(&[3]), noise: None }.save(&path).unwrap_err();
        assert_eq!(e.kind(), Kind::InvalidArgument);
    }
}
