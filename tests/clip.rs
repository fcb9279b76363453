//! CLIP against the published code's layers, features, logits and gradients.

mod common;

use candle_core::{DType, Device, Tensor, Var, D};
use common::{close, data, reference};
use nada::adapt::Templates;
use nada::checkpoint::{self, save_safetensors};
use nada::eval::embed_text;
use nada::nn::clip::{tidy, warnings, Activation, Clip, ClipResize, Interpolation, Reader, Shape};
use nada::picture::Picture;
use nada::progress::Cancel;
use nada::Kind;
use serde_json::{json, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

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
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn vision_transformer_in_hugging_face_layout() {
    let folder = reference();
    let expected = load(&folder.join("clip/tiny_vit_expected.safetensors"));
    let clip = Clip::open(&folder.join("clip/tiny_vit_hf")).unwrap();
    assert_eq!((clip.name.as_str(), clip.resolution(), clip.dimension()), ("tiny_vit_hf", 64, 32));
    check(&clip, &expected);
    check(&Clip::open(&folder.join("clip/tiny_vit_hf/model.safetensors")).unwrap(), &expected);
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn vision_transformer_in_openai_torchscript() {
    let folder = reference();
    let clip = Clip::open(&folder.join("clip/tiny_vit_jit_fp16.pt")).unwrap();
    check(&clip, &load(&folder.join("clip/tiny_vit_expected.safetensors")));
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn resnet_in_openai_state_dict() {
    let folder = reference();
    let clip = Clip::open(&folder.join("clip/tiny_rn_openai_state_dict.pt")).unwrap();
    check(&clip, &load(&folder.join("clip/tiny_rn_expected.safetensors")));
    // 1024 tokens and no table: only texts are out of reach.
    let error = clip.embed_texts(&["a photo".into()]).unwrap_err();
    assert_eq!(error.kind(), nada::Kind::Unsupported, "{error}");
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn starter() {
    let folder = reference();
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
    let clip = Clip::open(&data("golden/clip")).unwrap();
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    let message = |e: nada::Error| {
        assert_eq!(e.kind(), nada::Kind::InvalidArgument, "{e}");
        e.to_string()
    };
    assert!(message(clip.encode_image(&zeros(&[1, 3, 64, 64], DType::F32)).unwrap_err()).contains("[n, 3, 32, 32]"));
    assert!(message(clip.encode_image(&zeros(&[0, 3, 32, 32], DType::F32)).unwrap_err()).contains("input"));
    assert!(message(clip.encode_tokens(&zeros(&[1, 41], DType::U32)).unwrap_err()).contains("40"));
    assert!(message(clip.encode_tokens(&zeros(&[1, 40], DType::U32)).unwrap_err()).contains("no end token"));
    let large = Tensor::new(&[[514u32]], &Device::Cpu).unwrap();
    assert!(message(clip.encode_tokens(&large).unwrap_err()).contains("514"));
    assert!(message(clip.embed_texts(&[]).unwrap_err()).contains("texts"));
}

/// A Hugging Face folder with one file replaced.
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
    let from = data("golden/clip");
    let config = std::fs::read_to_string(from.join("config.json")).unwrap();
    for (name, contents, want) in [
        ("config.json", "{".to_string(), "config.json"),
        ("config.json", config.replace("\"num_attention_heads\": 2", "\"num_attention_heads\": 3"), "3 heads"),
        ("config.json", config.replace("quick_gelu", "swish"), "swish"),
        ("config.json", config.replace("\"image_size\": 32", "\"image_size\": 224"), "image_size 224"),
        ("preprocessor_config.json", "{\"crop_size\": 16}".into(), "crop_size 16"),
        ("preprocessor_config.json", "{\"image_std\": [1, 0, 1]}".into(), "image_std"),
    ] {
        let folder = altered(&from, name, &contents);
        let error = Clip::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(want), "{name} {contents:.40}: {error}");
    }
    let folder =
        altered(&from, "preprocessor_config.json", "{\"size\": {\"shortest_edge\": 36}, \"crop_size\": {\"height\": 32, \"width\": 32}}");
    assert_eq!(Clip::open(folder.path()).unwrap().preprocessing().short, 36);
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(Clip::open(folder.path()).err().unwrap().to_string().contains("config.json"));
    let other = data("golden/losses.safetensors");
    assert!(Clip::open(&other).err().unwrap().to_string().contains("not a CLIP"));
}

#[test]
fn threads_may_share_a_clip() {
    fn shared<T: Send + Sync>() {}
    shared::<Clip>();
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter").join(name)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn of_picture(clip: &Clip, path: &Path) -> Vec<f32> {
    let picture = Picture::open(path).unwrap().to_tensor().unwrap();
    clip.embed_pictures(&picture, ClipResize::Antialias, &Cancel::new()).unwrap().squeeze(0).unwrap().to_vec1().unwrap()
}

fn of_text(clip: &Clip, words: &str) -> Vec<f32> {
    embed_text(clip, words, &Templates(vec!["{}".into()])).unwrap().squeeze(0).unwrap().to_vec1().unwrap()
}

/// What reads texts is read when it is needed, again after it was let go of, and only from the file that was opened.
#[test]
fn texts_are_read_from_the_file_that_was_opened() {
    let folder = open_clip(&config("plain"), |_| {});
    let file = folder.path().join("open_clip_model.safetensors");
    let (clip, words) = (Clip::open(folder.path()).unwrap(), "a pencil sketch");
    let first = of_text(&clip, words);
    clip.release_texts();
    assert_eq!(of_text(&clip, words), first);
    let moved = folder.path().join("elsewhere.safetensors");
    std::fs::rename(&file, &moved).unwrap();
    // It is there still.
    assert_eq!(of_text(&clip, words), first);
    clip.release_texts();
    let embed = || embed_text(&clip, words, &Templates(vec!["{}".into()])).map(|_| ()).unwrap_err();
    assert_eq!(embed().kind(), Kind::NotFound);
    std::fs::rename(&moved, &file).unwrap();
    assert_eq!(of_text(&clip, words), first);
    clip.release_texts();
    let mut longer = std::fs::read(&file).unwrap();
    longer.extend([0; 8]);
    std::fs::write(&file, longer).unwrap();
    let error = embed();
    assert!(error.kind() == Kind::Format && error.to_string().contains("open_clip_model.safetensors"), "{error}");
    assert!(error.to_string().contains("changed since the CLIP was opened"), "{error}");

    // Shapes are looked at when it is opened.
    let folder = open_clip(&config("plain"), |tensors| {
        let short = tensors["ln_final.weight"].narrow(0, 0, 3).unwrap().contiguous().unwrap();
        tensors.insert("ln_final.weight".into(), short);
    });
    let error = Clip::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("'ln_final.weight' has shape [3]"), "{error}");
}

fn row(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// A folder of open_clip with the weights of tests/data/clip/open_clip, changed, and a configuration.
fn open_clip(config: &Value, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        std::fs::copy(shipped("clip-a").join(name), folder.path().join(name)).unwrap();
    }
    let file = checkpoint::open(&data("clip/open_clip/open_clip_model.safetensors")).unwrap();
    let mut tensors = file.keys().map(|key| (key.to_string(), file.tensor(key).unwrap())).collect();
    change(&mut tensors);
    save_safetensors(&folder.path().join("open_clip_model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    std::fs::write(folder.path().join("open_clip_config.json"), config.to_string()).unwrap();
    folder
}

fn config(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(data("clip/open_clip").join(format!("{name}.json"))).unwrap()).unwrap()
}

fn set(config: &mut Value, place: &str, value: Value) {
    let (parents, key) = place.rsplit_once('.').unwrap_or(("", place));
    let parent = parents.split('.').filter(|p| !p.is_empty()).fold(config, |v, part| v.get_mut(part).unwrap());
    parent.as_object_mut().unwrap().insert(key.into(), value);
}

fn refused(path: &Path, kind: Kind) -> String {
    let e = Clip::open(path).err().unwrap_or_else(|| panic!("{} was opened", path.display()));
    assert_eq!(e.kind(), kind, "{e}");
    e.to_string()
}

/// Nothing can be compared by it.
#[test]
fn an_embedding_of_no_numbers_is_refused() {
    let empty = |tensors: &mut BTreeMap<String, Tensor>| {
        for key in ["text_projection", "visual.proj"] {
            let width = tensors[key].dims()[0];
            tensors.insert(key.into(), Tensor::zeros((width, 0), DType::F32, &Device::Cpu).unwrap());
        }
    };
    let mut config = config("plain");
    config["model_cfg"].as_object_mut().unwrap().remove("embed_dim");
    let message = refused(open_clip(&config, empty).path(), Kind::Format);
    assert!(message.contains("text_projection"), "{message}");
}

/// In a causal tower nothing after a text's end counts, so texts are computed as far as the longest of their batch goes; without the mask
/// every token counts. A trace always sees the full length. Products of other shapes add up in another order, so that bits may differ:
/// by some roundings of f32 where features are of length 1.
#[test]
fn texts_are_computed_no_further_than_they_count() {
    for (name, causal) in [("plain", true), ("no-causal-mask", false)] {
        let folder = open_clip(&config(name), |_| {});
        let clip = Clip::open(folder.path()).unwrap();
        let context = clip.config().text.context;
        // More than one batch of them, in no order of length.
        let texts: Vec<String> = (0..40).map(|i| format!("a photo{}", " of a cat".repeat(i * 7 % 5))).collect();
        let rows: Vec<Vec<u32>> = texts.iter().map(|t| clip.tokenizer().unwrap().tokenize(t, context, false).unwrap()).collect();
        let tensor = |rows: &[Vec<u32>]| Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu).unwrap();
        let mut lengths = vec![];
        let full = clip.encode_tokens_traced(&tensor(&rows), &mut |_, x| lengths.push(x.dim(1).unwrap())).unwrap();
        assert!(lengths.iter().all(|&length| length == context) && !lengths.is_empty(), "{lengths:?}");
        close(name, &clip.embed_texts(&texts).unwrap(), &normalised(&full), 2e-6, 0.0);
        // One text alone, short and full length, with other tokens behind its end.
        let end = rows[1].iter().position(|id| id == rows[1].iter().max().unwrap()).unwrap();
        let mut other = rows[1].clone();
        other[end + 1..].fill(7);
        let of = |row: &[u32]| clip.encode_tokens(&tensor(&[row.to_vec()])).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (whole, changed) = (of(&rows[1]), of(&other));
        assert_eq!(whole == changed, causal, "{name}: what follows the end");
        assert_eq!(whole == of(&rows[1][..=end]), causal, "{name}: the tokens up to the end alone");
    }
}

/// Each flag gives open_clip's own numbers, or is refused by its name.
#[test]
fn flags_of_open_clip_are_honoured_or_refused() {
    let expected: Value = serde_json::from_slice(&std::fs::read(data("clip/open_clip/expected.json")).unwrap()).unwrap();
    let plain = open_clip(&config("plain"), |_| {});
    let plain = Clip::open(plain.path()).unwrap();
    let flags = [
        "plain",
        "pool-avg",
        "final-ln-after-pool",
        "no-causal-mask",
        "text-pool-last",
        "text-pool-first",
        "norm-eps",
        "resize-squash",
        "resize-longest",
    ];
    for name in flags {
        let folder = open_clip(&config(name), |_| {});
        let clip = Clip::open(folder.path()).unwrap();
        assert_eq!(clip.warnings(), [] as [String; 0], "{name}");
        let picture = data("clip/open_clip").join(if name.starts_with("resize") { "wide.png" } else { "face32.png" });
        let (seen, read) = (of_picture(&clip, &picture), of_text(&clip, "a pencil sketch"));
        let want = &expected[name];
        let compared = [("picture", &seen), ("picture of wide.png", &seen), ("text", &read)]
            .into_iter()
            .filter_map(|(what, have)| Some((what, have, want.get(what)?)));
        let alike: Vec<_> = compared.map(|(what, have, want)| (what, cosine(have, &row(want)))).collect();
        assert!(!alike.is_empty() && alike.iter().all(|(_, cosine)| *cosine >= 0.9999), "{name}: {alike:?}");
        // The flag does something.
        if name != "plain" {
            let least = cosine(&seen, &of_picture(&plain, &picture)).min(cosine(&read, &of_text(&plain, "a pencil sketch")));
            assert!(least < 0.9995, "{name} changes nothing: {least}");
        }
    }
    for (name, flag) in [("qk-norm", "model_cfg.vision_cfg.qk_norm true"), ("scale-heads", "model_cfg.vision_cfg.scale_heads true")] {
        let e = refused(open_clip(&config(name), |_| {}).path(), Kind::Unsupported);
        assert!(e.contains("open_clip_config.json") && e.contains(flag), "{e}");
    }
    // The tensors of a flag say it too, where the configuration does not.
    for (key, flag) in [
        ("attn.ln_q.weight", "qk_norm"),
        ("attn.head_scale", "scale_heads"),
        ("attn.logit_scale", "scaled_cosine_attn"),
        ("attn.ln_inner.weight", "scale_attn_inner"),
        ("ln_attn.weight", "scale_attn"),
        ("mlp.ln.weight", "scale_fc"),
        ("ls_1.gamma", "ls_init_value"),
    ] {
        let key = format!("visual.transformer.resblocks.0.{key}");
        let folder = open_clip(&config("plain"), |tensors| {
            tensors.insert(key.clone(), Tensor::ones(32, DType::F32, &Device::Cpu).unwrap());
        });
        let e = refused(folder.path(), Kind::Unsupported);
        assert!(e.contains(&format!("({flag})")) && e.contains(&key), "{e}");
    }
}

/// Fields like those of the cases: what cannot be honoured is refused by its name and value.
#[test]
fn other_fields_of_open_clip_are_refused_by_name() {
    for (place, value) in [
        ("model_cfg.vision_cfg.scaled_cosine_attn", json!(true)),
        ("model_cfg.vision_cfg.scale_attn_inner", json!(true)),
        ("model_cfg.vision_cfg.scale_attn", json!(true)),
        ("model_cfg.vision_cfg.scale_fc", json!(true)),
        ("model_cfg.vision_cfg.attentional_pool", json!(true)),
        ("model_cfg.vision_cfg.ls_init_value", json!(1e-4)),
        ("model_cfg.vision_cfg.pool_type", json!("none")),
        ("model_cfg.vision_cfg.timm_model_name", json!("convnext_base")),
        ("model_cfg.vision_cfg.act_kwargs", json!({"approximate": "sigmoid"})),
        ("model_cfg.vision_cfg.block_type", json!("mlp")),
        ("model_cfg.text_cfg.qk_norm", json!(true)),
        ("model_cfg.text_cfg.embed_cls", json!(true)),
        ("model_cfg.text_cfg.proj_bias", json!(true)),
        ("model_cfg.text_cfg.proj_type", json!("none")),
        ("model_cfg.text_cfg.pool_type", json!("map")),
        ("model_cfg.text_cfg.text_arch", json!("modern")),
        ("model_cfg.text_cfg.norm_type", json!("rmsnorm")),
        ("model_cfg.text_cfg.hf_model_name", json!("xlm-roberta-base")),
        ("model_cfg.multimodal_cfg", json!({"layers": 12})),
        ("preprocess_cfg.resize_mode", json!("crop")),
        ("preprocess_cfg.interpolation", json!("nearest")),
        ("preprocess_cfg.mode", json!("L")),
        ("model_cfg.vision_cfg.image_size", json!([32, 16])),
    ] {
        let mut changed = config("plain");
        set(&mut changed, place, value.clone());
        let e = refused(open_clip(&changed, |_| {}).path(), Kind::Unsupported);
        assert!(e.contains("open_clip_config.json") && e.contains(place.rsplit('.').next().unwrap()), "{place}: {e}");
        let shown = if value.is_object() { "".into() } else { value.to_string() };
        assert!(e.contains(&shown), "{place}: {e}");
    }
    // What the tensors have otherwise belongs to another CLIP.
    for (place, value) in [
        ("model_cfg.embed_dim", json!(512)),
        ("model_cfg.vision_cfg.layers", json!(12)),
        ("model_cfg.vision_cfg.width", json!(768)),
        ("model_cfg.vision_cfg.patch_size", json!(16)),
        ("model_cfg.vision_cfg.image_size", json!(224)),
        ("model_cfg.vision_cfg.head_width", json!(5)),
        ("model_cfg.text_cfg.context_length", json!(77)),
        ("model_cfg.text_cfg.vocab_size", json!(49408)),
        ("model_cfg.text_cfg.heads", json!(3)),
        ("model_cfg.text_cfg.pool_type", json!("eos")),
        ("model_cfg.vision_cfg.pool_type", json!(1)),
        ("preprocess_cfg.std", json!([0.0, 1.0, 1.0])),
    ] {
        let mut changed = config("plain");
        set(&mut changed, place, value.clone());
        let e = refused(open_clip(&changed, |_| {}).path(), Kind::Format);
        let field = match place.rsplit('.').next().unwrap() {
            "head_width" | "heads" => "heads",
            _ if value == "eos" => "eos_id is missing",
            field => field,
        };
        assert!(e.contains("open_clip_config.json") && e.contains(field), "{place}: {e}");
    }
}

#[test]
fn other_fields_of_open_clip_are_honoured() {
    let face = data("clip/open_clip/face32.png");
    let wide = data("clip/open_clip/wide.png");
    let words = "a pencil sketch";
    let folders = RefCell::new(vec![]);
    let opened = |changes: &[(&str, Value)], change: fn(&mut BTreeMap<String, Tensor>)| {
        let mut changed = config("plain");
        changes.iter().for_each(|(place, value)| set(&mut changed, place, value.clone()));
        let folder = open_clip(&changed, change);
        let clip = Clip::open(folder.path()).unwrap();
        folders.borrow_mut().push(folder);
        clip
    };
    let plain = opened(&[], |_| {});
    let square = opened(&[("model_cfg.vision_cfg.image_size", json!([32, 32]))], |_| {});
    assert_eq!(square.resolution(), plain.resolution());
    // The end token has the largest id.
    let eos = opened(&[("model_cfg.text_cfg.pool_type", json!("eos")), ("model_cfg.text_cfg.eos_id", json!(966))], |_| {});
    assert_eq!(of_text(&eos, words), of_text(&plain, words));
    let start = opened(&[("model_cfg.text_cfg.pool_type", json!("eos")), ("model_cfg.text_cfg.eos_id", json!(965))], |_| {});
    let first = opened(&[("model_cfg.text_cfg.pool_type", json!("first"))], |_| {});
    assert_eq!(of_text(&start, words), of_text(&first, words));
    // A norm that changes nothing is as none.
    let no_norm = opened(&[("model_cfg.vision_cfg.no_ln_pre", json!(true))], |tensors| {
        tensors.retain(|key, _| !key.starts_with("visual.ln_pre."));
    });
    assert!(cosine(&of_picture(&no_norm, &face), &of_picture(&plain, &face)) < 0.9999);
    // Between GELU and GELU with tanh lie some 1e-4.
    let tanh = json!({"approximate": "tanh"});
    let tanh = opened(&[("model_cfg.vision_cfg.act_kwargs", tanh.clone()), ("model_cfg.text_cfg.act_kwargs", tanh)], |_| {});
    assert_eq!((plain.activation(), tanh.activation()), (Some(Activation::Gelu), Some(Activation::GeluTanh)));
    let (near, have) = (of_picture(&plain, &face), of_picture(&tanh, &face));
    assert!(near != have && cosine(&near, &have) > 0.9999);
    let quick = opened(&[("model_cfg.quick_gelu", json!(true))], |_| {});
    assert_eq!(quick.activation(), Some(Activation::QuickGelu));
    let bilinear = opened(&[("preprocess_cfg.interpolation", json!("bilinear"))], |_| {});
    assert_eq!(bilinear.preprocessing().interpolation, Interpolation::Bilinear);
    assert!(of_picture(&bilinear, &wide) != of_picture(&plain, &wide));
    let filled = [("preprocess_cfg.resize_mode", json!("longest")), ("preprocess_cfg.fill_color", json!([255, 0, 9]))];
    assert_eq!(opened(&filled, |_| {}).preprocessing().shape, Shape::Longest { fill: [255.0, 0.0, 9.0] });
    let row = opened(&[], |tensors| {
        let scale = tensors["logit_scale"].reshape(1).unwrap();
        tensors.insert("logit_scale".into(), scale);
    });
    assert_eq!(row.logit_scale(), plain.logit_scale());
}

#[test]
fn fields_that_are_not_known_are_named_once() {
    let mut changed = config("plain");
    for place in ["model_cfg.vision_cfg.window", "model_cfg.text_cfg.rotary", "preprocess_cfg.gamma", "newer"] {
        set(&mut changed, place, json!(2));
    }
    // These change no embedding.
    for (place, value) in [
        ("model_cfg.init_logit_bias", json!(-10)),
        ("model_cfg.custom_text", json!(false)),
        ("model_cfg.vision_cfg.patch_dropout", json!(0.5)),
        ("model_cfg.vision_cfg.act_kwargs", json!({})),
        ("model_cfg.vision_cfg.timm_model_name", json!(null)),
        ("model_cfg.vision_cfg.attn_pooler_heads", json!(8)),
        ("model_cfg.vision_cfg.output_tokens", json!(true)),
        ("model_cfg.vision_cfg.unheard_of", json!(null)),
        ("model_cfg.text_cfg.qk_norm", json!(false)),
        ("model_cfg.text_cfg.tokenizer_kwargs", json!({})),
        ("preprocess_cfg.size", json!([32, 32])),
    ] {
        set(&mut changed, place, value);
    }
    let folder = open_clip(&changed, |_| {});
    let clip = Clip::open(folder.path()).unwrap();
    let [warning] = clip.warnings() else { panic!("{:?}", clip.warnings()) };
    let fields = "the fields newer, model_cfg.vision_cfg.window, model_cfg.text_cfg.rotary, preprocess_cfg.gamma are not known";
    assert!(warning.contains(&format!("open_clip_config.json: {fields}")), "{warning}");
    // Without the weights it is the same.
    assert_eq!(Reader::open(folder.path(), None, &Cancel::new()).unwrap().warnings(), clip.warnings());
}

/// A tokenizer of another kind is no reason to refuse pictures, but texts.
/// Tensors that have no shape where one is looked at.
#[test]
fn scalars_where_tables_are_wanted_are_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scalar.safetensors");
    let scalar = || candle_core::Tensor::new(1f32, &candle_core::Device::Cpu).unwrap();
    for key in ["visual.x.word_embeddings.weight", "visual.x.token_type_embeddings.weight", "visual.conv1.weight", "text_projection"] {
        let mut tensors: std::collections::BTreeMap<_, _> = [(key.to_string(), scalar())].into();
        tensors.insert("visual.x.word_embeddings.weight".into(), scalar());
        nada::checkpoint::save_safetensors(&file, &tensors, &Default::default()).unwrap();
        let e = Clip::open(&file).err().unwrap();
        assert!(e.to_string().contains("scalar.safetensors"), "{e}");
    }
}

