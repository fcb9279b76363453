//! Preprocessing against PIL and torchvision.

mod common;

use candle_core::{Device, Tensor};
use common::{close, reference};
use nada::kernels::{resize_rgb8, resize_rgb8_bilinear};
use nada::nn::clip::{ClipResize, Interpolation, Preprocessing, Shape};
use std::collections::HashMap;

fn expected() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(reference().join("clip/preprocess.safetensors"), &Device::Cpu).unwrap()
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn pictures_as_published() {
    let expected = expected();
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
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn generated_pictures_as_published() {
    let expected = expected();
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

/// Image.resize(..., Image.BILINEAR) of Pillow.
#[test]
fn bilinear_is_pils() {
    let at = |x: usize, y: usize| [x * 37 + y * 11, x * 53 + y * 29 + 7, x * x * 9 + y * 71].map(|v| (v % 256) as u8);
    let pixels: Vec<u8> = (0..35).flat_map(|i| at(i % 7, i / 7)).collect();
    let small = [43, 81, 83, 122, 164, 129, 201, 92, 129, 65, 139, 144, 144, 147, 129, 194, 113, 136];
    assert_eq!(resize_rgb8_bilinear(&pixels, (5, 7), (2, 3)), small);
    let row = [0, 7, 0, 25, 42, 6, 53, 84, 21, 82, 125, 46, 111, 166, 81, 140, 207, 130, 169, 106, 189, 197, 34, 173, 222, 69, 68];
    assert_eq!(resize_rgb8_bilinear(&pixels, (5, 7), (8, 9))[..27], row);
    // The two ways of a preprocessing are the same but for the rounding to 8 bits.
    let tensor = Tensor::from_vec(pixels.iter().map(|v| f32::from(*v) / 127.5 - 1.0).collect(), (5, 7, 3), &Device::Cpu).unwrap();
    let tensor = tensor.permute((2, 0, 1)).unwrap().unsqueeze(0).unwrap().contiguous().unwrap();
    for shape in [Shape::Shortest, Shape::Squash, Shape::Longest { fill: [255.0, 0.0, 64.0] }] {
        for interpolation in [Interpolation::Bicubic, Interpolation::Bilinear] {
            let preprocessing = Preprocessing { shape, interpolation, ..Preprocessing::openai(4) };
            let have = preprocessing.tensor(&tensor, ClipResize::Antialias).unwrap();
            let want = preprocessing.rgb8(&pixels, 7, 5).unwrap();
            close(&format!("{shape:?} {interpolation:?}"), &have, &want, 1.5 / 255.0 / 0.26, 0.0);
        }
    }
    // 7 x 5 becomes 4 x 3, and the row that is missing is below.
    let longest = Preprocessing { shape: Shape::Longest { fill: [255.0, 0.0, 64.0] }, ..Preprocessing::openai(4) };
    let rows = longest.resize(&tensor, ClipResize::Antialias).unwrap();
    let last = rows.narrow(2, 3, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let fill = [1.0, -1.0, 64.0 / 127.5 - 1.0];
    assert!(last.iter().zip(fill.iter().flat_map(|v| [v; 4])).all(|(have, want)| (have - want).abs() < 1e-6), "{last:?}");
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
