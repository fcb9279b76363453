//! One generator, one CLIP and encoders in every format that people have them in; tests/data/make_formats.py wrote them with PyTorch.

mod common;

use candle_core::{DType, Tensor};
use common::{close, data, reference};
use nada::checkpoint::{self, Checkpoint, Format};
use nada::nn::clip::{Activation, Clip, VisionConfig};
use nada::nn::encoders::{Backbone, EncoderFile};
use nada::nn::generator::{Generator, Latent, Space};
use nada::pack::NewPack;
use nada::progress::Cancel;
use nada::{Error, Kind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn file(name: &str) -> PathBuf {
    data("formats").join(name)
}

fn open(name: &str) -> Checkpoint {
    checkpoint::open(&file(name)).unwrap_or_else(|e| panic!("{e}"))
}

fn expected(prefix: &str) -> Checkpoint {
    open("expected.safetensors").with_prefix(prefix)
}

fn message(result: Result<impl Sized, Error>, kind: Kind) -> String {
    let e = result.err().unwrap();
    assert_eq!(e.kind(), kind, "{e}");
    e.to_string()
}

#[test]
fn one_generator_in_every_format() {
    let want = Generator::from_checkpoint(&expected("generator.")).unwrap();
    let mean = expected("generator.").f32("latent_avg", None).unwrap();
    for (name, format, has_mean) in [
        ("trainer.pt", Format::TorchZip, false),
        ("trainer_legacy.pt", Format::TorchLegacy, false),
        ("legacy.pt", Format::TorchLegacy, true),
        ("legacy_protocol4.pt", Format::TorchLegacy, true),
        ("plain.pkl", Format::Pickle, true),
        ("ada.pkl", Format::Pickle, true),
        // With blocks in f16, clamps and channels_last weights, in a newer pickle.
        ("stylegan3_repository.pkl", Format::Pickle, true),
        ("e4e.pt", Format::TorchZip, true),
        ("psp.pt", Format::TorchLegacy, true),
    ] {
        assert_eq!(open(name).format, format, "{name}");
        let have = Generator::open(&file(name)).unwrap_or_else(|e| panic!("{e}"));
        // The same numbers under the same names; a clamp makes another generator of them.
        assert_eq!(have.fingerprint_of_format_1().unwrap(), want.fingerprint().unwrap(), "{name}");
        assert_eq!(have.fingerprint().unwrap() == want.fingerprint().unwrap(), have.config().conv_clamp.is_none(), "{name}");
        for (a, b) in have.noise_maps().iter().zip(want.noise_maps()) {
            close(&format!("{name}: noise"), a, b, 0.0, 0.0);
        }
        assert_eq!(have.config().conv_clamp, (name == "stylegan3_repository.pkl").then_some(256.0), "{name}");
        if has_mean {
            // The mean over 8 equal rows in f32.
            close(&format!("{name}: mean of w"), &have.mean_w().unwrap(), &mean, 0.0, 1e-6);
        }
    }
}

/// The tensors of `file`, each under the name that `name` makes of its own.
fn renamed(file: &Checkpoint, name: impl Fn(&str) -> String) -> BTreeMap<String, Tensor> {
    file.keys().map(|key| (name(key), file.tensor(key).unwrap())).collect()
}

#[test]
fn networks_are_found_where_trainers_and_parallel_wrappers_put_them() {
    let folder = tempfile::tempdir().unwrap();
    let saved = |tensors: &BTreeMap<String, Tensor>| {
        let path = folder.path().join("a.safetensors");
        checkpoint::save_safetensors(&path, tensors, &Default::default()).unwrap();
        checkpoint::open(&path).unwrap()
    };
    let want = Generator::from_checkpoint(&expected("generator.")).unwrap();
    for place in ["module.", "g_ema.module.", "g.", "g.module.", "state_dict.", "state_dict.decoder.module."] {
        let tensors = renamed(&open("trainer.pt").with_prefix("g_ema."), |key| format!("{place}{key}"));
        assert_eq!(Generator::from_checkpoint(&saved(&tensors)).unwrap().fingerprint().unwrap(), want.fingerprint().unwrap(), "{place}");
    }
    let nvidia = open("ada.pkl");
    let tensors = renamed(&nvidia.with_prefix("G_ema."), |key| format!("G_ema.module.{key}"));
    assert!(!tensors.is_empty());
    assert_eq!(Generator::from_checkpoint(&saved(&tensors)).unwrap().fingerprint().unwrap(), want.fingerprint().unwrap());
    // Of the two in a trainer's file the mean over the training, however it is wrapped.
    let mut both = renamed(&open("trainer.pt").with_prefix("g_ema."), |key| format!("g_ema.module.{key}"));
    both.extend(both.clone().into_iter().map(|(key, tensor)| (key.replace("g_ema.", "g."), tensor.zeros_like().unwrap())));
    assert_eq!(Generator::from_checkpoint(&saved(&both)).unwrap().fingerprint().unwrap(), want.fingerprint().unwrap());

    // As open_clip's trainer writes it, with the optimiser's state, which a pack leaves behind.
    let original = checkpoint::open(&file("open_clip/open_clip_model.safetensors")).unwrap();
    let picture = expected("clip.").f32("image", None).unwrap();
    let features = |path: &Path| Clip::open(path).unwrap().encode_image(&picture).unwrap().to_vec2::<f32>().unwrap();
    for place in ["module.", "state_dict.", "state_dict.module.", "model.", "model_state_dict."] {
        let folder = folder.path().join(place);
        std::fs::create_dir(&folder).unwrap();
        let mut tensors = renamed(&original, |key| format!("{place}{key}"));
        tensors.insert("optimizer.state.0.exp_avg".into(), picture.clone());
        checkpoint::save_safetensors(&folder.join("open_clip_model.safetensors"), &tensors, &Default::default()).unwrap();
        std::fs::copy(file("open_clip/open_clip_config.json"), folder.join("open_clip_config.json")).unwrap();
        assert_eq!(features(&folder), features(&file("open_clip")), "{place}");
        let clips = vec![(folder.clone(), 1.0).into()];
        let new = NewPack { name: "a".into(), generator: file("trainer.pt"), clips, ..NewPack::default() };
        let pack = new.make(&folder, &Cancel::new()).unwrap();
        let kept = checkpoint::open(&pack.clips[0].path.join("model.safetensors")).unwrap();
        assert_eq!(kept.keys().collect::<Vec<_>>(), original.keys().collect::<Vec<_>>(), "{place}");
        assert_eq!(features(&pack.clips[0].path), features(&file("open_clip")), "{place}");
    }
    // What is wrong is named as the file names it.
    let mut tensors = renamed(&original, |key| format!("state_dict.module.{key}"));
    tensors.remove("state_dict.module.text_projection");
    let e = message(Clip::from_checkpoint(&saved(&tensors)), Kind::Format);
    assert!(e.contains("'state_dict.module.text_projection'"), "{e}");
}

#[test]
fn a_trainers_arguments_are_plain_values() {
    for name in ["trainer.pt", "trainer_legacy.pt"] {
        let have = open(name);
        for (key, value) in [
            ("args.size", "32"),
            ("args.path", "lmdb"),
            ("args.lr", "0.002"),
            ("args.augment", "false"),
            ("ada_aug_p", "0.125"),
            ("g_optim.param_groups.0.betas.1", "0.99"),
        ] {
            assert_eq!(have.value(key), Some(value), "{name}: {key}");
        }
        // Both are the same file in two formats: every tensor, the optimiser's too.
        let zip = open("trainer.pt");
        assert_eq!(have.keys().collect::<Vec<_>>(), zip.keys().collect::<Vec<_>>());
        assert!(have.contains("g_optim.state.0.exp_avg_sq") && have.contains("d.final_conv.0.weight"));
        for key in zip.keys() {
            close(key, &have.tensor(key).unwrap(), &zip.tensor(key).unwrap(), 0.0, 0.0);
        }
    }
}

#[test]
fn networks_that_are_something_else_are_named() {
    let e = message(Generator::open(&file("stylegan3.pkl")), Kind::Unsupported);
    assert!(e.contains("stylegan3.pkl") && e.contains("is a StyleGAN3 generator"), "{e}");
    let tensorflow = b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00)\x81.".to_vec();
    let e = message(checkpoint::open_bytes(Path::new("old.pkl"), tensorflow), Kind::Unsupported);
    assert!(e.contains("old.pkl") && e.contains("TensorFlow"), "{e}");
    let unknown = b"\x80\x03}X\x01\x00\x00\x00acmodels.stylegan\nGenerator\n)\x81s.".to_vec();
    let e = message(checkpoint::open_bytes(Path::new("own.pkl"), unknown), Kind::Unsupported);
    assert!(e.contains("own.pkl") && e.contains("models.stylegan.Generator"), "{e}");
    let e = message(Clip::open(&file("ada.pkl")), Kind::Format);
    assert!(e.contains("not a CLIP"), "{e}");
    let e = message(Generator::open(&file("open_clip/open_clip_model.safetensors")), Kind::Format);
    assert!(e.contains("no StyleGAN2 generator"), "{e}");
}

