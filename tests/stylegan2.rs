//! The generator against outputs, layer by layer, and gradients of the published PyTorch port.

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::random_generator::Random;
use common::{check_gradient, close, reference};
use nada::checkpoint;
use nada::kernels::{bias_act, upfirdn2d, UpFirDn};
use nada::nn::generator::{Generator, Latent, Noise, Space};
use nada::rng::Rng;
use std::collections::BTreeMap;

/// The README of the reference data: 5e-5 on pictures in about +-6.4 (float32 against float64 differ by 7.2e-6).
const ATOL: f64 = 5e-5;

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn every_layer_and_input_form_agrees() {
    let dir = reference();
    let g = Generator::open(&dir.join("stylegan2_rosinality/tiny64.pt")).unwrap();
    assert_eq!((g.config().size(), g.config().style_dim, g.config().n_mlp, g.config().n_latent()), (64, 64, 4, 10));
    let want = checkpoint::open(&dir.join("stylegan2_rosinality/expected.safetensors")).unwrap();
    let get = |k: &str| want.f32(k, None).unwrap();
    let (z, z2) = (get("z"), get("z2"));
    let mut seen = 0;
    let mut compare = |name: &str, have: &Tensor| {
        if want.contains(name) {
            // Large layers keep the first sample only.
            let w = get(name);
            close(name, &have.narrow(0, 0, w.dim(0).unwrap()).unwrap(), &w, ATOL, 1e-5);
            seen += 1;
        }
    };
    // The file has the names that its own code has.
    let w = g.map_traced(&z, &mut |name, x| compare(&name.replace("map.", "map.style."), x)).unwrap();
    let wplus = g.broadcast(&w).unwrap();
    let image = g.synthesize_traced(&wplus, Noise::Const, &mut compare).unwrap();
    compare("w", &w);
    compare("w2", &g.map(&z2).unwrap());
    compare("image", &image);
    compare("image_f64", &image);
    compare("image_from_w", &g.render(&Latent { space: Space::W, tensor: get("w"), noise: None }, 1.0, Noise::Const).unwrap());
    let from_z = |t: f32| g.render(&Latent { space: Space::Z, tensor: z.clone(), noise: None }, t, Noise::Const).unwrap();
    compare("image_trunc07", &from_z(0.7));
    compare("image_trunc00", &from_z(0.0));
    for k in [1, 4, 7] {
        let mixed = g.mix(&wplus, &g.broadcast(&g.map(&z2).unwrap()).unwrap(), k).unwrap();
        compare(&format!("latent_mix{k}"), &mixed);
        compare(&format!("image_mix{k}"), &g.synthesize(&mixed, Noise::Const).unwrap());
    }
    compare("image_wplus", &g.synthesize(&get("wplus"), Noise::Const).unwrap());
    compare("image_zero_noise", &g.synthesize(&wplus, Noise::None).unwrap());
    let noise: Vec<Tensor> = (0..9).map(|i| get(&format!("ext_noise.{i}"))).collect();
    compare("image_ext_noise", &g.synthesize(&wplus, Noise::Given(&noise)).unwrap());
    let styles = g.styles(&wplus).unwrap();
    compare("image", &g.synthesize_styles(&styles, Noise::Const).unwrap());
    // Every layer, mapping module, style and picture that the file has (inputs are not outputs).
    let inputs =
        want.keys().filter(|k| ["z", "z2", "wplus", "latent_avg", "latent_wplus"].contains(k) || k.starts_with("ext_noise")).count();
    assert_eq!(seen, want.keys().count() - inputs + 1, "image is compared twice, everything else once");
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn gradients_of_every_parameter_and_of_wplus_agree() {
    let dir = reference();
    let base = Generator::open(&dir.join("stylegan2_rosinality/tiny64.pt")).unwrap();
    let want = checkpoint::open(&dir.join("stylegan2_rosinality/expected_grads.safetensors")).unwrap();
    let expected = checkpoint::open(&dir.join("stylegan2_rosinality/expected.safetensors")).unwrap();
    let wplus = Var::from_tensor(&expected.f32("wplus", None).unwrap()).unwrap();
    let vars: BTreeMap<String, Var> = base.weights().iter().map(|(k, t)| (k.clone(), Var::from_tensor(t).unwrap())).collect();
    let g = base.replacing(vars.iter().map(|(k, v)| (k.clone(), v.as_tensor().clone())).collect(), BTreeMap::new()).unwrap();
    let image = g.synthesize(wplus.as_tensor(), Noise::Const).unwrap();
    let loss = image.sqr().unwrap().mean_all().unwrap();
    let grads = loss.backward().unwrap();
    let mut seen = 0;
    for key in want.keys() {
        if key == "loss_mean_sq" {
            close(key, &loss.reshape(1).unwrap(), &want.f32(key, None).unwrap(), 0.0, 1e-5);
            seen += 1;
            continue;
        }
        let name = key.trim_start_matches("grad.");
        let grad = match name {
            k if k.contains("wplus") => grads.get(wplus.as_tensor()).unwrap().clone(),
            k => match vars.get(k) {
                Some(v) => grads.get(v.as_tensor()).cloned().unwrap_or_else(|| v.as_tensor().zeros_like().unwrap()),
                None => panic!("{k} is no parameter"),
            },
        };
        let w = want.f32(key, None).unwrap();
        let scale = w.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap() as f64;
        // Sums over up to 64 * 64 pixels in another order: 1e-4 of the tensor's largest gradient.
        close(key, &grad, &w, 1e-4 * scale + 1e-9, 1e-3);
        seen += 1;
    }
    assert_eq!(seen, want.keys().count(), "every gradient of the file is compared");
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn upfirdn_cases_and_their_gradients_agree() {
    let dir = reference();
    let file = checkpoint::open(&dir.join("stylegan2_rosinality/ops.safetensors")).unwrap();
    let cases: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("stylegan2_rosinality/ops.json")).unwrap()).unwrap();
    let get = |k: &str| file.f32(k, None).unwrap();
    for (i, case) in cases.as_object().unwrap() {
        let pad: Vec<isize> = case["pad"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap() as isize).collect();
        let kernel = get(case["kernel"].as_str().unwrap());
        let how = UpFirDn {
            kernel_size: kernel.dims2().unwrap(),
            kernel: kernel.flatten_all().unwrap().to_vec1().unwrap(),
            up: case["up"].as_u64().unwrap() as usize,
            down: case["down"].as_u64().unwrap() as usize,
            pad: if pad.len() == 4 { [pad[0], pad[1], pad[2], pad[3]] } else { [pad[0], pad[1], pad[0], pad[1]] },
        };
        let x = Var::from_tensor(&get("x")).unwrap();
        let y = upfirdn2d(x.as_tensor(), &how).unwrap();
        close(&format!("y of case {i}"), &y, &get(&format!("y{i}")), 1e-5, 1e-5);
        let cos: Vec<f32> = (0..y.elem_count()).map(|i| (i as f32).cos()).collect();
        let loss = (&y * Tensor::from_vec(cos, y.dims(), &Device::Cpu).unwrap()).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        close(&format!("dx of case {i}"), grads.get(x.as_tensor()).unwrap(), &get(&format!("dx{i}")), 2e-5, 1e-5);
    }
    let y = bias_act(&get("x"), &get("bias")).unwrap();
    close("fused_leaky_relu", &y, &get("fused_leaky_relu"), 1e-6, 1e-6);
}

