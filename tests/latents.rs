//! Latents as other tools write them.
//!
//! tests/data/latents: a generator of 32 px with two points of its latent spaces in the files of those tools, and what they draw, computed in
//! float64 with PyTorch.

mod common;

use candle_core::{Device, Tensor};
use common::{close, data};
use nada::checkpoint::{self, read_npy};
use nada::nn::generator::{Generator, Latent, Noise, Space};
use nada::progress::Cancel;
use nada::Kind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// float32 sums in another order.
const ATOL: f64 = 5e-5;

fn file(name: &str) -> PathBuf {
    data("latents").join(name)
}

/// The program's JSON, or its error message.
fn nada(arguments: &[&str], files: &[&Path]) -> Result<Value, String> {
    let out =
        Command::new(env!("CARGO_BIN_EXE_nada")).env_remove("NADA_MODELS").arg("--json").args(arguments).args(files).output().unwrap();
    let value: Value = serde_json::from_slice(&out.stdout).unwrap();
    match out.status.success() {
        true => Ok(value),
        false => Err(value["error"]["message"].as_str().unwrap().to_string()),
    }
}

#[test]
fn each_tools_file_draws_what_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.npy");
    let (expected, expected_w) = (read_npy(&file("expected.npy")).unwrap(), read_npy(&file("expected_w.npy")).unwrap());
    let first = expected.narrow(0, 0, 1).unwrap();
    for (name, space, want) in [
        ("latents.pt", "w_plus", &expected),
        ("latents_old_torch.pt", "w_plus", &expected),
        ("under_latent.pt", "w_plus", &expected),
        ("w.pt", "w", &expected_w),
        ("projected_w.npz", "w_plus", &first),
        ("projector.pt", "w_plus", &first),
    ] {
        // With the space, by its name of version 0.1 too, and by what the file shows.
        let old = if space == "w_plus" { "wplus" } else { space };
        for named in [&["--space", space][..], &["--space", old], &[]] {
            let files = [&file("generator.pt") as &Path, &file(name), &out];
            let arguments = [&["render", "--noise", "none", "--force"], named].concat();
            let flags = ["--generator", "--latents", "--out-npy"];
            let files: Vec<_> = flags.iter().zip(files).flat_map(|(flag, file)| [Path::new(flag), file]).collect();
            nada(&arguments, &files).unwrap_or_else(|e| panic!("{name} {named:?}: {e}"));
            close(name, &read_npy(&out).unwrap(), want, ATOL, 0.0);
        }
        let about = nada(&["info"], &[&file(name)]).unwrap()["files"][0].clone();
        assert_eq!((&about["kind"], &about["latents"][0]["space"]), (&"latents".into(), &space.into()), "{about}");
        assert_eq!(about["own_noise"], Value::from(name == "projector.pt"), "{about}");
    }
}

#[test]
fn a_projectors_noise_maps_go_with_its_points() {
    let generator = Generator::open(&file("generator.pt")).unwrap();
    let latent = Latent::open(&file("projector.pt"), Space::WPlus).unwrap();
    let noise = latent.noise.as_ref().unwrap();
    assert_eq!(noise.len(), generator.noise_maps().len());
    let stored = checkpoint::open(&file("projector.pt")).unwrap();
    for (i, map) in noise.iter().enumerate() {
        close(&format!("map {i}"), map, &stored.f32(&format!("a.png.noise.{i}"), None).unwrap(), 0.0, 0.0);
    }
    let own = generator.render(&latent, 1.0, Noise::Given(noise)).unwrap();
    let none = read_npy(&file("expected.npy")).unwrap().narrow(0, 0, 1).unwrap();
    let difference = (own - none).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(difference > 1e-2, "{difference}: its noise maps changed nothing");
}

/// Tensors of counting numbers in a safetensors file.
fn saved(folder: &Path, tensors: &[(&str, &[usize])]) -> PathBuf {
    let counting = |shape: &[usize]| {
        let n: usize = shape.iter().product();
        Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap().reshape(shape).unwrap()
    };
    let tensors: BTreeMap<String, Tensor> = tensors.iter().map(|(key, shape)| (key.to_string(), counting(shape))).collect();
    let path = folder.join("a.safetensors");
    checkpoint::save_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    path
}

fn read(path: &Path, space: Option<Space>) -> nada::Result<Latent> {
    Latent::read(path, space, &Cancel::new())
}

