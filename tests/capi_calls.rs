//! What calls of the C ABI take and give beside their arguments: tokens that end them, files in memory, failures in parts, the log; and what
//! the program could do before: other programs' formats, embeddings, figures.

use nada::adapt::Templates;
use nada::capi::adaptation::*;
use nada::capi::call::*;
use nada::capi::cancel::*;
use nada::capi::clip::*;
use nada::capi::context::*;
use nada::capi::domain::*;
use nada::capi::evaluation::*;
use nada::capi::frame::*;
use nada::capi::generator::*;
use nada::capi::image::*;
use nada::capi::inversion::*;
use nada::capi::latent::*;
use nada::capi::log::*;
use nada::capi::model::*;
use nada::capi::status::nada_status::*;
use nada::capi::status::*;
use nada::checkpoint;
use nada::eval;
use nada::nn::clip::ClipResize;
use nada::pack::ModelPack;
use nada::picture::Picture;
use nada::progress::Cancel;
use std::ffi::{c_char, c_void, CStr, CString};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::time::{Duration, Instant};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

fn text(pointer: *const c_char) -> String {
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_string()
}

fn last() -> String {
    text(nada_last_error_message())
}

#[track_caller]
fn ok(status: nada_status) {
    assert_eq!(status, NADA_OK, "{}", last());
}

/// The handle that a call gives as its last argument.
macro_rules! made {
    ($function:ident($($argument:expr),*)) => {{
        let mut handle = null_mut();
        ok($function($($argument,)* &mut handle));
        handle
    }};
}

fn call(cancel: *const nada_cancel) -> nada_call {
    nada_call { struct_size: size_of::<nada_call>(), on_progress: None, user_data: null_mut(), cancel }
}

fn error() -> nada_error {
    unsafe {
        let mut error = std::mem::zeroed();
        ok(nada_last_error(&mut error, size_of::<nada_error>()));
        error
    }
}

struct World {
    context: *mut nada_context,
    model: *mut nada_model,
    generator: *mut nada_generator,
    clip: *mut nada_clip,
    latent: *mut nada_latent,
    image: *mut nada_image,
}

impl World {
    fn new() -> Self {
        unsafe {
            let mut options: nada_context_options = std::mem::zeroed();
            ok(nada_context_options_init(&mut options, size_of::<nada_context_options>()));
            options.threads = 2;
            let context = made!(nada_context_new(&options));
            let model = made!(nada_model_open(context, c_path(&file("models/starter")).as_ptr()));
            let generator = made!(nada_model_generator(model, null()));
            let mut first = null_mut();
            ok(nada_model_clip(model, 0, null(), &mut first, null_mut()));
            Self {
                context,
                model,
                generator,
                clip: first,
                latent: made!(nada_generator_sample(generator, 1, 3, 0.7)),
                image: made!(nada_image_open(c_path(&file("tests/data/face.png")).as_ptr(), null())),
            }
        }
    }

    unsafe fn adaptation(&self) -> nada_adaptation_options {
        let mut options: nada_adaptation_options = std::mem::zeroed();
        ok(nada_model_adaptation_options(self.model, &mut options, size_of::<nada_adaptation_options>()));
        options.target_text = c"a pencil sketch".as_ptr();
        (options.steps, options.batch, options.stop_latents, options.learning_rate) = (2, 2, 0, 0.02);
        options
    }

