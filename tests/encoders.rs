//! Encoders against the published code's numbers, and against their definition in f64.

#[path = "common/capi.rs"]
#[macro_use]
mod capi;
mod common;

use candle_core::{DType, Device, Tensor};
use capi::{c_path, file, initialised, last, ok, world};
use common::compare::close;
use common::encoder::{save, tensors, Sizes};
use common::program::{error, here, json, run};
use common::random_generator::Random;
use common::{data, reference};
use nada::capi::encoder::*;
use nada::capi::inversion::*;
use nada::capi::latent::*;
use nada::capi::status::nada_status::{self, *};
use nada::checkpoint::{self, Checkpoint};
use nada::invert::{self, Method, Settings, Tools};
use nada::nn::encoders::{Encoder, Head, Input};
use nada::nn::generator::{Generator, Noise};
use nada::pack::ModelPack;
use nada::picture::Picture;
use nada::progress::{Cancel, Flow};
use nada::rng::Rng;
use nada::{Error, Kind};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

fn all(name: &str) -> Checkpoint {
    checkpoint::open(&reference().join(name)).unwrap()
}

/// u8 pictures [n, h, w, 3] -> [n, 3, h, w] in [-1, 1], as the published code has them.
fn pictures(u8s: &Tensor) -> Tensor {
    let x = u8s.to_dtype(candle_core::DType::F32).unwrap().permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    x.affine(2.0 / 255.0, -1.0).unwrap()
}

/// As the reference's README suggests: sums of many terms in another order, through 24 blocks.
const CODES: f64 = 2e-5;
const LAYERS: f64 = 1e-4;

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn reference_layers() {
    for (name, weights, head) in [
        ("tiny_psp_GradualStyle", "tiny_psp_GradualStyle", Head::Each),
        ("tiny_e4e_Encoder4Editing", "tiny_psp_GradualStyle", Head::OnFirst),
        ("tiny_restyle_e4e_ProgressiveBackbone", "tiny_restyle_e4e_ProgressiveBackbone", Head::OnFirst),
    ] {
        let want = all(&format!("encoder/{name}_expected.safetensors"));
        let input = match want.contains("input_64_nearest_x4") {
            true => want.f32("input_64_nearest_x4", None).unwrap(),
            false => all(&format!("encoder/{weights}_expected.safetensors")).f32("input_64_nearest_x4", None).unwrap(),
        };
        let input = input.upsample_nearest2d(256, 256).unwrap();
        let file = all(&format!("encoder/{weights}.safetensors"));
        // Bare tensors have no average, which ReStyle's would need.
        let encoder = match input.dim(1).unwrap() {
            6 => with_average(&file, head),
            _ => Encoder::from_checkpoint_as(&file, Some(head)).unwrap(),
        };
        let mut compared = 0;
        let codes = encoder
            .encode_traced(&input, &mut |layer, x| {
                let key = format!("cap.{layer}");
                if want.contains(&key) {
                    close(&format!("{name} {key}"), x, &want.f32(&key, None).unwrap(), LAYERS, 0.0);
                    compared += 1;
                }
            })
            .unwrap();
        close(&format!("{name} codes"), &codes, &want.f32("codes", None).unwrap(), LAYERS, 0.0);
        compared += 1;
        if want.contains("codes_stage3") {
            let codes = encoder.encode_at_stage(&input, 3).unwrap();
            close(&format!("{name} codes_stage3"), &codes, &want.f32("codes_stage3", None).unwrap(), LAYERS, 0.0);
            compared += 1;
        }
        let inputs = usize::from(want.contains("input_64_nearest_x4"));
        assert_eq!(compared + inputs, want.keys().count(), "{name}");
    }
}

/// The encoder of bare tensors, with an average of zeros beside them.
fn with_average(file: &Checkpoint, head: Head) -> Encoder {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encoder.safetensors");
    let mut tensors: std::collections::BTreeMap<String, Tensor> =
        file.keys().map(|key| (key.to_string(), file.tensor(key).unwrap())).collect();
    let d = tensors["styles.0.linear.bias"].dims1().unwrap();
    tensors.insert("latent_avg".into(), Tensor::zeros(d, candle_core::DType::F32, &Device::Cpu).unwrap());
    checkpoint::save_safetensors(&path, &tensors, &Default::default()).unwrap();
    Encoder::from_checkpoint_as(&checkpoint::open(&path).unwrap(), Some(head)).unwrap()
}

/// Sample `i` of u8 [n, h, w] or [n, h, w, 3].
fn picture(u8s: &Tensor, i: usize) -> Picture {
    let sample = u8s.get(i).unwrap();
    let (height, width) = (sample.dim(0).unwrap(), sample.dim(1).unwrap());
    let values = sample.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let data = values.chunks_exact(values.len() / (width * height)).flat_map(|p| {
        let at = |c: usize| f32::from(p[c.min(p.len() - 1)]) / 255.0;
        [at(0), at(1), at(2), 1.0]
    });
    Picture { width, height, data: data.collect() }
}

fn drawn(encoder: &Encoder, codes: &Tensor) -> Tensor {
    encoder.decoder().unwrap().synthesize(codes, Noise::Const).unwrap()
}

