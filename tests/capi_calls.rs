//! What calls of the C ABI take and give beside their arguments: tokens that end them, files in memory, failures in parts, the log; and what
//! the program could do before: other programs' formats, embeddings, figures.

#[macro_use]
#[path = "common/capi.rs"]
mod capi;

use capi::{c_path, call, file, fingerprint, last, ok, text, world};
use nada::adapt::Templates;
use nada::capi::adaptation::*;
use nada::capi::adaptation_options::*;
use nada::capi::call::*;
use nada::capi::cancel::*;
use nada::capi::clip::*;
use nada::capi::context::*;
use nada::capi::domain::*;
use nada::capi::encoder::*;
use nada::capi::error::*;
use nada::capi::evaluation::*;
use nada::capi::face::*;
use nada::capi::frame::*;
use nada::capi::gallery::*;
use nada::capi::generator::*;
use nada::capi::image::*;
use nada::capi::image_file::*;
use nada::capi::inversion::*;
use nada::capi::latent::*;
use nada::capi::log::*;
use nada::capi::model::*;
use nada::capi::render::*;
use nada::capi::status::nada_status::*;
use nada::capi::status::*;
use nada::checkpoint;
use nada::eval;
use nada::nn::clip::ClipResize;
use nada::pack::ModelPack;
use nada::picture::Picture;
use nada::progress::Cancel;
use std::ffi::{c_char, c_void, CString};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

fn error() -> nada_error {
    unsafe {
        let mut error = std::mem::zeroed();
        ok(nada_last_error(&mut error, size_of::<nada_error>()));
        error
    }
}

fn pixels(image: *const nada_image) -> Vec<f32> {
    unsafe {
        let (width, height) = (nada_image_width(image), nada_image_height(image));
        let mut data = vec![0f32; (width * height * 4) as usize];
        let stride = width as usize * 16;
        ok(nada_image_to_pixels(image, &nada_pixels_mut { data: data.as_mut_ptr().cast(), stride, width, height, format: 6, transfer: 0 }));
        data
    }
}

unsafe fn rendered(generator: *const nada_generator, latent: *const nada_latent) -> Vec<f32> {
    let mut image = null_mut();
    ok(nada_generator_render(generator, latent, null(), null(), &mut image, 1));
    let data = pixels(image);
    nada_image_free(image);
    data
}