#[test]
fn other_tokenizers_refuse_texts() {
    for (field, value) in [
        ("tokenizer_kwargs", json!({"strip_sep_token": true})),
        ("tokenizer_mode", json!("clips")),
        ("tokenizer_type", json!("tiktoken")),
        ("hf_tokenizer_name", json!("bert-base-uncased")),
    ] {
        let mut changed = config("plain");
        set(&mut changed, &format!("model_cfg.text_cfg.{field}"), value);
        let folder = open_clip(&changed, |_| {});
        if field == "hf_tokenizer_name" {
            // Its table would be here.
            assert!(Clip::open(folder.path()).unwrap().tokenizer().is_ok());
            std::fs::remove_file(folder.path().join("vocab.json")).unwrap();
        }
        let clip = Clip::open(folder.path()).unwrap();
        of_picture(&clip, &data("clip/open_clip/face32.png"));
        let e = clip.embed_texts(&["a photo".into()]).unwrap_err();
        assert!(e.kind() == Kind::Unsupported && e.to_string().contains(field), "{e}");
    }
}

/// A Hugging Face folder: the starter's clip-a with a changed configuration and preprocessing.
fn hugging_face(changes: &[(&str, Value)], preprocessor: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(shipped("clip-a")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    for (name, changes) in [("config.json", changes), ("preprocessor_config.json", preprocessor)] {
        let mut value: Value = serde_json::from_slice(&std::fs::read(folder.path().join(name)).unwrap()).unwrap();
        changes.iter().for_each(|(place, to)| set(&mut value, place, to.clone()));
        std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    }
    folder
}

#[test]
fn fields_of_hugging_face_are_honoured_or_refused() {
    for (place, value, kind, words) in [
        ("model_type", json!("altclip"), Kind::Unsupported, "XLM-RoBERTa"),
        ("model_type", json!("metaclip_2"), Kind::Unsupported, "MetaCLIP 2"),
        ("model_type", json!("clipseg"), Kind::Unsupported, "\"clipseg\""),
        ("model_type", json!("clip_vision_model"), Kind::Format, "one tower"),
        ("vision_config.pruned_heads", json!({"0": [1]}), Kind::Unsupported, "vision_config.pruned_heads"),
        ("vision_config.num_channels", json!(4), Kind::Unsupported, "num_channels 4"),
        ("vision_config.num_hidden_layers", json!(12), Kind::Format, "num_hidden_layers is 12"),
        ("vision_config.hidden_act", json!("relu"), Kind::Unsupported, "hidden_act \"relu\""),
        ("text_config.vocab_size", json!(49408), Kind::Format, "vocab_size is 49408"),
        ("text_config.layer_norm_eps", json!(-1.0), Kind::Format, "epsilon -1"),
        ("projection_dim", json!(512), Kind::Format, "projection_dim is 512"),
        ("text_config", json!(null), Kind::Format, "text_config is missing"),
    ] {
        let e = refused(hugging_face(&[(place, value)], &[]).path(), kind);
        assert!(e.contains("config.json") && e.contains(words), "{place}: {e}");
    }
    for (place, value, kind, words) in [
        ("do_resize", json!(false), Kind::Unsupported, "do_resize false"),
        ("do_rescale", json!(false), Kind::Unsupported, "do_rescale false"),
        ("rescale_factor", json!(1.0), Kind::Unsupported, "rescale_factor 1"),
        ("do_center_crop", json!(false), Kind::Unsupported, "do_center_crop false"),
        ("resample", json!(0), Kind::Unsupported, "resample 0"),
        ("do_pad", json!(true), Kind::Unsupported, "do_pad true"),
        ("size", json!({"height": 80, "width": 80}), Kind::Unsupported, "two sides"),
        ("size", json!({"height": 80, "width": 64}), Kind::Format, "80 x 64"),
        ("size", json!({"longest_edge": 64}), Kind::Format, "size"),
        ("crop_size", json!(32), Kind::Format, "crop_size 32"),
    ] {
        let e = refused(hugging_face(&[], &[(place, value)]).path(), kind);
        assert!(e.contains("preprocessor_config.json") && e.contains(words), "{place}: {e}");
    }
    let opened = |changes: &[(&str, Value)], preprocessor: &[(&str, Value)]| {
        let clip = Clip::open(hugging_face(changes, preprocessor).path()).unwrap();
        assert_eq!(clip.warnings(), [] as [String; 0], "{changes:?} {preprocessor:?}");
        clip
    };
    assert_eq!(opened(&[], &[("size", json!({"height": 64, "width": 64}))]).preprocessing().shape, Shape::Squash);
    let squashed = [("size", json!({"height": 64, "width": 64})), ("do_center_crop", json!(false))];
    assert_eq!(opened(&[], &squashed).preprocessing().shape, Shape::Squash);
    assert_eq!(opened(&[], &[("resample", json!(2))]).preprocessing().interpolation, Interpolation::Bilinear);
    assert_eq!(opened(&[], &[("do_normalize", json!(false))]).preprocessing().std, [1.0; 3]);
    assert_eq!(opened(&[], &[("rescale_factor", json!(0.00392156862745098))]).preprocessing(), opened(&[], &[]).preprocessing());
    let tanh = [("text_config.hidden_act", json!("gelu_pytorch_tanh")), ("vision_config.hidden_act", json!("gelu_new"))];
    assert_eq!(opened(&tanh, &[]).activation(), Some(Activation::GeluTanh));
    assert_eq!(opened(&[("text_config.hidden_act", json!("gelu"))], &[]).activation(), None);
    // The older place of the same wins as a whole; what it leaves out has the library's defaults.
    let older = json!({"num_attention_heads": 4, "hidden_act": "gelu"});
    assert_eq!(opened(&[("text_config_dict", older.clone()), ("vision_config_dict", older)], &[]).activation(), Some(Activation::Gelu));
    let without = opened(&[("text_config", json!({"num_attention_heads": null, "vocab_size": 967}))], &[]);
    assert_eq!(without.config().text.transformer.heads, 8);
    let changes = [("vision_config.window", json!(7)), ("vision_config.top_k", json!(50)), ("vision_config.dropout", json!(0.1))];
    let folder = hugging_face(&changes, &[("gamma", json!(2.2)), ("do_convert_rgb", json!(true))]);
    let clip = Clip::open(folder.path()).unwrap();
    let [config, preprocessor] = clip.warnings() else { panic!("{:?}", clip.warnings()) };
    assert!(config.contains("vision_config.window is not known") && preprocessor.contains("gamma is not known"), "{config} {preprocessor}");
    // transformers 5 writes the preprocessing into processor_config.json.
    let folder = hugging_face(&[], &[]);
    std::fs::remove_file(folder.path().join("preprocessor_config.json")).unwrap();
    let processor = folder.path().join("processor_config.json");
    std::fs::write(&processor, json!({"processor_class": "CLIPProcessor"}).to_string()).unwrap();
    assert_eq!(Clip::open(folder.path()).unwrap().preprocessing().std[0], 0.268_629_54);
    std::fs::write(&processor, json!({"image_processor": {"image_std": [0.5, 0.5, 0.5], "size": {"shortest_edge": 64}}}).to_string())
        .unwrap();
    assert_eq!(Clip::open(folder.path()).unwrap().preprocessing().std, [0.5; 3]);
}

/// A file in OpenAI's layout does not tell its activation: one warning, and a way to say it.
#[test]
fn a_file_alone_does_not_tell_its_activation() {
    let file = data("clip/gelu.pt");
    let face = data("clip/open_clip/face32.png");
    let expected: Value = serde_json::from_slice(&std::fs::read(data("clip/gelu.json")).unwrap()).unwrap();
    for (said, taken, want) in [
        (None, Activation::QuickGelu, "picture_quick_gelu"),
        (Some(Activation::QuickGelu), Activation::QuickGelu, "picture_quick_gelu"),
        (Some(Activation::Gelu), Activation::Gelu, "picture_gelu"),
    ] {
        let clip = Clip::open_as(&file, said, &Cancel::new()).unwrap();
        let have = of_picture(&clip, &face);
        let apart = have.iter().zip(row(&expected[want])).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart <= 1e-4, "{want}: {apart}");
        assert_eq!(clip.activation(), Some(taken));
        assert_eq!(Reader::open(&file, said, &Cancel::new()).unwrap().warnings(), clip.warnings());
        match (said, clip.warnings()) {
            (None, [warning]) => {
                for part in ["gelu.pt", "QuickGELU", "is taken", "open_clip_config.json", "--clip FILE:gelu", "[[clip]]"] {
                    assert!(warning.contains(part), "{warning}");
                }
            }
            (Some(_), []) => {}
            (_, other) => panic!("{said:?}: {other:?}"),
        }
    }
    // A configuration says it, and wins no argument.
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("gelu.pt");
    std::fs::copy(&file, &inside).unwrap();
    let says = json!({"model_cfg": {"vision_cfg": {"image_size": 32}, "text_cfg": {"heads": 1}}});
    std::fs::write(folder.path().join("open_clip_config.json"), says.to_string()).unwrap();
    let clip = Clip::open(&inside).unwrap();
    assert_eq!((clip.activation(), clip.warnings().len()), (Some(Activation::Gelu), 0));
    let e = Clip::open_as(&inside, Some(Activation::QuickGelu), &Cancel::new()).err().unwrap();
    assert!(e.kind() == Kind::InvalidArgument && e.to_string().contains("open_clip_config.json says gelu"), "{e}");
}