/// Of pictures, whose values go to about 6.
const IMAGES: f64 = 1e-4;

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn reference_preprocessing() {
    let file = all("inversion/pictures.safetensors");
    let want = pictures(&file.tensor("resized_u8").unwrap());
    for i in 0..2 {
        let have = invert::picture_input(&picture(&file.tensor(&format!("picture{i}_u8")).unwrap().unsqueeze(0).unwrap(), 0)).unwrap();
        // The same eight bits; (x - 0.5) / 0.5 and 2 x - 1 round apart.
        close(&format!("picture {i}"), &have, &want.narrow(0, i, 1).unwrap(), 2e-7, 0.0);
    }
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn reference_one_pass() {
    let resized = pictures(&all("inversion/pictures.safetensors").tensor("resized_u8").unwrap());
    for name in ["psp", "e4e", "psp_seg", "psp_sketch"] {
        let encoder = Encoder::open(&reference().join(format!("inversion/tiny_{name}.pt"))).unwrap();
        let want = all(&format!("inversion/{name}_expected.safetensors"));
        let both = |key: &str, make: &dyn Fn(&Picture) -> Tensor| {
            let u8s = want.tensor(key).unwrap();
            Tensor::cat(&[0, 1].map(|i| make(&picture(&u8s, i))), 0).unwrap()
        };
        let input = match encoder.input() {
            Input::Picture => resized.clone(),
            Input::Labels(count) => both("labels_u8", &|p| invert::labels_input(p, count).unwrap()),
            Input::Sketch => both("sketch_u8", &|p| invert::sketch_input(p).unwrap()),
            other => panic!("{other:?}"),
        };
        // What was resized: the labels themselves, and shades.
        if let Input::Labels(count) = encoder.input() {
            let labels = want.tensor("resized_u8").unwrap().to_dtype(DType::F32).unwrap();
            let index = Tensor::arange(0f32, count as f32, &Device::Cpu).unwrap().reshape((1, count, 1, 1)).unwrap();
            close("labels", &input.broadcast_mul(&index).unwrap().sum(1).unwrap(), &labels, 0.0, 0.0);
            close("one label a pixel", &input.sum(1).unwrap(), &labels.ones_like().unwrap(), 0.0, 0.0);
        }
        if encoder.input() == Input::Sketch {
            let shades = want.tensor("resized_u8").unwrap().to_dtype(DType::F32).unwrap().affine(1.0 / 255.0, 0.0).unwrap();
            close("sketch", &input.squeeze(1).unwrap(), &shades, 1e-7, 0.0);
        }
        assert_eq!(encoder.rows(), 10);
        let get = |key: &str| want.f32(key, None).unwrap();
        close(&format!("{name} encoder_output"), &encoder.encode(&input).unwrap(), &get("encoder_output"), CODES, 0.0);
        for stage in [0, 2, 3, 7] {
            let key = format!("stage{stage}.encoder_output");
            if want.contains(&key) {
                close(&format!("{name} {key}"), &encoder.encode_at_stage(&input, stage).unwrap(), &get(&key), CODES, 0.0);
            }
        }
        let codes = encoder.codes(&input, &Cancel::new()).unwrap();
        close(&format!("{name} codes"), &codes, &get("codes"), CODES, 0.0);
        close(&format!("{name} codes_f64"), &codes, &want.tensor("codes_f64").unwrap(), CODES, 0.0);
        let image = drawn(&encoder, &codes);
        close(&format!("{name} image"), &image, &get("image"), IMAGES, 0.0);
        let exact = (get("image") + get("image_f64_minus_f32")).unwrap();
        close(&format!("{name} image in f64"), &image, &exact, IMAGES, 0.0);
        if name == "psp" {
            // Rows from 7 on of another latent, whole or half. What a mask without a latent does (zeros) is not wanted.
            let decoder = encoder.decoder().unwrap();
            let injected = decoder.broadcast(&decoder.map(&get("mix.vec")).unwrap()).unwrap();
            close("mix.injected", &injected, &get("mix.injected"), CODES, 0.0);
            let first = codes.narrow(0, 0, 1).unwrap();
            let half = decoder.interpolate(&first, &injected, 0.5).unwrap();
            for (key, other) in [("mix.replace", &injected), ("mix.alpha05", &half)] {
                let mixed = decoder.mix(&first, other, 7).unwrap();
                close(key, &mixed, &get(&format!("{key}.codes")), CODES, 0.0);
                close(key, &drawn(&encoder, &mixed), &get(&format!("{key}.image")), IMAGES, 0.0);
            }
        }
    }
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn reference_rounds() {
    let input = pictures(&all("inversion/pictures.safetensors").tensor("resized_u8").unwrap());
    for name in ["restyle_psp", "restyle_e4e"] {
        let encoder = Encoder::open(&reference().join(format!("inversion/tiny_{name}.pt"))).unwrap();
        let want = all(&format!("inversion/{name}_expected.safetensors"));
        let get = |key: &str| want.f32(key, None).unwrap();
        let average = invert::average_image(&encoder, encoder.decoder().unwrap(), &Cancel::new()).unwrap();
        close("avg_image_64", &average.squeeze(0).unwrap(), &get("avg_image_64"), IMAGES, 0.0);
        let mut rounds = 0;
        let codes = invert::restyle(&encoder, encoder.decoder().unwrap(), &input, 3, &Cancel::new(), &mut |round| {
            let t = round.number;
            // Differences grow from round to round, as those between f32 and f64 do.
            let (codes, images) = if t == 2 { (1e-4, 5e-4) } else { (CODES, IMAGES) };
            close(&format!("{name} {t} output"), round.change, &get(&format!("iter{t}.encoder_output")), codes, 0.0);
            close(&format!("{name} {t} codes"), round.codes, &get(&format!("iter{t}.codes")), codes, 0.0);
            close(&format!("{name} {t} image"), &drawn(&encoder, round.codes), &get(&format!("iter{t}.image")), images, 0.0);
            assert_eq!(round.image.is_some(), t < 2);
            rounds += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(rounds, 3);
        close(&format!("{name} codes_f64"), &codes, &want.tensor("iter2.codes_f64").unwrap(), 1e-4, 0.0);
        let exact = (get("iter2.image") + get("iter2.image_f64_minus_f32")).unwrap();
        close(&format!("{name} image in f64"), &drawn(&encoder, &codes), &exact, 5e-4, 0.0);
    }
}

/// A map of f64, [c][h][w].
#[derive(Clone)]
struct Map {
    c: usize,
    h: usize,
    w: usize,
    data: Vec<f64>,
}

/// The networks as their papers define them, a number at a time.
struct Definition<'a>(&'a std::collections::BTreeMap<String, Tensor>);

impl Definition<'_> {
    fn get(&self, key: &str) -> Vec<f64> {
        let t = self.0.get(key).unwrap_or_else(|| panic!("no {key}"));
        t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn convolution(&self, x: &Map, name: &str, stride: usize) -> Map {
        let [o, c, k, _] = self.0[&format!("{name}.weight")].dims()[..] else { panic!("{name}") };
        assert_eq!(c, x.c, "{name}");
        let weight = self.get(&format!("{name}.weight"));
        let bias = if self.0.contains_key(&format!("{name}.bias")) { self.get(&format!("{name}.bias")) } else { vec![0.0; o] };
        let pad = k / 2;
        let (h, w) = ((x.h + 2 * pad - k) / stride + 1, (x.w + 2 * pad - k) / stride + 1);
        let mut data = Vec::with_capacity(o * h * w);
        for out in 0..o {
            for y in 0..h {
                for q in 0..w {
                    let mut sum = bias[out];
                    for i in 0..c {
                        for ky in 0..k {
                            for kx in 0..k {
                                let (sy, sx) = ((y * stride + ky).wrapping_sub(pad), (q * stride + kx).wrapping_sub(pad));
                                if sy < x.h && sx < x.w {
                                    sum += weight[((out * c + i) * k + ky) * k + kx] * x.data[(i * x.h + sy) * x.w + sx];
                                }
                            }
                        }
                    }
                    data.push(sum);
                }
            }
        }
        Map { c: o, h, w, data }
    }

    fn each(x: &Map, f: impl Fn(usize, f64) -> f64) -> Map {
        let area = x.h * x.w;
        Map { data: x.data.iter().enumerate().map(|(i, v)| f(i / area, *v)).collect(), ..*x }
    }

    fn norm(&self, x: &Map, name: &str) -> Map {
        let [g, b, m, v] = ["weight", "bias", "running_mean", "running_var"].map(|part| self.get(&format!("{name}.{part}")));
        Self::each(x, |c, x| (x - m[c]) / (v[c] + 1e-5).sqrt() * g[c] + b[c])
    }

    fn prelu(&self, x: &Map, name: &str) -> Map {
        let slopes = self.get(&format!("{name}.weight"));
        Self::each(x, |c, x| if x >= 0.0 { x } else { slopes[c] * x })
    }

    fn add(a: &Map, b: &Map) -> Map {
        assert_eq!((a.c, a.h, a.w), (b.c, b.h, b.w));
        Map { data: a.data.iter().zip(&b.data).map(|(a, b)| a + b).collect(), ..*a }
    }

    fn means(x: &Map) -> Vec<f64> {
        x.data.chunks(x.h * x.w).map(|plane| plane.iter().sum::<f64>() / plane.len() as f64).collect()
    }

    fn product(&self, x: &[f64], key: &str) -> Vec<f64> {
        self.get(key).chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    }

    fn shortcut(&self, x: &Map, name: &str, stride: usize) -> Map {
        if self.0.contains_key(&format!("{name}.0.weight")) {
            return self.norm(&self.convolution(x, &format!("{name}.0"), stride), &format!("{name}.1"));
        }
        let (h, w) = (x.h.div_ceil(stride), x.w.div_ceil(stride));
        let at = |i: usize| x.data[(i / (h * w) * x.h + i / w % h * stride) * x.w + i % w * stride];
        Map { c: x.c, h, w, data: (0..x.c * h * w).map(at).collect() }
    }

    fn enlarged(x: &Map, h: usize, w: usize) -> Map {
        let place = |i: usize, from: usize, to: usize| {
            let at = if to > 1 { i as f64 * (from - 1) as f64 / (to - 1) as f64 } else { 0.0 };
            (at as usize, (at as usize + 1).min(from - 1), at.fract())
        };
        let mut data = vec![];
        for plane in x.data.chunks(x.h * x.w) {
            for y in 0..h {
                for q in 0..w {
                    let ((t, b, v), (l, r, u)) = (place(y, x.h, h), place(q, x.w, w));
                    let at = |y: usize, q: usize| plane[y * x.w + q];
                    data.push((at(t, l) * (1.0 - u) + at(t, r) * u) * (1.0 - v) + (at(b, l) * (1.0 - u) + at(b, r) * u) * v);
                }
            }
        }
        Map { c: x.c, h, w, data }
    }

    fn linear(&self, x: &[f64], name: &str) -> Vec<f64> {
        let scale = 1.0 / (x.len() as f64).sqrt();
        let bias = self.get(&format!("{name}.bias"));
        self.product(x, &format!("{name}.weight")).iter().zip(bias).map(|(v, b)| v * scale + b).collect()
    }

    fn codes(&self, sizes: &Sizes, input: Map, on_first: bool) -> Vec<Vec<f64>> {
        let mut x = match sizes.ir_se {
            true => self.prelu(&self.norm(&self.convolution(&input, "input_layer.0", 1), "input_layer.1"), "input_layer.2"),
            false => self.prelu(&self.norm(&self.convolution(&input, "conv1", 2), "bn1"), "relu"),
        };
        let mut maps = vec![];
        for (i, &out) in sizes.blocks.iter().enumerate() {
            let b = format!("body.{i}");
            let stride = if out != x.c || (sizes.ir_se && i == 0) { 2 } else { 1 };
            if out != x.c {
                maps.push(x.clone());
            }
            x = if sizes.ir_se {
                let y = self.convolution(&self.norm(&x, &format!("{b}.res_layer.0")), &format!("{b}.res_layer.1"), 1);
                let y = self.convolution(&self.prelu(&y, &format!("{b}.res_layer.2")), &format!("{b}.res_layer.3"), stride);
                let y = self.norm(&y, &format!("{b}.res_layer.4"));
                let hidden = self.product(&Self::means(&y), &format!("{b}.res_layer.5.fc1.weight"));
                let hidden: Vec<f64> = hidden.into_iter().map(|v| v.max(0.0)).collect();
                let gate = self.product(&hidden, &format!("{b}.res_layer.5.fc2.weight"));
                let gated = Self::each(&y, |c, v| v / (1.0 + (-gate[c]).exp()));
                Self::add(&gated, &self.shortcut(&x, &format!("{b}.shortcut_layer"), stride))
            } else {
                let y = self.norm(&self.convolution(&x, &format!("{b}.conv1"), stride), &format!("{b}.bn1"));
                let y = Self::each(&y, |_, v| v.max(0.0));
                let y = self.norm(&self.convolution(&y, &format!("{b}.conv2"), 1), &format!("{b}.bn2"));
                let sum = Self::add(&y, &self.shortcut(&x, &format!("{b}.downsample"), stride));
                Self::each(&sum, |_, v| v.max(0.0))
            };
        }
        if sizes.rows == 0 {
            return vec![self.linear(&Self::means(&x), "linear")];
        }
        let mut pyramid = vec![x.clone()];
        if sizes.convolutions.len() == 3 {
            for (i, lateral) in ["latlayer1", "latlayer2"].iter().enumerate() {
                let map = &maps[maps.len() - 1 - i];
                let sum = Self::add(&Self::enlarged(&pyramid[i], map.h, map.w), &self.convolution(map, lateral, 1));
                pyramid.push(sum);
            }
        }
        let mut rows: Vec<Vec<f64>> = vec![];
        for i in 0..sizes.rows {
            let map = if pyramid.len() == 1 || i < 3 { 0 } else { 1 + usize::from(i >= 7) };
            let mut y = pyramid[map].clone();
            for j in 0..sizes.convolutions[map] {
                y = Self::each(
                    &self.convolution(&y, &format!("styles.{i}.convs.{}", 2 * j), 2),
                    |_, v| if v >= 0.0 { v } else { 0.01 * v },
                );
            }
            assert_eq!((y.h, y.w), (1, 1));
            let row = self.linear(&y.data, &format!("styles.{i}.linear"));
            rows.push(match rows.first() {
                Some(first) if on_first => first.iter().zip(row).map(|(a, b)| a + b).collect(),
                _ => row,
            });
        }
        rows
    }
}

const PYRAMID: Sizes =
    Sizes { ir_se: true, inputs: 3, width: 6, blocks: &[6, 6, 9, 9, 32, 32, 16], convolutions: &[2, 3, 4], rows: 9, style_dim: 16 };

/// Each kind of network against its definition. Codes are about 1, and sums have up to 300 terms through 7 blocks.
#[test]
fn networks_are_their_definition() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encoder.safetensors");
    let last = Sizes { inputs: 6, convolutions: &[2], ..PYRAMID };
    let resnet = Sizes { ir_se: false, inputs: 6, blocks: &[6, 6, 9, 32, 32, 16], convolutions: &[2], ..PYRAMID };
    for (kind, sizes) in [
        ("GradualStyleEncoder", PYRAMID),
        ("Encoder4Editing", PYRAMID),
        ("BackboneEncoder", last.clone()),
        ("ProgressiveBackboneEncoder", last),
        ("ResNetBackboneEncoder", resnet.clone()),
        ("ResNetProgressiveBackboneEncoder", resnet),
        ("BackboneEncoderUsingLastLayerIntoW", Sizes { rows: 0, ..PYRAMID }),
        ("GradualStyleEncoder", Sizes { inputs: 1, ..PYRAMID }),
        ("GradualStyleEncoder", Sizes { inputs: 5, ..PYRAMID }),
    ] {
        let tensors = tensors(&sizes, 3);
        save(&path, &tensors, Some(&[16]), &[("encoder_type", kind), ("output_size", "16")]);
        let encoder = Encoder::open(&path).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let on_first = kind.contains("Progressive") || kind == "Encoder4Editing";
        let head = if sizes.rows == 0 {
            Head::IntoW
        } else if on_first {
            Head::OnFirst
        } else {
            Head::Each
        };
        assert_eq!((encoder.head(), encoder.rows()), (head, if sizes.rows == 0 { 6 } else { 9 }), "{kind}");
        // Of odd sides too, which halving rounds up.
        for (h, w) in [(64, 64), (61, 50)] {
            let input = Rng::new(5).normals(&[1, sizes.inputs, h, w], &Device::Cpu).unwrap();
            let map = Map { c: sizes.inputs, h, w, data: input.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap() };
            let mut want = Definition(&tensors).codes(&sizes, map, on_first);
            if sizes.rows == 0 {
                want = vec![want[0].clone(); 6];
            }
            let want = Tensor::new(want, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            close(&format!("{kind} {h} x {w}"), &encoder.encode(&input).unwrap(), &want, 2e-5, 2e-5);
            // A batch is its samples.
            let twice = Tensor::cat(&[&input, &(&input * 0.5).unwrap()], 0).unwrap();
            close(&format!("{kind} in a batch"), &encoder.encode(&twice).unwrap().narrow(0, 0, 1).unwrap(), &want, 2e-5, 2e-5);
        }
    }
}

fn starter() -> &'static Generator {
    static STARTER: OnceLock<Generator> = OnceLock::new();
    let open = || ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter")).unwrap().load_generator().unwrap();
    STARTER.get_or_init(open)
}

/// Of the published input's size: eight halvings to one pixel, so that heads are one linear layer each.
fn small(inputs: usize) -> Sizes<'static> {
    let c = starter().config();
    let d = c.style_dim;
    let blocks: &'static [usize] = vec![4, 5, 6, 7, 8, 9, 10, d].leak();
    Sizes { ir_se: true, inputs, width: 4, blocks, convolutions: &[0], rows: c.n_latent(), style_dim: d }
}

/// A file of such an encoder, in a folder that stays.
fn small_file(name: &str, inputs: usize, average: Option<&[usize]>, opts: &[(&str, &str)]) -> PathBuf {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let path = FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path().join(format!("{name}.safetensors"));
    // Rows near the mean, as a trained encoder gives them, so that pictures are pictures.
    let mut tensors = tensors(&small(inputs), 1);
    for i in 0..starter().config().n_latent() {
        let key = format!("styles.{i}.linear.weight");
        let shrunk = (&tensors[&key] * 0.02).unwrap();
        tensors.insert(key, shrunk);
        let mean = starter().mean_w().unwrap();
        tensors.insert(format!("styles.{i}.linear.bias"), if average.is_some() && inputs == 6 { mean.zeros_like().unwrap() } else { mean });
    }
    save(&path, &tensors, average, opts);
    path
}

fn face() -> Picture {
    Picture::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/face.png")).unwrap()
}

fn find(encoder: Option<&Encoder>, target: &Picture, settings: &Settings) -> nada::Result<invert::Inversion> {
    let tools = Tools { encoder, clip: None };
    invert::find(starter(), target, tools, settings, &Cancel::new(), &mut |_| Flow::Continue, &mut None)
}

#[test]
fn methods_and_what_they_report() {
    let kind = ("encoder_type", "BackboneEncoder");
    let encoder = Encoder::open(&small_file("methods", 3, None, &[kind])).unwrap();
    let face = face();
    let settings = |method| Settings { method, steps: 8, ..Settings::default() };
    let encoded = find(Some(&encoder), &face, &settings(Method::Encode)).unwrap();
    assert_eq!((encoded.steps, encoded.latent.tensor.dims()), (1, &[1, starter().config().n_latent(), starter().config().style_dim][..]));
    let same = find(Some(&encoder), &face, &settings(Method::Auto)).unwrap();
    close("auto encodes", &same.latent.tensor, &encoded.latent.tensor, 0.0, 0.0);
    // What is reported is what the latent draws without noise.
    let side = starter().config().size();
    let drawn = Picture::from_tensor(&starter().render(&encoded.latent, 1.0, Noise::None).unwrap(), 0).unwrap();
    let square = face.square(side).unwrap();
    let pixels =
        drawn.data.chunks_exact(4).zip(square.data.chunks_exact(4)).flat_map(|(a, b)| (0..3).map(|c| f64::from(a[c] - b[c]).powi(2)));
    let mean = pixels.sum::<f64>() / (side * side * 3) as f64;
    assert!((f64::from(encoded.psnr) + 10.0 * mean.log10()).abs() < 0.01, "{} dB", encoded.psnr);
    // Optimisation from there comes closer, and begins where it ended.
    let both = find(Some(&encoder), &face, &settings(Method::Both)).unwrap();
    assert!(both.loss < encoded.loss && both.steps == 8, "{} {}", both.loss, encoded.loss);
    let one = find(Some(&encoder), &face, &Settings { steps: 1, ..settings(Method::Both) }).unwrap();
    close("one step measures the start", &one.latent.tensor, &encoded.latent.tensor, 0.0, 0.0);
    let w = find(Some(&encoder), &face, &Settings { space: invert::Space::W, ..settings(Method::Both) }).unwrap();
    let rows = w.latent.tensor.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
    assert!(rows.iter().all(|row| *row == rows[0]), "W has one row for all layers");
    // Without an encoder.
    let plain = find(None, &face, &settings(Method::Auto)).unwrap();
    let optimised = find(Some(&encoder), &face, &settings(Method::Optimise)).unwrap();
    close("auto optimises", &plain.latent.tensor, &optimised.latent.tensor, 0.0, 0.0);
    for (method, name) in [(Method::Encode, "encode"), (Method::Both, "both")] {
        let e = find(None, &face, &settings(method)).unwrap_err();
        assert!(e.kind() == Kind::InvalidArgument && e.to_string().contains(&format!("{name} needs an encoder")), "{e}");
    }
}

#[test]
fn rounds_are_counted_and_can_be_cancelled() {
    let kind = ("encoder_type", "ProgressiveBackboneEncoder");
    let d = starter().config().style_dim;
    let path = small_file("rounds", 6, Some(&[1, d]), &[kind]);
    let encoder = Encoder::open(&path).unwrap();
    assert_eq!(encoder.input(), Input::Rounds);
    let settings = Settings { rounds: 3, ..Settings::default() };
    let mut steps = vec![];
    let found = invert::encode(starter(), &encoder, &face(), &settings, &Cancel::new(), &mut |p| {
        steps.push((p.step, p.total, p.preview.is_some()));
        Flow::Continue
    })
    .unwrap();
    assert_eq!((steps, found.steps), (vec![(1, 3, false), (2, 3, false), (3, 3, true)], 3));
    let stopped = invert::encode(starter(), &encoder, &face(), &settings, &Cancel::new(), &mut |_| Flow::Stop);
    assert!(matches!(stopped, Err(Error::Cancelled)));
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(invert::encode(starter(), &encoder, &face(), &settings, &cancel, &mut |_| Flow::Continue), Err(Error::Cancelled)));
    assert!(matches!(Encoder::open_unless(&path, &cancel), Err(Error::Cancelled)));
}

