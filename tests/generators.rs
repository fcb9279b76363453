//! Generators in the layouts of other programs, behind the names of their trainers, and networks that are none.
//!
//! tests/data/generators: one generator of 32 px in BasicSR's layout (basicsr.pt), as torch.compile saves it (compiled.pt), and what it draws,
//! computed in float64 with PyTorch; and a generator with wavelets (swagan.pt).

mod common;

use candle_core::{DType, Device, Tensor};
use common::{close, data};
use nada::checkpoint::{self, read_npy, Checkpoint};
use nada::nn::clip::Clip;
use nada::nn::encoders::EncoderFile;
use nada::nn::generator::{find, Generator, Latent, Naming, Noise, Space};
use nada::{Error, Kind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// float32 sums in another order.
const ATOL: f64 = 5e-5;

type Tensors = BTreeMap<String, Tensor>;

fn file(name: &str) -> PathBuf {
    data("generators").join(name)
}

fn open(name: &str) -> Checkpoint {
    checkpoint::open(&file(name)).unwrap()
}

/// The tensors of `file` below `prefix`, behind `place`.
fn behind(file: &Checkpoint, prefix: &str, place: &str) -> Tensors {
    let below = file.with_prefix(prefix);
    below.keys().map(|key| (format!("{place}{key}"), below.tensor(key).unwrap())).collect()
}

fn saved(folder: &Path, tensors: &Tensors) -> PathBuf {
    let path = folder.join("a.safetensors");
    checkpoint::save_safetensors(&path, tensors, &Default::default()).unwrap();
    path
}

fn zeros(tensors: &Tensors, from: &str, to: &str) -> Tensors {
    tensors.iter().map(|(key, tensor)| (key.replacen(from, to, 1), tensor.zeros_like().unwrap())).collect()
}

fn draws(path: &Path, z: &str, expected: &str) {
    let generator = Generator::open(path).unwrap_or_else(|e| panic!("{e}"));
    let latent = Latent::open(&file(z), Space::Z).unwrap();
    let have = generator.render(&latent, 1.0, Noise::Const).unwrap();
    close(&path.display().to_string(), &have, &read_npy(&file(expected)).unwrap(), ATOL, 0.0);
}

fn info(path: &Path) -> Value {
    let out = Command::new(env!("CARGO_BIN_EXE_nada")).env_remove("NADA_MODELS").args(["--json", "info"]).arg(path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    serde_json::from_slice::<Value>(&out.stdout).unwrap()["files"][0].clone()
}

fn refused<T>(result: nada::Result<T>, kind: Kind) -> String {
    let e: Error = result.err().expect("it was read");
    assert_eq!(e.kind(), kind, "{e}");
    e.to_string()
}

#[test]
fn basicsrs_layout_draws_what_it_should() {
    draws(&file("basicsr.pt"), "basicsr_z.npy", "basicsr_expected.npy");
    let about = info(&file("basicsr.pt"));
    assert_eq!((&about["layout"], &about["taken_from"]), (&"BasicSR".into(), &"params_ema".into()), "{about}");

    let folder = tempfile::tempdir().unwrap();
    let original = open("basicsr.pt");
    let want = Generator::open(&file("basicsr.pt")).unwrap();
    // Alone; not averaged; inside of GFPGAN, as safetensors.
    for place in ["", "params.", "params_ema.stylegan_decoder.", "stylegan_decoder."] {
        let mut tensors = behind(&original, "params_ema.", place);
        tensors.insert("params_ema.conv_body_first.0.weight".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
        let have = Generator::open(&saved(folder.path(), &tensors)).unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!(have.fingerprint().unwrap(), want.fingerprint().unwrap(), "{place}");
        close(place, &have.noise_maps()[6], &want.noise_maps()[6], 0.0, 0.0);
    }
    // The average over the training before the last step's.
    let mut both = behind(&original, "params_ema.", "params_ema.");
    both.extend(zeros(&both, "params_ema.", "params."));
    assert_eq!(Generator::open(&saved(folder.path(), &both)).unwrap().fingerprint().unwrap(), want.fingerprint().unwrap());
    // What is missing is named as the file would name it.
    let mut tensors = behind(&original, "params_ema.", "params_ema.");
    tensors.remove("params_ema.style_convs.3.weight");
    let e = refused(Generator::open(&saved(folder.path(), &tensors)), Kind::Format);
    assert!(e.contains("'params_ema.style_convs.3.weight'"), "{e}");
    // Its other layout has the same names but for the biases, and other arithmetic.
    let mut tensors = behind(&original, "params_ema.", "params_ema.stylegan_decoder.");
    tensors.insert("params_ema.stylegan_decoder.style_conv1.bias".into(), Tensor::zeros((1, 16, 1, 1), DType::F32, &Device::Cpu).unwrap());
    let e = refused(Generator::open(&saved(folder.path(), &tensors)), Kind::Unsupported);
    assert!(e.contains("GFPGAN's layout called clean") && e.contains("GFPGANv1.pth"), "{e}");
}

#[test]
fn generators_are_found_behind_the_names_of_trainers() {
    draws(&file("compiled.pt"), "compiled_z.npy", "compiled_expected.npy");
    assert_eq!(info(&file("compiled.pt"))["taken_from"], "_orig_mod");
    let folder = tempfile::tempdir().unwrap();
    let original = open("compiled.pt");
    for place in [
        "",
        "g_ema._orig_mod.",
        "_orig_mod.g_ema.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "state_dict.g_ema.",
        "state_dict._orig_mod.model.",
        "state_dict.generator.module.",
        "ema.",
        "ema_model.module.",
        "model_ema.",
        "generator_ema.",
        "netG.",
        "netG_ema_state_dict.",
        "net_G.",
        "state_dict_ema.",
        "_forward_module._fsdp_wrapped_module.",
        // Nobody knows the name; it is the only one.
        "somebodys.network.",
    ] {
        let path = saved(folder.path(), &behind(&original, "_orig_mod.", place));
        draws(&path, "compiled_z.npy", "compiled_expected.npy");
        let want = if place.is_empty() { "the file itself" } else { place.trim_end_matches('.') };
        assert_eq!(info(&path)["taken_from"], want);
    }
    // Beside the average over the training there are untrained numbers, under names that are as good.
    for (average, other) in [
        ("state_dict.g_ema.", "state_dict.generator."),
        ("g_ema.", "model."),
        ("ema.", "net."),
        ("generator_ema.", ""),
        ("netG_ema.", "netG."),
        ("averaged_model.module.", "module."),
        ("state_dict_ema.", "state_dict."),
        // An exact name before one that says nothing.
        ("generator.", "teacher."),
        ("model.", "model.discriminator.generator."),
    ] {
        let mut tensors = behind(&original, "_orig_mod.", average);
        tensors.extend(zeros(&tensors, average, other));
        let path = saved(folder.path(), &tensors);
        draws(&path, "compiled_z.npy", "compiled_expected.npy");
        let about = info(&path);
        assert_eq!(about["taken_from"], average.trim_end_matches('.'), "{about}");
        let passed_over = if other.is_empty() { "the file itself" } else { other.trim_end_matches('.') };
        assert_eq!(about["passed_over"], serde_json::json!([passed_over]), "{about}");
    }
}

#[test]
fn means_of_w_are_found_beside_what_the_generator_is_in() {
    let folder = tempfile::tempdir().unwrap();
    let mean = Tensor::arange(0f32, 32f32, &Device::Cpu).unwrap();
    for (place, key) in [
        ("g_ema.", "latent_avg"),
        ("g_ema._orig_mod.", "g_ema.latent_avg"),
        ("state_dict.module.g_ema.", "state_dict.latent_avg"),
        ("", "latent_avg"),
    ] {
        let mut tensors = behind(&open("compiled.pt"), "_orig_mod.", place);
        tensors.insert(key.into(), mean.clone());
        let generator = Generator::open(&saved(folder.path(), &tensors)).unwrap();
        close(place, &generator.mean_w().unwrap(), &mean, 0.0, 0.0);
    }
}

#[test]
fn what_is_not_clear_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let original = open("compiled.pt");
    let mut tensors = behind(&original, "_orig_mod.", "teacher.");
    tensors.extend(behind(&original, "_orig_mod.", "student.face."));
    let e = refused(Generator::open(&saved(folder.path(), &tensors)), Kind::Format);
    assert!(e.contains("holds 2 generators") && e.contains("student.face, teacher") && e.contains("g_ema"), "{e}");

    // Averages whose names were not kept are passed over, which info says; alone they are refused.
    let list = |place: &str| (format!("{place}shadow_params.0"), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    let mut tensors = behind(&original, "_orig_mod.", "model.");
    tensors.extend([list("ema.")]);
    let path = saved(folder.path(), &tensors);
    assert_eq!(info(&path)["passed_over"], serde_json::json!(["ema.shadow_params"]));
    let e = refused(Generator::open(&saved(folder.path(), &[list("ema.")].into())), Kind::Unsupported);
    assert!(e.contains("shadow_params") && e.contains("state_dict"), "{e}");
}

#[test]
fn clips_and_encoders_are_found_there_too() {
    let folder = tempfile::tempdir().unwrap();
    let clip = checkpoint::open(&data("formats/open_clip/open_clip_model.safetensors")).unwrap();
    std::fs::copy(data("formats/open_clip/open_clip_config.json"), folder.path().join("open_clip_config.json")).unwrap();
    let original = Clip::from_checkpoint(&clip).unwrap();
    for place in ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "state_dict.clip_model.", "state_dict.module.model."] {
        let mut tensors = behind(&clip, "", place);
        tensors.insert("optimizer.state.0.exp_avg".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
        let path = saved(folder.path(), &tensors);
        let have = Clip::open(&path).unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!(have.config(), original.config(), "{place}");
        assert_eq!(info(&path)["taken_from"], place.trim_end_matches('.'));
    }
    let mut both = behind(&clip, "", "model.");
    both.extend(zeros(&both, "model.", "ema_model."));
    let taken = Clip::place(&checkpoint::open(&saved(folder.path(), &both)).unwrap()).full("");
    assert_eq!(taken, "ema_model.");

    let encoder = checkpoint::open(&data("formats/e4e.pt")).unwrap();
    let want = EncoderFile::from_checkpoint(&encoder).unwrap();
    for place in ["state_dict._orig_mod.", "_orig_mod.", "state_dict.module._orig_mod."] {
        let mut tensors = behind(&encoder, "state_dict.", place);
        tensors.insert("latent_avg".into(), encoder.tensor("latent_avg").unwrap());
        let have = EncoderFile::open(&saved(folder.path(), &tensors)).unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!((&have.config, &have.tensors, &have.latent_avg), (&want.config, &want.tensors, &want.latent_avg), "{place}");
        assert_eq!(have.decoder.unwrap().fingerprint().unwrap(), want.decoder.as_ref().unwrap().fingerprint().unwrap(), "{place}");
        assert_eq!(have.other, [""; 0], "{place}");
    }
}

#[test]
fn other_networks_are_refused_by_name() {
    let e = refused(Generator::open(&file("swagan.pt")), Kind::Unsupported);
    assert!(e.contains("swagan.pt: is a SWAGAN generator (wavelets), which is not supported"), "{e}");
    let folder = tempfile::tempdir().unwrap();
    for (key, what) in [
        ("G_ema.synthesis.input.freqs", "StyleGAN3"),
        ("g_ema.affine_fourier.weight", "alias-free"),
        ("generator.progression.0.conv1.conv.weight_orig", "StyleGAN1"),
        ("g_synthesis.blocks.4x4.const", "StyleGAN1"),
        ("generator_smooth.synthesis.early_layer.const", "GenForce"),
        ("state_dict.generator_ema.style_mapping.1.weight_orig", "MMGeneration"),
        ("GAN.GE.blocks.0.to_style1.weight", "lucidrains"),
        ("scaleLayers.0.0.module.weight", "ProGAN"),
        ("generator.gen_z.weight_orig", "BigGAN"),
        ("blocks.0.0.bn1.gain.weight", "BigGAN"),
        ("state_dict.model.diffusion_model.input_blocks.0.0.weight", "diffusion model"),
        ("down_blocks.0.resnets.0.conv1.weight", "diffusion model"),
        ("params_ema.quantize.embedding.weight", "VQGAN"),
        ("d.final_linear.0.weight", "discriminator"),
    ] {
        let tensors = [(key.to_string(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap())].into();
        let e = refused(Generator::open(&saved(folder.path(), &tensors)), Kind::Unsupported);
        assert!(e.contains(what) && e.contains("not supported: "), "{key}: {e}");
    }
    // EG3D draws its planes by a StyleGAN2, whose pictures are none.
    let tensors = [("G_ema.backbone.synthesis.b4.const".to_string(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap())].into();
    let e = refused(Generator::open(&saved(folder.path(), &tensors)), Kind::Unsupported);
    assert!(e.contains("EG3D"), "{e}");
    // A word inside a name is no such network.
    let tensors = [("my_progression.0x".to_string(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap())].into();
    let e = refused(Generator::open(&saved(folder.path(), &tensors)), Kind::Format);
    assert!(e.contains("no StyleGAN2 generator") && e.contains("BasicSR's style_conv1"), "{e}");
    assert_eq!(find(&open("compiled.pt")).unwrap().naming, Naming::Rosinality);
}
