//! NVIDIA's pickled networks against the official code's outputs.

mod common;

use candle_core::Tensor;
use common::{close, reference};
use nada::checkpoint::{self, Checkpoint, Format};
use nada::nn::generator::stylegan2::ada_name;
use nada::nn::generator::{Generator, Layer, Noise};
use nada::Kind;
use std::collections::BTreeMap;

/// The README of the reference data: 5e-5, on pictures of about +-5.
const ATOL: f64 = 5e-5;
/// What the reference's f16 blocks may differ from f32 by: the README measured 0.014 (about 11 bits of values up to 14).
const ATOL_F16: f64 = 0.02;

struct Case {
    generator: Generator,
    want: Checkpoint,
    compared: Vec<String>,
}

impl Case {
    fn open(name: &str) -> Self {
        let folder = reference().join("stylegan2_nvidia");
        let generator = Generator::open(&folder.join(format!("{name}.pkl"))).unwrap();
        let want = checkpoint::open(&folder.join(format!("{name}_expected.safetensors"))).unwrap();
        Case { generator, want, compared: vec![] }
    }

    fn get(&self, key: &str) -> Tensor {
        self.want.f32(key, None).unwrap()
    }

    fn compare_within(&mut self, key: &str, have: &Tensor, atol: f64) {
        let want = self.get(key);
        // Large layers keep the first sample only.
        close(key, &have.narrow(0, 0, want.dim(0).unwrap()).unwrap(), &want, atol, 1e-5);
        self.compared.push(key.into());
    }

    fn compare(&mut self, key: &str, have: &Tensor) {
        self.compare_within(key, have, ATOL);
    }

    fn draw(&self, wplus: &Tensor, noise: Noise) -> Tensor {
        self.generator.synthesize(wplus, noise).unwrap()
    }

    /// W+, truncated, mixed, and the pictures of all of them.
    fn pictures(&mut self, w: &Tensor) {
        let wplus = self.generator.broadcast(w).unwrap();
        self.compare("ws", &wplus);
        let image = self.draw(&wplus, Noise::Const);
        self.compare("image_const", &image);
        // The order in which style and weight are multiplied is another, the function is the same.
        self.compare("image_const_unfused", &image);
        let still = self.draw(&wplus, Noise::None);
        self.compare("image_none", &still);
        let truncated = self.generator.truncate(&wplus, 0.7).unwrap();
        let cut = self.generator.mix(&truncated, &wplus, 4).unwrap();
        for (rows, ws, image) in
            [(&truncated, "ws_trunc07", "image_trunc07_const"), (&cut, "ws_trunc07_cutoff4", "image_trunc07_cutoff4_const")]
        {
            self.compare(ws, rows);
            self.compare(image, &self.draw(rows, Noise::Const));
        }
        // The rows from 4 on are those of the other sample.
        let other = Tensor::cat(&[wplus.narrow(0, 1, 1).unwrap(), wplus.narrow(0, 0, 1).unwrap()], 0).unwrap();
        let mixed = self.generator.mix(&wplus, &other, 4).unwrap();
        self.compare("ws_mix4", &mixed);
        self.compare("image_mix4_const", &self.draw(&mixed, Noise::Const));
    }

    /// Everything but inputs was compared.
    fn done(&self) {
        let left: Vec<&str> = self.want.keys().filter(|key| !self.compared.iter().any(|c| c == key) && !["z", "c"].contains(key)).collect();
        assert!(left.is_empty(), "not compared: {left:?}");
    }
}

