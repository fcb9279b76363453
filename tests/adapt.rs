//! Adaptation in `default` mode, domains, cancelling; on a pack of random weights that is small enough for debug builds.

mod common;

use candle_core::Tensor;
use nada::adapt::{
    Adaptation, AutoLayers, Concept, Domain, Draws, Ended, LossWeights, Memory, Mode, Parameters, Phase, SavedState, Settings, StopRule,
    Templates,
};
use nada::nn::generator::{Generator, Noise};
use nada::pack::ModelPack;
use nada::picture::Picture;
use nada::progress::{silent, Cancel, Flow};
use nada::rng::Rng;
use nada::Kind;
use std::path::Path;
use std::sync::Arc;

fn pack() -> ModelPack {
    ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/models/starter")).unwrap()
}

fn text(t: &str) -> Concept {
    Concept::Text(t.into())
}

fn settings() -> Settings {
    Settings { steps: 4, batch: 2, noise: false, snapshot_every: 2, train_to_rgb: true, ..Settings::default() }
}

fn start(settings: Settings, source: Concept, target: Concept) -> (Arc<Generator>, nada::Result<Adaptation>) {
    let pack = pack();
    let generator = pack.load_generator().unwrap();
    let generator = Arc::new(Generator::clone(&generator));
    let clips = pack.load_clips().unwrap();
    let a = Adaptation::new(generator.clone(), &clips, source, target, &Templates(vec!["{}".into(), "a picture of {}".into()]), settings);
    (generator, a)
}

fn adapted(settings: Settings) -> (Arc<Generator>, Adaptation) {
    let (g, a) = start(settings, text("a photo"), text("a zombie"));
    (g, a.unwrap())
}

fn draw(g: &Generator) -> Vec<f32> {
    let w = g.broadcast(&g.sample_w(2, 5, 0.8).unwrap()).unwrap();
    g.synthesize(&w, Noise::None).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_seed_gives_one_domain_and_another_seed_another() {
    let run = |seed: u64| {
        let (_, mut a) = adapted(Settings { seed, augment: true, mixing: 0.5, noise: true, ..settings() });
        a.run(&Cancel::new(), &mut silent).unwrap();
        a.domain().unwrap()
    };
    let (a, b, c) = (run(1), run(1), run(2));
    let numbers = |d: &Domain| d.deltas.values().flat_map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect::<Vec<_>>();
    assert_eq!(numbers(&a), numbers(&b));
    assert!(apart(&numbers(&a), &numbers(&c)) > 0.0);
}

#[test]
fn domains_go_through_a_file_scale_and_add_up() {
    let (g, mut a) = adapted(settings());
    a.run(&Cancel::new(), &mut silent).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zombie.nada.safetensors");
    a.domain().unwrap().save(&path).unwrap();
    let domain = Domain::open(&path).unwrap();
    assert_eq!(domain.description, a.domain().unwrap().description);
    assert_eq!(domain.description.settings["beta2"], settings().beta2);
    assert_eq!((domain.description.target.as_str(), domain.description.step), ("a zombie", 4));

    let plain = draw(&g);
    let whole = draw(&g.with_domains(&[(&domain, 1.0)]).unwrap());
    assert!(apart(&plain, &whole) > 1e-3, "the domain changes pictures");
    assert_eq!(apart(&draw(&a.generator().unwrap()), &whole), 0.0, "the file holds what was trained");
    assert_eq!(apart(&draw(&g.with_domains(&[(&domain, 0.0)]).unwrap()), &plain), 0.0);
    let halves = draw(&g.with_domains(&[(&domain, 0.5), (&domain, 0.5)]).unwrap());
    // The sum of halves is the whole but for the rounding of weights of about 1 to 2^-24, carried through some twenty layers.
    assert!(apart(&halves, &whole) < 1e-4 * whole.iter().fold(1.0f32, |m, v| m.max(v.abs())));
    for strength in [-0.1, 1.6, f32::NAN] {
        let error = g.with_domains(&[(&domain, strength)]).err().expect("a strength out of range");
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.to_string().contains("strength"), "{error}");
    }
    // On the adapted generator, whose weights are others, it is refused.
    let error = g.with_domains(&[(&domain, 1.0)]).unwrap().with_domains(&[(&domain, 1.0)]).err().expect("another generator");
    assert_eq!(error.kind(), Kind::Mismatch);
    assert!(error.to_string().contains("another generator"), "{error}");
}