fn var(shape: &[usize], rng: &mut Rng) -> Var {
    Var::from_tensor(&rng.normals(shape, &Device::Cpu).unwrap()).unwrap()
}

/// The synthesis network in f64 from candle's own operations, which know their gradients. `noise` by convolution.
fn by_definition(g: &Generator, get: &dyn Fn(&str) -> Tensor, styles: &[Tensor], noise: &[Tensor]) -> Tensor {
    let n = styles[0].dim(0).unwrap();
    let clamp = |x: Tensor| g.config().conv_clamp.map_or(x.clone(), |most| x.clamp(-most, most).unwrap());
    let turned = |w: &Tensor| {
        let back = Tensor::new(&[2u32, 1, 0], &Device::Cpu).unwrap();
        w.index_select(&back, 2).unwrap().index_select(&back, 3).unwrap()
    };
    // Zeros between the pixels, and behind the last.
    let spread = |x: &Tensor| {
        let (n, c, h, w) = x.dims4().unwrap();
        let x = x.reshape((n, c, h, 1, w, 1)).unwrap();
        let wide = Tensor::cat(&[&x, &x.zeros_like().unwrap()], 5).unwrap();
        Tensor::cat(&[&wide, &wide.zeros_like().unwrap()], 3).unwrap().reshape((n, c, 2 * h, 2 * w)).unwrap()
    };
    let blur = |x: &Tensor, before: usize, after: usize| {
        let (n, c, h, w) = x.dims4().unwrap();
        let k: Vec<f64> = (0..16).map(|i| [1.0, 3.0, 3.0, 1.0][i / 4] * [1.0, 3.0, 3.0, 1.0][i % 4] / 16.0).collect();
        let k = Tensor::from_vec(k, (1, 1, 4, 4), &Device::Cpu).unwrap();
        let x = x.pad_with_zeros(2, before, after).unwrap().pad_with_zeros(3, before, after).unwrap();
        let y = x.reshape((n * c, 1, h + before + after, w + before + after)).unwrap().conv2d(&k, 0, 1, 1, 1).unwrap();
        let (_, _, h, w) = y.dims4().unwrap();
        y.reshape((n, c, h, w)).unwrap()
    };
    let constant = get("input.input");
    let (_, c, h, w) = constant.dims4().unwrap();
    let mut x = constant.broadcast_as((n, c, h, w)).unwrap().contiguous().unwrap();
    let mut image: Option<Tensor> = None;
    for (layer, s) in g.config().styled().zip(styles) {
        let name = &layer.name;
        let w = get(&format!("{name}.conv.weight")).squeeze(0).unwrap();
        let (o, c, k, _) = w.dims4().unwrap();
        let w = (w * (1.0 / ((c * k * k) as f64).sqrt())).unwrap();
        let scaled = x.broadcast_mul(&s.reshape((n, c, 1, 1)).unwrap()).unwrap();
        if layer.kind == nada::nn::generator::Kind::ToRgb {
            let y = scaled.conv2d(&w, 0, 1, 1, 1).unwrap().broadcast_add(&get(&format!("{name}.bias"))).unwrap();
            let y = clamp(y);
            image = Some(image.map_or(y.clone(), |skip| (y + blur(&spread(&skip), 2, 1)).unwrap()));
            continue;
        }
        let y = match layer.from.height == layer.to.height {
            true => scaled.conv2d(&w, 1, 1, 1, 1).unwrap(),
            // Of the transposed convolution the last row and column are zeros behind the last pixel's.
            false => {
                let (_, _, h, w2) = x.dims4().unwrap();
                let wide = spread(&scaled).narrow(2, 0, 2 * h - 1).unwrap().narrow(3, 0, 2 * w2 - 1).unwrap();
                blur(&wide.contiguous().unwrap().conv2d(&turned(&w), 2, 1, 1, 1).unwrap(), 1, 1)
            }
        };
        let energy = w.sqr().unwrap().sum((2, 3)).unwrap();
        let d = (s.sqr().unwrap().matmul(&energy.t().unwrap()).unwrap() + 1e-8).unwrap().powf(-0.5).unwrap();
        let added = noise[layer.index].broadcast_mul(&get(&format!("{name}.noise.weight"))).unwrap();
        let y = y.broadcast_mul(&d.reshape((n, o, 1, 1)).unwrap()).unwrap().broadcast_add(&added).unwrap();
        let y = y.broadcast_add(&get(&format!("{name}.activate.bias")).reshape((1, o, 1, 1)).unwrap()).unwrap();
        x = clamp((y.maximum(&(&y * 0.2).unwrap()).unwrap() * 2f64.sqrt()).unwrap());
    }
    image.unwrap()
}