/// Each gives nothing, and leaves what it was given as it was.
#[test]
fn a_triggered_token_ends_every_long_call() {
    let w = world();
    unsafe {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| c_path(&folder.path().join(name));
        let domain = w.domain();
        ok(nada_domain_save(domain, at("d.safetensors").as_ptr(), null()));
        ok(nada_latent_save(w.latent, at("w.safetensors").as_ptr(), null()));
        let adaptation = made!(nada_adaptation_new(w.generator, &w.quick(), null()));
        let adapted = made!(nada_generator_with_domains(w.generator, &domain.cast_const(), null(), 1, null()));
        let gallery = made!(nada_gallery_open(w.context, at("gallery").as_ptr(), null()));
        ok(nada_gallery_install(gallery, domain, null(), null(), null(), null_mut(), 0, null_mut()));
        nada_gallery_free(gallery);
        let gallery = made!(nada_gallery_open(w.context, at("gallery").as_ptr(), null()));
        let token = made!(nada_cancel_new());
        ok(nada_cancel_trigger(token));
        let call = &call(token);

        let mut statuses: Vec<(&str, nada_status)> = vec![];
        macro_rules! ends {
            ($($function:ident($($argument:expr),*);)*) => {$({
                let mut handle = std::ptr::dangling_mut();
                let status = $function($($argument,)* &mut handle);
                assert!(handle.is_null(), "{} gave something", stringify!($function));
                statuses.push((stringify!($function), status));
            })*};
        }
        let bytes = |path: &Path| std::fs::read(path).unwrap();
        let (generator_file, domain_file) =
            (bytes(&file("models/starter/generator.safetensors")), bytes(&folder.path().join("d.safetensors")));
        let (latent_file, picture_file) = (bytes(&folder.path().join("w.safetensors")), bytes(&file("tests/data/face.png")));
        let (picture, size) = (c_path(&file("tests/data/face.png")), size_of::<nada_adaptation_options>());
        let generator = c_path(&file("models/starter/generator.safetensors"));
        let clip = c_path(&file("models/starter/clip-a"));
        let encoder = c_path(&file("tests/data/formats/restyle_psp_resnet.pt"));
        let mut inversion: nada_inversion_options = std::mem::zeroed();
        ok(nada_model_inversion_options(w.model, &mut inversion, size_of::<nada_inversion_options>()));
        let again = made!(nada_model_open(w.context, c_path(&file("models/starter")).as_ptr()));
        let options = w.quick();
        assert_eq!(options.struct_size, size);
        ends! {
            nada_generator_open(w.context, generator.as_ptr(), call);
            nada_generator_open_memory(w.context, generator_file.as_ptr().cast(), generator_file.len(), null(), call);
            nada_clip_open(w.context, clip.as_ptr(), call);
            nada_clip_open_as(w.context, clip.as_ptr(), 0, call);
            nada_encoder_open(w.context, encoder.as_ptr(), call);
            nada_latent_open(w.context, at("w.safetensors").as_ptr(), 1, call);
            nada_latent_open_memory(w.context, latent_file.as_ptr().cast(), latent_file.len(), null(), 1, call);
            nada_domain_open(w.context, at("d.safetensors").as_ptr(), call);
            nada_domain_open_memory(w.context, domain_file.as_ptr().cast(), domain_file.len(), null(), call);
            nada_image_open(picture.as_ptr(), call);
            nada_image_open_square(picture.as_ptr(), 8, call);
            nada_image_open_memory(picture_file.as_ptr().cast(), picture_file.len(), null(), call);
            nada_model_generator(again, call);
            nada_adaptation_new(w.generator, &options, call);
            nada_generator_adapt(w.generator, &options, call);
            nada_adaptation_preview(adaptation, 1, call);
            nada_generator_restyle(w.generator, w.image, &inversion, null(), call);
            nada_model_evaluate(w.model, &domain.cast_const(), null(), 1, null(), null(), call);
            nada_generator_sample(w.generator, 1, 3, 0.7, call);
            nada_generator_mix_styles(w.generator, w.latent, w.latent, 3, call);
            nada_generator_mix_linear(w.generator, w.latent, w.latent, 0.5, call);
            nada_generator_with_domains(w.generator, &domain.cast_const(), null(), 1, call);
            nada_generator_without_classes(w.generator, call);
            nada_domain_between(w.generator, adapted, null(), null(), call);
            nada_domain_for_generator(domain, adapted, call);
            nada_domain_to_half(domain, call);
            nada_gallery_open(w.context, at("gallery").as_ptr(), call);
        }
        let mut found = std::ptr::dangling_mut();
        statuses.push(("invert", nada_generator_invert(w.generator, w.image, &inversion, call, &mut found, null_mut())));
        assert!(found.is_null());
        let mut drawn = std::ptr::dangling_mut();
        statuses.push(("render", nada_generator_render(w.generator, w.latent, null(), call, &mut drawn, 1)));
        assert!(drawn.is_null());
        let mut count = 7;
        statuses.push(("clip_count", nada_model_clip_count(again, call, &mut count)));
        statuses.push(("clip", nada_model_clip(again, 0, call, &mut null_mut(), null_mut())));
        assert_eq!(count, 0);
        statuses.push(("step", nada_adaptation_step(adaptation, call, null_mut())));
        statuses.push(("run", nada_adaptation_run(adaptation, call)));
        let mut outcome: nada_outcome = std::mem::zeroed();
        ok(nada_adaptation_outcome(adaptation, &mut outcome, size_of::<nada_outcome>()));
        assert_eq!(outcome.steps, 0);

        let (source, mut out) = (vec![9u8; 32 * 32 * 4], vec![7u8; 32 * 32 * 4]);
        let from = nada_pixels { data: source.as_ptr().cast(), stride: 128, width: 32, height: 32, format: 1, transfer: 0 };
        let to = nada_pixels_mut { data: out.as_mut_ptr().cast(), stride: 128, width: 32, height: 32, format: 1, transfer: 0 };
        statuses.push(("render_frame", nada_generator_render_frame(w.generator, &from, null(), w.latent, null(), call, &to)));
        statuses.push(("restyle_frame", nada_generator_restyle_frame(w.generator, &from, null(), &inversion, null(), call, &to)));
        assert!(out.iter().all(|b| *b == 7));
        let mut square = std::ptr::dangling_mut();
        statuses.push(("image_from_frame", nada_image_from_frame(&from, null(), 8, call, &mut square)));
        assert!(square.is_null());
        let part = nada_frame { struct_size: size_of::<nada_frame>(), centre_x: 16.0, centre_y: 16.0, side: 20.0, angle: 10.0 };
        statuses.push(("image_from_face", nada_image_from_face(w.context, &from, &part, 8, 0, call, &mut square)));
        assert!(square.is_null());
        let mut faces = std::ptr::dangling_mut();
        statuses.push(("faces_find", nada_faces_find(w.context, &from, 0, call, &mut faces)));
        assert!(faces.is_null());

        // What is written leaves nothing behind, and what was there as it was.
        let there = |folder: &Path| -> std::collections::BTreeMap<_, _> {
            let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
            files.map(|path| (path.clone(), bytes(&path))).collect()
        };
        let (before, installed) = (there(folder.path()), there(&folder.path().join("gallery")));
        for name in ["new", "d.safetensors", "w.safetensors"] {
            let path = at(name);
            for layout in [nada_layout::NADA_LAYOUT_NADA, nada_layout::NADA_LAYOUT_ROSINALITY, nada_layout::NADA_LAYOUT_ADA_PYTORCH] {
                statuses.push(("generator_save", nada_generator_save(w.generator, path.as_ptr(), layout as i32, 0, call)));
            }
            statuses.push(("generator_save", nada_generator_save(w.generator, path.as_ptr(), 0, 1, call)));
            statuses.push(("domain_save", nada_domain_save(domain, path.as_ptr(), call)));
            statuses.push(("latent_save", nada_latent_save(w.latent, path.as_ptr(), call)));
            statuses.push(("save_png", nada_image_save_png(w.image, path.as_ptr(), call)));
        }
        let mut needed = 7;
        statuses.push(("install", nada_gallery_install(gallery, domain, null(), w.image, call, null_mut(), 0, &mut needed)));
        assert!(there(folder.path()) == before && there(&folder.path().join("gallery")) == installed && needed == 7);

        let (mut fits, mut found) = (7, std::ptr::dangling());
        statuses.push(("domain_fits", nada_domain_fits(domain, w.generator, call, &mut fits)));
        statuses.push(("gallery_fits", nada_gallery_fits(gallery, 0, w.generator, call, &mut fits)));
        statuses.push(("fingerprint", nada_generator_fingerprint(w.generator, call, &mut found)));
        assert!(fits == 0 && found.is_null());
        let mut warning = [7 as c_char; 64];
        let model = made!(nada_model_open(w.context, c_path(&file("models/starter")).as_ptr()));
        statuses.push(("check_text", nada_model_check_text(model, c"a zombie".as_ptr(), call, warning.as_mut_ptr(), 64, &mut needed)));
        statuses.push(("check_length", nada_model_check_length(model, c"a zombie".as_ptr(), call)));
        assert!(warning.iter().all(|c| *c == 7) && needed == 7);
        // By the same handle, later.
        ok(nada_model_check_text(model, c"a zombie".as_ptr(), null(), warning.as_mut_ptr(), 64, &mut needed));
        assert_eq!((warning[0], needed), (0, 1));
        nada_model_free(model);
        let dimension = nada_clip_dimension(w.clip) as usize;
        let (mut row, words, image) = (vec![7f32; dimension], c"a photo".as_ptr(), w.image.cast_const());
        statuses.push(("embed_texts", nada_clip_embed_texts(w.clip, &words, 1, null(), 0, call, row.as_mut_ptr(), dimension)));
        statuses.push(("embed_images", nada_clip_embed_images(w.clip, &image, 1, 0, call, row.as_mut_ptr(), dimension)));
        statuses.push(("score", nada_clip_score(w.clip, &image, 1, &words, 1, null(), 0, call, row.as_mut_ptr(), 1)));
        assert!(row.iter().all(|v| *v == 7.0));

        let wrong: Vec<_> = statuses.iter().filter(|(_, status)| *status != NADA_CANCELLED).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        // All works without it.
        ok(nada_adaptation_step(adaptation, null(), null_mut()));
        nada_generator_free(made!(nada_model_generator(again, null())));
        nada_model_free(again);
        ok(nada_gallery_fits(gallery, 0, w.generator, null(), &mut fits));
        assert_eq!((fits, fingerprint(w.generator).len()), (1, 64));
        nada_gallery_free(gallery);
        nada_generator_free(adapted);
        nada_cancel_free(token);
        nada_adaptation_free(adaptation);
        nada_domain_free(domain);
    }
}

