//! Generators of unusual shapes: z and w of different lengths, pictures that are not square, grey or with alpha. Compared with StyleGAN2's
//! equations in f64, written here as plainly as they are; and with what an independent implementation drew (tests/data/golden).

mod common;

use candle_core::{Device, Tensor};
use common::program::nada;
use common::{close, data};
use nada::adapt::{Adaptation, Concept, Settings, Templates};
use nada::checkpoint::{self, save_safetensors, write_npy};
use nada::invert::{self, invert};
use nada::nn::generator::stylegan2::Sizes;
use nada::nn::generator::{as_rgb, Config, Generator, Kind, Latent, Layout, Noise, Space};
use nada::pack::ModelPack;
use nada::picture::Picture;
use nada::pipeline::Drawing;
use nada::progress::{silent, Cancel};
use nada::rng::Rng;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Of pictures; a few times what f32 differs from f64 by.
const ATOL: f64 = 5e-5;

fn sizes() -> Sizes {
    let (start, channels) = ([4, 4], vec![8, 6, 5, 4]);
    Sizes { z_dim: 12, style_dim: 12, n_mlp: 2, lr_mlp: 0.01, c_dim: 0, start, channels, colours: 3, conv_clamp: None }
}

/// The unusual ones, by name.
fn unusual() -> Vec<(&'static str, Sizes)> {
    vec![
        ("z of 7 and w of 12", Sizes { z_dim: 7, ..sizes() }),
        ("z of 17, w of 12 and a label", Sizes { z_dim: 17, c_dim: 3, ..sizes() }),
        ("16 x 32", Sizes { start: [4, 2], ..sizes() }),
        ("32 x 24", Sizes { start: [3, 4], ..sizes() }),
        ("grey", Sizes { colours: 1, ..sizes() }),
        ("alpha", Sizes { colours: 4, ..sizes() }),
        ("all", Sizes { z_dim: 5, start: [5, 7], colours: 4, conv_clamp: Some(2.0), ..sizes() }),
    ]
}

/// Random weights, of a size that keeps pictures within a few units; some of the noise matters.
fn tensors(config: &Config, seed: u64) -> BTreeMap<String, Tensor> {
    let mut rng = Rng::new(seed);
    let mut tensors = BTreeMap::new();
    for (key, shape) in config.tensors() {
        let (scale, shift) = match key.as_str() {
            k if k.starts_with("style.") => (100.0, 0.0),
            k if k.ends_with("modulation.bias") => (0.1, 1.0),
            k if k.ends_with("noise.weight") || k.ends_with("bias") => (0.2, 0.0),
            _ => (1.0, 0.0),
        };
        tensors.insert(key, rng.normals(&shape, &Device::Cpu).unwrap().affine(scale, shift).unwrap());
    }
    for layer in config.of_kind(Kind::Convolution) {
        let map = rng.normals(&[1, 1, layer.to.height, layer.to.width], &Device::Cpu).unwrap();
        tensors.insert(format!("noises.noise_{}", layer.index), map);
    }
    tensors
}

fn write(path: &Path, sizes: &Sizes) -> Generator {
    let metadata = sizes.conv_clamp.map(|clamp| ("conv_clamp".to_string(), clamp.to_string())).into_iter().collect();
    save_safetensors(path, &tensors(&sizes.config(), 3), &metadata).unwrap();
    Generator::open(path).unwrap()
}

/// StyleGAN2 by its equations: one picture, no tricks.
struct Plain {
    sizes: Sizes,
    values: BTreeMap<String, Vec<f64>>,
}

/// Planes of height x width.
struct Planes {
    channels: usize,
    height: usize,
    width: usize,
    values: Vec<f64>,
}

