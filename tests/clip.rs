//! CLIP against the published code's layers, features, logits and gradients.

mod common;

use candle_core::{DType, Device, Tensor, Var, D};
use common::{close, reference};
use nada::nn::clip::Clip;
use std::collections::HashMap;
use std::path::Path;

type Expected = HashMap<String, Tensor>;

fn load(path: &Path) -> Expected {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn normalised(x: &Tensor) -> Tensor {
    x.broadcast_div(&x.sqr().unwrap().sum_keepdim(D::Minus1).unwrap().sqrt().unwrap()).unwrap()
}

/// Every tensor of `expected` against `clip`, in the reference's own tolerances: 2e-5 on features, 2e-4 on logits. Hidden states and
/// gradients are larger than features: 2e-5 of their size is added.
fn check(clip: &Clip, expected: &Expected) {
    let mut seen: Vec<String> = vec!["image".into(), "tokens".into()];
    let image = Var::from_tensor(&expected["image"]).unwrap();
    let tokens = expected["tokens"].to_dtype(DType::U32).unwrap();
    let mut compare = |name: &str, have: &Tensor| {
        if let Some(want) = expected.get(name) {
            close(name, have, want, 2e-5, 2e-5);
            seen.push(name.into());
        } else if let Some(want) = expected.get(&format!("{name}.LND")) {
            close(name, &have.transpose(0, 1).unwrap(), want, 2e-5, 2e-5);
            seen.push(format!("{name}.LND"));
        } else {
            panic!("{name} is in no reference");
        }
    };
    let mut count = 0;
    let traced_images = clip
        .encode_image_traced(image.as_tensor(), &mut |name, x| {
            // Not every layer was kept (text blocks of the ResNet's CLIP).
            if expected.contains_key(name) || expected.contains_key(&format!("{name}.LND")) {
                compare(name, x);
            }
            count += 1;
        })
        .unwrap();
    let traced_texts = clip
        .encode_tokens_traced(&tokens, &mut |name, x| {
            if expected.contains_key(&format!("{name}.LND")) {
                compare(name, x);
            }
        })
        .unwrap();
    assert!(count > 4);
    compare("image_features", &traced_images);
    compare("text_features", &traced_texts);
    // The short ways are the same function.
    let images = clip.encode_image(image.as_tensor()).unwrap();
    let texts = clip.encode_tokens(&tokens).unwrap();
    compare("image_features", &images);
    compare("text_features", &texts);
    let logits = (normalised(&images).matmul(&normalised(&texts).t().unwrap()).unwrap() * clip.logit_scale() as f64).unwrap();
    for (name, logits) in [("logits_per_image", logits.clone()), ("logits_per_text", logits.t().unwrap())] {
        if let Some(want) = expected.get(name) {
            close(name, &logits, want, 2e-4, 0.0);
            seen.push(name.into());
        }
    }
    let weights: Vec<f32> = (0..images.elem_count()).map(|i| (i as f32).cos()).collect();
    let weights = Tensor::from_vec(weights, images.shape(), &Device::Cpu).unwrap();
    for features in [images, traced_images] {
        let gradients = (features * &weights).unwrap().sum_all().unwrap().backward().unwrap();
        let name = "grad_image_of_sum_f_cos_index";
        close(name, gradients.get(image.as_tensor()).unwrap(), &expected[name], 2e-5, 2e-5);
        seen.push(name.into());
    }
    for name in expected.keys() {
        assert!(seen.contains(name), "{name} was not compared");
    }
}

#[test]
fn vision_transformer_in_hugging_face_layout() {
    let Some(folder) = reference() else { return };
    let expected = load(&folder.join("clip/tiny_vit_expected.safetensors"));
    let clip = Clip::open(&folder.join("clip/tiny_vit_hf")).unwrap();
    assert_eq!((clip.name.as_str(), clip.resolution(), clip.dimension()), ("tiny_vit_hf", 64, 32));
    check(&clip, &expected);
    check(&Clip::open(&folder.join("clip/tiny_vit_hf/model.safetensors")).unwrap(), &expected);
}

#[test]
fn vision_transformer_in_openai_torchscript() {
    let Some(folder) = reference() else { return };
    let clip = Clip::open(&folder.join("clip/tiny_vit_jit_fp16.pt")).unwrap();
    check(&clip, &load(&folder.join("clip/tiny_vit_expected.safetensors")));
}

#[test]
fn resnet_in_openai_state_dict() {
    let Some(folder) = reference() else { return };
    let clip = Clip::open(&folder.join("clip/tiny_rn_openai_state_dict.pt")).unwrap();
    check(&clip, &load(&folder.join("clip/tiny_rn_expected.safetensors")));
    // 1024 tokens and no table: only texts are out of reach.
    let error = clip.embed_texts(&["a photo".into()]).unwrap_err();
    assert_eq!(error.kind(), nada::Kind::Unsupported, "{error}");
}

#[test]
fn starter() {
    let Some(folder) = reference() else { return };
    let folder = folder.join("../starter");
    let expected = load(&folder.join("expected.safetensors"));
    for name in ["clip-a", "clip-b"] {
        let clip = Clip::open(&folder.join(name)).unwrap();
        let images = normalised(&clip.encode_image(&expected["clip_input"]).unwrap());
        close("image_embeds", &images, &expected[&format!("{name}.image_embeds")], 1e-5, 0.0);
        let texts = normalised(&clip.encode_tokens(&expected["token_ids"].to_dtype(DType::U32).unwrap()).unwrap());
        close("text_embeds", &texts, &expected[&format!("{name}.text_embeds")], 1e-5, 0.0);
        let words: Vec<String> = serde_json::from_slice(&std::fs::read(folder.join("expected_texts.json")).unwrap()).unwrap();
        close("embed_texts", &clip.embed_texts(&words).unwrap(), &expected[&format!("{name}.text_embeds")], 1e-5, 0.0);
    }
}

#[test]
fn bad_input_is_named() {
    let Some(folder) = reference() else { return };
    let clip = Clip::open(&folder.join("clip/tiny_vit_hf")).unwrap();
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    let message = |e: nada::Error| {
        assert_eq!(e.kind(), nada::Kind::InvalidArgument, "{e}");
        e.to_string()
    };
    assert!(message(clip.encode_image(&zeros(&[1, 3, 32, 32], DType::F32)).unwrap_err()).contains("[n, 3, 64, 64]"));
    assert!(message(clip.encode_image(&zeros(&[0, 3, 64, 64], DType::F32)).unwrap_err()).contains("input"));
    assert!(message(clip.encode_tokens(&zeros(&[1, 78], DType::U32)).unwrap_err()).contains("77"));
    assert!(message(clip.encode_tokens(&zeros(&[1, 77], DType::U32)).unwrap_err()).contains("no end token"));
    let large = Tensor::new(&[[49_408u32]], &Device::Cpu).unwrap();
    assert!(message(clip.encode_tokens(&large).unwrap_err()).contains("49408"));
    assert!(message(clip.embed_texts(&[]).unwrap_err()).contains("texts"));
}

/// A Hugging Face folder like the reference's with one file replaced.
fn altered(from: &Path, name: &str, contents: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(file), folder.path().join(file)).unwrap();
    }
    std::fs::write(folder.path().join(name), contents).unwrap();
    folder
}

