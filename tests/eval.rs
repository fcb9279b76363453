//! Measuring: against the numbers of the recipe's `measure` (tests/data/eval/make.py), and on made-up embeddings.

mod common;

use candle_core::{DType, Device, Tensor};
use nada::checkpoint;
use nada::eval::{diversity, measure, pairing, quality, HeldOut};
use nada::pack::ModelPack;
use nada::Kind;
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn measure_agrees_with_the_recipe() {
    let file = checkpoint::open(&common::data("eval/measure.safetensors")).unwrap();
    for name in ["even", "uneven", "small"] {
        let get = |what: &str| file.f32(&format!("{name}.{what}"), None).unwrap();
        let (distance, pairing) = measure(&get("adapted"), &get("plain"), &get("truth")).unwrap();
        let want = get("measure").to_vec1::<f32>().unwrap();
        assert!(want[1] > 0.0 && want[1] < 1.0, "a case that pairs all or none tests little");
        // A mean of some ten thousand f32 numbers, summed in another order and precision.
        assert!((distance - want[0]).abs() < 1e-5 * want[0], "{name}: distance {distance}, want {}", want[0]);
        assert_eq!(pairing, want[1], "{name}: pairing");
    }
}

#[test]
fn the_truth_is_at_distance_0_and_pairs_with_itself() {
    let pack = ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter")).unwrap();
    let held_out = HeldOut::open(&pack).unwrap();
    assert_eq!(held_out.plain.dims(), [32, 3, 128, 128]);
    assert_eq!(held_out.truths(), ["gold", "negative", "night", "sepia", "sketch", "zombie"]);
    let truth = held_out.truth("gold").unwrap();
    assert_eq!(measure(&truth, &held_out.plain, &truth).unwrap().0, 0.0);
    assert_eq!(measure(&held_out.plain, &held_out.plain, &truth).unwrap(), (1.0, 1.0));
    let e = held_out.truth("silver").unwrap_err();
    assert!(e.to_string().contains("silver") && e.to_string().contains("zombie"), "{e}");
}

#[test]
fn held_out_latents_and_pictures_are_as_many() {
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter");
    let folder = tempfile::tempdir().unwrap();
    let mut pack = ModelPack::open(&starter).unwrap();
    let path = folder.path().join("heldout.safetensors");
    pack.held_out = Some(path.clone());
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    for (w, image) in [(&[0, 64][..], &[0, 3, 8, 8][..]), (&[2, 64], &[3, 3, 8, 8]), (&[2, 64], &[2, 8, 8]), (&[64], &[1, 3, 8, 8])] {
        let tensors = BTreeMap::from([("w".to_string(), zeros(w)), ("image".to_string(), zeros(image))]);
        checkpoint::save_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
        let e = HeldOut::open(&pack).err().unwrap();
        assert!(e.kind() == Kind::Format && e.to_string().contains("heldout.safetensors"), "{w:?} {image:?}: {e}");
    }
}

#[test]
fn wrong_pictures_are_named() {
    let t = |shape: &[usize]| Tensor::rand(0f32, 1f32, shape, &Device::Cpu).unwrap();
    let good = t(&[2, 3, 4, 4]);
    for (adapted, plain, truth, words) in [
        (&t(&[2, 3, 4]), &good, &good, "adapted"),
        (&good, &t(&[2, 1, 4, 4]), &good, "plain"),
        (&good, &good, &t(&[3, 3, 4, 4]), "truth"),
        (&good, &good, &good, "truth"),
        (&t(&[0, 3, 4, 4]), &good, &good, "adapted"),
    ] {
        let e = measure(adapted, plain, truth).unwrap_err();
        assert!(e.kind() == Kind::InvalidArgument && e.to_string().starts_with(words), "{e}");
    }
    let e = pairing(&(&good / 0.0).unwrap(), &good).unwrap_err();
    assert_eq!(e.kind(), Kind::NotFinite);
}

#[test]
fn quality_and_diversity() {
    let rows = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [-1.0, 0.0]], &Device::Cpu).unwrap();
    let text = Tensor::new(&[[0.6f32, 0.8]], &Device::Cpu).unwrap();
    assert!((quality(&rows, &text).unwrap() - 0.8 / 3.0).abs() < 1e-6);
    // Pairs: 1 - 0, 1 - (-1), 1 - 0.
    assert!((diversity(&rows).unwrap() - 4.0 / 3.0).abs() < 1e-6);
    assert_eq!(diversity(&text).unwrap(), 0.0);
}