#[test]
fn stylespace_domains_are_small_and_leave_the_weights_alone() {
    let (g, mut full) = adapted(settings());
    let (_, mut small) = adapted(Settings { parameters: Parameters::Stylespace, ..settings() });
    full.run(&Cancel::new(), &mut silent).unwrap();
    small.run(&Cancel::new(), &mut silent).unwrap();
    let (full, small) = (full.domain().unwrap(), small.domain().unwrap());
    assert!(small.deltas.keys().all(|k| k.starts_with("s.")));
    let styles: usize = g.layers().iter().map(|layer| layer.style_channels()).sum();
    let numbers = |d: &Domain| d.deltas.values().map(Tensor::elem_count).sum::<usize>();
    assert_eq!(numbers(&small), styles, "one number a style channel, ToRGB's included");
    assert!(numbers(&small) * 4 < numbers(&full));
    assert!(apart(&draw(&g), &draw(&g.with_domains(&[(&small, 1.0)]).unwrap())) > 1e-3);
    // Domains of both kinds add up.
    g.with_domains(&[(&small, 0.7), (&full, 0.3)]).unwrap();
}

#[test]
fn phases_and_selection_train_what_they_say() {
    let trained = |s: Settings| -> Vec<String> {
        let (_, mut a) = adapted(s);
        a.step().unwrap();
        a.domain().unwrap().deltas.into_keys().collect()
    };
    let base = Settings { train_to_rgb: false, ..settings() };
    let has = |keys: &[String], prefix: &str| keys.iter().any(|k| k.starts_with(prefix));
    let convolutions = trained(base.clone());
    assert!(has(&convolutions, "input.") && has(&convolutions, "conv1.") && has(&convolutions, "convs.3."));
    assert!(!has(&convolutions, "to_rgb") && !has(&convolutions, "style."));
    let shape = trained(Settings { phase: Phase::Shape, ..base.clone() });
    assert!(has(&shape, "convs.1.") && !has(&shape, "convs.2."));
    let texture = trained(Settings { phase: Phase::Texture, ..base.clone() });
    assert!(has(&texture, "convs.2.") && !has(&texture, "convs.0.") && has(&texture, "conv1."));
    let all = trained(Settings { phase: Phase::All, ..base.clone() });
    assert!(has(&all, "style.1.") && has(&all, "to_rgbs.0."));
    let (_, mut a) = adapted(Settings { auto_layers: Some(AutoLayers { k: 2, iterations: 1, batch: 2 }), ..base });
    let report = a.step().unwrap();
    assert_eq!(report.rows.len(), 2);
    let keys: Vec<String> = a.domain().unwrap().deltas.into_keys().collect();
    let layer = |row: usize| if row == 0 { "conv1.".to_string() } else { format!("convs.{}.", row - 1) };
    let chosen: Vec<String> = report.rows.iter().map(|&r| layer(r)).collect();
    assert!(keys.iter().all(|k| chosen.iter().any(|c| k.starts_with(c))), "{keys:?} of rows {:?}", report.rows);

    // Only what the phase trains is chosen, so that something is trained in every step, and as many as were asked for.
    let auto_layers = Some(AutoLayers { k: 2, iterations: 1, batch: 2 });
    let (_, mut a) = adapted(Settings { phase: Phase::Shape, auto_layers, train_to_rgb: false, ..settings() });
    for _ in 0..3 {
        let before = a.domain().unwrap().deltas;
        let report = a.step().unwrap();
        assert!(report.rows.len() == 2 && report.rows.iter().all(|&row| row < 3), "{:?}", report.rows);
        let after = a.domain().unwrap().deltas;
        for row in report.rows {
            let key = format!("{}conv.weight", layer(row));
            let delta = &after[&key];
            let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let moved = before.get(&key).is_none_or(|old| apart(&numbers(old), &numbers(delta)) > 0.0);
            assert!(moved, "{key} was chosen and did not move");
        }
    }
}

