//! The kernels of transformers: values against plain formulas in f64, gradients against finite differences.

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{close, data};
use nada::kernels::*;

fn random(shape: &[usize], seed: u64) -> Tensor {
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| StandardNormal.sample(&mut rng)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A loss that weighs every output differently.
fn loss(y: &Tensor) -> Tensor {
    let n = y.elem_count();
    let weights: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).cos()).collect();
    (y.flatten_all().unwrap() * Tensor::from_vec(weights, n, &Device::Cpu).unwrap()).unwrap().sum_all().unwrap()
}

/// The gradient of the loss of `f` at `x` against central differences, summed in f64. `step` is for inputs of size 1: the difference is then
/// off by about step^2 (curvature) and 1e-7 * |loss| / step (f32), which `tolerance` covers.
fn check_gradient(name: &str, x: &Tensor, step: f32, tolerance: f64, f: impl Fn(&Tensor) -> Tensor) {
    let var = Var::from_tensor(x).unwrap();
    let gradients = loss(&f(var.as_tensor())).backward().unwrap();
    let have = gradients.get(var.as_tensor()).unwrap();
    let values = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let at = |i: usize, by: f32| {
        let mut moved = values.clone();
        moved[i] += by;
        let y = f(&Tensor::from_vec(moved, x.shape(), &Device::Cpu).unwrap());
        let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        y.iter().enumerate().map(|(i, y)| *y as f64 * ((i as f32 * 0.7).cos() as f64)).sum::<f64>()
    };
    let want: Vec<f64> = (0..values.len()).map(|i| (at(i, step) - at(i, -step)) / (2.0 * step as f64)).collect();
    let want = Tensor::from_vec(want, x.shape(), &Device::Cpu).unwrap();
    close(name, &have.to_dtype(DType::F64).unwrap(), &want, tolerance, tolerance);
}

fn f64s(t: &Tensor) -> Tensor {
    t.to_dtype(DType::F64).unwrap()
}

#[test]
fn linear_values_and_gradients() {
    let (x, w, b) = (random(&[2, 3, 5], 1), random(&[4, 5], 2), random(&[4], 3));
    let want = f64s(&x).broadcast_matmul(&f64s(&w).t().unwrap()).unwrap().broadcast_add(&f64s(&b)).unwrap();
    close("linear", &f64s(&linear(&x, &w, Some(&b)).unwrap()), &want, 1e-5, 1e-5);
    check_gradient("linear dx", &x, 1e-2, 1e-3, |x| linear(x, &w, Some(&b)).unwrap());
    check_gradient("linear dx without bias", &x, 1e-2, 1e-3, |x| linear(x, &w, None).unwrap());
    check_gradient("linear dw", &w, 1e-2, 1e-3, |w| linear(&x, w, Some(&b)).unwrap());
    check_gradient("linear db", &b, 1e-2, 1e-3, |b| linear(&x, &w, Some(b)).unwrap());
    // A transposed view is a legal argument.
    let turned = w.t().unwrap().contiguous().unwrap().t().unwrap();
    close("linear of a view", &linear(&x, &turned, None).unwrap(), &linear(&x, &w, None).unwrap(), 0.0, 0.0);
}

#[test]
fn frozen_weights_get_no_gradient() {
    let x = Var::from_tensor(&random(&[3, 5], 1)).unwrap();
    let (w, b) = (random(&[4, 5], 2), random(&[4], 3));
    let gradients = loss(&linear(x.as_tensor(), &w, Some(&b)).unwrap()).backward().unwrap();
    assert!(gradients.get(x.as_tensor()).is_some() && gradients.get(&w).is_none() && gradients.get(&b).is_none());
}

#[test]
fn layer_norm_values_and_gradients() {
    let (x, gamma, beta) = (random(&[3, 37], 4), random(&[37], 5), random(&[37], 6));
    // A mean far from 0, as residual streams have.
    let x = (x + 20.0).unwrap();
    let wide = f64s(&x);
    let centred = wide.broadcast_sub(&wide.mean_keepdim(1).unwrap()).unwrap();
    let variance = centred.sqr().unwrap().mean_keepdim(1).unwrap();
    let normed = centred.broadcast_div(&(variance + 1e-5).unwrap().sqrt().unwrap()).unwrap();
    let want = normed.broadcast_mul(&f64s(&gamma)).unwrap().broadcast_add(&f64s(&beta)).unwrap();
    close("layer_norm", &f64s(&layer_norm(&x, &gamma, &beta, 1e-5).unwrap()), &want, 1e-5, 1e-5);
    let x = (x - 20.0).unwrap();
    check_gradient("layer_norm dx", &x, 1e-2, 2e-3, |x| layer_norm(x, &gamma, &beta, 1e-5).unwrap());
    let tracked = Var::from_tensor(&gamma).unwrap();
    assert!(layer_norm(&x, tracked.as_tensor(), &beta, 1e-5).is_err());
}