/// What `work` answers to a token that is triggered while it runs, and how long it went on.
fn cancelled_within(work: impl FnOnce(&nada_call) -> nada_status) -> (nada_status, Duration) {
    unsafe {
        let token = made!(nada_cancel_new());
        let trigger = token as usize;
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            let at = Instant::now();
            ok(nada_cancel_trigger(trigger as *const nada_cancel));
            at
        });
        let status = work(&call(token));
        let took = other.join().unwrap().elapsed();
        nada_cancel_free(token);
        (status, took)
    }
}

/// Calls that would go on for many seconds.
#[test]
fn a_token_ends_drawing_and_a_step_in_the_middle() {
    let w = world();
    unsafe {
        let many = made!(nada_generator_sample(w.generator, 2000, 1, 0.7, null()));
        let mut images = vec![null_mut(); 2000];
        let (status, took) =
            cancelled_within(|call| nada_generator_render(w.generator, many, null(), call, images.as_mut_ptr(), images.len()));
        assert_eq!(status, NADA_CANCELLED, "{}", last());
        assert!(took < Duration::from_secs(2) && images.iter().all(|image| image.is_null()), "{took:?}");
        nada_latent_free(many);
        let mut latent = std::ptr::dangling_mut();
        let (status, took) = cancelled_within(|call| nada_generator_sample(w.generator, 400_000, 1, 0.7, call, &mut latent));
        assert!(status == NADA_CANCELLED && latent.is_null() && took < Duration::from_secs(2), "{status:?} after {took:?}");

        let options = nada_adaptation_options { batch: 256, ..w.quick() };
        let adaptation = made!(nada_adaptation_new(w.generator, &options, null()));
        let (status, _) = cancelled_within(|call| nada_adaptation_step(adaptation, call, null_mut()));
        assert_eq!(status, NADA_CANCELLED, "{}", last());
        let mut outcome: nada_outcome = std::mem::zeroed();
        ok(nada_adaptation_outcome(adaptation, &mut outcome, size_of::<nada_outcome>()));
        assert_eq!((outcome.steps, outcome.ended), (0, nada_ended::NADA_ENDED_NOT as i32));
        nada_adaptation_free(adaptation);
    }
}

#[test]
fn a_call_of_no_size_is_refused() {
    let w = world();
    unsafe {
        let mut wrong = call(null());
        wrong.struct_size = 8;
        assert_eq!(nada_model_generator(w.model, &wrong, &mut null_mut()), NADA_INVALID_ARGUMENT);
        assert!(last().contains("nada_call.struct_size: 8"), "{}", last());
        assert_eq!(text(error().argument), "nada_call.struct_size");
        let wrong = call(w.image.cast());
        assert_eq!(nada_model_generator(w.model, &wrong, &mut null_mut()), NADA_INVALID_ARGUMENT);
        assert!(last().contains("call.cancel: is not a live nada_cancel"), "{}", last());
        assert_eq!(nada_image_save_png(w.image, c"/nowhere/a.png".as_ptr(), &wrong), NADA_INVALID_ARGUMENT);
        assert!(last().contains("call.cancel"), "{}", last());
    }
}

/// What C sees of a generator's layers is the table itself.
#[test]
fn layers_are_those_of_the_table() {
    let w = world();
    let pack = ModelPack::open(&file("models/starter")).unwrap();
    let generator = pack.load_generator().unwrap();
    let table = generator.layers();
    unsafe {
        assert_eq!(nada_generator_layer_count(w.generator), table.len());
        assert_eq!(nada_generator_layer_count(null()), 0);
        let mut kinds = std::collections::BTreeSet::new();
        for (i, want) in table.iter().enumerate() {
            let mut layer: nada_layer = std::mem::zeroed();
            ok(nada_generator_layer(w.generator, i, &mut layer, size_of::<nada_layer>()));
            let row = want.row.map_or(-1, |row| row as i32);
            assert_eq!((layer.struct_size, text(layer.name), layer.row), (size_of::<nada_layer>(), want.name.clone(), row));
            let numbers = [layer.index, layer.width, layer.height, layer.channels_in, layer.channels_out, layer.kernel];
            let want = [want.index, want.to.width, want.to.height, want.from.channels, want.to.channels, want.kernel];
            assert_eq!(numbers.map(|n| n as usize), want, "{i}");
            kinds.insert(layer.kind);
        }
        let all = [nada_layer_kind::NADA_LAYER_INPUT, nada_layer_kind::NADA_LAYER_CONVOLUTION, nada_layer_kind::NADA_LAYER_TO_RGB];
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all.map(|kind| kind as i32));
        let mut layer: nada_layer = std::mem::zeroed();
        assert_eq!(nada_generator_layer(w.generator, table.len(), &mut layer, size_of::<nada_layer>()), NADA_INVALID_ARGUMENT);
        assert!(last().contains(&format!("has {} layers", table.len())), "{}", last());
        for size in [0, 8, size_of::<nada_layer>() - 8, 1 << 20] {
            assert_eq!(nada_generator_layer(w.generator, 0, &mut layer, size), NADA_INVALID_ARGUMENT);
            assert!(last().contains("nada_layer.struct_size"), "{}", last());
        }
    }
}

/// A pack of a later version says what was passed over.
#[test]
fn a_pack_warns_of_what_this_version_does_not_know() {
    let w = world();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(file("models/starter/generator.safetensors"), folder.path().join("generator.safetensors")).unwrap();
    let manifest = "name = 'later'\ngenerator = 'generator.safetensors'\nsmell = 'roses'\n[recipe]\nwarmth = 3\n";
    std::fs::write(folder.path().join("model.toml"), manifest).unwrap();
    unsafe {
        let model = made!(nada_model_open(w.context, c_path(folder.path()).as_ptr()));
        let warning = text(nada_model_warning(model));
        assert!(["model.toml", "smell", "warmth"].iter().all(|word| warning.contains(word)), "{warning}");
        nada_model_free(model);
        assert_eq!((text(nada_model_warning(w.model)), text(nada_model_warning(null()))), (String::new(), String::new()));
    }
}