#[test]
fn a_cancelled_run_keeps_its_last_step_and_goes_on() {
    let (_, mut a) = adapted(settings());
    let stop_at_three = a.run(&Cancel::new(), &mut |p| if p.step == 3 { Flow::Stop } else { Flow::Continue });
    assert_eq!(stop_at_three.unwrap_err().kind(), Kind::Cancelled);
    assert_eq!((a.steps_done(), a.snapshots().len()), (3, 1));
    assert_eq!(a.domain().unwrap().description.step, 3);
    let cancel = Cancel::new();
    cancel.cancel();
    assert_eq!(a.run(&cancel, &mut silent).unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(a.steps_done(), 3);
    let outcome = a.run(&Cancel::new(), &mut silent).unwrap();
    assert_eq!((outcome.ended, outcome.steps, outcome.chosen), (Ended::Steps, 4, 4));
    assert_eq!(a.snapshots().iter().map(|s| s.step).collect::<Vec<_>>(), [2, 4]);

    // The same as without the interruption.
    let (_, mut whole) = adapted(settings());
    whole.run(&Cancel::new(), &mut silent).unwrap();
    assert_eq!(apart(&draw(&a.generator().unwrap()), &draw(&whole.generator().unwrap())), 0.0);
}

#[test]
fn the_stop_rule_ends_bad_runs_and_keeps_a_good_look() {
    // Nothing pairs by more than all: every look is bad, and the second ends the run with no look chosen.
    let impossible = StopRule { latents: 4, every: 1, pairing: 0.0, structure: 1.0, patience: 2, ..StopRule::default() };
    let (_, mut a) = adapted(Settings { learning_rate: 0.05, stop: Some(impossible), ..settings() });
    let outcome = a.run(&Cancel::new(), &mut silent).unwrap();
    assert_eq!((outcome.ended, outcome.steps), (Ended::Rule, 2));
    // A gain that may not exist is a plateau at once: the first look from `earliest` on is the result.
    let flat =
        StopRule { latents: 4, every: 1, pairing: 0.0, structure: 0.0, plateau: 9.0, plateau_steps: 1, earliest: 3, ..StopRule::default() };
    let (_, mut a) = adapted(Settings { stop: Some(flat), ..settings() });
    let outcome = a.run(&Cancel::new(), &mut silent).unwrap();
    assert_eq!((outcome.ended, outcome.steps, outcome.chosen), (Ended::Rule, 3, 3));
    assert_eq!(a.result().unwrap().description.step, 3);
}

#[test]
fn pictures_can_be_the_target_and_the_source() {
    let red = Picture { width: 3, height: 5, data: [1.0, 0.0, 0.0, 1.0].repeat(15) };
    let blue = Picture { width: 1, height: 1, data: vec![0.0, 0.0, 1.0, 1.0] };
    for source in [text("a photo"), Concept::Pictures(vec![blue.clone()])] {
        let (g, a) = start(settings(), source, Concept::Pictures(vec![red.clone(), red.clone()]));
        let mut a = a.unwrap();
        a.run(&Cancel::new(), &mut silent).unwrap();
        assert!(apart(&draw(&g), &draw(&a.generator().unwrap())) > 1e-3);
    }
    let refused = [
        (Concept::Pictures(vec![blue]), text("a zombie"), "source"),
        (text("a photo"), Concept::Pictures(vec![]), "target"),
        (text("a photo"), text("  "), "target"),
        (text("a photo"), text("a photo"), "same as the source"),
    ];
    for (source, target, names) in refused {
        let error = start(settings(), source, target).1.err().expect("refused");
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.to_string().contains(names), "{error}");
    }
}

/// The rate has fallen to nothing then; below nothing it would climb.
#[test]
fn steps_beyond_the_last_change_nothing_where_the_rate_decays() {
    let (_, mut a) = adapted(Settings { decay: true, steps: 3, snapshot_every: 0, ..settings() });
    a.run(&Cancel::new(), &mut silent).unwrap();
    let trained = draw(&a.generator().unwrap());
    for _ in 0..3 {
        a.step().unwrap();
    }
    assert_eq!(a.steps_done(), 6);
    assert_eq!(apart(&draw(&a.generator().unwrap()), &trained), 0.0);
    // Without decay they go on.
    let (_, mut a) = adapted(Settings { steps: 3, snapshot_every: 0, ..settings() });
    a.run(&Cancel::new(), &mut silent).unwrap();
    let trained = draw(&a.generator().unwrap());
    a.step().unwrap();
    assert!(apart(&draw(&a.generator().unwrap()), &trained) > 0.0);
}