impl Planes {
    fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width, values: vec![0.0; channels * height * width] }
    }

    /// 0 outside.
    fn at(&self, c: usize, y: isize, x: isize) -> f64 {
        let inside = (0..self.height as isize).contains(&y) && (0..self.width as isize).contains(&x);
        if inside {
            self.values[(c * self.height + y as usize) * self.width + x as usize]
        } else {
            0.0
        }
    }

    fn set(&mut self, c: usize, y: usize, x: usize, value: f64) {
        self.values[(c * self.height + y) * self.width + x] = value;
    }

    /// Zeros between the pixels, then [1, 3, 3, 1] / 4 both ways; the first output pixel lies `before` pixels before the first input pixel.
    fn doubled(&self, height: usize, width: usize, spread: usize, before: isize) -> Planes {
        let taps = [0.25, 0.75, 0.75, 0.25];
        let mut out = Planes::new(self.channels, height, width);
        let sparse = |c: usize, y: isize, x: isize| match spread {
            1 => self.at(c, y, x),
            _ if y.rem_euclid(2) == 0 && x.rem_euclid(2) == 0 => self.at(c, y.div_euclid(2), x.div_euclid(2)),
            _ => 0.0,
        };
        for c in 0..self.channels {
            for y in 0..height {
                for x in 0..width {
                    let mut sum = 0.0;
                    for (i, a) in taps.iter().enumerate() {
                        for (j, b) in taps.iter().enumerate() {
                            sum += a * b * sparse(c, (y + i) as isize - before, (x + j) as isize - before);
                        }
                    }
                    out.set(c, y, x, sum);
                }
            }
        }
        out
    }
}

fn lrelu(x: f64) -> f64 {
    std::f64::consts::SQRT_2 * if x < 0.0 { 0.2 * x } else { x }
}

fn normalised(x: &[f64]) -> Vec<f64> {
    let norm = (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + 1e-8).sqrt();
    x.iter().map(|v| v / norm).collect()
}

impl Plain {
    fn new(sizes: &Sizes, tensors: &BTreeMap<String, Tensor>) -> Self {
        let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect();
        Self { sizes: sizes.clone(), values: tensors.iter().map(|(key, t)| (key.clone(), numbers(t))).collect() }
    }

    fn get(&self, key: &str) -> &[f64] {
        &self.values[key]
    }