#[test]
fn activations_values_and_gradients() {
    let values: Vec<f32> = (-4000..=4000).map(|i| i as f32 * 0.002_5).collect();
    let x = Tensor::from_vec(values.clone(), values.len(), &Device::Cpu).unwrap();
    let quick = quick_gelu(&x).unwrap().to_vec1::<f32>().unwrap();
    let exact = f64s(&x).gelu_erf().unwrap().to_vec1::<f64>().unwrap();
    let smooth = gelu(&x).unwrap().to_vec1::<f32>().unwrap();
    // candle's own, in f64.
    let near = f64s(&x).gelu().unwrap().to_vec1::<f64>().unwrap();
    let tanh = gelu_tanh(&x).unwrap().to_vec1::<f32>().unwrap();
    for (i, &v) in values.iter().enumerate() {
        let v = v as f64;
        let want = v / (1.0 + (-1.702 * v).exp());
        // exp's argument is rounded to f32 first: up to 17 * 6e-8 more for the largest.
        assert!((quick[i] as f64 - want).abs() <= 4e-7 * want.abs() * (1.0 + v.abs()), "quick_gelu({v}) = {} for {want}", quick[i]);
        assert!((smooth[i] as f64 - exact[i]).abs() <= 3e-7 * v.abs() + 1e-30, "gelu({v}) = {} for {}", smooth[i], exact[i]);
        assert!((tanh[i] as f64 - near[i]).abs() <= 4e-7 * v.abs() + 1e-30, "gelu_tanh({v}) = {} for {}", tanh[i], near[i]);
    }
    let x = (random(&[67], 7) * 2.0).unwrap();
    check_gradient("quick_gelu", &x, 1e-2, 1e-3, |x| quick_gelu(x).unwrap());
    check_gradient("gelu", &x, 1e-2, 1e-3, |x| gelu(x).unwrap());
    check_gradient("gelu_tanh", &x, 1e-2, 1e-3, |x| gelu_tanh(x).unwrap());
}

/// The same in f64, step by step.
fn plain_attention(qkv: &Tensor, heads: usize, causal: bool) -> Tensor {
    let (n, t, packed) = qkv.dims3().unwrap();
    let d = packed / 3;
    let qkv = f64s(qkv).reshape((n, t, 3, heads, d / heads)).unwrap().permute((2, 0, 3, 1, 4)).unwrap();
    let part = |i: usize| qkv.get(i).unwrap().contiguous().unwrap();
    let mut s = (part(0).matmul(&part(1).transpose(2, 3).unwrap().contiguous().unwrap()).unwrap() / ((d / heads) as f64).sqrt()).unwrap();
    if causal {
        let mask: Vec<f64> = (0..t * t).map(|i| if i % t > i / t { -1e9 } else { 0.0 }).collect();
        s = s.broadcast_add(&Tensor::from_vec(mask, (t, t), &Device::Cpu).unwrap()).unwrap();
    }
    let e = s.broadcast_sub(&s.max_keepdim(3).unwrap()).unwrap().exp().unwrap();
    let p = e.broadcast_div(&e.sum_keepdim(3).unwrap()).unwrap();
    p.matmul(&part(2)).unwrap().transpose(1, 2).unwrap().reshape((n, t, d)).unwrap()
}

#[test]
fn attention_values_and_gradients() {
    for causal in [false, true] {
        let qkv = random(&[2, 19, 3 * 12], 8);
        let want = plain_attention(&qkv, 3, causal);
        close("attention", &f64s(&attention(&qkv, 3, causal).unwrap()), &want, 1e-5, 1e-5);
        let qkv = random(&[2, 5, 3 * 4], 9);
        check_gradient("attention dqkv", &qkv, 1e-2, 2e-3, |qkv| attention(qkv, 2, causal).unwrap());
    }
    assert!(attention(&random(&[1, 2, 10], 1), 3, false).is_err());
}