#[test]
fn one_clip_of_open_clip_and_of_hugging_face_in_parts() {
    let want = expected("clip.");
    let get = |key: &str| want.f32(key, None).unwrap();
    let tokens = want.tensor("tokens").unwrap().to_dtype(DType::U32).unwrap();
    let parts = file("hf_sharded/model.safetensors.index.json");
    assert_eq!(checkpoint::open(&parts).unwrap().format, Format::Sharded);
    for path in [file("open_clip"), file("open_clip/open_clip_model.safetensors"), file("hf_sharded"), parts] {
        let clip = Clip::open(&path).unwrap();
        let VisionConfig::Vit(vision) = &clip.config().vision else { panic!("no transformer") };
        assert_eq!((vision.transformer.heads, vision.transformer.activation), (2, Activation::Gelu));
        assert_eq!(clip.config().text.transformer.heads, 4);
        assert!(clip.name == "open_clip" || clip.name == "hf_sharded", "{}", clip.name);
        let mean = if clip.name == "open_clip" { 0.5 } else { 0.481_454_66 };
        assert_eq!(clip.preprocessing().mean[0], mean);
        // As the reference's README says for f32 features.
        close("image_features", &clip.encode_image(&get("image")).unwrap(), &get("image_features"), 2e-5, 2e-5);
        close("text_features", &clip.encode_tokens(&tokens).unwrap(), &get("text_features"), 2e-5, 2e-5);
    }
    // open_clip's other arrangement of the same tensors: the text tower under a name of its own.
    let custom = tempfile::tempdir().unwrap();
    let original = checkpoint::open(&file("open_clip/open_clip_model.safetensors")).unwrap();
    let name = |key: &str| if key.starts_with("visual.") || key == "logit_scale" { key.to_string() } else { format!("text.{key}") };
    let tensors = original.keys().map(|key| (name(key), original.tensor(key).unwrap())).collect();
    checkpoint::save_safetensors(&custom.path().join("open_clip_model.safetensors"), &tensors, &Default::default()).unwrap();
    std::fs::copy(file("open_clip/open_clip_config.json"), custom.path().join("open_clip_config.json")).unwrap();
    let clip = Clip::open(custom.path()).unwrap();
    close("image_features", &clip.encode_image(&get("image")).unwrap(), &get("image_features"), 2e-5, 2e-5);
    close("text_features", &clip.encode_tokens(&tokens).unwrap(), &get("text_features"), 2e-5, 2e-5);
    // Without its configuration the file is taken for OpenAI's, whose heads are 64 wide.
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("a.safetensors");
    std::fs::copy(file("open_clip/open_clip_model.safetensors"), &alone).unwrap();
    assert!(message(Clip::open(&alone), Kind::Format).contains("not a multiple of 64"));
    let e = message(Clip::open(folder.path()), Kind::NotFound);
    assert!(e.contains("open_clip_model.safetensors"), "{e}");
}