    fn linear(&self, name: &str, x: &[f64], rate: f64) -> Vec<f64> {
        let (weight, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let row = |(w, b): (&[f64], &f64)| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() * rate / (x.len() as f64).sqrt() + b * rate;
        weight.chunks(x.len()).zip(bias).map(row).collect()
    }

    fn w(&self, z: &[f64], label: Option<usize>) -> Vec<f64> {
        let mut x = normalised(z);
        if let Some(class) = label {
            let one: Vec<f64> = (0..self.sizes.c_dim).map(|i| f64::from(u8::from(i == class))).collect();
            x.extend(normalised(&self.linear("embed", &one, 1.0)));
        }
        for i in 1..=self.sizes.n_mlp {
            x = self.linear(&format!("style.{i}"), &x, self.sizes.lr_mlp).into_iter().map(lrelu).collect();
        }
        x
    }

    /// A modulated convolution to `outputs` channels; `up` doubles.
    fn convolved(&self, name: &str, x: &Planes, w: &[f64], outputs: usize, k: usize, up: bool) -> Planes {
        let style = self.linear(&format!("{name}.conv.modulation"), w, 1.0);
        let scale = 1.0 / ((x.channels * k * k) as f64).sqrt();
        let weight = self.get(&format!("{name}.conv.weight"));
        let at = |o: usize, c: usize, i: usize, j: usize| weight[((o * x.channels + c) * k + i) * k + j] * scale * style[c];
        let (h, wd) = if up { (2 * x.height + 1, 2 * x.width + 1) } else { (x.height, x.width) };
        let mut out = Planes::new(outputs, h, wd);
        for o in 0..outputs {
            let mut square = 0.0;
            for c in 0..x.channels {
                for i in 0..k {
                    for j in 0..k {
                        square += at(o, c, i, j).powi(2);
                    }
                }
            }
            // ToRGB is not demodulated.
            let demodulation = if k == 3 { 1.0 / (square + 1e-8).sqrt() } else { 1.0 };
            for y in 0..h as isize {
                for xx in 0..wd as isize {
                    let mut sum = 0.0;
                    for c in 0..x.channels {
                        for i in 0..k as isize {
                            for j in 0..k as isize {
                                let pixel = match up {
                                    // The transpose of a convolution with stride 2.
                                    true if (y - i).rem_euclid(2) == 0 && (xx - j).rem_euclid(2) == 0 => {
                                        x.at(c, (y - i).div_euclid(2), (xx - j).div_euclid(2))
                                    }
                                    true => 0.0,
                                    false => x.at(c, y + i - k as isize / 2, xx + j - k as isize / 2),
                                };
                                sum += pixel * at(o, c, i as usize, j as usize);
                            }
                        }
                    }
                    out.set(o, y as usize, xx as usize, sum * demodulation);
                }
            }
        }
        if up {
            out.doubled(2 * x.height, 2 * x.width, 1, 1)
        } else {
            out
        }
    }

    fn clamped(&self, x: f64) -> f64 {
        self.sizes.conv_clamp.map_or(x, |most| x.clamp(-most, most))
    }

    fn styled(&self, name: &str, index: usize, x: &Planes, w: &[f64], outputs: usize, up: bool) -> Planes {
        let mut y = self.convolved(name, x, w, outputs, 3, up);
        let (strength, bias) = (self.get(&format!("{name}.noise.weight"))[0], self.get(&format!("{name}.activate.bias")));
        let noise = self.get(&format!("noises.noise_{index}"));
        let area = y.height * y.width;
        assert_eq!(noise.len(), area);
        for (i, v) in y.values.iter_mut().enumerate() {
            *v = self.clamped(lrelu(*v + strength * noise[i % area] + bias[i / area]));
        }
        y
    }

    fn rgb(&self, name: &str, x: &Planes, w: &[f64], below: Option<Planes>) -> Planes {
        let mut y = self.convolved(name, x, w, self.sizes.colours, 1, false);
        let (bias, area) = (self.get(&format!("{name}.bias")), y.height * y.width);
        for (i, v) in y.values.iter_mut().enumerate() {
            *v = self.clamped(*v + bias[i / area]);
        }
        if let Some(below) = below {
            let skip = below.doubled(y.height, y.width, 2, 2);
            y.values.iter_mut().zip(skip.values).for_each(|(v, s)| *v += s);
        }
        y
    }

    fn picture(&self, w: &[f64]) -> Planes {
        let channels = &self.sizes.channels;
        let constant = self.get("input.input").to_vec();
        let [height, width] = self.sizes.start;
        let x = Planes { channels: channels[0], height, width, values: constant };
        let mut x = self.styled("conv1", 0, &x, w, channels[0], false);
        let mut image = self.rgb("to_rgb1", &x, w, None);
        for (i, &n) in channels[1..].iter().enumerate() {
            x = self.styled(&format!("convs.{}", 2 * i), 2 * i + 1, &x, w, n, true);
            x = self.styled(&format!("convs.{}", 2 * i + 1), 2 * i + 2, &x, w, n, false);
            image = self.rgb(&format!("to_rgbs.{i}"), &x, w, Some(image));
        }
        image
    }
}

#[test]
fn unusual_generators_draw_what_the_equations_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.safetensors");
    for (name, sizes) in unusual().into_iter().chain([("usual", sizes())]) {
        let mut generator = write(&path, &sizes);
        let label = (sizes.c_dim > 0).then_some(1);
        if let Some(class) = label {
            generator = generator.with_class(class).unwrap();
        }
        let z = Rng::new(8).normals(&[2, sizes.z_dim], &Device::Cpu).unwrap();
        let have = generator.render(&Latent { space: Space::Z, tensor: z.clone(), noise: None }, 1.0, Noise::Const).unwrap();
        let plain = Plain::new(&sizes, &tensors(&sizes.config(), 3));
        let mut values = vec![];
        for z in z.to_vec2::<f32>().unwrap() {
            let z: Vec<f64> = z.into_iter().map(f64::from).collect();
            values.extend(plain.picture(&plain.w(&z, label)).values);
        }
        let [height, width] = sizes.start.map(|side| side << 3);
        let want = Tensor::from_vec(values, (2, sizes.colours, height, width), &Device::Cpu).unwrap();
        let spread = want.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(spread > 0.5, "{name}: a picture of nothing proves nothing");
        close(name, &have, &want, ATOL, 1e-5);
        if label.is_some() {
            // The label in the first layer's bias.
            let alone = generator.without_classes().unwrap();
            assert_eq!((alone.config().c_dim, alone.config().z_dim), (0, sizes.z_dim));
            close(name, &alone.map(&z).unwrap(), &generator.map(&z).unwrap(), 1e-5, 1e-5);
            close("its mean", &alone.mean_w().unwrap(), &generator.mean_w().unwrap(), 0.0, 0.0);
        }
    }
}