/// Channels that fill no vector and channels for every way of convolving, clamped and not, noise maps for each picture and for all: picture
/// and gradients are those of the definition in f64.
#[test]
fn the_synthesis_network_and_its_gradients_are_the_definition() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(3);
    for (channels, clamp) in [((|side| 1 + side / 4) as fn(usize) -> usize, None), (|side| 128 / side + 28, None), (|_| 48, Some(1.5))] {
        let file = folder.path().join("g.safetensors");
        Random { side: 32, style_dim: 4, mapping_layers: 1, channels, spread: 1.0 }.write(&file);
        if let Some(clamp) = clamp {
            let read = checkpoint::open(&file).unwrap();
            let tensors = read.keys().map(|key| (key.to_string(), read.f32(key, None).unwrap())).collect();
            checkpoint::save_safetensors(&file, &tensors, &BTreeMap::from([("conv_clamp".to_string(), f64::to_string(&clamp))])).unwrap();
        }
        let g = Generator::open(&file).unwrap();
        let drawn = |key: &str| !key.starts_with("style.") && !key.contains("modulation");
        let weights: BTreeMap<&str, Var> =
            g.weights().iter().filter(|(k, _)| drawn(k)).map(|(k, t)| (&**k, Var::from_tensor(t).unwrap())).collect();
        let styles: Vec<Var> = g.config().styled().map(|l| var(&[2, l.style_channels()], &mut rng)).collect();
        for maps in [2, 1] {
            let noise: Vec<Var> = g.noise_maps().iter().map(|m| var(&[maps, 1, m.dim(2).unwrap(), m.dim(3).unwrap()], &mut rng)).collect();
            let plain = |vars: &[Var]| vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>();
            let wide = |vars: &[Var]| vars.iter().map(|v| v.to_dtype(DType::F64).unwrap()).collect::<Vec<_>>();
            let replaced = weights.iter().map(|(k, v)| (k.to_string(), v.as_tensor().clone())).collect();
            let have =
                g.replacing(replaced, BTreeMap::new()).unwrap().synthesize_styles(&plain(&styles), Noise::Given(&plain(&noise))).unwrap();
            let get = |key: &str| weights[key].to_dtype(DType::F64).unwrap();
            let want = by_definition(&g, &get, &wide(&styles), &wide(&noise));
            let relative = |name: &str, have: &Tensor, want: &Tensor| {
                let want = want.to_dtype(DType::F64).unwrap();
                let most = |t: &Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
                let error = most(&(have.to_dtype(DType::F64).unwrap() - &want).unwrap());
                // Winograd's error through five resolutions, in f32; where a number passes the activation's kink on its way its gradient jumps.
                assert!(
                    most(&want) > 1e-3 && error < 2e-4 * most(&want),
                    "{name}, {maps} maps, clamp {clamp:?}: {error:e} of {:e}",
                    most(&want)
                );
            };
            relative("picture", &have, &want);
            let cos: Vec<f64> = (0..have.elem_count()).map(|i| (i as f64 * 0.7).cos()).collect();
            let cos = Tensor::from_vec(cos, have.dims(), &Device::Cpu).unwrap();
            let of_have = (have * cos.to_dtype(DType::F32).unwrap()).unwrap().sum_all().unwrap().backward().unwrap();
            let of_want = (want * cos).unwrap().sum_all().unwrap().backward().unwrap();
            let named = weights.iter().map(|(k, v)| (k.to_string(), v));
            let named = named.chain(styles.iter().enumerate().map(|(i, v)| (format!("style {i}"), v)));
            for (name, v) in named.chain(noise.iter().enumerate().map(|(i, v)| (format!("noise {i}"), v))) {
                relative(&name, of_have.get(v.as_tensor()).unwrap(), of_want.get(v.as_tensor()).unwrap());
            }
        }
    }
}

/// The way back uses up what was kept; a second one computes it anew.
#[test]
fn gradients_can_be_asked_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.safetensors");
    Random { side: 32, style_dim: 4, mapping_layers: 1, channels: |_| 6, spread: 1.0 }.write(&file);
    let g = Generator::open(&file).unwrap();
    let wplus = var(&[1, g.config().n_latent(), 4], &mut Rng::new(1));
    let loss = g.synthesize(wplus.as_tensor(), Noise::Const).unwrap().sqr().unwrap().sum_all().unwrap();
    let of = || loss.backward().unwrap().get(wplus.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let first = of();
    assert!(first.iter().any(|v| v.abs() > 1e-3));
    assert_eq!(first, of());
}

#[test]
fn bias_activation_has_the_gradient_of_its_differences() {
    let mut rng = Rng::new(4);
    let (x, b) = (var(&[2, 3, 4, 5], &mut rng), var(&[3], &mut rng));
    for (name, v) in [("x", &x), ("bias", &b)] {
        // Squared, it has no kink.
        check_gradient(name, v, &|| bias_act(x.as_tensor(), b.as_tensor()).unwrap().sqr().unwrap());
    }
}