/// The message of an error of that kind.
#[track_caller]
fn message<T>(result: nada::Result<T>, kind: Kind) -> String {
    match result {
        Ok(_) => panic!("no error"),
        Err(e) => {
            assert_eq!(e.kind(), kind, "{e}");
            e.to_string()
        }
    }
}

#[test]
fn encoders_that_do_not_fit_are_told() {
    let kind = ("encoder_type", "BackboneEncoder");
    let d = starter().config().style_dim;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encoder.safetensors");
    type Change<'a> = &'a dyn Fn(&mut std::collections::BTreeMap<String, Tensor>);
    let open = |inputs: usize, average: Option<&[usize]>, opts: &[(&str, &str)], change: Change| {
        let mut tensors = tensors(&small(inputs), 1);
        change(&mut tensors);
        save(&path, &tensors, average, opts);
        Encoder::open(&path)
    };
    let has = |text: String, words: &[&str]| words.iter().for_each(|word| assert!(text.contains(word), "{text} lacks {word}"));
    // Other rows than the generator's.
    let fewer = open(3, None, &[kind], &|t| t.retain(|key, _| !key.starts_with("styles.11."))).unwrap();
    let e = message(find(Some(&fewer), &face(), &Settings::default()), Kind::Mismatch);
    has(e, &["encoder.safetensors gives 11 rows", "takes 12 of"]);
    let e = message(open(3, None, &[kind], &|t| t.retain(|key, _| !key.starts_with("styles.4."))), Kind::Format);
    has(e, &["styles.5.linear.weight", "no styles.4.linear.weight"]);
    let e = message(open(3, None, &[kind], &|t| drop(t.remove("styles.4.linear.bias"))), Kind::Format);
    has(e, &["has no tensor 'state_dict.encoder.styles.4.linear.bias'"]);
    let e = message(open(3, None, &[("encoder_type", "BackboneEncoderUsingLastLayerIntoW")], &|_| ()), Kind::Format);
    has(e, &["12 of the heads"]);
    let e = message(open(3, None, &[("encoder_type", "SingleStyleCodeEncoder")], &|_| ()), Kind::Unsupported);
    has(e, &["opts.encoder_type is SingleStyleCodeEncoder", "Encoder4Editing"]);
    has(message(open(3, None, &[], &|_| ()), Kind::Unsupported), &["opts.encoder_type is missing"]);
    // What ReStyle starts from.
    has(message(open(6, None, &[kind], &|_| ()), Kind::Format), &["has no latent_avg", "ReStyle"]);
    has(message(open(3, None, &[kind, ("start_from_latent_avg", "true")], &|_| ()), Kind::Format), &["has no latent_avg"]);
    let e = message(open(6, Some(&[7, d]), &[kind], &|_| ()), Kind::Format);
    has(e, &["'latent_avg' has shape [7,", &format!("[12, {d}], [1, {d}] or [{d}]")]);
    for shape in [&[12, d][..], &[1, d], &[d]] {
        let encoder = open(6, Some(shape), &[kind], &|_| ()).unwrap();
        assert_eq!(encoder.average().unwrap().dims(), [1, 12, d]);
    }
    // Inputs.
    let e = message(open(3, None, &[kind, ("label_nc", "19")], &|_| ()), Kind::Format);
    has(e, &["takes 3 channels", "label_nc = 19"]);
    let negative = |t: &mut std::collections::BTreeMap<String, Tensor>| {
        let variance = (&t["input_layer.1.running_var"] * -1.0).unwrap();
        t.insert("input_layer.1.running_var".into(), variance);
    };
    has(message(open(3, None, &[kind], &negative), Kind::Format), &["input_layer.1.running_var' has negative values"]);
    let encoder = open(3, None, &[kind], &|_| ()).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    has(message(encoder.encode(&zeros(&[1, 6, 256, 256])), Kind::InvalidArgument), &["[1, 6, 256, 256]", "[n, 3, 256, 256]"]);
    has(message(encoder.encode(&zeros(&[3, 256, 256])), Kind::InvalidArgument), &["[3, 256, 256]"]);
    has(message(encoder.encode(&zeros(&[1, 3, 512, 512])), Kind::Mismatch), &["leaves 2 x 2 places"]);
    // A drawing for an encoder of pictures, and the other way round.
    let e = message(invert::encode_drawing(starter(), &encoder, &face(), &Cancel::new()), Kind::InvalidArgument);
    has(e, &["takes a picture"]);
    let sketches = open(1, None, &[kind], &|_| ()).unwrap();
    has(message(find(Some(&sketches), &face(), &Settings::default()), Kind::InvalidArgument), &["takes a sketch, not a picture"]);
    let e = message(find(Some(&sketches), &face(), &Settings { rounds: 0, ..Settings::default() }), Kind::InvalidArgument);
    has(e, &["rounds", "from 1 to 100"]);
}