/// Two CLIPs of one resolution that frame pictures differently: each sees its own view, and the loss is the sum of both.
#[test]
fn clips_of_one_resolution_and_other_preprocessing_see_their_own_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let pack = pack();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter/clip-a");
    let mut file = serde_json::from_slice::<serde_json::Value>(&std::fs::read(from.join("preprocessor_config.json")).unwrap()).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let whole = nada::nn::clip::Clip::open(&from).unwrap();
    let side = whole.resolution();
    // As many published CLIPs have it: resized to more than is kept.
    file["do_resize"] = true.into();
    file["do_center_crop"] = true.into();
    file["size"] = serde_json::json!({ "shortest_edge": 2 * side });
    file["crop_size"] = serde_json::json!({ "height": side, "width": side });
    std::fs::write(folder.path().join("preprocessor_config.json"), file.to_string()).unwrap();
    let cropped = nada::nn::clip::Clip::open(folder.path()).unwrap();
    assert!(cropped.resolution() == side && cropped.preprocessing().short == 2 * side);
    let (whole, cropped) = (Arc::new(whole), Arc::new(cropped));

    let generator = Arc::new(pack.load_generator().unwrap());
    let z = |seed: u64| generator.broadcast(&generator.sample_w(2, seed, 1.0).unwrap()).unwrap();
    let (before, after) = (generator.synthesize(&z(1), Noise::None).unwrap(), generator.synthesize(&z(2), Noise::None).unwrap());
    let after = candle_core::Var::from_tensor(&after).unwrap();
    let loss = |clips: &[&Arc<nada::nn::clip::Clip>]| -> (f32, Vec<f32>) {
        let clips: Vec<_> = clips.iter().map(|c| nada::adapt::WeightedClip { clip: (*c).clone(), weight: 1.0 }).collect();
        let templates = Templates(vec!["{}".into()]);
        let a = Adaptation::new(generator.clone(), &clips, text("a photo"), text("a zombie"), &templates, settings()).unwrap();
        let (loss, seed) = a.clip_gradients(&before, after.as_tensor(), &mut nada::rng::Rng::new(0)).unwrap();
        let gradient = seed.backward().unwrap().get(after.as_tensor()).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        (loss, gradient)
    };
    let (a, b) = (loss(&[&whole]), loss(&[&cropped]));
    assert!((a.0 - b.0).abs() > 1e-3, "they see different things: {} {}", a.0, b.0);
    for both in [loss(&[&whole, &cropped]), loss(&[&cropped, &whole])] {
        assert!((both.0 - a.0 - b.0).abs() < 1e-5, "{} instead of {} + {}", both.0, a.0, b.0);
        let sum: Vec<f32> = a.1.iter().zip(&b.1).map(|(a, b)| a + b).collect();
        assert!(apart(&both.1, &sum) < 1e-5 * sum.iter().fold(0.0f32, |m, v| m.max(v.abs())), "the gradients add up");
    }
}

/// Where a batch has one picture there is no other to compare it with.
#[test]
fn losses_between_pictures_say_that_they_need_two() {
    let losses = LossWeights { structure: 100.0, in_domain: 10.0, ..LossWeights::default() };
    let one = Settings { batch: 1, losses, ..settings() };
    let warnings = one.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("losses.structure is 100") && warnings[1].contains("losses.in_domain is 10"), "{warnings:?}");
    assert!(warnings.iter().all(|w| w.contains("batch is 1")), "{warnings:?}");
    assert!(Settings { batch: 2, ..one.clone() }.warnings().is_empty());
    assert!(Settings { losses: LossWeights::default(), ..one.clone() }.warnings().is_empty());
    // What they would add is no part of the loss.
    let (_, mut with) = adapted(one.clone());
    let (_, mut without) = adapted(Settings { losses: LossWeights::default(), ..one });
    for _ in 0..2 {
        assert_eq!(with.step().unwrap().loss, without.step().unwrap().loss);
    }
}

/// A caller's own number decides about no allocation.
#[test]
fn numbers_beyond_all_sense_are_refused_by_name() {
    let layers = |k, iterations, batch| Settings { auto_layers: Some(AutoLayers { k, iterations, batch }), ..settings() };
    let stop = |latents| Settings { stop: Some(StopRule { latents, ..StopRule::default() }), ..settings() };
    let huge = 4_000_000_000;
    for (name, settings) in [
        ("batch", Settings { batch: huge, ..settings() }),
        ("auto_layers", layers(2, 1, huge)),
        ("auto_layers", layers(2, huge, 2)),
        ("auto_layers", layers(huge, 1, 2)),
        ("stop", stop(huge)),
    ] {
        let error = start(settings, text("a photo"), text("a zombie")).1.err().expect(name);
        assert!(error.kind() == Kind::InvalidArgument && error.to_string().starts_with(name), "{name}: {error}");
    }
}