#[test]
fn files_in_memory_are_those_on_the_disk() {
    let w = world();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    unsafe {
        let domain = w.domain();
        ok(nada_domain_save(domain, c_path(&at("d.safetensors")).as_ptr(), null()));
        ok(nada_latent_save(w.latent, c_path(&at("w.safetensors")).as_ptr(), null()));
        ok(nada_latent_save(w.latent, c_path(&at("w.npy")).as_ptr(), null()));
        ok(nada_generator_save(w.generator, c_path(&at("g.pkl")).as_ptr(), nada_layout::NADA_LAYOUT_ADA_PYTORCH as i32, 0, null()));
        let memory = |path: &Path| std::fs::read(path).unwrap();

        let want = rendered(w.generator, w.latent);
        for path in [file("models/starter/generator.safetensors"), at("g.pkl")] {
            let bytes = memory(&path);
            let generator = made!(nada_generator_open_memory(w.context, bytes.as_ptr().cast(), bytes.len(), null(), null()));
            // It keeps what it needs.
            drop(bytes);
            assert_eq!(rendered(generator, w.latent), want, "{}", path.display());
            nada_generator_free(generator);
        }
        for name in ["w.safetensors", "w.npy"] {
            let bytes = memory(&at(name));
            let latent = made!(nada_latent_open_memory(w.context, bytes.as_ptr().cast(), bytes.len(), c"a latent".as_ptr(), 1, null()));
            assert_eq!(rendered(w.generator, latent), want, "{name}");
            nada_latent_free(latent);
        }
        let bytes = memory(&at("d.safetensors"));
        let again = made!(nada_domain_open_memory(w.context, bytes.as_ptr().cast(), bytes.len(), null(), null()));
        assert_eq!(text(nada_domain_target(again)), "a pencil sketch");
        assert_eq!(text(nada_domain_fingerprint(again)), fingerprint(w.generator));
        nada_domain_free(again);

        // Each format's reader goes through the same bytes in its own way.
        let picture = Picture::open(&file("tests/data/face.png")).unwrap();
        for name in ["p.png", "p.jpg", "p.webp", "p.tiff", "p.bmp", "p.gif"] {
            let (width, height) = (picture.width as u32, picture.height as u32);
            let rgb: Vec<u8> = picture.data.chunks(4).flat_map(|p| [0, 1, 2].map(|c| (p[c] * 255.0).round() as u8)).collect();
            image::RgbImage::from_raw(width, height, rgb).unwrap().save(at(name)).unwrap();
            let bytes = memory(&at(name));
            let on_disk = made!(nada_image_open(c_path(&at(name)).as_ptr(), null()));
            let in_memory = made!(nada_image_open_memory(bytes.as_ptr().cast(), bytes.len(), null(), null()));
            assert!(pixels(on_disk) == pixels(in_memory), "{name}");
            nada_image_free(on_disk);
            nada_image_free(in_memory);
            let mut none = null_mut();
            let status = nada_image_open_memory(bytes.as_ptr().cast(), bytes.len() / 2, c"half a picture".as_ptr(), null(), &mut none);
            assert_eq!((status, none), (NADA_BAD_FORMAT, null_mut()), "{name}");
            assert!(last().starts_with("half a picture: "), "{name}: {}", last());
        }
        // A Hugging Face CLIP is several files: from one of them alone it is refused by name, whatever lies in the current folder.
        let bytes = memory(&file("models/starter/clip-a/model.safetensors"));
        let mut clip = null_mut();
        let status = nada_clip_open_memory(w.context, bytes.as_ptr().cast(), bytes.len(), c"alone".as_ptr(), 0, null(), &mut clip);
        assert!(status == NADA_BAD_FORMAT || status == NADA_UNSUPPORTED, "{status:?}: {}", last());
        assert!(last().contains("alone") && clip.is_null(), "{}", last());
        // One in OpenAI's layout is one file.
        let path = file("tests/data/clip/gelu.pt");
        let (bytes, gelu) = (memory(&path), nada_activation::NADA_ACTIVATION_GELU as i32);
        let on_disk = made!(nada_clip_open_as(w.context, c_path(&path).as_ptr(), gelu, null()));
        let in_memory = made!(nada_clip_open_memory(w.context, bytes.as_ptr().cast(), bytes.len(), c"x.pt".as_ptr(), gelu, null()));
        let embed = |clip: *const nada_clip| {
            let mut row = vec![0f32; nada_clip_dimension(clip) as usize];
            ok(nada_clip_embed_images(clip, &w.image.cast_const(), 1, 0, null(), row.as_mut_ptr(), row.len()));
            row
        };
        assert!(embed(on_disk) == embed(in_memory));
        nada_clip_free(on_disk);
        nada_clip_free(in_memory);
        nada_domain_free(domain);
    }
}

#[test]
fn what_went_wrong_is_told_in_parts() {
    let w = world();
    let folder = tempfile::tempdir().unwrap();
    unsafe {
        // In a thread that failed nothing there is nothing.
        std::thread::spawn(|| {
            let error = error();
            let texts = [error.message, error.file, error.key, error.argument, error.needed].map(text);
            assert_eq!((error.status, error.memory, texts), (0, 0, Default::default()));
        })
        .join()
        .unwrap();

        let whole = checkpoint::open(&file("models/starter/generator.safetensors")).unwrap();
        let mut tensors: std::collections::BTreeMap<_, _> = whole.keys().map(|k| (k.to_string(), whole.tensor(k).unwrap())).collect();
        let key = "convs.0.activate.bias";
        let bias = tensors.remove(key).unwrap();
        let path = folder.path().join("incomplete.safetensors");
        checkpoint::save_safetensors(&path, &tensors, &whole.metadata).unwrap();
        assert_eq!(nada_generator_open(w.context, c_path(&path).as_ptr(), null(), &mut null_mut()), NADA_BAD_FORMAT);
        let about = error();
        assert_eq!((text(about.file), text(about.key)), (path.to_str().unwrap().to_string(), key.to_string()));
        assert_eq!(text(about.needed), format!("a tensor of shape {:?}", bias.dims()));
        assert_eq!((about.status, text(about.message)), (NADA_BAD_FORMAT as i32, last()));

        tensors.insert(key.into(), bias.narrow(0, 0, 3).unwrap());
        checkpoint::save_safetensors(&path, &tensors, &whole.metadata).unwrap();
        assert_eq!(nada_generator_open(w.context, c_path(&path).as_ptr(), null(), &mut null_mut()), NADA_BAD_FORMAT);
        assert_eq!((text(error().key), text(error().needed)), (key.into(), format!("a tensor of shape {:?}", bias.dims())));

        assert_eq!(nada_clip_open(w.context, c"/nowhere/clip.pt".as_ptr(), null(), &mut null_mut()), NADA_NOT_FOUND);
        assert_eq!(text(error().file), "/nowhere/clip.pt");
        assert_eq!(nada_generator_sample(w.generator, 1, 1, 9.0, null(), &mut null_mut()), NADA_INVALID_ARGUMENT);
        assert_eq!((text(error().argument), text(error().file)), ("truncation".into(), String::new()));

        // What a host can act on: how much it would take.
        let mut options: nada_context_options = std::mem::zeroed();
        ok(nada_context_options_init(&mut options, size_of::<nada_context_options>()));
        (options.threads, options.memory_limit) = (1, 1 << 20);
        let small = made!(nada_context_new(&options));
        let generator = made!(nada_generator_open(small, c_path(&file("models/starter/generator.safetensors")).as_ptr(), null()));
        let status = nada_generator_render(generator, w.latent, null(), null(), &mut null_mut(), 1);
        assert_eq!(status, NADA_OUT_OF_MEMORY);
        assert!(error().memory > 1 << 20 && error().status == NADA_OUT_OF_MEMORY as i32, "{}", error().memory);
        nada_generator_free(generator);
        nada_context_free(small);

        // A program compiled when the struct ended earlier would be refused: it never did.
        let mut short: nada_error = std::mem::zeroed();
        assert_eq!(nada_last_error(&mut short, 16), NADA_INVALID_ARGUMENT);
        assert!(last().contains("nada_error.struct_size: 16"), "{}", last());
    }
}

