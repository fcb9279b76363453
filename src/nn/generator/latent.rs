//! Points of the latent spaces, in memory and in files: our own, and those of other tools.
//!
//! | tool | file | read as |
//! |---|---|---|
//! | this library | safetensors (any format) with z, w or w_plus (wplus before version 0.2), and noise.0, noise.1, ... | what the key says |
//! | encoders (pSp, e4e, ReStyle), PTI | .pt with one bare tensor | by its shape |
//! | NVIDIA's projector | .npz with `w` [N, rows, style_dim] | W+ |
//! | rosinality's projector | .pt, {picture: {img, latent, noise}} | W+ [rows, style_dim] or W [style_dim] a picture, by name, and its noise maps |
//! | others | a tensor `latent`, `latents`, `dlatents`, `codes`, or the only one of the file | by its shape |
//!
//! By its shape: [N, rows, style_dim] is W+, [N, style_dim] and [N, 1, style_dim] are W.

use crate::cancel::Cancel;
use crate::checkpoint::{self, read_npy_unless, save_safetensors, write_npy, Checkpoint};
use crate::device::HOST;
use crate::error::{Error, Result};
use crate::files::Destination;
use candle_core::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What other tools call latents of W or W+; "" is a bare tensor.
const OTHER_NAMES: [&str; 5] = ["", "latent", "latents", "dlatents", "codes"];

/// What a projector's file has of a picture, behind the picture's name.
const PROJECTED: &str = ".latent";

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
            Space::WPlus => "w_plus",
        }
    }

    /// The keys that latents of this space may have in a file; the first is the one that is written.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Space::Z => &["z"],
            Space::W => &["w"],
            // As version 0.1 wrote it.
            Space::WPlus => &["w_plus", "wplus"],
        }
    }

    /// The key that `file` has latents of this space under.
    fn key_in(self, file: &Checkpoint) -> Option<&'static str> {
        self.keys().iter().copied().find(|key| file.contains(key))
    }

    fn shape(self) -> &'static str {
        match self {
            Space::Z => "[N, z_dim]",
            Space::W => "[N, style_dim]",
            Space::WPlus => "[N, n_latent, style_dim]",
        }
    }

    /// `shape` as this space has it; points of W may have one row, and one point of W+ may lack the N. Else what is wrong with it.
    fn fit(self, shape: &[usize]) -> std::result::Result<Vec<usize>, String> {
        let fitting = match (self, shape) {
            (Space::Z | Space::W, &[n, d]) => vec![n, d],
            (Space::Z | Space::W, &[n, 1, d]) => vec![n, d],
            (Space::WPlus, &[n, rows, d]) => vec![n, rows, d],
            (Space::WPlus, &[rows, d]) => vec![1, rows, d],
            _ => return Err(format!("has shape {shape:?}, where latents of {} have {}", self.name(), self.shape())),
        };
        if shape.contains(&0) {
            return Err(format!("has shape {shape:?}: no latent is in it"));
        }
        Ok(fitting)
    }

    /// The space of latents whose name does not say it. None where the shape does not either: so many rows may be the points of a batch in W,
    /// or the rows of one point of W+ (generators of 32 to 1024 px have 8 to 18).
    fn of_shape(shape: &[usize]) -> Option<Self> {
        match shape {
            [_, 1, _] => Some(Space::W),
            [_, _, _] => Some(Space::WPlus),
            [n, _] if !(8..=18).contains(n) || n % 2 == 1 => Some(Space::W),
            _ => None,
        }
    }
}

/// Points of a latent space, and with them the noise maps that belong to them, where they were optimised.
#[derive(Clone, Debug)]
pub struct Latent {
    pub space: Space,
    /// Z: [n, z_dim]; W: [n, style_dim]; W+: [n, n_latent, style_dim].
    pub tensor: Tensor,
    /// One map a layer: [n or 1, 1, h, w].
    pub noise: Option<Vec<Tensor>>,
}

impl Latent {
    /// As [`Latent::read`], in the space that the caller knows.
    pub fn open(path: &Path, space: Space) -> Result<Self> {
        Self::read(path, Some(space), &Cancel::new())
    }

    /// Reads latents of this or another tool (see the head of the module), recognised by content. `space` None: the one that the file shows.
    /// As f32 on the CPU.
    ///
    /// Errors: `InvalidArgument` (space) where it is None and the file does not show it; `Format` where the shape is not that of the space, a
    /// value is not finite, or there are no latents; `Cancelled`.
    pub fn read(path: &Path, space: Option<Space>, cancel: &Cancel) -> Result<Self> {
        match checkpoint::is_npy(path)? {
            true => Self::of_array(path, read_npy_unless(path, cancel)?, space),
            false => Self::of_checkpoint(&checkpoint::open_unless(path, cancel)?, space),
        }
    }

