//! Inversion with the starter.

use nada::invert::{invert, invert_keeping, Inversion, Settings, Space};
use nada::nn::clip::Clip;
use nada::nn::generator::{Generator, Latent, Noise, Space as LatentSpace};
use nada::pack::ModelPack;
use nada::picture::Picture;
use nada::progress::{Cancel, Flow};
use nada::{Error, Result};
use std::path::Path;
use std::sync::OnceLock;

fn starter() -> &'static (Generator, Picture) {
    static STARTER: OnceLock<(Generator, Picture)> = OnceLock::new();
    STARTER.get_or_init(|| {
        let pack = ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter")).unwrap();
        let generator = pack.load_generator().unwrap();
        let latent = Latent { space: LatentSpace::W, tensor: generator.sample_w(1, 4, 0.8).unwrap(), noise: None };
        let picture = Picture::from_tensor(&generator.render(&latent, 1.0, Noise::None).unwrap(), 0).unwrap();
        (generator, picture)
    })
}

fn clip() -> Clip {
    Clip::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter/clip-a")).unwrap()
}

fn run(settings: &Settings, clip: Option<&Clip>) -> Result<Inversion> {
    let (generator, picture) = starter();
    invert(generator, picture, clip, settings, &Cancel::new(), &mut |_| Flow::Continue)
}

fn rows(found: &Inversion) -> Vec<Vec<f32>> {
    found.latent.tensor.squeeze(0).unwrap().to_vec2().unwrap()
}

#[test]
fn every_way_comes_closer_to_the_picture() {
    let clip = clip();
    let plain = Settings { steps: 24, ..Settings::default() };
    for (name, settings, clip) in [
        ("W", Settings { space: Space::W, ..plain.clone() }, None),
        ("W+", plain.clone(), None),
        ("without averages", Settings { pyramid_weight: 0.0, ..plain.clone() }, None),
        ("with noise maps", Settings { optimise_noise: true, ..plain.clone() }, None),
        ("with CLIP", Settings { clip_weight: 0.1, ..plain.clone() }, Some(&clip)),
    ] {
        // One step measures the mean latent and goes nowhere; noise maps begin as noise, which this generator's strengths of 0 ignore.
        let start = run(&Settings { steps: 1, ..settings.clone() }, clip).unwrap();
        let found = run(&settings, clip).unwrap();
        assert_eq!(found.steps, 24, "{name}");
        assert!(found.loss < 0.7 * start.loss && found.psnr > start.psnr + 1.0, "{name}: {} dB from {} dB", found.psnr, start.psnr);
        assert_eq!(found.latent.noise.is_some(), settings.optimise_noise, "{name}");
        let rows = rows(&found);
        let same = rows.iter().all(|r| *r == rows[0]);
        assert_eq!(same, settings.space == Space::W, "{name}: W has one row for all layers, W+ has not");
        // What is reported is what the latent draws.
        let (generator, picture) = starter();
        let drawn = Picture::from_tensor(&generator.render(&found.latent, 1.0, Noise::None).unwrap(), 0).unwrap();
        let rgb = |p: &Picture| p.data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect::<Vec<f32>>();
        let (a, b) = (rgb(&drawn), rgb(picture));
        let psnr = -10.0 * (a.iter().zip(&b).map(|(a, b)| ((a - b) as f64).powi(2)).sum::<f64>() / a.len() as f64).log10();
        assert!((psnr - found.psnr as f64).abs() < 0.01, "{name}: {psnr} dB drawn, {} dB said", found.psnr);
    }
}

#[test]
fn the_same_settings_find_the_same() {
    let settings = Settings { steps: 8, optimise_noise: true, ..Settings::default() };
    let (a, b) = (run(&settings, None).unwrap(), run(&settings, None).unwrap());
    assert_eq!(rows(&a), rows(&b));
    assert_eq!((a.psnr, a.loss), (b.psnr, b.loss));
    let other = run(&Settings { seed: 2, ..settings }, None).unwrap();
    assert_ne!(rows(&a), rows(&other), "the seed shakes the latent");
}

#[test]
fn a_cancelled_call_ends_at_once_and_returns_nothing() {
    let (generator, picture) = starter();
    let settings = Settings { steps: 3, ..Settings::default() };
    let before = run(&settings, None).unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let mut steps = 0;
    let mut count = |_: &nada::progress::Progress| {
        steps += 1;
        Flow::Continue
    };
    let refused = invert(generator, picture, None, &Settings::default(), &cancel, &mut count);
    assert!(matches!(refused, Err(Error::Cancelled)));
    assert_eq!(steps, 0);
    let mut losses = vec![];
    let mut stop = |p: &nada::progress::Progress| {
        losses.push(p.loss);
        if p.step == 3 {
            Flow::Stop
        } else {
            Flow::Continue
        }
    };
    let mut reached = None;
    let ended = invert_keeping(generator, picture, None, &Settings::default(), &Cancel::new(), &mut stop, &mut reached);
    assert!(matches!(ended, Err(Error::Cancelled)));
    // Who asks for it gets the best latent so far.
    let reached = reached.unwrap();
    assert_eq!((reached.steps, losses.len()), (3, 3));
    assert_eq!(reached.loss, losses.iter().copied().fold(f32::INFINITY, f32::min));
    // Nothing of it is left: the next call finds what was found before it.
    let after = run(&settings, None).unwrap();
    assert_eq!((rows(&after), after.loss, after.psnr), (rows(&before), before.loss, before.psnr));
}

#[test]
fn it_ends_early_where_the_picture_is_good_enough() {
    let found = run(&Settings { enough_psnr: 20.0, ..Settings::default() }, None).unwrap();
    assert!(found.steps < 200, "{} steps", found.steps);
    assert!(found.psnr >= 19.5, "{} dB", found.psnr);
}

#[test]
fn a_picture_of_one_pixel_is_refused_and_one_of_eight_is_inverted() {
    let (generator, _) = starter();
    let settings = Settings { steps: 5, ..Settings::default() };
    let of_side = |n: usize| {
        let flat = Picture::filled(n, n, [0.2, 0.4, 0.9, 1.0]).unwrap();
        invert(generator, &flat, None, &settings, &Cancel::new(), &mut |_| Flow::Continue)
    };
    let error = of_side(1).expect_err("nothing can be found in one pixel").to_string();
    assert!(error.contains("1 x 1") && error.contains("at least 8"), "{error}");
    let found = of_side(8).unwrap();
    assert!(found.psnr.is_finite() && rows(&found).iter().flatten().all(|v| v.is_finite()));
}

#[test]
fn bad_settings_are_named() {
    for (name, settings) in [
        ("steps", Settings { steps: 0, ..Settings::default() }),
        ("learning_rate", Settings { learning_rate: f64::NAN, ..Settings::default() }),
        ("pyramid_weight", Settings { pyramid_weight: -1.0, ..Settings::default() }),
        ("clip_weight", Settings { clip_weight: 1.0, ..Settings::default() }),
    ] {
        let e = run(&settings, None).expect_err(name).to_string();
        assert!(e.contains(name), "{name}: {e}");
    }
}