static HEARD: Mutex<Vec<(i32, String)>> = Mutex::new(Vec::new());

unsafe extern "C" fn listen(level: LogLevelNumber, message: *const c_char, data: *mut c_void) {
    assert_eq!(data as usize, 77);
    HEARD.lock().unwrap().push((level, text(message)));
    // Calls that log from inside do not come back here, and the callback cannot replace itself.
    assert_eq!(nada_image_open(c"/nowhere/inside".as_ptr(), null(), &mut null_mut()), NADA_NOT_FOUND);
    assert_eq!(nada_log_set_callback(None, null_mut(), 0), NADA_BUSY);
}

#[test]
fn the_log_tells_what_is_opened_and_what_failed() {
    let w = world();
    unsafe {
        let mine = |words: &str| HEARD.lock().unwrap().iter().filter(|(_, line)| line.contains(words)).cloned().collect::<Vec<_>>();
        let data = std::ptr::without_provenance_mut::<c_void>(77);
        ok(nada_log_set_callback(Some(listen), data, nada_log_level::NADA_LOG_DEBUG as i32));
        assert_eq!(nada_image_open(c"/nowhere/outside".as_ptr(), null(), &mut null_mut()), NADA_NOT_FOUND);
        // The failure that the caller sees is its own, not that of the callback.
        assert!(last().contains("/nowhere/outside"), "{}", last());
        let lines = mine("/nowhere/outside");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].0 == nada_log_level::NADA_LOG_DEBUG as i32 && lines[0].1.starts_with("NADA_NOT_FOUND: "), "{lines:?}");
        assert!(mine("/nowhere/inside").is_empty());
        let path = file("models/starter/generator.safetensors");
        nada_generator_free(made!(nada_generator_open(w.context, c_path(&path).as_ptr(), null())));
        let lines = mine(path.to_str().unwrap());
        assert!(lines.len() == 1 && lines[0].0 == nada_log_level::NADA_LOG_INFO as i32, "{lines:?}");

        each_opening_is_told_in_one_line(w, &mine);

        // Only up to the level.
        ok(nada_log_set_callback(Some(listen), data, nada_log_level::NADA_LOG_WARN as i32));
        assert_eq!(nada_image_open(c"/nowhere/quiet".as_ptr(), null(), &mut null_mut()), NADA_NOT_FOUND);
        ok(nada_log_set_callback(None, null_mut(), nada_log_level::NADA_LOG_TRACE as i32));
        assert_eq!(nada_image_open(c"/nowhere/nobody".as_ptr(), null(), &mut null_mut()), NADA_NOT_FOUND);
        assert!(mine("/nowhere/quiet").is_empty() && mine("/nowhere/nobody").is_empty());
        assert_eq!(nada_log_set_callback(None, null_mut(), 6), NADA_INVALID_ARGUMENT);
    }
    a_callback_may_wait_for_threads_that_log();
    a_callback_may_ask_for_what_was_opened();
}

/// What was opened, of which kind, how large it is, how long it took. Names of the test's own: others log at the same time.
unsafe fn each_opening_is_told_in_one_line(w: &capi::World, mine: &dyn Fn(&str) -> Vec<(i32, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let bytes = |name: &str| std::fs::read(at(name)).unwrap();
    std::fs::create_dir_all(at("heard-clip")).unwrap();
    for entry in std::fs::read_dir(file("models/starter/clip-a")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), at("heard-clip").join(entry.file_name())).unwrap();
    }
    std::fs::copy(file("models/starter/generator.safetensors"), at("heard-generator")).unwrap();
    std::fs::copy(file("tests/data/face.png"), at("heard-picture")).unwrap();
    let clip = "[[clip]]\npath = 'heard-clip'\n";
    std::fs::write(at("model.toml"), format!("name = 'heard-pack'\ngenerator = 'heard-generator'\n{clip}")).unwrap();
    let domain = w.domain();
    ok(nada_domain_save(domain, c_path(&at("heard.nada.safetensors")).as_ptr(), null()));
    ok(nada_latent_save(w.latent, c_path(&at("heard-latent")).as_ptr(), null()));

    let path = |name: &str| c_path(&at(name));
    nada_generator_free(made!(nada_generator_open(w.context, path("heard-generator").as_ptr(), null())));
    nada_domain_free(made!(nada_domain_open(w.context, path("heard.nada.safetensors").as_ptr(), null())));
    nada_latent_free(made!(nada_latent_open(w.context, path("heard-latent").as_ptr(), 1, null())));
    nada_clip_free(made!(nada_clip_open(w.context, path("heard-clip").as_ptr(), null())));
    nada_image_free(made!(nada_image_open(path("heard-picture").as_ptr(), null())));
    let model = made!(nada_model_open(w.context, c_path(folder.path()).as_ptr()));
    nada_generator_free(made!(nada_model_generator(model, null())));
    ok(nada_model_clip_count(model, null(), &mut 0));
    nada_model_free(model);
    nada_gallery_free(made!(nada_gallery_open(w.context, c_path(folder.path()).as_ptr(), null())));
    let memory = bytes("heard-generator");
    nada_generator_free(made!(nada_generator_open_memory(
        w.context,
        memory.as_ptr().cast(),
        memory.len(),
        c"heard-bytes".as_ptr(),
        null()
    )));
    nada_domain_free(domain);

    for (words, size) in [
        (format!("opened generator {}: ", at("heard-generator").display()), "StyleGAN2, 128 px, "),
        (format!("opened domain {}: ", at("heard.nada.safetensors").display()), "to \"a pencil sketch\", "),
        (format!("opened latents {}: ", at("heard-latent").display()), "1 points of w, 1 rows of 128 numbers each"),
        ("opened CLIP heard-clip: ".to_string(), "64 px, embeddings of "),
        (format!("opened picture {}: ", at("heard-picture").display()), " px"),
        ("opened model pack heard-pack: ".to_string(), "1 CLIPs, in "),
        ("opened generator of the pack heard-pack: ".to_string(), "StyleGAN2, 128 px, "),
        ("opened CLIPs of the pack heard-pack: ".to_string(), "heard-clip of 64 px"),
        (format!("opened gallery {}: ", folder.path().display()), "1 domains, 0 files that are none"),
        ("opened generator heard-bytes in memory: ".to_string(), "StyleGAN2, 128 px, "),
    ] {
        let lines = mine(&words);
        assert!(lines.len() == 1 && lines[0].0 == nada_log_level::NADA_LOG_INFO as i32, "{words}: {lines:?}");
        let seconds = lines[0].1.rsplit_once(", in ").and_then(|(_, rest)| rest.strip_suffix(" s")?.parse::<f64>().ok());
        assert!(lines[0].1.contains(size) && seconds.is_some_and(|s| s >= 0.0), "{lines:?}");
    }
}