/// By the sizes that they keep.
#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn openais_own_files_are_known() {
    for name in ["tiny_vit_jit_fp16.pt", "tiny_rn_openai_state_dict.pt", "tiny_vit_hf"] {
        assert_eq!(Clip::open(&reference().join("clip").join(name)).unwrap().warnings(), [] as [String; 0], "{name}");
    }
}

/// Wide towers of open_clip have heads of other widths than OpenAI's, which would divide some of them as well.
#[test]
fn a_wide_file_alone_does_not_tell_its_heads() {
    let file = checkpoint::open(&data("clip/gelu.pt")).unwrap();
    let mut tensors: BTreeMap<_, _> = file.keys().map(|key| (key.to_string(), file.tensor(key).unwrap())).collect();
    tensors.insert("visual.conv1.weight".into(), Tensor::zeros((1280, 3, 8, 8), DType::F32, &Device::Cpu).unwrap());
    let saved = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap();
    save_safetensors(saved.path(), &tensors, &BTreeMap::new()).unwrap();
    let e = Clip::open_as(saved.path(), Some(Activation::Gelu), &Cancel::new()).err().unwrap();
    assert!(e.kind() == Kind::Format && e.to_string().contains("width 1280") && e.to_string().contains("open_clip_config.json"), "{e}");
}