    /// As [`Latent::read`], of bytes in memory; `name` is the file that errors name.
    pub fn read_bytes(name: &Path, bytes: Vec<u8>, space: Option<Space>, cancel: &Cancel) -> Result<Self> {
        cancel.check()?;
        match checkpoint::begins_as_npy(&bytes) {
            true => Self::of_array(name, checkpoint::read_npy_bytes(name, bytes)?, space),
            false => Self::of_checkpoint(&checkpoint::open_bytes_unless(name, bytes, cancel)?, space),
        }
    }

    fn of_array(path: &Path, tensor: Tensor, space: Option<Space>) -> Result<Self> {
        let space = space.or_else(|| (tensor.rank() == 3).then(|| Space::of_shape(tensor.dims())).flatten());
        let space = space.ok_or_else(|| Error::argument("space", format!("say whether {} holds z or w", path.display())))?;
        let shape = space.fit(tensor.dims()).map_err(|e| Error::format(path, e))?;
        let finite = tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|x| x.is_finite());
        if !finite {
            return Err(Error::format(path, "holds NaN or infinite values"));
        }
        Ok(Latent { space, tensor: tensor.reshape(shape)?, noise: None })
    }

    fn of_checkpoint(file: &Checkpoint, space: Option<Space>) -> Result<Self> {
        match find(file, space)? {
            Found::Tensor { space, key } => {
                let wrong = |e| Error::format(&file.path, format!("{} {e}", called(&key)));
                let shape = space.fit(file.shape(&key).unwrap_or(&[])).map_err(wrong)?;
                let tensor = file.f32(&key, None)?.reshape(shape)?;
                let noise = read_noise(file, tensor.dim(0)?)?;
                Ok(Latent { space, tensor, noise })
            }
            Found::Projected { space, pictures } => projected(file, space, &pictures),
        }
    }

    /// What a file of latents holds, without reading the numbers; None where it holds something else, or something beside them.
    pub fn describe(file: &Checkpoint) -> Option<Described> {
        let shape = |key: &str| file.shape(key).map(<[usize]>::to_vec);
        let found = find(file, None).ok()?;
        let (space, shape, mut known): (_, _, Vec<String>) = match found {
            Found::Tensor { space, key } => (space, space.fit(&shape(&key)?).ok()?, vec![key, "noise.".into()]),
            Found::Projected { space, pictures } => {
                let one = shape(&format!("{}{PROJECTED}", pictures.first()?))?;
                (space, [vec![pictures.len()], one].concat(), pictures.iter().map(|picture| format!("{picture}.")).collect())
            }
        };
        let own_noise = file.keys().any(|key| key.starts_with("noise.") || key.contains(".noise."));
        // A tensor that is taken for want of another is no sign that the file is one of latents.
        let names = |key: &str| OTHER_NAMES.contains(&key) || SPACES.iter().any(|space| space.keys().contains(&key));
        known.retain(|key| key.ends_with('.') || names(key));
        let known: BTreeSet<String> = known.into_iter().collect();
        // A file may hold as many pictures as it has keys.
        let accounted = |key: &str| known.contains(key) || key.match_indices('.').any(|(i, _)| known.contains(&key[..=i]));
        file.keys().all(accounted).then_some(Described { space, shape, own_noise })
    }

    /// Writes safetensors with the key z, w or w_plus, and `noise.<i>` where there are noise maps; or .npy where `path` ends so. As f32, to a
    /// temporary name first.
    ///
    /// `InvalidArgument` where the tensor does not have the space's shape, and for .npy with noise maps, which it could not hold.
    pub fn save<'a>(&self, to: impl Into<Destination<'a>>) -> Result<()> {
        let to = to.into();
        let path = to.path();
        let shape = self.space.fit(self.tensor.dims()).map_err(|e| Error::argument("latent", e))?;
        let tensor = plain(&self.tensor)?.reshape(shape)?;
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

/// What [`Latent::describe`] says of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    pub space: Space,
    /// As [`Latent::tensor`] will have it.
    pub shape: Vec<usize>,
    /// Whether it brings noise maps.
    pub own_noise: bool,
}

const SPACES: [Space; 3] = [Space::Z, Space::W, Space::WPlus];