#[test]
fn labels_are_grey_values_below_their_number() {
    let encoder = Encoder::open(&small_file("labels", 5, None, &[("encoder_type", "BackboneEncoder"), ("label_nc", "5")])).unwrap();
    assert_eq!(encoder.input(), Input::Labels(5));
    let mut labels = Picture::filled(9, 7, [3.0 / 255.0, 3.0 / 255.0, 3.0 / 255.0, 1.0]).unwrap();
    let encode = |labels: &Picture| invert::encode_drawing(starter(), &encoder, labels, &Cancel::new());
    let latent = encode(&labels).unwrap();
    assert_eq!(latent.tensor.dims()[..2], [1, starter().config().n_latent()]);
    // One part everywhere.
    let input = invert::labels_input(&labels, 5).unwrap();
    close("label 3", &input.narrow(1, 3, 1).unwrap(), &Tensor::ones((1, 1, 256, 256), DType::F32, &Device::Cpu).unwrap(), 0.0, 0.0);
    let at = (2 * 9 + 4) * 4;
    for (pixel, words) in [([23, 23, 23], "the pixel at (4, 2) is 23"), ([5, 5, 5], "is 5;"), ([9, 0, 0], "is a colour (9, 0, 0)")] {
        labels.data[at..at + 3].copy_from_slice(&pixel.map(|v: u8| f32::from(v) / 255.0));
        let e = message(encode(&labels), Kind::InvalidArgument);
        assert!(e.contains(words) && e.contains("grey values of 0 to 4"), "{e}");
    }
    let sketch = Picture::filled(9, 7, [0.0, 1.0, 0.0, 1.0]).unwrap();
    // PIL's grey of pure green: 150.
    let want = Tensor::full(150.0f32 / 255.0, (1, 1, 256, 256), &Device::Cpu).unwrap();
    close("grey of green", &invert::sketch_input(&sketch).unwrap(), &want, 0.0, 0.0);
}