#[test]
fn the_space_is_known_by_name_or_shape() {
    let folder = tempfile::tempdir().unwrap();
    // Several pictures of a projector: in the order of their names, whose dots mean nothing.
    let two: &[(&str, &[usize])] = &[
        ("b.png.latent", &[8, 3]),
        ("b.png.img", &[1, 3, 4, 4]),
        ("b.png.noise.0", &[1, 1, 4, 4]),
        ("a.png.latent", &[8, 3]),
        ("a.png.img", &[1, 3, 4, 4]),
        ("a.png.noise.0", &[1, 1, 4, 4]),
    ];
    for (tensors, space, shape) in [
        (&[("latents", &[3, 8, 4][..])][..], Space::WPlus, &[3, 8, 4][..]),
        (&[("w_plus", &[1, 18, 4])], Space::WPlus, &[1, 18, 4]),
        (&[("latent", &[2, 1, 4])], Space::W, &[2, 4]),
        (&[("dlatents", &[1, 1, 4])], Space::W, &[1, 4]),
        (&[("arr_0", &[1, 10, 4])], Space::WPlus, &[1, 10, 4]),
        (&[("w", &[1, 10, 4])], Space::WPlus, &[1, 10, 4]),
        (&[("w", &[18, 4])], Space::W, &[18, 4]),
        (&[("z", &[18, 4])], Space::Z, &[18, 4]),
        (&[("latent", &[7, 4])], Space::W, &[7, 4]),
        (two, Space::WPlus, &[2, 8, 3]),
        (&[("face.latent", &[4]), ("face.img", &[1, 3, 4, 4])], Space::W, &[1, 4]),
    ] {
        let latent = read(&saved(folder.path(), tensors), None).unwrap_or_else(|e| panic!("{tensors:?}: {e}"));
        assert_eq!((latent.space, latent.tensor.dims()), (space, shape), "{tensors:?}");
        assert_eq!(latent.noise.map(|maps| maps[0].dim(0).unwrap()), (tensors.len() == 6).then_some(2), "{tensors:?}");
    }
    // What is ambiguous is read as the caller says.
    let path = saved(folder.path(), &[("latent", &[18, 4])]);
    assert_eq!(read(&path, Some(Space::W)).unwrap().tensor.dims(), [18, 4]);
    assert_eq!(read(&path, Some(Space::WPlus)).unwrap().tensor.dims(), [1, 18, 4]);
}

#[test]
fn what_does_not_fit_is_told_with_what_would() {
    let folder = tempfile::tempdir().unwrap();
    for (tensors, space, kind, words) in [
        (
            &[("latent", &[18, 4][..])][..],
            None,
            Kind::InvalidArgument,
            &["[18, 4]", "18 points of w", "w_plus [1, 18, 4]", "say which"][..],
        ),
        (
            &[("latent", &[2, 3, 4, 5])],
            None,
            Kind::Format,
            &["'latent' has shape [2, 3, 4, 5]", "[N, style_dim]", "[N, n_latent, style_dim]"],
        ),
        (&[("latent", &[4])], Some(Space::WPlus), Kind::Format, &["'latent' has shape [4]", "w_plus have [N, n_latent, style_dim]"]),
        (&[("latent", &[2, 8, 4])], Some(Space::Z), Kind::Format, &["latents of z have [N, z_dim]"]),
        (&[("z", &[2, 4]), ("w", &[2, 4])], None, Kind::InvalidArgument, &["holds z and w; say which"]),
        (
            &[("a", &[2, 4]), ("b", &[2, 4])],
            None,
            Kind::Format,
            &["holds no latents", "named z, w, w_plus or latent", "'a' [2, 4], 'b' [2, 4]"],
        ),
        (&[("a.latent", &[8, 4]), ("b.latent", &[10, 4])], None, Kind::Format, &["'b.latent' has shape [10, 4], where [8, 4] is needed"]),
        (&[("a.latent", &[8, 4])], Some(Space::Z), Kind::Format, &["holds latents of w_plus", "not of z"]),
        (&[("a.latent", &[1, 8, 4])], None, Kind::Format, &["'a.latent' has shape [1, 8, 4]", "[n_latent, style_dim]"]),
        (
            &[("a.latent", &[8, 4]), ("b.latent", &[8, 4]), ("b.noise.0", &[1, 1, 4, 4])],
            None,
            Kind::Format,
            &["noise maps for some pictures and not for others"],
        ),
    ] {
        let e = read(&saved(folder.path(), tensors), space).err().unwrap_or_else(|| panic!("{tensors:?} was read"));
        assert!(e.kind() == kind && words.iter().all(|word| e.to_string().contains(word)), "{tensors:?}: {e}");
        assert!(e.to_string().contains("a.safetensors"), "{e}");
    }
    // numpy's pickles: what pSp's inference.py leaves.
    let path = folder.path().join("latents.npy");
    let header = format!("{{'descr': '|O', 'fortran_order': False, 'shape': (), }}{:>60}\n", "");
    let bytes = [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), b"\x80\x03}."].concat();
    std::fs::write(&path, bytes).unwrap();
    let e = read(&path, Some(Space::WPlus)).unwrap_err();
    assert!(e.to_string().contains("Python objects") && e.to_string().contains("np.savez"), "{e}");
    // A generator of another size says what it takes.
    let path = saved(folder.path(), &[("latent", &[1, 18, 32])]);
    let message =
        nada(&["render", "--out-npy", "x.npy", "--generator"], &[&file("generator.pt"), Path::new("--latents"), &path]).unwrap_err();
    assert!(message.contains("[1, 18, 32]") && message.contains("[n, 8, 32]"), "{message}");
}