/// Training needs gradients through every way of pooling and resizing: of the sum of features, along a direction, against differences.
#[test]
fn gradients_of_flags() {
    let numbers =
        |n: usize, f: f32| Tensor::from_vec((0..n).map(|i| (i as f32 * f).sin() * 0.5).collect::<Vec<_>>(), n, &Device::Cpu).unwrap();
    for name in ["plain", "pool-avg", "final-ln-after-pool", "norm-eps", "resize-longest", "resize-squash"] {
        let folder = open_clip(&config(name), |_| {});
        let clip = Clip::open(folder.path()).unwrap();
        let shape = (1, 3, 24, 40);
        let (image, along) = (numbers(24 * 40 * 3, 0.37).reshape(shape).unwrap(), numbers(24 * 40 * 3, 0.011).reshape(shape).unwrap());
        let weights = numbers(clip.dimension(), 1.7);
        let value = |image: &Tensor| {
            let features = clip.encode_image(&clip.preprocess(image, ClipResize::Antialias).unwrap()).unwrap();
            features.broadcast_mul(&weights).unwrap().sum_all().unwrap()
        };
        let number = |t: Tensor| t.to_scalar::<f32>().unwrap();
        let image = Var::from_tensor(&image).unwrap();
        let gradients = value(image.as_tensor()).backward().unwrap();
        let have = number((gradients.get(image.as_tensor()).unwrap() * &along).unwrap().sum_all().unwrap());
        let step = 2e-3;
        let moved = |step: f64| number(value(&(image.as_tensor() + (&along * step).unwrap()).unwrap()));
        let want = (moved(step) - moved(-step)) / (2.0 * step as f32);
        assert!((have - want).abs() <= 0.01 * want.abs().max(0.1), "{name}: {have} for {want}");
    }
}