/// Replaces the callback while it runs; done when that is through.
static REPLACED: Mutex<Option<std::thread::JoinHandle<nada_status>>> = Mutex::new(None);

unsafe extern "C" fn wait_for_others(_: LogLevelNumber, message: *const c_char, _: *mut c_void) {
    if !text(message).contains("/nowhere/waits") {
        return;
    }
    *REPLACED.lock().unwrap() = Some(std::thread::spawn(|| nada_log_set_callback(None, null_mut(), 0)));
    // So that it is waiting when the next one logs.
    std::thread::sleep(Duration::from_millis(200));
    let logs = std::thread::spawn(|| nada_image_open(c"/nowhere/logs".as_ptr(), null(), &mut null_mut()));
    assert_eq!(logs.join().unwrap(), NADA_NOT_FOUND);
}

fn a_callback_may_wait_for_threads_that_log() {
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || unsafe {
        ok(nada_log_set_callback(Some(wait_for_others), null_mut(), nada_log_level::NADA_LOG_DEBUG as i32));
        assert_eq!(nada_image_open(c"/nowhere/waits".as_ptr(), null(), &mut null_mut()), NADA_NOT_FOUND);
        let replaced = REPLACED.lock().unwrap().take().unwrap();
        done.send(replaced.join().unwrap()).unwrap();
    });
    assert_eq!(waiting.recv_timeout(Duration::from_secs(20)), Ok(NADA_OK), "a lock is held while the callback runs");
}

/// The model that the callback asks, and what it was answered.
static ASKED: AtomicPtr<nada_model> = AtomicPtr::new(null_mut());
static ANSWER: Mutex<Option<nada_status>> = Mutex::new(None);

unsafe extern "C" fn ask_again(_: LogLevelNumber, message: *const c_char, _: *mut c_void) {
    if text(message).contains("opened generator of the pack") {
        let mut generator = null_mut();
        let status = nada_model_generator(ASKED.load(Ordering::SeqCst), null(), &mut generator);
        nada_generator_free(generator);
        *ANSWER.lock().unwrap() = Some(status);
    }
}

fn a_callback_may_ask_for_what_was_opened() {
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || unsafe {
        let w = world();
        let model = made!(nada_model_open(w.context, c_path(&file("models/starter")).as_ptr()));
        ASKED.store(model, Ordering::SeqCst);
        ok(nada_log_set_callback(Some(ask_again), null_mut(), nada_log_level::NADA_LOG_INFO as i32));
        nada_generator_free(made!(nada_model_generator(model, null())));
        ok(nada_log_set_callback(None, null_mut(), 0));
        nada_model_free(model);
        done.send(ANSWER.lock().unwrap().take()).unwrap();
    });
    assert_eq!(waiting.recv_timeout(Duration::from_secs(60)), Ok(Some(NADA_OK)), "what is asked for is still being made");
}

#[test]
fn generators_are_written_in_other_programs_formats() {
    let w = world();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| c_path(&folder.path().join(name));
    unsafe {
        let domain = w.domain();
        let adapted = made!(nada_generator_with_domains(w.generator, &domain.cast_const(), null(), 1, null()));
        let (plain, want) = (rendered(w.generator, w.latent), rendered(adapted, w.latent));
        assert!(plain != want);
        for (name, layout) in [
            ("a.safetensors", nada_layout::NADA_LAYOUT_NADA),
            ("a.pt", nada_layout::NADA_LAYOUT_ROSINALITY),
            ("a.pkl", nada_layout::NADA_LAYOUT_ADA_PYTORCH),
        ] {
            ok(nada_generator_save(adapted, at(name).as_ptr(), layout as i32, 0, null()));
            let again = made!(nada_generator_open(w.context, at(name).as_ptr(), null()));
            let far = rendered(again, w.latent).iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-4, "{name}: {far}");
            nada_generator_free(again);
        }
        ok(nada_generator_save(w.generator, at("half.safetensors").as_ptr(), 0, 1, null()));
        let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size("half.safetensors") < size("a.safetensors") * 6 / 10);
        for (layout, half, word) in [(1, 1, "half"), (3, 0, "layout"), (0, 2, "half")] {
            assert_eq!(nada_generator_save(w.generator, at("none").as_ptr(), layout, half, null()), NADA_INVALID_ARGUMENT);
            assert!(last().contains(word) && !folder.path().join("none").exists(), "{}", last());
        }
        let same = made!(nada_generator_without_classes(w.generator, null()));
        assert_eq!(rendered(same, w.latent), plain);
        nada_generator_free(same);
        nada_generator_free(adapted);
        nada_domain_free(domain);
    }
}