fn block(d: usize, hidden: usize, heads: usize, causal: bool, activation: Activation) -> (Block, BlockWeights) {
    let pair = |outputs: usize, inputs: usize, seed| {
        ((random(&[outputs, inputs], seed) / (inputs as f64).sqrt()).unwrap(), random(&[outputs], seed + 1))
    };
    let norm = |seed| (random(&[d], seed), random(&[d], seed + 1));
    let weights = BlockWeights {
        norm1: norm(10),
        qkv: pair(3 * d, d, 20),
        out: pair(d, d, 30),
        norm2: norm(40),
        up: pair(hidden, d, 50),
        down: pair(d, hidden, 60),
    };
    (Block::new(&weights, heads, causal, activation, 1e-5).unwrap(), weights)
}

/// The block as a chain of the single operations.
fn plain_block(x: &Tensor, w: &BlockWeights, heads: usize, causal: bool, activation: Activation) -> Tensor {
    let dense = |x: &Tensor, (w, b): &(Tensor, Tensor)| linear(x, w, Some(b)).unwrap();
    let norm = |x: &Tensor, (g, b): &(Tensor, Tensor)| layer_norm(x, g, b, 1e-5).unwrap();
    let x = (x + dense(&attention(&dense(&norm(x, &w.norm1), &w.qkv), heads, causal).unwrap(), &w.out)).unwrap();
    let h = dense(&norm(&x, &w.norm2), &w.up);
    let h = if activation == Activation::Gelu { gelu(&h) } else { quick_gelu(&h) }.unwrap();
    (&x + dense(&h, &w.down)).unwrap()
}

#[test]
fn block_is_the_chain_of_its_parts() {
    // Batches that threads share evenly, that they do not, and a single one.
    for (n, causal, activation) in [(4, false, Activation::QuickGelu), (3, true, Activation::Gelu), (1, true, Activation::QuickGelu)] {
        let (block, weights) = block(12, 20, 3, causal, activation);
        let x = Var::from_tensor(&random(&[n, 7, 12], 70)).unwrap();
        let x = x.as_tensor();
        let (have, want) = (block.forward(x).unwrap(), plain_block(x, &weights, 3, causal, activation));
        close("block", &have, &want, 1e-5, 1e-5);
        let gradient = |y: &Tensor| loss(y).backward().unwrap().get(x).unwrap().clone();
        close("block dx", &gradient(&have), &gradient(&want), 1e-4, 1e-4);
        // Once more through what the first way back used up.
        close("block dx again", &gradient(&have), &gradient(&have), 0.0, 0.0);
        let (have, want) = (block.first(x, 2).unwrap(), want.narrow(1, 0, 2).unwrap());
        close("block, first tokens", &have, &want, 1e-5, 1e-5);
        close("block, first tokens, dx", &gradient(&have), &gradient(&want), 1e-4, 1e-4);
    }
}

#[test]
fn patches_are_a_convolution() {
    let (x, w) = (random(&[2, 3, 11, 8], 11), random(&[5, 3, 4, 4], 12));
    let (class, position) = (random(&[5], 14), random(&[5, 5], 15));
    let (gamma, beta) = (random(&[5], 16), random(&[5], 17));
    let embedding = |norm| PatchEmbedding::new(&EmbedWeights { convolution: &w, class: &class, position: &position, norm }).unwrap();
    let plain = embedding(None);
    let want = x.conv2d(&w, 0, 4, 1, 1).unwrap();
    close("patches", &plain.convolution(&x).unwrap(), &want, 1e-5, 1e-5);
    let tokens = want.flatten_from(2).unwrap().transpose(1, 2).unwrap();
    let classes = class.reshape((1, 1, 5)).unwrap().repeat((2, 1, 1)).unwrap();
    let want = Tensor::cat(&[&classes, &tokens], 1).unwrap().broadcast_add(&position).unwrap();
    close("patch embedding", &plain.forward(&x).unwrap(), &want, 1e-5, 1e-5);
    check_gradient("patch embedding dx", &x, 0.5, 1e-5, |x| plain.forward(x).unwrap());
    let normed = embedding(Some((&gamma, &beta, 1e-5)));
    let want = layer_norm(&want, &gamma, &beta, 1e-5).unwrap();
    close("normalised patch embedding", &normed.forward(&x).unwrap(), &want, 1e-5, 1e-5);
    check_gradient("normalised patch embedding dx", &x, 1e-2, 1e-3, |x| normed.forward(x).unwrap());
    // Once more through what the first way back used up.
    let var = Var::from_tensor(&x).unwrap();
    let y = loss(&normed.forward(var.as_tensor()).unwrap());
    let gradient = || y.backward().unwrap().get(var.as_tensor()).unwrap().clone();
    close("patch embedding dx again", &gradient(), &gradient(), 0.0, 0.0);
    assert!(plain.forward(&random(&[1, 3, 12, 12], 1)).is_err() && plain.forward(&random(&[1, 2, 11, 8], 1)).is_err());
}