/// The layer that the reference calls `synthesis.b8.conv0`, from ours: `convs.0`.
fn reference_layer(layer: &str) -> String {
    ada_name(&format!("{layer}.conv.weight")).unwrap().trim_end_matches(".weight").to_string()
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn every_layer_and_picture_agrees() {
    let mut case = Case::open("tiny64");
    let config = case.generator.config().clone();
    assert_eq!((config.size(), config.style_dim, config.n_mlp, config.c_dim, config.conv_clamp), (64, 64, 4, 0, None));
    let mut layers: BTreeMap<String, Tensor> = BTreeMap::new();
    let w = case.generator.map_traced(&case.get("z"), &mut |name, x| drop(layers.insert(name.to_string(), x.clone()))).unwrap();
    let wplus = case.generator.broadcast(&w).unwrap();
    let trace = &mut |name: &str, x: &Tensor| drop(layers.insert(name.to_string(), x.clone()));
    case.generator.synthesize_traced(&wplus, Noise::Const, trace).unwrap();
    for i in 0..4 {
        case.compare(&format!("layer.mapping.fc{i}"), &layers[&format!("map.{}", i + 1)]);
    }
    for Layer { name: layer, .. } in config.styled() {
        let name = reference_layer(layer);
        case.compare(&format!("layer.{name}.affine"), &layers[&format!("s.{layer}")]);
        let output = &layers[&format!("layer.{layer}")];
        if let Some(block) = name.strip_suffix(".torgb") {
            case.compare(&format!("layer.{block}.img"), output);
            // The reference's ToRGB ends before the skip is added.
            let bias = &case.generator.weights()[&format!("{layer}.bias")];
            let own = layers[&format!("modconv.{layer}")].broadcast_add(bias).unwrap();
            case.compare(&format!("layer.{name}"), &own);
        } else {
            case.compare(&format!("layer.{name}"), output);
        }
    }
    case.pictures(&w);
    case.done();
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn a_conditional_generator_agrees() {
    let mut case = Case::open("tiny64_cond");
    let config = case.generator.config().clone();
    assert_eq!((config.size(), config.c_dim, config.conv_clamp), (64, 3, Some(256.0)));
    let (z, c) = (case.get("z"), case.get("c"));
    let mut layers: BTreeMap<String, Tensor> = BTreeMap::new();
    let w = case.generator.map_labels_traced(&z, Some(&c), &mut |name, x| drop(layers.insert(name.to_string(), x.clone()))).unwrap();
    case.compare("layer.mapping.embed", &layers["map.embed"]);
    for i in 0..4 {
        case.compare(&format!("layer.mapping.fc{i}"), &layers[&format!("map.{}", i + 1)]);
    }
    case.pictures(&w);
    let image = case.draw(&case.generator.broadcast(&w).unwrap(), Noise::Const);
    case.compare_within("image_const_fp16blocks", &image, ATOL_F16);
    case.done();

    // A class that is set is the label with a 1 in its place; the rows of c are such labels.
    let g = &case.generator;
    for row in 0..2 {
        let label = c.get(row).unwrap();
        let class = label.argmax(0).unwrap().to_scalar::<u32>().unwrap() as usize;
        let mut one = vec![0f32; 3];
        one[class] = 1.0;
        assert_eq!(label.to_vec1::<f32>().unwrap(), one);
        let set = g.with_class(class).unwrap();
        close("with_class", &set.map(&z.narrow(0, row, 1).unwrap()).unwrap(), &w.narrow(0, row, 1).unwrap(), 1e-5, 1e-5);
        // What comes of it has the class still.
        let same = set.replacing(BTreeMap::new(), BTreeMap::new()).unwrap();
        close("replacing", &same.map(&z).unwrap(), &set.map(&z).unwrap(), 0.0, 0.0);
        // The label in the bias: sums are rounded in another order.
        let alone = set.without_classes().unwrap();
        assert_eq!(alone.config().c_dim, 0);
        close("without_classes", &alone.map(&z).unwrap(), &set.map(&z).unwrap(), 1e-5, 1e-5);
        close("its mean", &alone.mean_w().unwrap(), &set.mean_w().unwrap(), 0.0, 0.0);
    }
    for (result, message) in [
        (g.map(&z), "classes 0 to 2"),
        (g.without_classes().map(|g| g.mean_w().unwrap()), "classes 0 to 2"),
        (g.map_labels(&z, &c.narrow(1, 0, 2).unwrap()), "takes [2 or 1, 3]"),
        (g.with_class(3).map(|g| g.mean_w().unwrap()), "has classes 0 to 2"),
        (g.with_label(&z).map(|g| g.mean_w().unwrap()), "takes [3]"),
    ] {
        let e = result.unwrap_err();
        assert!(e.kind() == Kind::InvalidArgument && e.to_string().contains(message), "{e}");
    }
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn the_generator_with_averaged_weights_is_taken() {
    let folder = reference();
    for name in ["tiny64", "tiny64_cond"] {
        let file = checkpoint::open(&folder.join(format!("stylegan2_nvidia/{name}.pkl"))).unwrap();
        assert_eq!(file.format, Format::Pickle);
        let [g_ema, g] = ["G_ema.", "G."].map(|prefix| Generator::from_checkpoint(&file.with_prefix(prefix)).unwrap());
        assert_ne!(g_ema.fingerprint().unwrap(), g.fingerprint().unwrap());
        assert_eq!(Generator::from_checkpoint(&file).unwrap().fingerprint().unwrap(), g_ema.fingerprint().unwrap());
        // All keys and shapes that the official code's state_dict has, and no other.
        let facts: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join(format!("stylegan2_nvidia/{name}.json"))).unwrap()).unwrap();
        let keys = facts["state_dict"].as_object().unwrap();
        let g_ema = file.with_prefix("G_ema.");
        for (key, shape) in keys {
            let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
            g_ema.f32(key, Some(&shape)).unwrap();
        }
        assert_eq!(g_ema.keys().count(), keys.len());
        assert_eq!(g_ema.value("class_name"), Some("Generator"));
        assert_eq!(g_ema.value("_init_kwargs.img_resolution"), Some("64"));
        assert_eq!(file.value("training_set_kwargs.path"), Some("/data/tiny.zip"));
        assert!(file.contains("D.b64.fromrgb.weight"));
    }
}