/// The same through the C ABI: options that are in order, and those that are not.
#[test]
fn c_programs_encode() {
    let d = starter().config().style_dim;
    let kind = ("encoder_type", "BackboneEncoder");
    let (pictures, rounds) = (small_file("c", 3, None, &[kind]), small_file("c-rounds", 6, Some(&[d]), &[kind]));
    let fewer = small_file("c-fewer", 3, None, &[kind]);
    let mut tensors = tensors(&small(3), 1);
    tensors.retain(|key, _| !key.starts_with("styles.11."));
    save(&fewer, &tensors, None, &[kind]);
    let w = world();
    unsafe {
        let encoder = made!(nada_encoder_open(w.context, c_path(&pictures).as_ptr(), null()));
        let restyle = made!(nada_encoder_open(w.context, c_path(&rounds).as_ptr(), null()));
        let wrong = made!(nada_encoder_open(w.context, c_path(&fewer).as_ptr(), null()));
        let (status, _) = opened!(nada_encoder_open(w.context, c_path(&file("tests/data/face.png")).as_ptr(), null()));
        assert!(status == NADA_BAD_FORMAT && last().contains("face.png"), "{}", last());
        // The starter has none.
        assert!(made!(nada_model_encoder(w.model, null())).is_null());
        let with = |encoder: *const nada_encoder, change: &dyn Fn(&mut nada_inversion_options)| {
            let mut options = initialised(nada_inversion_options_init);
            (options.encoder, options.steps) = (encoder, 2);
            change(&mut options);
            let (mut latent, mut psnr) = (null_mut(), 0.0);
            let status = nada_generator_invert(w.generator, w.image, &options, null(), &mut latent, &mut psnr);
            nada_latent_free(latent);
            (status, psnr)
        };
        let (status, encoded) = with(encoder, &|_| ());
        ok(status);
        let (status, both) = with(encoder, &|o| o.method = nada_method::NADA_METHOD_BOTH as i32);
        ok(status);
        assert!(encoded > 0.0 && both >= encoded, "{both} dB after {encoded}");
        ok(with(restyle, &|o| o.rounds = 2).0);
        ok(with(restyle, &|o| ok(nada_inversion_options_set(o, c"method".as_ptr(), c"optimise".as_ptr()))).0);
        let told = |(status, _): (nada_status, f32), want: nada_status, words: &[&str]| {
            assert_eq!(status, want, "{}", last());
            words.iter().for_each(|word| assert!(last().contains(word), "{} lacks {word}", last()));
        };
        told(with(wrong, &|_| ()), NADA_MISMATCH, &["11 rows", "12"]);
        told(with(encoder, &|o| o.method = 9), NADA_INVALID_ARGUMENT, &["options.method", "9"]);
        told(with(restyle, &|o| o.rounds = 0), NADA_INVALID_ARGUMENT, &["rounds", "from 1 to 100"]);
        told(with(restyle, &|o| o.rounds = 101), NADA_INVALID_ARGUMENT, &["rounds"]);
        told(with(null(), &|o| o.method = nada_method::NADA_METHOD_ENCODE as i32), NADA_INVALID_ARGUMENT, &["encode needs an encoder"]);
        told(with(null(), &|o| o.method = nada_method::NADA_METHOD_BOTH as i32), NADA_INVALID_ARGUMENT, &["both needs an encoder"]);
        told(with(w.clip.cast(), &|_| ()), NADA_INVALID_ARGUMENT, &["options.encoder", "not a live nada_encoder"]);
        let mut options = initialised(nada_inversion_options_init);
        options.encoder = encoder;
        assert_eq!(nada_inversion_options_set(&mut options, c"method".as_ptr(), c"guess".as_ptr()), NADA_INVALID_ARGUMENT);
        ok(nada_inversion_options_set(&mut options, c"rounds".as_ptr(), c"7".as_ptr()));
        assert!(options.encoder == encoder && options.rounds == 7);
        // A program compiled before there were encoders.
        options.struct_size = std::mem::offset_of!(nada_inversion_options, encoder);
        options.method = 9;
        options.steps = 1;
        let mut latent = null_mut();
        ok(nada_generator_invert(w.generator, w.image, &options, null(), &mut latent, null_mut()));
        nada_latent_free(latent);
        [encoder, restyle, wrong].into_iter().for_each(|e| nada_encoder_free(e));
        nada_encoder_free(null_mut());
    }
}