/// On one batch, from a twin whose weights are apart from the frozen one's by a third: the losses that keep the twins together are 0 before.
#[test]
fn each_loss_alone_lowers_itself() {
    let zero = LossWeights { direction: 0.0, global: 0.0, manifold: 0.0, in_domain: 0.0, structure: 0.0 };
    let pack = pack();
    let (frozen, clips) = (Arc::new(pack.load_generator().unwrap()), pack.load_clips().unwrap());
    let mut rng = Rng::new(8);
    let z = rng.normals(&[4, frozen.config().style_dim], &candle_core::Device::Cpu).unwrap();
    let mut shaken = |t: &Tensor| (t + (t * rng.normals(t.dims(), t.device()).unwrap().affine(0.33, 0.0).unwrap()).unwrap()).unwrap();
    let weights = frozen.weights().iter().filter(|(k, _)| k.starts_with("conv")).map(|(k, t)| (k.clone(), shaken(t))).collect();
    let apart = frozen.replacing(weights, Default::default()).unwrap();
    for (losses, falls_to) in [
        (LossWeights { direction: 1.0, ..zero }, 0.75),
        (LossWeights { global: 1.0, ..zero }, 0.8),
        (LossWeights { manifold: 1.0, ..zero }, 0.5),
        // These do not pull towards the target, and settings want one beside them that does.
        (LossWeights { direction: 1e-6, in_domain: 1.0, ..zero }, 0.2),
        (LossWeights { direction: 1e-6, structure: 1.0, ..zero }, 0.1),
    ] {
        let settings = Settings { losses, batch: 4, steps: 20, snapshot_every: 0, learning_rate: 0.01, ..settings() };
        let templates = Templates(vec!["{}".into()]);
        let run = Adaptation::from_start(frozen.clone(), &apart, &clips, text("a photo"), text("a zombie"), &templates, settings);
        let mut run = run.unwrap();
        let draws = Draws { z: z.clone(), mixing: None, noise: None, selection: None };
        let loss: Vec<f32> = (0..20).map(|_| run.step_with(&draws, &mut Rng::new(0)).unwrap().loss).collect();
        assert!(loss[19] < falls_to * loss[0], "{losses:?}: {loss:?}");
    }
}

#[test]
fn the_in_domain_loss_is_its_formula() {
    let losses = |in_domain: f32| LossWeights { direction: 1.0, in_domain, ..LossWeights::default() };
    let with = |in_domain: f32| adapted(Settings { losses: losses(in_domain), batch: 3, ..settings() });
    let (g, a) = with(0.0);
    let z = |seed: u64| g.broadcast(&g.sample_w(3, seed, 1.0).unwrap()).unwrap();
    let (before, after) = (g.synthesize(&z(1), Noise::None).unwrap(), g.synthesize(&z(2), Noise::None).unwrap());
    let after = candle_core::Var::from_tensor(&after).unwrap();
    let loss = |a: &Adaptation| a.clip_gradients(&before, after.as_tensor(), &mut Rng::new(0)).unwrap().0;
    let extra = loss(&with(0.5).1) - loss(&a);

    let mut want = 0.0;
    for clip in pack().load_clips().unwrap() {
        let embed = |x: &Tensor| -> Vec<Vec<f32>> {
            let e = clip.clip.encode_image(&clip.clip.preprocess(x, Settings::default().clip_resize).unwrap()).unwrap();
            let unit = |v: Vec<f32>| {
                let n = v.iter().map(|x| x * x).sum::<f32>().sqrt();
                v.into_iter().map(|x| x / n).collect()
            };
            e.to_vec2::<f32>().unwrap().into_iter().map(unit).collect()
        };
        let (e0, e1) = (embed(&before), embed(after.as_tensor()));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        for i in 0..3 {
            for j in 0..3 {
                want += clip.weight * 0.5 * (dot(&e1[i], &e1[j]) - dot(&e0[i], &e0[j])).powi(2) / 9.0;
            }
        }
    }
    assert!(want > 1e-6, "the pictures differ: {want}");
    // Both are differences of losses of about 1 in f32.
    assert!((extra - want).abs() < 1e-5 * (1.0 + want), "{extra} instead of {want}");
}