#[test]
fn an_index_names_only_files_beside_it_and_tensors_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    std::fs::copy(file("hf_sharded").join(one), folder.path().join(one)).unwrap();
    let path = folder.path().join("model.safetensors.index.json");
    let text = std::fs::read_to_string(file("hf_sharded/model.safetensors.index.json")).unwrap();
    for (text, want, kind) in [
        (text.clone(), two, Kind::NotFound),
        (text.replace(two, one), "has no such tensor", Kind::Format),
        (text.replace(two, "../secret.safetensors"), "only files beside it", Kind::Format),
        (text.replace(two, "/etc/passwd"), "only files beside it", Kind::Format),
        (text.replace(two, ".."), "only files beside it", Kind::Format),
        (text.replace(two, "model.safetensors.index.json"), "an index again", Kind::Format),
        ("{}".into(), "weight_map", Kind::Format),
        (" ".repeat(3 << 20), "index of a checkpoint in several files of at most 2097152", Kind::Format),
    ] {
        std::fs::write(&path, text).unwrap();
        let e = message(checkpoint::open(&path), kind);
        assert!(e.contains(want), "{want}: {e}");
    }
}

#[test]
fn encoders_files_with_every_key_accounted_for() {
    let want = Generator::from_checkpoint(&expected("generator.")).unwrap();
    for (name, kind, backbone, input, pyramid, count) in [
        ("e4e.pt", "Encoder4Editing", Backbone::IrSe50, 3, true, 152),
        ("psp.pt", "GradualStyleEncoder", Backbone::IrSe50, 3, true, 152),
        ("restyle_e4e.pt", "ProgressiveBackboneEncoder", Backbone::IrSe50, 6, false, 148),
        ("restyle_psp_resnet.pt", "ResNetBackboneEncoder", Backbone::ResNet34, 6, false, 85),
    ] {
        let have = EncoderFile::open(&file(name)).unwrap_or_else(|e| panic!("{e}"));
        let c = &have.config;
        assert_eq!((c.backbone, c.input_channels, c.pyramid, c.styles, c.style_dim), (backbone, input, pyramid, 8, 4), "{name}");
        assert_eq!(have.tensors.len(), count, "{name}");
        assert_eq!(have.decoder.as_ref().unwrap().fingerprint().unwrap(), want.fingerprint().unwrap(), "{name}");
        assert_eq!(have.latent_avg.as_deref(), Some(&[8, 4][..]), "{name}");
        assert_eq!(have.opts.get("encoder_type").map(String::as_str), Some(kind), "{name}");
        assert_eq!(have.opts.get("progressive_steps.1").map(String::as_str), Some("20000"), "{name}");
        assert_eq!(have.other, [""; 0], "{name}");
        // Encoder, decoder and latent_avg: nothing is counted twice or left out.
        let all = open(name);
        let decoder = all.keys().filter(|key| key.starts_with("state_dict.decoder.")).count();
        assert_eq!(all.keys().count(), count + decoder + 1, "{name}");
        for key in &have.tensors {
            have.encoder.f32(key, None).unwrap();
        }
    }
}