    unsafe fn domain(&self) -> *mut nada_domain {
        made!(nada_generator_adapt(self.generator, &self.adaptation(), null()))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        unsafe {
            nada_image_free(self.image);
            nada_latent_free(self.latent);
            nada_clip_free(self.clip);
            nada_generator_free(self.generator);
            nada_model_free(self.model);
            nada_context_free(self.context);
        }
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
    let w = World::new();
    unsafe {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| c_path(&folder.path().join(name));
        let domain = w.domain();
        ok(nada_domain_save(domain, at("d.safetensors").as_ptr()));
        ok(nada_latent_save(w.latent, at("w.safetensors").as_ptr()));
        let adaptation = made!(nada_adaptation_new(w.generator, &w.adaptation(), null()));
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
        let mut inversion: nada_inversion_options = std::mem::zeroed();
        ok(nada_model_inversion_options(w.model, &mut inversion, size_of::<nada_inversion_options>()));
        let again = made!(nada_model_open(w.context, c_path(&file("models/starter")).as_ptr()));
        let options = w.adaptation();
        assert_eq!(options.struct_size, size);
        ends! {
            nada_generator_open(w.context, generator.as_ptr(), call);
            nada_generator_open_memory(w.context, generator_file.as_ptr().cast(), generator_file.len(), null(), call);
            nada_clip_open(w.context, clip.as_ptr(), call);
            nada_clip_open_as(w.context, clip.as_ptr(), 0, call);
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
    let w = World::new();
    unsafe {
        let many = made!(nada_generator_sample(w.generator, 2000, 1, 0.7));
        let mut images = vec![null_mut(); 2000];
        let (status, took) =
            cancelled_within(|call| nada_generator_render(w.generator, many, null(), call, images.as_mut_ptr(), images.len()));
        assert_eq!(status, NADA_CANCELLED, "{}", last());
        assert!(took < Duration::from_secs(2) && images.iter().all(|image| image.is_null()), "{took:?}");
        nada_latent_free(many);

        let options = nada_adaptation_options { batch: 256, ..w.adaptation() };
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
    let w = World::new();
    unsafe {
        let mut wrong = call(null());
        wrong.struct_size = 8;
        assert_eq!(nada_model_generator(w.model, &wrong, &mut null_mut()), NADA_INVALID_ARGUMENT);
        assert!(last().contains("nada_call.struct_size: 8"), "{}", last());
        assert_eq!(text(error().argument), "nada_call.struct_size");
        let wrong = call(w.image.cast());
        assert_eq!(nada_model_generator(w.model, &wrong, &mut null_mut()), NADA_INVALID_ARGUMENT);
        assert!(last().contains("call.cancel: is not a live nada_cancel"), "{}", last());
    }
}

#[test]
fn files_in_memory_are_those_on_the_disk() {
    let w = World::new();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    unsafe {
        let domain = w.domain();
        ok(nada_domain_save(domain, c_path(&at("d.safetensors")).as_ptr()));
        ok(nada_latent_save(w.latent, c_path(&at("w.safetensors")).as_ptr()));
        ok(nada_latent_save(w.latent, c_path(&at("w.npy")).as_ptr()));
        ok(nada_generator_save(w.generator, c_path(&at("g.pkl")).as_ptr(), nada_layout::NADA_LAYOUT_ADA_PYTORCH as i32, 0));
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
        assert_eq!(text(nada_domain_fingerprint(again)), text(nada_generator_fingerprint(w.generator)));
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
    let w = World::new();
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
        assert_eq!(nada_generator_sample(w.generator, 1, 1, 9.0, &mut null_mut()), NADA_INVALID_ARGUMENT);
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
    let w = World::new();
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

        // Only up to the level.
        ok(nada_log_set_callback(Some(listen), data, nada_log_level::NADA_LOG_WARN as i32));
        assert_eq!(nada_image_open(c"/nowhere/quiet".as_ptr(), null(), &mut null_mut()), NADA_NOT_FOUND);
        ok(nada_log_set_callback(None, null_mut(), nada_log_level::NADA_LOG_TRACE as i32));
        assert_eq!(nada_image_open(c"/nowhere/nobody".as_ptr(), null(), &mut null_mut()), NADA_NOT_FOUND);
        assert!(mine("/nowhere/quiet").is_empty() && mine("/nowhere/nobody").is_empty());
        assert_eq!(nada_log_set_callback(None, null_mut(), 6), NADA_INVALID_ARGUMENT);
    }
}

#[test]
fn generators_are_written_in_other_programs_formats() {
    let w = World::new();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| c_path(&folder.path().join(name));
    unsafe {
        let domain = w.domain();
        let adapted = made!(nada_generator_with_domains(w.generator, &domain.cast_const(), null(), 1));
        let (plain, want) = (rendered(w.generator, w.latent), rendered(adapted, w.latent));
        assert!(plain != want);
        for (name, layout) in [
            ("a.safetensors", nada_layout::NADA_LAYOUT_NADA),
            ("a.pt", nada_layout::NADA_LAYOUT_ROSINALITY),
            ("a.pkl", nada_layout::NADA_LAYOUT_ADA_PYTORCH),
        ] {
            ok(nada_generator_save(adapted, at(name).as_ptr(), layout as i32, 0));
            let again = made!(nada_generator_open(w.context, at(name).as_ptr(), null()));
            let far = rendered(again, w.latent).iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-4, "{name}: {far}");
            nada_generator_free(again);
        }
        ok(nada_generator_save(w.generator, at("half.safetensors").as_ptr(), 0, 1));
        let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size("half.safetensors") < size("a.safetensors") * 6 / 10);
        for (layout, half, word) in [(1, 1, "half"), (3, 0, "layout"), (0, 2, "half")] {
            assert_eq!(nada_generator_save(w.generator, at("none").as_ptr(), layout, half), NADA_INVALID_ARGUMENT);
            assert!(last().contains(word) && !folder.path().join("none").exists(), "{}", last());
        }
        let same = made!(nada_generator_without_classes(w.generator));
        assert_eq!(rendered(same, w.latent), plain);
        nada_generator_free(same);
        nada_generator_free(adapted);
        nada_domain_free(domain);
    }
}

/// The numbers that the library's own functions give, in the caller's memory.
#[test]
fn embeddings_and_scores_are_clips() {
    let w = World::new();
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
    let w = World::new();
    unsafe {
        let domain = w.domain();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.safetensors");
        ok(nada_domain_save(domain, c_path(&path).as_ptr()));
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
    let w = World::new();
    unsafe {
        // Red grows to the right, green downwards.
        let side = 64usize;
        let bytes: Vec<u8> = (0..side * side).flat_map(|i| [(i % side * 4) as u8, (i / side * 4) as u8, 0]).collect();
        let source = nada_pixels { data: bytes.as_ptr().cast(), stride: side * 3, width: 64, height: 64, format: 0, transfer: 0 };
        let frame = |angle| nada_frame { struct_size: size_of::<nada_frame>(), centre_x: 32.0, centre_y: 32.0, side: 20.0, angle };
        let seen = |angle: f64| {
            let image = made!(nada_image_from_frame(&source, &frame(angle), 0));
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