#[test]
fn z_and_w_of_different_lengths_agree_with_an_independent_implementation() {
    let file = data("golden/nvidia_z40_w56.pkl");
    let generator = Generator::open(&file).unwrap();
    assert_eq!((generator.config().z_dim, generator.config().style_dim), (40, 56));
    let want = checkpoint::open(&data("golden/nvidia_z40_w56.safetensors")).unwrap();
    let get = |key: &str| want.f32(key, None).unwrap();
    let z = get("z");
    let w = generator.map(&z).unwrap();
    close("w", &w, &get("w"), 1e-5, 1e-5);
    close("w_trunc07", &generator.truncate(&w, 0.7).unwrap(), &get("w_trunc07"), 1e-5, 1e-5);
    let wplus = generator.broadcast(&w).unwrap();
    close("image_none", &generator.synthesize(&wplus, Noise::None).unwrap(), &get("image_none"), ATOL, 1e-5);
    // As the program draws it.
    let folder = tempfile::tempdir().unwrap();
    let (latents, out) = (folder.path().join("z.npy"), folder.path().join("out.npy"));
    write_npy(&latents, &z).unwrap();
    for (truncation, key) in [("1", "image_const"), ("0.7", "image_trunc07_const")] {
        let program = nada(folder.path())
            .args(["render", "--space", "z", "--noise", "const", "--force", "--truncation", truncation])
            .args([Path::new("--generator"), &file, Path::new("--latents"), &latents, Path::new("--out-npy"), &out])
            .output()
            .unwrap();
        assert!(program.status.success(), "{}", String::from_utf8_lossy(&program.stderr));
        close(key, &checkpoint::read_npy(&out).unwrap(), &get(key), ATOL, 1e-5);
    }
    // Latents of another length are told what would be right.
    let e = generator.map(&w).unwrap_err().to_string();
    assert!(e.contains("[n, 40]"), "{e}");
    assert!(generator.broadcast(&z).unwrap_err().to_string().contains("[n, 56]"));
}

#[test]
fn they_are_written_and_read_again_or_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.safetensors");
    for (name, sizes) in unusual() {
        let generator = write(&path, &sizes);
        for (layout, file) in [(Layout::Nada, "a.safetensors"), (Layout::Rosinality, "a.pt"), (Layout::AdaPytorch, "a.pkl")] {
            let to = folder.path().join(file);
            let refused = match layout {
                Layout::Nada => None,
                Layout::Rosinality if sizes.c_dim > 0 => Some("classes"),
                Layout::Rosinality => (sizes.z_dim != sizes.style_dim).then_some("its z has"),
                Layout::AdaPytorch => (sizes.start != [4, 4]).then_some("needs square pictures"),
            };
            match (generator.save(&to, layout, false), refused) {
                (Ok(()), None) => {
                    let again = Generator::open(&to).unwrap();
                    assert_eq!((again.config(), again.fingerprint().unwrap()), (generator.config(), generator.fingerprint().unwrap()), "{name} {layout:?}");
                }
                (Err(e), Some(message)) => assert!(e.to_string().contains(message), "{name} {layout:?}: {e}"),
                (result, _) => panic!("{name} {layout:?}: {result:?}"),
            }
        }
    }
    for (sizes, message) in [
        (Sizes { colours: 2, ..sizes() }, "draws 2 channels, where 1 (grey), 3 (RGB) or 4 (RGB and alpha) are supported"),
        (Sizes { start: [1, 2], ..sizes() }, "a generator of 16 px"),
    ] {
        save_safetensors(&path, &tensors(&sizes.config(), 3), &BTreeMap::new()).unwrap();
        let e = Generator::open(&path).map(|_| ()).unwrap_err().to_string();
        assert!(e.contains(message), "{e}");
    }
}