/// From the state at any snapshot a run goes on with the same bits, whatever it trains and however it stops.
#[test]
fn a_saved_state_goes_on_with_the_same_bits() {
    let templates = Templates(vec!["{}".into(), "a picture of {}".into()]);
    let random = Settings { steps: 8, mixing: 0.6, noise: true, augment: true, decay: true, ..settings() };
    let rule = StopRule { latents: 4, every: 2, pairing: 0.0, structure: 0.0, earliest: 2, plateau: 10.0, plateau_steps: 2, patience: 2 };
    let layers = Some(AutoLayers { k: 2, iterations: 1, batch: 2 });
    for settings in [
        random.clone(),
        Settings { parameters: Parameters::Stylespace, batch: 5, ..random.clone() },
        // Stops by itself at the second look, after which nothing is left to do.
        Settings { stop: Some(rule), ..random.clone() },
        // Parameters that a step leaves out.
        Settings { auto_layers: layers, ..random.clone() },
        Settings { auto_layers: layers, mode: Mode::Reference, augment: false, ..random.clone() },
        // The pool is gone through more than once, and batches reach from one time into the next; with views kept, then with embeddings.
        Settings { pool: 5, ..random.clone() },
        Settings { pool: 3, augment: false, losses: LossWeights { structure: 100.0, ..LossWeights::default() }, ..random },
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = |step: usize| folder.path().join(format!("{step}.safetensors"));
        let (_, mut whole) = adapted(settings.clone());
        let mut steps = vec![];
        let mut keep = |run: &Adaptation, snapshot: &nada::adapt::Snapshot| {
            steps.push(snapshot.step);
            run.save_state(&file(snapshot.step), &templates, "a note")
        };
        let outcome = whole.run_keeping(&Cancel::new(), &mut silent, &mut keep).unwrap();
        assert!(whole.snapshots().is_empty() && steps.len() >= 2, "{steps:?}");
        let bits = |d: Domain| {
            let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
            (d.description, d.deltas.iter().map(|(k, t)| (k.clone(), numbers(t))).collect::<Vec<_>>())
        };
        for step in steps {
            let state = SavedState::open(&file(step)).unwrap();
            assert_eq!((state.step(), state.notes.as_str(), state.settings()), (step, "a note", &settings));
            let (_, mut rest) = adapted(settings.clone());
            rest.restore(&state).unwrap();
            assert_eq!(rest.steps_done(), step);
            let again = rest.run(&Cancel::new(), &mut silent).unwrap();
            assert_eq!((again.ended, again.steps, again.chosen), (outcome.ended, outcome.steps, outcome.chosen), "from step {step}");
            assert!(bits(rest.domain().unwrap()) == bits(whole.domain().unwrap()), "from step {step} of {settings:?}");
            assert!(bits(rest.result().unwrap()) == bits(whole.result().unwrap()), "from step {step} of {settings:?}");
        }
    }
}

/// Nobody waits for snapshots that nobody wants, and the run is the same.
#[test]
fn a_run_without_snapshots_takes_none() {
    let (_, mut with) = adapted(settings());
    let (_, mut without) = adapted(settings());
    with.run(&Cancel::new(), &mut silent).unwrap();
    let mut previews = 0;
    let mut seen = |p: &nada::progress::Progress| {
        previews += usize::from(p.preview.is_some());
        Flow::Continue
    };
    without.run_without_snapshots(&Cancel::new(), &mut seen).unwrap();
    assert_eq!((with.snapshots().len(), without.snapshots().len(), previews), (2, 0, 0));
    assert_eq!(apart(&draw(&with.generator().unwrap()), &draw(&without.generator().unwrap())), 0.0);
}

/// The unadapted row is drawn once, and is that of the frozen generator however many pictures were asked for before.
#[test]
fn previews_show_the_frozen_pictures_above_the_trained_ones() {
    let (_, mut a) = adapted(settings());
    let side = a.config().size();
    let row = |p: &Picture, row: usize, columns: usize| -> Vec<f32> {
        let line = |y: usize| &p.data[(y * p.width) * 4..][..columns * (side + 2) * 4 - 8];
        (row * (side + 2)..row * (side + 2) + side).flat_map(line).copied().collect()
    };
    let first = a.preview(2).unwrap();
    assert_eq!((first.width, first.height), (2 * side + 2, 2 * side + 2));
    assert!(apart(&row(&first, 0, 2), &row(&first, 1, 2)) < 1e-5, "nothing is trained yet");
    a.run(&Cancel::new(), &mut silent).unwrap();
    let more = a.preview(3).unwrap();
    assert_eq!(row(&more, 0, 2), row(&first, 0, 2));
    assert!(apart(&row(&more, 0, 3), &row(&more, 1, 3)) > 1e-3);
    // The third picture as a run draws it that was not asked before, but for the rounding of pictures that are drawn together.
    let at_once = adapted(settings()).1.preview(3).unwrap();
    assert!(apart(&row(&more, 0, 3), &row(&at_once, 0, 3)) < 1e-4);
}