/// Where a file's latents are.
enum Found {
    Tensor {
        space: Space,
        key: String,
    },
    /// Under `<picture>.latent` each.
    Projected {
        space: Space,
        pictures: Vec<String>,
    },
}

/// `key` in a sentence about it.
fn called(key: &str) -> String {
    if key.is_empty() {
        "its tensor".into()
    } else {
        format!("tensor '{key}'")
    }
}

fn find(file: &Checkpoint, space: Option<Space>) -> Result<Found> {
    let path = &file.path;
    let rank = |key: &str| file.shape(key).map_or(0, <[usize]>::len);
    let named: Vec<(Space, &str)> = SPACES.into_iter().filter_map(|space| Some((space, space.key_in(file)?))).collect();
    // NVIDIA's projector writes an .npz with W+ under the name of W.
    let of_key = |key: Space| if key == Space::W && rank("w") == 3 { Space::of_shape(file.shape("w").unwrap_or(&[])) } else { Some(key) };
    let known = space.and_then(|space| named.iter().find(|(named, _)| *named == space));
    match (space, &named[..]) {
        (Some(space), _) if known.is_some() => return Ok(Found::Tensor { space, key: known.map_or(space.name(), |k| k.1).into() }),
        (Some(Space::WPlus), _) if rank("w") == 3 => return Ok(Found::Tensor { space: Space::WPlus, key: "w".into() }),
        (Some(space), [_, ..]) => {
            let held: Vec<&str> = named.iter().map(|(_, key)| *key).collect();
            let message = format!("has no latents of {0} (tensor '{0}'), but '{1}'", space.name(), held.join("' and '"));
            return Err(Error::format(path, message));
        }
        (None, [(only, key)]) => return Ok(Found::Tensor { space: of_key(*only).unwrap_or(*only), key: (*key).into() }),
        (None, [_, _, ..]) => {
            let held: Vec<&str> = named.iter().map(|(space, _)| space.name()).collect();
            return Err(Error::argument("space", format!("{} holds {}; say which", path.display(), held.join(" and "))));
        }
        (_, []) => {}
    }
    let pictures: Vec<String> = file.keys().filter_map(|key| key.strip_suffix(PROJECTED)).map(String::from).collect();
    if !pictures.is_empty() {
        let ranks: Vec<usize> = pictures.iter().map(|picture| rank(&format!("{picture}{PROJECTED}"))).collect();
        let of_rank = if ranks.iter().all(|&rank| rank == 1) { Space::W } else { Space::WPlus };
        if let Some(other) = space.filter(|&space| space != of_rank) {
            let message = format!("holds latents of {} as a projector wrote them, not of {}", of_rank.name(), other.name());
            return Err(Error::format(path, message));
        }
        return Ok(Found::Projected { space: of_rank, pictures });
    }
    let only = || file.keys().next().filter(|_| file.keys().nth(1).is_none());
    let Some(key) = OTHER_NAMES.into_iter().find(|key| file.contains(key)).or_else(only) else {
        let some: Vec<String> = file.keys().take(3).map(|key| format!("'{key}' {:?}", file.shape(key).unwrap_or(&[]))).collect();
        let message = format!("holds no latents: want a tensor named z, w, w_plus or latent, or a single one; it has {}", some.join(", "));
        return Err(Error::format(path, message));
    };
    let shape = file.shape(key).unwrap_or(&[]);
    let space = match space.or_else(|| Space::of_shape(shape)) {
        Some(space) => space,
        None if shape.len() == 2 => {
            let [n, d] = [shape[0], shape[1]];
            let message = format!(
                "{} of {} has shape {shape:?}: {n} points of w, or one of w_plus [1, {n}, {d}]; say which",
                called(key),
                path.display()
            );
            return Err(Error::argument("space", message));
        }
        None => {
            let want = format!("{} is of w and {} of w_plus", Space::W.shape(), Space::WPlus.shape());
            return Err(Error::format(path, format!("{} has shape {shape:?}, which no latents have: {want}", called(key))));
        }
    };
    Ok(Found::Tensor { space, key: key.into() })
}