/// `tensors` under other names, as a file.
fn renamed(from: &Path, name: impl Fn(&str) -> Option<String>) -> tempfile::NamedTempFile {
    let file = checkpoint::open(from).unwrap();
    let tensors = file.keys().filter_map(|key| Some((name(key)?, file.tensor(key).unwrap()))).collect();
    let saved = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap();
    save_safetensors(saved.path(), &tensors, &BTreeMap::new()).unwrap();
    saved
}

#[test]
fn what_is_near_a_clip_is_refused_by_what_it_is() {
    let siglip = "a SigLIP model, which is not supported: it needs a CLIP";
    let tensors = data("clip/siglip/model.safetensors");
    for path in [data("clip/siglip"), tensors.clone()] {
        assert!(refused(&path, Kind::Unsupported).contains(siglip));
    }
    // Without the head it is known by its bias, as a file of open_clip by its tower.
    let headless = renamed(&tensors, |key| (!key.contains(".head.")).then(|| key.to_string()));
    assert!(refused(headless.path(), Kind::Unsupported).contains(siglip));
    let trunk = renamed(&tensors, |key| Some(key.replace("vision_model.", "visual.trunk.")));
    assert!(refused(trunk.path(), Kind::Unsupported).contains("a vision tower of timm"));

    let whole = "take the whole model, such as openai/clip-vit-large-patch14";
    let text_tower = data("clip/clip_l.safetensors");
    let wrapped = renamed(&text_tower, |key| Some(format!("cond_stage_model.transformer.{key}")));
    for path in [&text_tower, wrapped.path()] {
        let e = refused(path, Kind::Unsupported);
        assert!(e.contains("only the text tower of a CLIP (text_model.*)") && e.contains(whole), "{e}");
    }
    let openais = data("clip/open_clip/open_clip_model.safetensors");
    let half = renamed(&openais, |key| (!key.starts_with("visual.")).then(|| key.to_string()));
    assert!(refused(half.path(), Kind::Unsupported).contains("only the text tower of a CLIP (transformer.*)"));
    // With and without config.json.
    let alone = renamed(&data("clip/picture_tower/model.safetensors"), |key| Some(key.to_string()));
    for path in [&data("clip/picture_tower"), alone.path()] {
        let e = refused(path, Kind::Unsupported);
        assert!(e.contains("only the picture tower of a CLIP (vision_model.*)") && e.contains(whole), "{e}");
    }
    let half = renamed(&openais, |key| key.starts_with("visual.").then(|| format!("state_dict.module.{key}")));
    assert!(refused(half.path(), Kind::Unsupported).contains("only the picture tower of a CLIP (visual.*)"));

    let e = refused(&data("clip/open_clip_xlm_roberta.pt"), Kind::Unsupported);
    assert!(e.contains("a CLIP whose texts go through XLM-RoBERTa or BERT") && e.contains("not supported"), "{e}");
    let e = refused(&data("clip/chinese_clip.pt"), Kind::Unsupported);
    assert!(e.contains("a CLIP whose texts go through BERT") && e.contains("not supported"), "{e}");
    let mt5 = renamed(&data("clip/open_clip_xlm_roberta.pt"), |key| match key.strip_prefix("text.transformer.") {
        Some("embeddings.word_embeddings.weight") => Some("text.transformer.encoder.embed_tokens.weight".into()),
        Some(_) => None,
        None => Some(key.into()),
    });
    assert!(refused(mt5.path(), Kind::Unsupported).contains("mT5"));
    // A missing tensor is still named, and other files are no CLIP.
    let broken = renamed(&openais, |key| (key != "text_projection").then(|| key.to_string()));
    assert!(refused(broken.path(), Kind::Format).contains("'text_projection' is missing"));
    assert!(refused(&shipped("generator.safetensors"), Kind::Format).contains("not a CLIP"));
}

