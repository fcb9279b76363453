//! Preprocessing against PIL and torchvision.

mod common;

use candle_core::{Device, Tensor};
use common::{close, reference};
use nada::kernels::resize_rgb8;
use nada::nn::clip::{ClipResize, Preprocessing};
use std::collections::HashMap;

fn expected() -> Option<HashMap<String, Tensor>> {
    Some(candle_core::safetensors::load(reference()?.join("clip/preprocess.safetensors"), &Device::Cpu).unwrap())
}

#[test]
fn pictures_as_published() {
    let Some(expected) = expected() else { return };
    let pixels = expected["input_u8"].flatten_all().unwrap().to_vec1::<u8>().unwrap();
    for (r, width) in [(64, 85), (224, 298)] {
        let want = expected[&format!("resized_u8_{r}")].flatten_all().unwrap().to_vec1::<u8>().unwrap();
        assert!(resize_rgb8(&pixels, (150, 200), (r, width)) == want, "resized_u8_{r}");
        let have = Preprocessing::openai(r).rgb8(&pixels, 200, 150).unwrap();
        // The bytes are equal; what is left is rounding of (x - mean) / std.
        close(&format!("official_{r}"), &have.squeeze(0).unwrap(), &expected[&format!("official_{r}")], 2e-6, 0.0);
    }
    let error = Preprocessing::openai(64).rgb8(&pixels[1..], 200, 150).unwrap_err();
    assert!(error.to_string().contains("200 x 150"), "{error}");
}

#[test]
fn generated_pictures_as_published() {
    let Some(expected) = expected() else { return };
    let preprocessing = Preprocessing::openai(64);
    let mut cases = 0;
    for (name, input) in expected.iter().filter_map(|(name, x)| Some((name.strip_prefix("nada_in_")?, x))) {
        for (how, antialias) in [(ClipResize::Aliased, 0), (ClipResize::Antialias, 1)] {
            let have = preprocessing.tensor(input, how).unwrap();
            // Sums of up to 16 x 16 products in f32, in another order than torch's.
            close(&format!("{name}, antialias {antialias}"), &have, &expected[&format!("nada_out_{name}_antialias{antialias}")], 1e-5, 0.0);
            cases += 1;
        }
    }
    assert_eq!(cases, 8);
}

#[test]
fn odd_sizes() {
    let preprocessing = Preprocessing::openai(8);
    for (h, w) in [(1, 1), (1, 3), (500, 9), (8, 8)] {
        let ones = Tensor::ones((1, 3, h, w), candle_core::DType::F32, &Device::Cpu).unwrap();
        for how in [ClipResize::Antialias, ClipResize::Aliased, ClipResize::Area] {
            let white = preprocessing.tensor(&ones, how).unwrap();
            let want = preprocessing.rgb8(&vec![255; h * w * 3], w, h).unwrap();
            close(&format!("white {h} x {w} {how:?}"), &white, &want, 1e-5, 0.0);
        }
    }
    assert!(preprocessing.rgb8(&[], 0, 0).is_err());
    assert!(preprocessing.rgb8(&[0; 3 * 2000], 2000, 1).is_err());
}