#[test]
fn bad_folders_are_named() {
    let Some(folder) = reference() else { return };
    let from = folder.join("clip/tiny_vit_hf");
    let config = std::fs::read_to_string(from.join("config.json")).unwrap();
    for (name, contents, want) in [
        ("config.json", "{".to_string(), "config.json"),
        ("config.json", config.replace("\"num_attention_heads\": 2", "\"num_attention_heads\": 3"), "3 heads"),
        ("config.json", config.replace("quick_gelu", "swish"), "swish"),
        ("config.json", config.replace("\"image_size\": 64", "\"image_size\": 224"), "image_size 224"),
        ("preprocessor_config.json", "{\"crop_size\": 32}".into(), "crop_size 32"),
        ("preprocessor_config.json", "{\"image_std\": [1, 0, 1]}".into(), "image_std"),
    ] {
        let folder = altered(&from, name, &contents);
        let error = Clip::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(want), "{name} {contents:.40}: {error}");
    }
    let folder =
        altered(&from, "preprocessor_config.json", "{\"size\": {\"shortest_edge\": 72}, \"crop_size\": {\"height\": 64, \"width\": 64}}");
    assert_eq!(Clip::open(folder.path()).unwrap().preprocessing().short, 72);
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(Clip::open(folder.path()).err().unwrap().to_string().contains("config.json"));
    let other = reference().unwrap().join("nada/losses.safetensors");
    assert!(Clip::open(&other).err().unwrap().to_string().contains("not a CLIP"));
}

#[test]
fn threads_may_share_a_clip() {
    fn shared<T: Send + Sync>() {}
    shared::<Clip>();
}