/// What nobody sees at the ends of words is none of them, by the starter's tokenizer and by OpenAI's.
#[test]
fn what_nobody_sees_changes_no_embedding() {
    let clip = Clip::open(&shipped("clip-a")).unwrap();
    let want = of_text(&clip, "a pencil sketch");
    let pasted = std::fs::read_to_string(data("clip/bom.txt")).unwrap();
    assert!(pasted.starts_with('\u{feff}'));
    for words in
        [&pasted, "\u{200b}a pencil sketch", "a pencil sketch\u{200b}", "\u{200f}a pencil sketch\u{200e}", "a pencil sketch\u{2060}\r\n"]
    {
        assert_eq!(of_text(&clip, words), want, "{words:?}");
    }
    // The tokenizer itself is as published.
    assert_ne!(clip.embed_texts(&[pasted.trim_end().into()]).unwrap().squeeze(0).unwrap().to_vec1::<f32>().unwrap(), want);
    assert_eq!(of_text(&clip, "the painter\u{2019}s sketch"), of_text(&clip, "the painter's sketch"));
    let [warning] = &warnings("a pen\u{ad}cil sketch", [])[..] else { panic!("no warning") };
    assert!(warning.contains("U+00AD behind \"a pen\" (character 6)"), "{warning}");
    assert_eq!(warnings("\u{feff}a pencil sketch", []), [] as [String; 0]);
}

