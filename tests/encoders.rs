//! Encoders against the published code's numbers, and against their definition in f64.

mod common;

use candle_core::{Device, Tensor};
use common::compare::close;
use common::reference::reference;
use nada::checkpoint::{self, Checkpoint};
use nada::nn::encoders::{Encoder, Head, Input};

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

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn reference_codes() {
    let input = pictures(&all("inversion/pictures.safetensors").tensor("resized_u8").unwrap());
    for name in ["psp", "e4e"] {
        let encoder = Encoder::open(&reference().join(format!("inversion/tiny_{name}.pt"))).unwrap();
        assert_eq!((encoder.input(), encoder.rows()), (Input::Picture, 10));
        let want = all(&format!("inversion/{name}_expected.safetensors"));
        let raw = encoder.encode(&input).unwrap();
        close(&format!("{name} encoder_output"), &raw, &want.f32("encoder_output", None).unwrap(), CODES, 0.0);
        for stage in [0, 2, 3, 7] {
            let key = format!("stage{stage}.encoder_output");
            if want.contains(&key) {
                close(
                    &format!("{name} {key}"),
                    &encoder.encode_at_stage(&input, stage).unwrap(),
                    &want.f32(&key, None).unwrap(),
                    CODES,
                    0.0,
                );
            }
        }
        let codes = encoder.codes(&input, &Default::default()).unwrap();
        close(&format!("{name} codes"), &codes, &want.f32("codes", None).unwrap(), CODES, 0.0);
        close(&format!("{name} codes_f64"), &codes, &want.tensor("codes_f64").unwrap(), CODES, 0.0);
    }
}