#[test]
fn the_program_encodes() {
    let folder = here();
    let kind = ("encoder_type", "BackboneEncoder");
    let encoder = small_file("program", 3, None, &[kind]);
    let labels = small_file("program-labels", 4, None, &[kind, ("label_nc", "4")]);
    let sketches = small_file("program-sketch", 1, None, &[kind]);
    let face = data("face.png");
    let text = |path: &Path| path.to_str().unwrap().to_string();
    let encoded = json(folder.path(), &["invert", &text(&face), "--encoder", &text(&encoder), "-o", "a.latent.safetensors"]);
    assert_eq!(encoded["inversions"][0]["steps"], 1);
    let both = ["invert", &text(&face), "--encoder", &text(&encoder), "--method", "both", "--invert-steps", "3", "-o", "b.safetensors"];
    let both = json(folder.path(), &both);
    let psnr = |v: &serde_json::Value| v["inversions"][0]["psnr"].as_f64().unwrap();
    assert!(both["inversions"][0]["steps"] == 3 && psnr(&both) >= psnr(&encoded) - 0.5, "{both}");
    let grey = |name: &str, value: f32| {
        let picture = Picture::filled(20, 30, [value / 255.0, value / 255.0, value / 255.0, 1.0]).unwrap();
        picture.save(folder.path().join(name).as_path()).unwrap();
    };
    grey("parts.png", 2.0);
    let drawn = json(folder.path(), &["invert", "--labels", "parts.png", "--encoder", &text(&labels), "--sheet", "sheet.png"]);
    assert_eq!(drawn["inversions"][0]["latent"], "parts.latent.safetensors");
    assert!(folder.path().join("parts.latent.safetensors").exists() && folder.path().join("sheet.png").exists());
    json(folder.path(), &["invert", "--sketch", "parts.png", "--encoder", &text(&sketches), "-o", "sketch.npy"]);
    grey("wrong.png", 4.0);
    for (arguments, words) in [
        (&["invert", "--labels", "wrong.png", "--encoder", &text(&labels)][..], &["labels", "(0, 0) is 4", "0 to 3"][..]),
        (&["invert", "--labels", "parts.png", "--encoder", &text(&encoder)], &["--labels", "takes a picture"]),
        (&["invert", "--sketch", "parts.png", "--encoder", &text(&labels)], &["--sketch", "labels 0 to 3"]),
        (&["invert", "--sketch", "parts.png"], &["--sketch", "needs an encoder"]),
        (&["invert", &text(&face), "--encoder", &text(&labels)], &["picture", "labels 0 to 3"]),
        (&["invert", &text(&face), "--method", "encode"], &["method", "needs an encoder"]),
        (&["invert", &text(&face), "--encoder", "missing.pt"], &["missing.pt"]),
    ] {
        let out = run(folder.path(), arguments);
        let said = error(&out);
        assert_eq!(out.status.code(), Some(1), "{arguments:?}: {said}");
        words.iter().for_each(|word| assert!(said.contains(word), "{arguments:?}: {said} lacks {word}"));
    }
}