/// Words that fit alone and in no template: counted with the starter's vocabulary by CLIPTokenizerFast, 20 and 2, and 3 for "an image of".
#[test]
fn words_that_are_too_long_are_counted_with_the_longest_template() {
    let words = ["pencil sketch golden statue"; 5].join(" ");
    let templates = nada::pack::ModelPack::find("starter").unwrap().templates();
    for reader in [&Reader::open(&shipped("clip-a"), None, &Cancel::new()).unwrap(), Clip::open(&shipped("clip-a")).unwrap().reader()] {
        assert_eq!(reader.context(), 24);
        let e = reader.check("TARGET", &words, &templates.0).unwrap_err();
        let message = format!(
            "TARGET: \"{words}\" is too long by 1 token: it has 20 and 2 for start and end, and the longest template, \"an image of {{}}\", adds 3, \
             where the CLIP clip-a takes 24; leave out words, or take shorter templates"
        );
        assert_eq!((e.kind(), e.to_string()), (Kind::InvalidArgument, message));
        reader.check("TARGET", &words, &["{}".into()]).unwrap();
        let e = reader.check("--text", &format!("{words} golden statue pencil"), &["{}".into()]).unwrap_err().to_string();
        assert!(
            e.contains("too long by 1 token: it has 23 and 2 for start and end, where the CLIP clip-a takes 24; leave out words"),
            "{e}"
        );
    }
    // The published templates, of which the longest adds most, and not the first that is too long. 77 tokens.
    let openai = of_openais_vocabulary();
    let reader = Reader::open(openai.path(), Some(Activation::Gelu), &Cancel::new()).unwrap();
    let e = reader.check("TARGET", &["pencil"; 68].join(" "), &Templates::default().0).unwrap_err().to_string();
    let longest =
        Templates::default().0.iter().map(|t| reader.tokenizer().unwrap().encode(&t.replace("{}", "")).unwrap().len()).max().unwrap();
    let over = 68 + 2 + longest - 77;
    assert!(e.contains(&format!("too long by {over} tokens: it has 68 and 2")) && e.contains(&format!("adds {longest},")), "{e}");
}