/// The numbers that the library's own functions give, in the caller's memory.
#[test]
fn embeddings_and_scores_are_clips() {
    let w = world();
    let pack = ModelPack::open(&file("models/starter")).unwrap();
    let clip = &pack.load_clips().unwrap()[0].clip;
    let words = ["a photo", "a pencil sketch"];
    let templates = Templates(vec!["{}".into(), "a picture of {}".into()]);
    let picture = Picture::open(&file("tests/data/face.png")).unwrap().to_tensor().unwrap();
    let rows = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let near = |have: &[f32], want: &[f32]| {
        let far = have.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(have.len() == want.len() && far < 1e-5, "{far}");
    };
    unsafe {
        let dimension = nada_clip_dimension(w.clip) as usize;
        let given = [c"a photo".as_ptr(), c"a pencil sketch".as_ptr()];
        let prompts = [c"{}".as_ptr(), c"a picture of {}".as_ptr()];
        let mut texts = vec![0f32; 2 * dimension];
        ok(nada_clip_embed_texts(w.clip, given.as_ptr(), 2, prompts.as_ptr(), 2, null(), texts.as_mut_ptr(), texts.len()));
        let want: Vec<f32> = words.iter().flat_map(|t| rows(&eval::embed_text(clip, t, &templates).unwrap())).collect();
        near(&texts, &want);
        let mut bare = vec![0f32; dimension];
        ok(nada_clip_embed_texts(w.clip, given.as_ptr(), 1, null(), 0, null(), bare.as_mut_ptr(), dimension));
        near(&bare, &rows(&eval::embed_text(clip, words[0], &Templates(vec!["{}".into()])).unwrap()));

        let images = [w.image.cast_const(); 2];
        let mut pictures = vec![0f32; 2 * dimension];
        for (resize, how) in [(0, ClipResize::Antialias), (1, ClipResize::Aliased), (2, ClipResize::Area)] {
            ok(nada_clip_embed_images(w.clip, images.as_ptr(), 2, resize, null(), pictures.as_mut_ptr(), pictures.len()));
            let want = rows(&clip.embed_pictures(&picture, how, &Cancel::new()).unwrap());
            near(&pictures[..dimension], &want);
            near(&pictures[dimension..], &want);
        }
        ok(nada_clip_embed_images(w.clip, images.as_ptr(), 2, 0, null(), pictures.as_mut_ptr(), pictures.len()));
        let mut scores = [0f32; 4];
        let prompts = prompts.as_ptr();
        ok(nada_clip_score(w.clip, images.as_ptr(), 2, given.as_ptr(), 2, prompts, 2, null(), scores.as_mut_ptr(), 4));
        let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let (a, b) = texts.split_at(dimension);
        let want: Vec<f32> = pictures.chunks(dimension).flat_map(|p| [cosine(p, a), cosine(p, b)]).collect();
        near(&scores, &want);

        let long = CString::new("sketch ".repeat(200)).unwrap();
        let bad = [c"no place".as_ptr()];
        let mut row = vec![7f32; dimension];
        let mut embed = |words: *const c_char, prompts: *const *const c_char, length: usize| {
            let count = usize::from(!prompts.is_null());
            nada_clip_embed_texts(w.clip, &words, 1, prompts, count, null(), row.as_mut_ptr(), length)
        };
        assert_eq!(embed(long.as_ptr(), null(), dimension), NADA_INVALID_ARGUMENT);
        assert!(last().contains("too long"), "{}", last());
        assert_eq!(embed(given[0], bad.as_ptr(), dimension), NADA_INVALID_ARGUMENT);
        assert!(last().contains("{}"), "{}", last());
        assert_eq!(embed(given[0], null(), dimension - 1), NADA_INVALID_ARGUMENT);
        assert!(last().contains("length"), "{}", last());
        assert!(row.iter().all(|v| *v == 7.0));
    }
}

#[test]
fn a_domains_figures_are_those_of_the_program() {
    let w = world();
    unsafe {
        let domain = w.domain();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.safetensors");
        ok(nada_domain_save(domain, c_path(&path).as_ptr(), null()));
        let strengths = [0.5f32];
        let evaluation = made!(nada_model_evaluate(w.model, &domain.cast_const(), strengths.as_ptr(), 1, null(), null(), null()));

        let pack = ModelPack::open(&file("models/starter")).unwrap();
        let (generator, clips) = (pack.load_generator().unwrap(), pack.load_clips().unwrap());
        let opened = nada::adapt::Domain::open(&path).unwrap();
        let truth = eval::known_truth(&pack, "a pencil sketch").unwrap();
        assert!(truth.is_some());
        let want = eval::domains(
            &pack,
            &generator,
            &clips,
            &[(&opened, 0.5)],
            "a pencil sketch",
            &pack.templates(),
            truth.as_deref(),
            &Cancel::new(),
        )
        .unwrap();
        let mut measures: nada_measures = std::mem::zeroed();
        ok(nada_evaluation_measures(evaluation, &mut measures, size_of::<nada_measures>()));
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-4, "{a} is not {b}");
        assert_eq!((measures.pictures as usize, measures.has_truth), (want.report.pictures, 1));
        near(measures.distance, want.report.distance.unwrap());
        near(measures.pairing, want.report.pairing);
        assert_eq!(text(nada_evaluation_truth(evaluation)), truth.unwrap());
        assert_eq!(nada_evaluation_clip_count(evaluation), want.report.clips.len());
        for (i, figures) in want.report.clips.iter().enumerate() {
            let mut judged: nada_clip_measures = std::mem::zeroed();
            ok(nada_evaluation_clip_measures(evaluation, i, &mut judged, size_of::<nada_clip_measures>()));
            assert_eq!(text(nada_evaluation_clip_name(evaluation, i)), figures.clip);
            near(judged.quality, figures.quality);
            near(judged.quality_before, figures.quality_before);
            near(judged.diversity, figures.diversity);
            near(judged.diversity_before, figures.diversity_before);
        }
        let mut judged: nada_clip_measures = std::mem::zeroed();
        assert_eq!(nada_evaluation_clip_measures(evaluation, 9, &mut judged, size_of::<nada_clip_measures>()), NADA_INVALID_ARGUMENT);
        let sheet = made!(nada_evaluation_sheet(evaluation));
        assert_eq!((nada_image_width(sheet) as usize, nada_image_height(sheet) as usize), (want.sheet.width, want.sheet.height));
        nada_image_free(sheet);
        nada_evaluation_free(evaluation);
        let mut none = null_mut();
        let status = nada_model_evaluate(w.model, &domain.cast_const(), null(), 1, null(), c"nothing".as_ptr(), null(), &mut none);
        assert!(status == NADA_INVALID_ARGUMENT && none.is_null() && last().contains("known are"), "{}", last());
        nada_domain_free(domain);
    }
}

