//! Ctrl-C and cancel tokens while files are read from a slow disk.

mod common;

use common::slow_disk;
use nada::adapt::Domain;
use nada::adapt::{Description, Origin, Parameters};
use nada::checkpoint;
use nada::files::Destination;
use nada::gallery::Gallery;
use nada::nn::clip::Clip;
use nada::nn::generator::{Generator, Latent, Layout, Space};
use nada::pack::{ModelPack, NewPack};
use nada::picture::frame::{Canvas, Frame};
use nada::picture::pixels::{Format, Layout as Pixels, Transfer};
use nada::picture::Picture;
use nada::progress::Cancel;
use nada::Error;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Loading takes some 17 s with this pause; a request to stop is answered after one of them.
const PAUSE_US: &str = "100000";
/// The order of magnitude: it should be 0.5 s, on a machine that has nothing else to do.
const SOON: Duration = Duration::from_secs(2);

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter")
}

/// Runs the program on a slow disk, sends it one SIGINT after `seconds`, and says how long it took to end and with which status.
fn interrupted(folder: &Path, slow: &Path, arguments: &[&str], seconds: f64) -> (Duration, Option<i32>) {
    common::program::hear_signals();
    let mut program = Command::new(env!("CARGO_BIN_EXE_nada"))
        .current_dir(folder)
        .env_remove("NADA_MODELS")
        .env("LD_PRELOAD", slow)
        .env("NADA_TEST_SLOW_US", PAUSE_US)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    assert!(program.try_wait().unwrap().is_none(), "{arguments:?} ended before it was interrupted");
    let sent = Instant::now();
    let killed = Command::new("kill").args(["-INT", &program.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let status = program.wait().unwrap();
    (sent.elapsed(), status.code())
}

#[test]
fn one_interrupt_ends_a_command_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    let slow = slow_disk(folder.path());
    let face = common::data("face.png");
    let face = face.to_str().unwrap();
    let adapt: &[&str] = &["adapt", "a zombie", "--steps", "1", "--no-stop", "--batch", "2"];
    let generator = starter().join("generator.safetensors");
    let calls: [(&[&str], f64); 7] = [
        // In the generator, and in the CLIPs.
        (adapt, 1.5),
        (adapt, 9.0),
        (&["invert", face], 1.0),
        (&["restyle", face, "--to", "a zombie"], 1.0),
        (&["sample", "-n", "1"], 1.0),
        (&["model", "check", "starter"], 2.0),
        (&["model", "add", "mine", "--generator", generator.to_str().unwrap(), "--folder", "packs"], 1.0),
    ];
    // Side by side: they wait for most of the time.
    std::thread::scope(|scope| {
        for (arguments, seconds) in calls {
            let (here, slow) = (folder.path(), &slow);
            scope.spawn(move || {
                let (took, status) = interrupted(here, slow, arguments, seconds);
                assert_eq!(status, Some(130), "{arguments:?}");
                assert!(took < SOON, "{arguments:?} went on for {took:?}");
            });
        }
    });
    // Nothing but the library that slows, and an empty folder of packs.
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "slow.so" || name == "packs"), "{left:?}");
    assert_eq!(std::fs::read_dir(folder.path().join("packs")).map_or(0, Iterator::count), 0);
}

fn is_cancelled<T>(result: nada::Result<T>) -> bool {
    matches!(result, Err(Error::Cancelled))
}