/// Damaged files are refused, or make networks that run: the fuzz target's seeds with bytes changed at random, most of them in the header.
#[test]
fn damaged_files_do_not_panic() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/encoder");
    let (mut rng, mut runs, mut refused) = (Rng::new(7), 0, 0);
    let mut below = |n: usize| ((rng.normal().abs() * 1e4) as usize) % n;
    for seed in std::fs::read_dir(seeds).unwrap() {
        let whole = std::fs::read(seed.unwrap().path()).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for round in 0..1500 {
            let mut bytes = whole.clone();
            for _ in 0..round % 4 {
                let at = if below(4) > 0 { 8 + below(header - 8) } else { below(bytes.len()) };
                // Most often a digit for a digit: other shapes and places.
                bytes[at] = if bytes[at].is_ascii_digit() { b'0' + below(10) as u8 } else { below(256) as u8 };
            }
            let encoder = checkpoint::open_bytes(Path::new("case"), bytes).and_then(|file| Encoder::from_checkpoint(&file));
            match encoder {
                Err(_) => refused += 1,
                Ok(encoder) => {
                    runs += 1;
                    let input = Tensor::zeros((1, encoder.input().channels(), 4, 4), DType::F32, &Device::Cpu).unwrap();
                    if let Ok(codes) = encoder.encode(&input) {
                        assert_eq!(codes.dims(), [1, encoder.rows(), encoder.config().style_dim]);
                    }
                }
            }
        }
    }
    // Both happened, or nothing was tried.
    assert!(runs > 1000 && refused > 200, "{runs} ran, {refused} were refused");
}