#[test]
fn what_does_not_belong_to_an_encoder_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encoder.safetensors");
    let all = open("e4e.pt");
    let encoder = all.with_prefix("state_dict.encoder.");
    let save = |change: &dyn Fn(&mut std::collections::BTreeMap<String, Tensor>)| {
        let mut tensors = encoder.keys().map(|key| (key.to_string(), encoder.tensor(key).unwrap())).collect();
        change(&mut tensors);
        checkpoint::save_safetensors(&path, &tensors, &Default::default()).unwrap();
        EncoderFile::open(&path)
    };
    let extra = save(&|t| drop(t.insert("discriminator.weight".into(), t["latlayer1.bias"].clone()))).unwrap();
    assert_eq!(extra.other, ["discriminator.weight"]);
    assert!(extra.decoder.is_none() && extra.latent_avg.is_none());
    let e = message(save(&|t| drop(t.remove("body.3.res_layer.2.weight"))), Kind::Format);
    assert!(e.contains("has no tensor 'body.3.res_layer.2.weight', of shape [4]"), "{e}");
    let e = message(save(&|t| drop(t.insert("latlayer2.weight".into(), t["latlayer1.weight"].clone()))), Kind::Format);
    assert!(e.contains("'latlayer2.weight' has shape [4, 4, 1, 1], where [4, 3, 1, 1] is needed"), "{e}");
    let e = message(EncoderFile::open(&file("ada.pkl")), Kind::Format);
    assert!(e.contains("no encoder of pSp, e4e or ReStyle"), "{e}");
}