/// Against candle's own in f64: kernels that are taken as products and others, strides that leave a rest, no square.
#[test]
fn conv2d_values_and_gradients() {
    for ((kh, kw), stride, padding) in [((3, 3), 1, 1), ((3, 3), 2, 1), ((1, 1), 1, 0), ((1, 1), 2, 0), ((4, 4), 4, 0), ((2, 3), 3, 2)] {
        let (x, w) = (random(&[2, 3, 7, 9], 21), random(&[5, 3, kh, kw], 22));
        let name = format!("conv2d {kh} x {kw}, stride {stride}, padding {padding}");
        let want = f64s(&x).conv2d(&f64s(&w), padding, stride, 1, 1).unwrap();
        close(&name, &f64s(&conv2d(&x, &w, stride, padding).unwrap()), &want, 1e-5, 1e-5);
        // Linear in either: a large step has no error but rounding.
        check_gradient(&format!("{name}, dx"), &x, 0.5, 1e-4, |x| conv2d(x, &w, stride, padding).unwrap());
        check_gradient(&format!("{name}, dw"), &w, 0.5, 1e-4, |w| conv2d(&x, w, stride, padding).unwrap());
    }
    let frozen = Var::from_tensor(&random(&[1, 3, 5, 5], 23)).unwrap();
    let w = random(&[2, 3, 3, 3], 24);
    let gradients = loss(&conv2d(frozen.as_tensor(), &w, 1, 1).unwrap()).backward().unwrap();
    assert!(gradients.get(frozen.as_tensor()).is_some() && gradients.get(&w).is_none());
    assert!(conv2d(&random(&[1, 2, 5, 5], 1), &w, 1, 1).is_err());
}

#[test]
fn resize_gradients() {
    // Linear in x: a large step has no error but rounding.
    for filter in [Filter::BicubicAntialias, Filter::Bicubic, Filter::BilinearAntialias, Filter::Bilinear, Filter::Area] {
        for (height, width) in [(5, 7), (13, 20)] {
            let x = random(&[2, 2, 9, 11], 16);
            let crop = (1..height - 1, 0..width - 2);
            check_gradient(&format!("{filter:?}"), &x, 0.5, 1e-4, |x| resize(x, (height, width), crop.clone(), filter).unwrap());
        }
    }
}

#[test]
fn area_is_the_mean_of_blocks() {
    let x = random(&[1, 2, 8, 12], 17);
    close("area", &resize(&x, (4, 6), (0..4, 0..6), Filter::Area).unwrap(), &x.avg_pool2d(2).unwrap(), 1e-6, 1e-6);
}

#[test]
fn affine_sample_is_torchs() {
    let file = candle_core::safetensors::load(data("affine_sample.safetensors"), &Device::Cpu).unwrap();
    let theta = file["theta"].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let x = Var::from_tensor(&file["x"]).unwrap();
    let y = affine_sample(x.as_tensor(), &theta).unwrap();
    // Coordinates up to 30 px in f32 carry 2e-6 px.
    close("affine_sample", &y, &file["y"], 2e-5, 0.0);
    let weights: Vec<f32> = (0..y.elem_count()).map(|i| (i as f32).cos()).collect();
    let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu).unwrap();
    let gradients = (y * weights).unwrap().sum_all().unwrap().backward().unwrap();
    close("affine_sample dx", gradients.get(x.as_tensor()).unwrap(), &file["gradient"], 2e-5, 0.0);
    assert!(affine_sample(x.as_tensor(), &theta[1..]).is_err());
}

#[test]
fn channel_affine_gradient() {
    let x = random(&[2, 3, 4, 5], 18);
    let (scale, shift) = ([2.0, -0.5, 3.0], [0.25, 1.0, -2.0]);
    let by = |v: [f32; 3]| Tensor::new(&v, &Device::Cpu).unwrap().reshape((1, 3, 1, 1)).unwrap();
    let want = x.broadcast_mul(&by(scale)).unwrap().broadcast_add(&by(shift)).unwrap();
    close("channel_affine", &channel_affine(&x, &scale, &shift).unwrap(), &want, 1e-6, 1e-6);
    check_gradient("channel_affine dx", &x, 0.5, 1e-5, |x| channel_affine(x, &scale, &shift).unwrap());
}