/// The points and noise maps of every picture in a projector's file, in the order of the pictures' names.
fn projected(file: &Checkpoint, space: Space, pictures: &[String]) -> Result<Latent> {
    let first = format!("{}{PROJECTED}", pictures[0]);
    let shape = file.shape(&first).unwrap_or(&[]);
    if shape.contains(&0) || shape.len() != if space == Space::W { 1 } else { 2 } {
        let want = format!("{} has shape {shape:?}, where [n_latent, style_dim] (W+) or [style_dim] (W) is right", called(&first));
        return Err(Error::format(&file.path, want));
    }
    let mut points = Vec::with_capacity(pictures.len());
    let mut maps: Vec<Vec<Tensor>> = Vec::new();
    for picture in pictures {
        points.push(file.f32(&format!("{picture}{PROJECTED}"), Some(shape))?);
        if let Some(noise) = read_noise(&file.with_prefix(&format!("{picture}.")), 1)? {
            maps.push(noise);
        }
    }
    let counts: Vec<usize> = maps.iter().map(Vec::len).collect();
    if !(maps.is_empty() || (maps.len() == pictures.len() && counts.iter().all(|&count| count == counts[0]))) {
        return Err(Error::format(&file.path, "has noise maps for some pictures and not for others, or more for some"));
    }
    let noise = match counts.first() {
        None => None,
        Some(&count) => {
            let layer = |i: usize| Tensor::cat(&maps.iter().map(|maps| &maps[i]).collect::<Vec<_>>(), 0);
            Some(
                (0..count)
                    .map(layer)
                    .collect::<candle_core::Result<_>>()
                    .map_err(|e| Error::format(&file.path, format!("its noise maps: {e}")))?,
            )
        }
    };
    Ok(Latent { space, tensor: Tensor::stack(&points, 0)?, noise })
}

fn plain(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(HOST)?.to_dtype(DType::F32)?.contiguous()?)
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
        let full = maps.full(&key);
        let shape = maps.shape(&key).ok_or_else(|| Error::format(&file.path, format!("has {count} noise maps, but no '{full}'")))?;
        check_noise(shape, n).map_err(|e| Error::format(&file.path, format!("tensor '{full}' {e}")))?;
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
        Tensor::arange(0f32, n as f32, HOST).unwrap().reshape(shape).unwrap()
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

    /// The key that version 0.1 wrote, and the settings' name for it.
    #[test]
    fn both_names_of_w_plus_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let latent = Latent { space: Space::WPlus, tensor: numbers(&[2, 3, 4]), noise: None };
        for key in Space::WPlus.keys() {
            save_safetensors(&path, &BTreeMap::from([(key.to_string(), latent.tensor.clone())]), &BTreeMap::new()).unwrap();
            for space in [None, Some(Space::WPlus)] {
                let back = Latent::read(&path, space, &Cancel::new()).unwrap();
                assert_eq!((back.space, values(&back.tensor)), (Space::WPlus, values(&latent.tensor)), "{key}");
            }
            assert_eq!(Latent::describe(&checkpoint::open(&path).unwrap()).unwrap().space, Space::WPlus, "{key}");
            assert!(Latent::open(&path, Space::W).unwrap_err().to_string().contains(&format!("but '{key}'")));
        }
        latent.save(&path).unwrap();
        assert_eq!(checkpoint::open(&path).unwrap().keys().collect::<Vec<_>>(), ["w_plus"]);
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
        write_npy(&path, &numbers(&[2, 3, 4, 5])).unwrap();
        assert!(message(Space::WPlus).ends_with("has shape [2, 3, 4, 5], where latents of w_plus have [N, n_latent, style_dim]"));
        write_npy(&path, &numbers(&[2, 3, 4])).unwrap();
        assert!(message(Space::Z).ends_with("has shape [2, 3, 4], where latents of z have [N, z_dim]"));
        write_npy(&path, &numbers(&[0, 3])).unwrap();
        assert!(message(Space::W).contains("no latent is in it"));
        write_npy(&path, &Tensor::new(&[[1f32, f32::NAN]], HOST).unwrap()).unwrap();
        assert!(message(Space::W).contains("NaN"));
        let save = |tensors: Vec<(&str, Tensor)>| {
            let tensors = tensors.into_iter().map(|(key, tensor)| (key.to_string(), tensor)).collect();
            save_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
        };
        save(vec![("w", numbers(&[2, 3])), ("z", numbers(&[2, 3]))]);
        assert!(message(Space::WPlus).ends_with("has no latents of w_plus (tensor 'w_plus'), but 'z' and 'w'"));
        save(vec![("other", numbers(&[2, 3])), ("more", numbers(&[4]))]);
        let e = message(Space::W);
        assert!(e.ends_with("want a tensor named z, w, w_plus or latent, or a single one; it has 'more' [4], 'other' [2, 3]"), "{e}");
        save(vec![("w", numbers(&[3]))]);
        assert!(message(Space::W).contains("tensor 'w' has shape [3], where latents of w have [N, style_dim]"));
        save(vec![("w", Tensor::new(&[[f32::INFINITY]], HOST).unwrap())]);
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