/// A safetensors file with these tensors, all zero, that takes no place on a disk.
fn sparse(path: &Path, tensors: &serde_json::Map<String, Value>) {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (key, entry) in tensors {
        let (size, name) = match entry[1].as_str().unwrap() {
            "int64" => (8, "I64"),
            "float32" => (4, "F32"),
            other => panic!("{other}"),
        };
        let end = at + size * entry[0].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product::<u64>();
        header.insert(key.clone(), serde_json::json!({"dtype": name, "shape": entry[0], "data_offsets": [at, end]}));
        at = end;
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    std::fs::write(path, &bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_len(bytes.len() as u64 + at).unwrap();
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn reference_encoders() {
    let folder = reference();
    for (name, input, pyramid) in [("tiny_psp_GradualStyle", 3, true), ("tiny_restyle_e4e_ProgressiveBackbone", 6, false)] {
        let have = EncoderFile::open(&folder.join(format!("encoder/{name}.safetensors"))).unwrap();
        let c = &have.config;
        assert_eq!(
            (c.backbone, c.input_channels, c.pyramid, c.styles, c.style_dim, c.blocks),
            (Backbone::IrSe50, input, pyramid, 10, 32, 24)
        );
        assert_eq!(have.other, [""; 0]);
        assert_eq!(have.tensors.len(), have.encoder.keys().count());
        for key in &have.tensors {
            have.encoder.f32(key, None).unwrap();
        }
    }
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("full.safetensors");
    for (name, backbone, input, pyramid, blocks) in [
        ("psp_GradualStyleEncoder_irse50_n18", Backbone::IrSe50, 3, true, 24),
        ("e4e_Encoder4Editing_irse50_n18", Backbone::IrSe50, 3, true, 24),
        ("restyle_e4e_ProgressiveBackboneEncoder_irse50_n18", Backbone::IrSe50, 6, false, 24),
        ("restyle_psp_BackboneEncoder_irse50_n18", Backbone::IrSe50, 6, false, 24),
        ("restyle_e4e_ResNetProgressiveBackboneEncoder_n18", Backbone::ResNet34, 6, false, 16),
        ("restyle_psp_ResNetBackboneEncoder_n18", Backbone::ResNet34, 6, false, 16),
    ] {
        let manifest = json(&folder.join(format!("manifests/{name}.json")));
        let tensors = manifest["tensors"].as_object().unwrap();
        sparse(&path, tensors);
        let have = EncoderFile::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let c = &have.config;
        assert_eq!((c.backbone, c.input_channels, c.pyramid, c.blocks, c.styles, c.style_dim), (backbone, input, pyramid, blocks, 18, 512));
        assert_eq!(have.tensors.len(), tensors.len(), "{name}");
        assert_eq!(have.other, [""; 0], "{name}");
    }
}

#[test]
fn arrays_of_numpy() {
    let all = open("arrays.npz");
    assert_eq!((all.format, all.keys().collect::<Vec<_>>()), (Format::Npz, vec!["fortran", "half", "z"]));
    let z: Vec<f32> = (0..8).map(|i| i as f32 / 7.0).collect();
    // i / 7 in f32, whose rounding is that of f64 to f32 or one step beside it.
    close("z", &all.f32("z", None).unwrap(), &Tensor::from_vec(z, (2, 4), &candle_core::Device::Cpu).unwrap(), 0.0, 1e-7);
    assert_eq!(all.f32("fortran", Some(&[2, 3])).unwrap().to_vec2::<f32>().unwrap(), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]);
    assert_eq!(all.f32("half", Some(&[3])).unwrap().to_vec1::<f32>().unwrap(), [1.0; 3]);
    assert_eq!(Latent::open(&file("arrays.npz"), Space::Z).unwrap().tensor.dims(), [2, 4]);
    // NVIDIA's projector calls W+ "w".
    let projected = Latent::open(&file("projected_w.npz"), Space::WPlus).unwrap();
    assert_eq!((projected.space, projected.tensor.dims()), (Space::WPlus, &[1, 8, 4][..]));
    assert!(message(Latent::open(&file("projected_w.npz"), Space::W), Kind::Format).contains("latents of w have [N, style_dim]"));
}

#[test]
fn info_says_what_each_file_is() {
    let info = |name: &str| -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_nada")).args(["--json", "info"]).arg(file(name)).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["files"][0].clone()
    };
    let encoder = info("e4e.pt");
    assert_eq!((&encoder["kind"], &encoder["backbone"]), (&"encoder".into(), &"IrSe50".into()), "{encoder}");
    assert_eq!((&encoder["encoder_tensors"], &encoder["other"]), (&152.into(), &Value::Array(vec![])), "{encoder}");
    assert_eq!((&encoder["decoder"]["size"], &encoder["latent_avg"]), (&32.into(), &serde_json::json!([8, 4])), "{encoder}");
    assert_eq!(encoder["opts"]["encoder_type"], "Encoder4Editing", "{encoder}");
    let generator = info("ada.pkl");
    assert_eq!((&generator["kind"], &generator["format"], &generator["size"]), (&"generator".into(), &"Pickle".into(), &32.into()));
    assert_eq!(generator["fingerprint"], encoder["decoder"]["fingerprint"]);
    assert_eq!(info("open_clip/open_clip_model.safetensors")["kind"], "clip");
}