#[test]
fn reference_mode_draws_new_latents_whatever_the_pool() {
    let losses = |pool| {
        let mut run = start(Settings { mode: Mode::Reference, pool, ..settings() }, text("a photo"), text("a zombie")).1.unwrap();
        (0..3).map(|_| run.step().unwrap().loss.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(losses(2), losses(0));
    let of_pool = |pool| {
        let mut run = start(Settings { pool, ..settings() }, text("a photo"), text("a zombie")).1.unwrap();
        (0..3).map(|_| run.step().unwrap().loss.to_bits()).collect::<Vec<_>>()
    };
    assert_ne!(of_pool(2), of_pool(0));
}

/// Whatever else is chosen: the twins of a pool share noise and mixing too, so that nothing has to be moved at step 0, and training does what
/// it does with new latents.
#[test]
fn a_pool_trains_with_everything_else() {
    let base = Settings { pool: 4, noise: true, mixing: 0.7, ..settings() };
    let structure = LossWeights { structure: 100.0, in_domain: 1.0, manifold: 1.0, ..LossWeights::default() };
    for settings in [
        base.clone(),
        Settings { augment: true, losses: structure, ..base.clone() },
        // A batch that is divided, and larger than the pool.
        Settings { batch: 5, losses: structure, ..base.clone() },
        Settings { phase: Phase::All, auto_layers: Some(AutoLayers { k: 3, iterations: 1, batch: 2 }), ..base },
    ] {
        let (g, mut a) = adapted(settings.clone());
        // The manifold loss is the cosine of source and target then: only of the others it is known what they are.
        let first = a.step().unwrap().loss;
        let without = LossWeights { manifold: 0.0, ..settings.losses };
        let (_, mut b) = adapted(Settings { losses: without, ..settings.clone() });
        let plain = b.step().unwrap().loss;
        assert!((plain - 1.0).abs() < 1e-3 && first >= plain - 1e-4, "the twins see the same at first: {plain}, {first}");
        a.run(&Cancel::new(), &mut silent).unwrap();
        assert!(apart(&draw(&g), &draw(&a.generator().unwrap())) > 1e-3, "{settings:?}");
    }
}

/// A generator of 64 px that is trained through its picture of 32 px is trained as the one that ends there.
#[test]
fn training_ends_at_the_chosen_picture() {
    let folder = tempfile::tempdir().unwrap();
    let open = |side: usize| {
        // The same numbers up to where the smaller one ends.
        let random = common::random_generator::Random { side, style_dim: 16, mapping_layers: 2, channels: |_| 8, spread: 0.5 };
        let file = folder.path().join(format!("{side}.safetensors"));
        random.write(&file);
        Arc::new(Generator::open(&file).unwrap())
    };
    let (whole, cut) = (open(64), open(32));
    let clips = pack().load_clips().unwrap();
    let templates = Templates(vec!["{}".into()]);
    let start =
        |g: &Arc<Generator>, s: &Settings| Adaptation::new(g.clone(), &clips, text("a photo"), text("a zombie"), &templates, s.clone());
    let stop = Some(StopRule { latents: 4, every: 2, pairing: 0.0, structure: 0.0, ..StopRule::default() });
    let layers = Some(AutoLayers { k: 3, iterations: 1, batch: 2 });
    let base = Settings { train_resolution: 32, stop, ..settings() };
    for settings in [
        base.clone(),
        Settings { parameters: Parameters::Stylespace, mixing: 0.7, pool: 4, ..base.clone() },
        Settings { auto_layers: layers, truncation: 0.7, ..base.clone() },
        Settings { auto_layers: layers, mode: Mode::Reference, ..base.clone() },
        Settings { phase: Phase::All, losses: LossWeights { structure: 50.0, ..LossWeights::default() }, ..base.clone() },
    ] {
        let mut a = start(&whole, &settings).unwrap();
        let mut b = start(&cut, &Settings { train_resolution: 0, ..settings.clone() }).unwrap();
        for _ in 0..2 {
            let (a, b) = (a.step().unwrap(), b.step().unwrap());
            assert_eq!((a.loss.to_bits(), a.rows), (b.loss.to_bits(), b.rows), "{settings:?}");
        }
        // The stop rule sees the same too.
        a.run(&Cancel::new(), &mut silent).unwrap();
        b.run(&Cancel::new(), &mut silent).unwrap();
        let seen = |a: &Adaptation| a.snapshots().iter().map(|s| (s.step, s.judgement)).collect::<Vec<_>>();
        assert_eq!(seen(&a), seen(&b));
        let (a_deltas, b_deltas) = (a.domain().unwrap().deltas, b.domain().unwrap().deltas);
        assert_eq!(a_deltas.keys().collect::<Vec<_>>(), b_deltas.keys().collect::<Vec<_>>(), "layers above stay as they are");
        // Pictures for people are whole.
        let preview = a.preview(2).unwrap();
        assert_eq!((preview.width, preview.height), (2 * 64 + 2, 2 * 64 + 2));
        assert!(apart(&draw(&whole), &draw(&a.generator().unwrap())) > 1e-4);
    }
    let need = |s: &Settings| nada::memory::adapt(whole.config(), s, &[], 1, 2);
    assert!(need(&base) < need(&Settings { train_resolution: 0, ..base.clone() }));
    let e = start(&whole, &Settings { train_resolution: 48, ..base }).err().expect("no such picture");
    assert_eq!(e.to_string(), "train_resolution: is 48, and this generator has pictures of 4, 8, 16, 32, 64 pixels");
}

/// Gone through one at a time, a batch has the gradients that it has together.
#[test]
fn low_memory_changes_the_last_bits_only() {
    let losses = LossWeights { structure: 50.0, ..LossWeights::default() };
    let layers = Some(AutoLayers { k: 3, iterations: 1, batch: 2 });
    let base = Settings { losses, batch: 3, stop: None, ..settings() };
    for settings in [
        base.clone(),
        Settings { parameters: Parameters::Stylespace, mixing: 0.7, pool: 4, ..base.clone() },
        Settings { phase: Phase::All, auto_layers: layers, noise: true, ..base.clone() },
        Settings { mode: Mode::Reference, noise: true, ..base.clone() },
    ] {
        let step = |memory: Memory| {
            let (_, mut run) = adapted(Settings { memory, ..settings.clone() });
            let report = run.step().unwrap();
            (report, run.domain().unwrap().deltas)
        };
        let ((fast, fast_deltas), (low, low_deltas)) = (step(Memory::Fast), step(Memory::Low));
        assert!((fast.loss - low.loss).abs() <= 1e-5 * fast.loss.abs(), "{} {}", fast.loss, low.loss);
        assert_eq!((fast.rows, fast_deltas.keys().collect::<Vec<_>>()), (low.rows, low_deltas.keys().collect::<Vec<_>>()));
        // The first step of Adam is the rate, with the gradient's sign: where it is next to nothing, the last bits choose the sign.
        let numbers = |deltas: &std::collections::BTreeMap<String, Tensor>| -> Vec<f32> {
            deltas.values().flat_map(|d| d.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
        };
        let (fast, low) = (numbers(&fast_deltas), numbers(&low_deltas));
        let other = fast.iter().zip(&low).filter(|(a, b)| (*a - *b).abs() > 1e-3 * settings.learning_rate as f32).count();
        assert!(other * 200 < fast.len(), "{other} of {} took another way: {settings:?}", fast.len());
    }
}

#[test]
fn a_state_of_another_run_is_refused_and_changes_nothing() {
    let templates = Templates(vec!["{}".into(), "a picture of {}".into()]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.safetensors");
    let (_, mut run) = adapted(settings());
    run.step().unwrap();
    run.save_state(&file, &templates, "").unwrap();
    let state = SavedState::open(&file).unwrap();
    let (_, seed) = adapted(Settings { seed: 9, ..settings() });
    let (_, words) = start(settings(), text("a photo"), text("a ghost"));
    let pack = pack();
    let clips = pack.load_clips().unwrap();
    let generator = Arc::new(pack.load_generator().unwrap());
    let others = Templates(vec!["the {}".into()]);
    let templates = Adaptation::new(generator.clone(), &clips, text("a photo"), text("a zombie"), &others, settings());
    let mut heavy = clips.clone();
    heavy[0].weight = 0.5;
    let two = Templates(vec!["{}".into(), "a picture of {}".into()]);
    let weight = Adaptation::new(generator, &heavy, text("a photo"), text("a zombie"), &two, settings());
    for (mut other, words) in [(seed, "setting"), (words.unwrap(), "target"), (templates.unwrap(), "templates"), (weight.unwrap(), "CLIP")]
    {
        let e = other.restore(&state).unwrap_err();
        assert!(e.kind() == Kind::Mismatch && e.to_string().contains(words) && e.to_string().contains("state.safetensors"), "{e}");
        assert_eq!(other.steps_done(), 0);
    }
    let e = SavedState::open(&common::data("expected.safetensors")).unwrap_err();
    assert!(e.kind() == Kind::Format && e.to_string().contains("nada adaptation 1"), "{e}");
}