/// The shapes that a reader looks at, of a CLIP with OpenAI's 49408 tokens.
fn of_openais_vocabulary() -> tempfile::NamedTempFile {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let tensors = BTreeMap::from([
        ("visual.conv1.weight".to_string(), zeros(&[1, 3, 1, 1])),
        ("positional_embedding".to_string(), zeros(&[77, 1])),
        ("token_embedding.weight".to_string(), zeros(&[49_408, 1])),
    ]);
    let file = tempfile::Builder::new().prefix("openai").suffix(".safetensors").tempfile().unwrap();
    save_safetensors(file.path(), &tensors, &BTreeMap::new()).unwrap();
    file
}

/// Words that a CLIP of English plainly does not know get one warning, English gets none: of the 79 templates, the starter's words, the
/// published examples and names of painters (more than 300 words) none is called foreign.
#[test]
fn words_of_other_languages_get_a_warning() {
    let file = of_openais_vocabulary();
    let readers = [Reader::open(file.path(), None, &Cancel::new()).unwrap(), Reader::open(file.path(), None, &Cancel::new()).unwrap()];
    for (text, word) in [
        ("Bleistiftzeichnung", "'Bleistiftzeichnung' is unknown"),
        ("карандашный набросок", "'карандашный', 'набросок' are unknown"),
        ("鉛筆スケッチ", "'鉛筆スケッチ' is unknown"),
        ("eine Kohlezeichnung", "'Kohlezeichnung' is unknown"),
        ("lyijykynäpiirros", "'lyijykynäpiirros' is unknown"),
        ("رسم بالقلم الرصاص", "are unknown"),
        ("연필 스케치", "are unknown"),
        ("a painting by Иван Шишкин", "'Иван', 'Шишкин' are unknown"),
    ] {
        let [warning] = &warnings(text, &readers)[..] else { panic!("{text}: {:?}", warnings(text, &readers)) };
        assert!(warning.contains("reads English") && warning.contains(word) && warning.contains(text), "{warning}");
    }
    let mut english: Vec<String> = Templates::default().of("dog");
    english.push(std::fs::read_to_string(shipped("words.json")).unwrap());
    english.extend(
        [
            "photo sketch pixar mona lisa painting modigliani painting cubism painting ukiyo-e zombie neanderthal werewolf tolkien elf",
            "a portrait by Fernando Botero, Frida Kahlo, Edvard Munch, Salvador Dalí, Joan Miró, Paul Cézanne, Albrecht Dürer, Matthias Grünewald",
            "Mark Zuckerberg, Nicolas Cage, Thanos, Shrek, Super Saiyan, Raphael, White Walker, the Joker, the Witcher, Voldemort, Daenerys Targaryen",
            "hamster badger capybara skunk otter boar axolotl rhinoceros hippopotamus chrysanthemum archaeopteryx tyrannosaurus chrome wheels",
            "the nightmare before christmas, snowy mountain, ancient underwater ruin, a cryengine render of Shibuya, a TRON car, rusted, anime",
            "Amedeo Modigliani, Giuseppe Arcimboldo, Friedensreich Hundertwasser, Zdzisław Beksiński, Domenico Ghirlandaio, Diego Velázquez",
            "Katsushika Hokusai, Utagawa Hiroshige, Pyotr Tchaikovsky, Ivan Aivazovsky, Jean-Michel Basquiat, Toulouse-Lautrec, Quetzalcoatl",
            "a daguerreotype, chiaroscuro, sfumato, anthropomorphic, phantasmagoria, papier-mâché, a café, naïve art, a π sign, 8-bit, C'est la vie",
            "antidisestablishmentarianism, Massachusetts, Czechoslovakia, Reykjavik, Worcestershire, onomatopoeia, Nebuchadnezzar, emoji \u{1f600}",
        ]
        .map(String::from),
    );
    for text in &english {
        assert_eq!(warnings(text, &readers), [] as [String; 0]);
    }
    let words: std::collections::BTreeSet<&str> = english.iter().flat_map(|t| t.split(|c: char| !c.is_alphabetic())).collect();
    assert!(words.len() > 300, "{}", words.len());
    // The starter's CLIPs have words of their own.
    assert_eq!(warnings("Bleistiftzeichnung", [&Reader::open(&shipped("clip-a"), None, &Cancel::new()).unwrap()]), [] as [String; 0]);
    assert_eq!(tidy(" Bleistiftzeichnung "), "Bleistiftzeichnung");
}
