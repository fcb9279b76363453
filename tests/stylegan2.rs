//! The generator against outputs, layer by layer, and gradients of the published PyTorch port.

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{check_gradient, close, reference};
use nada::checkpoint;
use nada::kernels::{bias_act, modulated_conv2d, upfirdn2d, Modulated, UpFirDn};
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
    let still = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let y = bias_act(&get("x"), &get("bias"), &still, None).unwrap();
    close("fused_leaky_relu", &y, &get("fused_leaky_relu"), 1e-6, 1e-6);
}

fn var(shape: &[usize], rng: &mut Rng) -> Var {
    Var::from_tensor(&rng.normals(shape, &Device::Cpu).unwrap()).unwrap()
}

#[test]
fn modulated_convolutions_have_the_gradients_of_their_differences() {
    let mut rng = Rng::new(3);
    for (k, up, demodulate) in [
        (3, None, true),
        (3, Some([0.25f32, 0.75, 0.75, 0.25]), true),
        (3, Some([0.1, 0.9, 0.6, 0.4]), false),
        (1, None, false),
        (1, None, true),
    ] {
        // Odd sizes and counts that fill no vector.
        let (x, s, w) = (var(&[2, 5, 6, 7], &mut rng), var(&[2, 5], &mut rng), var(&[3, 5, k, k], &mut rng));
        let how = Modulated { up, demodulate, scale: 0.3 };
        let f = || modulated_conv2d(x.as_tensor(), s.as_tensor(), w.as_tensor(), how).unwrap();
        for (name, v) in [("x", &x), ("s", &s), ("w", &w)] {
            check_gradient(&format!("k {k}, up {up:?}, demodulate {demodulate}: {name}"), v, &f);
        }
    }
}

#[test]
fn noise_bias_activation_has_the_gradient_of_its_differences() {
    let mut rng = Rng::new(4);
    let (x, b, s) = (var(&[2, 3, 4, 5], &mut rng), var(&[3], &mut rng), var(&[1], &mut rng));
    // A map for each sample, and one for all.
    for maps in [2, 1] {
        let noise = var(&[maps, 1, 4, 5], &mut rng);
        // Squared, it has no kink.
        let of = |noise: &Tensor| bias_act(x.as_tensor(), b.as_tensor(), s.as_tensor(), Some(noise)).unwrap().sqr().unwrap();
        for (name, v) in [("x", &x), ("bias", &b), ("strength", &s)] {
            check_gradient(&format!("{name}, {maps} maps"), v, &|| of(&noise.as_detached_tensor()));
            check_gradient(&format!("{name}, {maps} maps that are tracked"), v, &|| of(noise.as_tensor()));
        }
        check_gradient(&format!("noise, {maps} maps"), &noise, &|| of(noise.as_tensor()));
        // The two ways draw the same.
        close("tracked noise", &of(noise.as_tensor()), &of(&noise.as_detached_tensor()), 1e-6, 1e-6);
    }
}