/// Through the ABI: what a turned frame shows is what the picture has there, and drawing into it touches nothing else.
#[test]
fn frames_are_turned_clockwise() {
    let w = world();
    unsafe {
        // Red grows to the right, green downwards.
        let side = 64usize;
        let bytes: Vec<u8> = (0..side * side).flat_map(|i| [(i % side * 4) as u8, (i / side * 4) as u8, 0]).collect();
        let source = nada_pixels { data: bytes.as_ptr().cast(), stride: side * 3, width: 64, height: 64, format: 0, transfer: 0 };
        let frame = |angle| nada_frame { struct_size: size_of::<nada_frame>(), centre_x: 32.0, centre_y: 32.0, side: 20.0, angle };
        let seen = |angle: f64| {
            let image = made!(nada_image_from_frame(&source, &frame(angle), 0, null()));
            let data = pixels(image);
            nada_image_free(image);
            assert_eq!(data.len(), 20 * 20 * 4);
            // Top left, top right: red and green in the picture's pixels.
            [0, 19 * 4].map(|at| [data[at] * 255.0 / 4.0, data[at + 1] * 255.0 / 4.0])
        };
        let near = |have: [[f32; 2]; 2], want: [[f32; 2]; 2]| {
            assert!(have.iter().flatten().zip(want.iter().flatten()).all(|(a, b)| (a - b).abs() < 0.3), "{have:?} is not {want:?}");
        };
        near(seen(0.0), [[22.0, 22.0], [41.0, 22.0]]);
        // Turned by a right angle its top is the picture's right.
        near(seen(90.0), [[41.0, 22.0], [41.0, 41.0]]);
        near(seen(180.0), [[41.0, 41.0], [22.0, 41.0]]);

        let mut out = vec![7u8; side * side * 4];
        let target = nada_pixels_mut { data: out.as_mut_ptr().cast(), stride: side * 4, width: 64, height: 64, format: 1, transfer: 0 };
        let mut options: nada_frame_options = std::mem::zeroed();
        ok(nada_frame_options_init(&mut options, size_of::<nada_frame_options>()));
        let turned = frame(45.0);
        options.frame = &turned;
        ok(nada_generator_render_frame(w.generator, &source, &options, w.latent, null(), null(), &target));
        for (i, pixel) in out.chunks(4).enumerate() {
            let (x, y) = ((i % side) as f64 + 0.5 - 32.0, (i / side) as f64 + 0.5 - 32.0);
            // A square on its corner: |x| + |y| up to half its diagonal.
            let edge = 10.0 * 2f64.sqrt() - (x.abs() + y.abs());
            if edge < -1.0 {
                assert_eq!(pixel, [7; 4], "({x}, {y})");
            } else if edge > 1.0 {
                assert_eq!(pixel[3], 255, "({x}, {y})");
            }
        }
    }
}

/// A face is found, cut out and put back; and what does not fit is told.
#[test]
fn faces_of_a_photo() {
    let w = world();
    let photo = Picture::open(&file("tests/data/faces/tight.png")).unwrap();
    let mut bytes = vec![0u8; 120 * 180 * 4];
    let layout =
        nada::picture::pixels::Layout::packed(120, 180, nada::picture::pixels::Format::Rgba8, nada::picture::pixels::Transfer::Srgb);
    nada::picture::pixels::write(&photo, &mut bytes, &layout).unwrap();
    let source = nada_pixels { data: bytes.as_ptr().cast(), stride: 480, width: 120, height: 180, format: 1, transfer: 0 };
    unsafe {
        let mut found = std::ptr::null_mut();
        ok(nada_faces_find(w.context, &source, 0, null(), &mut found));
        assert_eq!(nada_faces_count(found), 1);
        let mut face: nada_face = std::mem::zeroed();
        ok(nada_faces_get(found, 0, &mut face, size_of::<nada_face>()));
        let expected = nada::face::Detector::shipped().unwrap();
        let expected = expected.faces(&nada::face::Photo::of(&photo).unwrap(), None, &Cancel::new()).unwrap();
        let frame = expected[0].quad().unwrap().frame();
        assert_eq!(
            ([face.centre_x, face.centre_y], face.side, face.angle, face.score),
            (frame.centre, frame.side, frame.angle, expected[0].score)
        );
        assert_eq!(face.points[..2], expected[0].points[0].map(|v| v + 0.5));
        assert_eq!(nada_faces_get(found, 1, &mut face, size_of::<nada_face>()), NADA_INVALID_ARGUMENT);
        assert!(last().contains("1 of 1 faces"), "{}", last());

        let frame = |side: f64| nada_frame {
            struct_size: size_of::<nada_frame>(),
            centre_x: face.centre_x,
            centre_y: face.centre_y,
            side,
            angle: face.angle,
        };
        let square = made!(nada_image_from_face(w.context, &source, &frame(face.side), 64, 1, null()));
        assert_eq!((nada_image_width(square), nada_image_height(square)), (64, 64));
        let mut out = bytes.clone();
        let target = nada_pixels_mut { data: out.as_mut_ptr().cast(), stride: 480, width: 120, height: 180, format: 1, transfer: 0 };
        ok(nada_image_put_back(w.context, &source, &frame(face.side), square, square, -1.0, &target));
        assert!(out == bytes, "a difference of nothing");
        ok(nada_image_put_back(w.context, &source, &frame(face.side), square, null(), -1.0, &target));
        // The frame ends at row 161.
        assert!(out[..480 * 161] != bytes[..480 * 161] && out[480 * 162..] == bytes[480 * 162..]);

        let was = out.clone();
        let fails = |status: nada_status, words: &str| {
            assert!(status == NADA_INVALID_ARGUMENT && last().contains(words), "{status:?}: {}", last());
        };
        let put = |frame: &nada_frame, other, feather| nada_image_put_back(w.context, &source, frame, square, other, feather, &target);
        fails(put(&frame(f64::NAN), null(), 0.1), "side NaN");
        fails(put(&frame(0.5), null(), 0.1), "the side 1 to 360");
        fails(put(&frame(361.0), null(), 0.1), "side 361");
        fails(put(&nada_frame { centre_x: 900.0, ..frame(20.0) }, null(), 0.1), "outside");
        fails(put(&frame(60.0), null(), 0.0), "feather: 0");
        fails(put(&frame(60.0), null(), f32::NAN), "feather");
        fails(put(&frame(60.0), w.image, 0.1), "reconstruction: 128 x 128");
        fails(nada_faces_find(w.context, &source, 5, null(), &mut std::ptr::null_mut()), "min_face: 5");
        fails(nada_image_from_face(w.context, &source, &frame(60.0), 0, 1, null(), &mut std::ptr::null_mut()), "size: 0");
        fails(nada_image_from_face(w.context, &source, &frame(60.0), 1 << 20, 0, null(), &mut std::ptr::null_mut()), "size: 1048576");
        fails(
            nada_image_from_face(
                w.context,
                &source,
                &nada_frame { centre_y: -500.0, ..frame(60.0) },
                8,
                0,
                null(),
                &mut std::ptr::null_mut(),
            ),
            "outside",
        );
        let wrong = nada_pixels { format: 99, ..source };
        fails(nada_faces_find(w.context, &wrong, 0, null(), &mut std::ptr::null_mut()), "pixels.format: 99");
        assert!(out == was);
        nada_image_free(square);
        nada_faces_free(found);

        // No face is no failure.
        let dot = nada_pixels { width: 1, height: 1, ..source };
        let mut none = std::ptr::null_mut();
        ok(nada_faces_find(w.context, &dot, 0, null(), &mut none));
        assert_eq!(nada_faces_count(none), 0);
        nada_faces_free(none);
    }
}