/// None of these looks at it before it begins: the flag is seen inside.
#[test]
fn what_writes_or_goes_through_tensors_looks_at_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let generator = ModelPack::open(&starter()).unwrap().load_generator().unwrap();
    let deltas = |key: &str| BTreeMap::from([(key.to_string(), generator.weights()[key].clone())]);
    let description = Description::new(Origin::Adapted, "a photo", "a test", Parameters::Full, &generator).unwrap();
    let domain = Domain::new(description, deltas("conv1.conv.weight"));
    let adapted = generator.with_domains(&[(&domain, 0.5)]).unwrap();
    let latent = Latent {
        space: Space::Z,
        tensor: candle_core::Tensor::ones((2, 128), candle_core::DType::F32, generator.device()).unwrap(),
        noise: None,
    };
    let picture = Picture::filled(40, 40, [0.5; 4]).unwrap();
    let gallery = Gallery::open(folder.path()).unwrap();
    gallery.install(&domain, Some("one"), None).unwrap();
    let bytes = vec![Cell::new(9u8); 64 * 64 * 3];
    let canvas = Canvas::new(&bytes, Pixels::packed(64, 64, Format::Rgb8, Transfer::Srgb)).unwrap();
    let turned = Frame { centre: [32.0, 32.0], side: 20.0, angle: 10.0 };

    let cancel = Cancel::new();
    cancel.cancel();
    let to = |path| Destination::from(path).unless(&cancel);
    let (file, array, jpeg) = (at("file"), at("a.npy"), at("a.jpg"));
    for layout in [Layout::Nada, Layout::Rosinality, Layout::AdaPytorch] {
        assert!(is_cancelled(generator.save(to(&file), layout, false)), "{layout:?}");
    }
    assert!(is_cancelled(generator.save(to(&file), Layout::Nada, true)));
    assert!(is_cancelled(domain.save(to(&file))) && is_cancelled(latent.save(to(&file))) && is_cancelled(latent.save(to(&array))));
    assert!(is_cancelled(picture.save_png(to(&file))) && is_cancelled(picture.save(to(&jpeg))));
    assert!(is_cancelled(gallery.install_unless(&domain, None, Some(&picture), &cancel)));
    assert!(is_cancelled(Gallery::open_unless(folder.path(), &cancel)));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["one.nada.safetensors"]);

    // A generator whose fingerprint nobody asked for yet.
    let other = ModelPack::open(&starter()).unwrap().load_generator().unwrap();
    assert!(
        is_cancelled(other.fingerprint_unless(&cancel).map(String::from)) && is_cancelled(domain.description.fits_unless(&other, &cancel))
    );
    assert!(is_cancelled(other.sample_w_unless(1, 1, 0.7, &cancel)) && is_cancelled(other.wplus_unless(&latent, 1.0, &cancel)));
    assert!(is_cancelled(generator.with_domains_unless(&[(&domain, 1.0)], &cancel)));
    assert!(is_cancelled(domain.for_generator_unless(&adapted, &cancel)) && is_cancelled(domain.to_half_unless(&cancel)));
    assert!(is_cancelled(Domain::between_unless(&generator, &adapted, "", "", &cancel)));
    assert!(
        is_cancelled(canvas.shrunk_unless(turned, 16, &cancel))
            && is_cancelled(canvas.shrunk_unless(Frame::upright(0, 0, 64), 16, &cancel))
    );
    cancel.reset();
    // Points that are mapped in several parts are those of one draw.
    let (few, many) = (other.sample_w(5, 3, 0.7).unwrap(), other.sample_w_unless(5000, 3, 0.7, &cancel).unwrap());
    assert_eq!(many.dims(), [5000, 128]);
    common::close("the first points", &many.narrow(0, 0, 5).unwrap(), &few, 1e-6, 1e-6);
    let parts =
        other.wplus_unless(&Latent { space: Space::Z, tensor: latent.tensor.repeat((3000, 1)).unwrap(), noise: None }, 1.0, &cancel);
    common::close(
        "the last point",
        &parts.unwrap().narrow(0, 5999, 1).unwrap(),
        &other.wplus(&latent, 1.0).unwrap().narrow(0, 1, 1).unwrap(),
        1e-5,
        1e-5,
    );
}

#[test]
fn every_reader_looks_at_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    let pack = ModelPack::open(&starter()).unwrap();
    let generator = pack.load_generator_unless(&cancel).unwrap();
    let latent = folder.path().join("w.safetensors");
    Latent { space: Space::W, tensor: generator.sample_w(1, 1, 1.0).unwrap(), noise: None }.save(&latent).unwrap();
    let array = folder.path().join("w.npy");
    checkpoint::write_npy(&array, &generator.sample_w(1, 1, 1.0).unwrap()).unwrap();
    let half_read = checkpoint::open_unless(&pack.generator, &cancel).unwrap();
    let key = half_read.keys().next().unwrap().to_string();
    half_read.f32(&key, None).unwrap();

    cancel.cancel();
    assert!(is_cancelled(half_read.f32(&key, None)) && is_cancelled(half_read.tensor(&key)));
    for file in ["trainer.pt", "trainer_legacy.pt", "ada.pkl", "arrays.npz", "e4e.pt", "open_clip/open_clip_model.safetensors"] {
        assert!(is_cancelled(checkpoint::open_unless(&common::data("formats").join(file), &cancel)), "{file}");
    }
    assert!(is_cancelled(checkpoint::read_npy_unless(&array, &cancel)));
    assert!(is_cancelled(Generator::open_unless(&pack.generator, &cancel)));
    assert!(is_cancelled(Clip::open_unless(&pack.clips[0].path, &cancel)));
    assert!(is_cancelled(Latent::read(&latent, None, &cancel)) && is_cancelled(Latent::read(&array, Some(Space::W), &cancel)));
    assert!(is_cancelled(Domain::open_unless(&latent, &cancel)));
    assert!(is_cancelled(pack.load_clips_unless(&cancel)) && is_cancelled(pack.check_unless(&cancel)));
    let new = NewPack { name: "a".into(), generator: pack.generator.clone(), ..NewPack::default() };
    assert!(is_cancelled(new.make(folder.path(), &cancel)));
    // What is wrong with a file that is not there is told all the same where nobody cancelled.
    cancel.reset();
    assert_eq!(Generator::open_unless(&folder.path().join("none"), &cancel).err().unwrap().kind(), nada::Kind::NotFound);
    // The open file goes on where the flag is down again.
    half_read.f32(&key, None).unwrap();
}