#[test]
fn their_pictures_are_seen_and_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let pack = ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/models/starter")).unwrap();
    let clips = pack.load_clips().unwrap();
    let text = |t: &str| Concept::Text(t.into());
    for (name, sizes) in unusual().into_iter().filter(|(_, sizes)| sizes.c_dim == 0) {
        let generator = Arc::new(write(&folder.path().join("g.safetensors"), &sizes));
        let latent = Latent { space: Space::W, tensor: generator.sample_w(1, 1, 0.7).unwrap(), noise: None };
        let picture = Drawing::default().picture(&generator, &latent).unwrap();
        let (width, height) = (8 * sizes.start[1], 8 * sizes.start[0]);
        assert_eq!((picture.width, picture.height), (width, height), "{name}");
        let grey = picture.data.chunks(4).all(|p| p[0] == p[1] && p[1] == p[2]);
        assert_eq!((grey, picture.is_opaque()), (sizes.colours == 1, sizes.colours != 4), "{name}");

        let settings = Settings { steps: 2, snapshot_every: 0, ..Settings::default() };
        let start = |settings| {
            let templates = Templates(vec!["{}".into()]);
            Adaptation::new(generator.clone(), &clips, text("a photo"), text("a zombie"), &templates, settings)
        };
        let mut adaptation = start(settings.clone()).unwrap();
        adaptation.run(&Cancel::new(), &mut silent).unwrap();
        let after = Drawing::default().picture(&adaptation.generator().unwrap(), &latent).unwrap();
        assert!(after.data != picture.data, "{name}: nothing was learnt");
        assert_eq!(adaptation.preview(2).unwrap().width, 2 * width + nada::picture::SHEET_GAP);
        let mut structured = settings.clone();
        structured.losses.structure = 1.0;
        start(structured).unwrap().step().unwrap();

        let found = invert(&generator, &picture, None, &invert::Settings { steps: 2, ..Default::default() }, &Cancel::new(), &mut silent);
        match found {
            Ok(found) => assert!(found.psnr.is_finite(), "{name}"),
            Err(e) => {
                assert!(width != height, "{name}: {e}");
                assert_eq!(e.to_string(), format!("inverting: needs square pictures, and this generator draws {width} x {height} pixels"));
            }
        }
    }
}