/// A generator of 32 px (8 rows of 16) beside the encoder, as trainers keep them.
#[test]
fn the_generator_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    Random { side: 32, style_dim: 16, mapping_layers: 2, channels: |_| 8, spread: 0.5 }.write(&at("generator.safetensors"));
    let generator = checkpoint::open(&at("generator.safetensors")).unwrap();
    let path = at("encoder.safetensors");
    let open = |sizes: &Sizes, average: Option<&[usize]>, kind: &str| {
        let mut all = tensors(sizes, 2);
        all.extend(generator.keys().map(|key| (format!("../decoder.{key}"), generator.tensor(key).unwrap())));
        save(&path, &all, average, &[("encoder_type", kind), ("start_from_latent_avg", "true")]);
        Encoder::open(&path)
    };
    // e4e's trainer leaves out what can be made again.
    let eight = Sizes { rows: 8, ..PYRAMID };
    let encoder = open(&eight, None, "Encoder4Editing").unwrap();
    let decoder = encoder.decoder().unwrap();
    close("average", encoder.average().unwrap(), &decoder.broadcast(&decoder.mean_w().unwrap().unsqueeze(0).unwrap()).unwrap(), 0.0, 0.0);
    let input = Rng::new(5).normals(&[1, 3, 64, 64], &Device::Cpu).unwrap();
    let codes = encoder.codes(&input, &Cancel::new()).unwrap();
    let want = encoder.encode(&input).unwrap().broadcast_add(encoder.average().unwrap()).unwrap();
    close("codes", &codes, &want, 0.0, 0.0);
    let e = message(open(&eight, None, "GradualStyleEncoder"), Kind::Format);
    assert!(e.contains("has no latent_avg"), "{e}");
    let e = message(open(&PYRAMID, None, "Encoder4Editing"), Kind::Format);
    assert!(e.contains("gives 9 rows of 16") && e.contains("takes 8 of 16"), "{e}");
    // Rows of W+ of a point of W are as many as the generator's.
    let into_w = open(&Sizes { rows: 0, ..PYRAMID }, Some(&[1, 16]), "BackboneEncoderUsingLastLayerIntoW").unwrap();
    assert_eq!((into_w.rows(), into_w.encode(&input).unwrap().dims()), (8, &[1, 8, 16][..]));
}
