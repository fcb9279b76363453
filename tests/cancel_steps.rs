//! Large steps end soon after they are cancelled, wherever they are: on the way through the layers, in CLIP, on the way back.

mod common;

use common::random_generator::Random;
use nada::adapt::{Adaptation, AutoLayers, Concept, Settings, StopRule, Templates};
use nada::invert::{self, invert};
use nada::nn::generator::{Generator, Latent, Noise, Space};
use nada::pack::ModelPack;
use nada::picture::Picture;
use nada::progress::{silent, Cancel};
use nada::Kind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A random generator of 256 px whose layers take about as long as each other.
fn large() -> Generator {
    let channels = |side: usize| (2048 / side).clamp(16, 128);
    let random = Random { side: 256, style_dim: 32, mapping_layers: 1, channels, spread: 0.1 };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.safetensors");
    random.write(&file);
    Generator::open(&file).unwrap()
}

/// `work` takes a while; cancelled at any time it ends within a quarter of that, or what a busy machine needs to wake up.
fn ends_soon(name: &str, mut work: impl FnMut(&Cancel) -> nada::Result<()>) {
    work(&Cancel::new()).unwrap();
    let (whole, mut waits) = cancelled(name, work);
    waits.sort();
    // The median, as another process may take the processors away from one of them.
    let wait = waits[waits.len() / 2];
    assert!(wait < (whole / 4).max(Duration::from_millis(50)), "{name}: {wait:?} of {whole:?}");
}

/// How long `work` takes, and how long it goes on after it was cancelled at each of several times.
fn cancelled(name: &str, mut work: impl FnMut(&Cancel) -> nada::Result<()>) -> (Duration, Vec<Duration>) {
    let begun = Instant::now();
    work(&Cancel::new()).unwrap();
    let whole = begun.elapsed();
    let mut waits = vec![];
    for part in 1..=6 {
        let cancel = Cancel::new();
        let flag = cancel.clone();
        let raise = std::thread::spawn(move || {
            std::thread::sleep(whole * part / 8);
            flag.cancel();
            Instant::now()
        });
        let ended = work(&cancel);
        let now = Instant::now();
        let raised = raise.join().unwrap();
        // A machine that is faster now may have been done before.
        match ended {
            Ok(()) => continue,
            Err(e) => assert_eq!(e.kind(), Kind::Cancelled, "{name}: {e}"),
        }
        waits.push(now.saturating_duration_since(raised));
    }
    println!("{name}: {whole:?} as a whole, cancelled it ended after {waits:?}");
    assert!(waits.len() >= 3, "{name}: {waits:?}");
    (whole, waits)
}

#[test]
fn an_inversion_step() {
    let generator = large();
    let picture = Picture::filled(64, 64, [0.5, 0.4, 0.3, 1.0]).unwrap();
    let settings = invert::Settings { steps: 1, ..invert::Settings::default() };
    ends_soon("inversion", |cancel| invert(&generator, &picture, None, &settings, cancel, &mut silent).map(drop));
}

fn adaptation(generator: &Arc<Generator>, settings: Settings) -> Adaptation {
    let pack = ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/models/starter")).unwrap();
    let text = |t: &str| Concept::Text(t.into());
    let clips = pack.load_clips().unwrap();
    Adaptation::new(generator.clone(), &clips, text("a photo"), text("a zombie"), &Templates(vec!["{}".into()]), settings).unwrap()
}

#[test]
fn a_training_step_its_selection_its_look_and_its_preview() {
    let generator = Arc::new(large());
    let stop = Some(StopRule { latents: 4, every: 1, ..StopRule::default() });
    let auto_layers = Some(AutoLayers { k: 2, iterations: 1, batch: 2 });
    let settings = Settings { steps: 1, snapshot_every: 1, batch: 2, noise: false, stop, auto_layers, ..Settings::default() };
    ends_soon("training", |cancel| adaptation(&generator, settings.clone()).run(cancel, &mut silent).map(drop));
}

/// What hosts are promised at the size of the published generators. Its figures are of an idle machine:
///
///     cargo test --release --test cancel_steps -- --ignored --nocapture
#[test]
#[ignore = "minutes and gigabytes, and a limit in seconds, which a busy machine misses"]
fn at_1024_px_everything_ends_within_a_second() {
    // Config F.
    let random = Random { side: 1024, style_dim: 512, mapping_layers: 8, channels: |side| (32_768 / side).min(512), spread: 0.1 };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.safetensors");
    random.write(&file);
    let generator = Arc::new(Generator::open(&file).unwrap());
    let mut longest = vec![];
    let mut ends = |name: &'static str, work: &mut dyn FnMut(&Cancel) -> nada::Result<()>| {
        longest.push((name, cancelled(name, work).1.into_iter().max().unwrap()));
    };
    let latent = Latent { space: Space::W, tensor: generator.sample_w(1, 2, 1.0).unwrap(), noise: None };
    ends("render", &mut |cancel| generator.render_unless(&latent, 1.0, Noise::None, cancel).map(drop));
    let picture = Picture::filled(64, 64, [0.5, 0.4, 0.3, 1.0]).unwrap();
    let settings = invert::Settings { steps: 1, ..invert::Settings::default() };
    ends("inversion step", &mut |cancel| invert(&generator, &picture, None, &settings, cancel, &mut silent).map(drop));
    let settings = Settings { steps: 1, batch: 2, ..Settings::default() };
    let mut training = adaptation(&generator, settings);
    ends("training step", &mut |cancel| training.step_unless(cancel).map(drop));
    assert!(longest.iter().all(|(_, wait)| *wait < Duration::from_secs(1)), "{longest:?}");
}