#[test]
fn grey_is_three_equal_colours_and_alpha_is_over_white() {
    let of = |values: &[f32]| Tensor::from_vec(values.to_vec(), (1, values.len(), 1, 1), &Device::Cpu).unwrap();
    let rgb = |values: &[f32]| as_rgb(&of(values)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(rgb(&[0.5]), [0.5; 3]);
    assert_eq!(rgb(&[0.1, 0.2, 0.3]), [0.1, 0.2, 0.3]);
    assert_eq!(rgb(&[-1.0, 0.0, 1.0, 0.0]), [0.0, 0.5, 1.0], "half of it, and half of white");
    assert_eq!(rgb(&[-1.0, 0.0, 1.0, -3.0]), [1.0; 3]);
    assert_eq!(rgb(&[-1.0, 0.0, 1.0, 3.0]), [-1.0, 0.0, 1.0]);
    assert!(as_rgb(&of(&[0.0, 0.0])).is_err());
    // The same as a picture of it over white.
    let picture = Picture::from_tensor(&of(&[-0.5, 0.0, 0.5, 0.2]), 0).unwrap();
    assert_eq!(picture.data, [0.25, 0.5, 0.75, 0.6]);
    let want = picture.to_tensor().unwrap();
    close("over white", &as_rgb(&of(&[-0.5, 0.0, 0.5, 0.2])).unwrap(), &want, 1e-6, 0.0);
    assert_eq!(Picture::from_tensor(&of(&[0.0]), 0).unwrap().data, [0.5, 0.5, 0.5, 1.0]);
}

/// 4096 points went through the mapping network for every truncation, that is for each step of a run and each move of a slider.
#[test]
fn the_mean_of_w_is_found_once() {
    let folder = tempfile::tempdir().unwrap();
    let generator = write(&folder.path().join("g.safetensors"), &sizes());
    let mean = generator.mean_w().unwrap();
    let want = generator.map(&Rng::stream(0, 2).normals(&[4096, 12], &Device::Cpu).unwrap()).unwrap().mean(0).unwrap();
    close("mean", &mean, &want, 0.0, 0.0);
    let with = |key: &str| {
        let tensor = generator.weights()[key].affine(1.1, 0.0).unwrap();
        generator.replacing(BTreeMap::from([(key.to_string(), tensor)]), BTreeMap::new()).unwrap()
    };
    // The same tensor: nothing was computed again, in this generator and in those that share its mapping network.
    assert_eq!(generator.mean_w().unwrap().id(), mean.id());
    assert_eq!(with("conv1.conv.weight").mean_w().unwrap().id(), mean.id());
    // Another mapping network has another mean; where it is trained, one without a graph.
    let trained = candle_core::Var::from_tensor(&generator.weights()["style.1.weight"].affine(1.1, 0.0).unwrap()).unwrap();
    let other = generator.replacing(BTreeMap::from([("style.1.weight".into(), trained.as_tensor().clone())]), BTreeMap::new()).unwrap();
    let of_other = other.mean_w().unwrap();
    assert_ne!(of_other.to_vec1::<f32>().unwrap(), mean.to_vec1::<f32>().unwrap());
    assert!(!of_other.track_op());
    assert_eq!(other.mean_w().unwrap().id(), of_other.id());
    // So has each class.
    let classes = write(&folder.path().join("c.safetensors"), &Sizes { c_dim: 3, ..sizes() });
    assert!(classes.mean_w().unwrap_err().to_string().contains("classes 0 to 2"));
    let [a, b] = [0, 1].map(|class| classes.with_class(class).unwrap().mean_w().unwrap().to_vec1::<f32>().unwrap());
    assert_ne!(a, b);
}

/// pSp trained with --learn_in_w keeps the mean as one row.
#[test]
fn a_mean_of_one_row_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.safetensors");
    let mean = Rng::new(4).normals(&[12], &Device::Cpu).unwrap();
    let mut file = tensors(&sizes().config(), 3);
    for (shape, fits) in [(&[12][..], true), (&[1, 12], true), (&[8, 12], true), (&[1, 11], false), (&[2, 12], false)] {
        let stored = match fits {
            true => mean.broadcast_as(shape).unwrap().contiguous().unwrap(),
            false => Rng::new(5).normals(shape, &Device::Cpu).unwrap(),
        };
        file.insert("latent_avg".into(), stored);
        save_safetensors(&path, &file, &BTreeMap::new()).unwrap();
        match Generator::open(&path) {
            Ok(generator) if fits => close("mean", &generator.mean_w().unwrap(), &mean, 1e-6, 0.0),
            Err(e) if !fits => assert!(e.to_string().contains("latent_avg"), "{e}"),
            other => panic!("{shape:?}: {:?}", other.map(|_| ())),
        }
    }
}
