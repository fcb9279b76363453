//! The C ABI against bad input, and the header against its source. What C programs do rightly is in tests/c/client.c.

#![allow(unused_unsafe)] // the tables' calls stand in unsafe blocks, whether they need them or not

mod common;
#[macro_use]
#[path = "common/capi.rs"]
mod capi;

use candle_core::{DType, Device, Tensor};
use capi::{c_path, call, fingerprint, initialised, last, ok, text, world};
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
use nada::capi::model::*;
use nada::capi::model_list::*;
use nada::capi::render::*;
use nada::capi::status::nada_status::*;
use nada::capi::status::*;
use nada::capi::version::*;
use nada::checkpoint;
use std::collections::BTreeMap;
use std::ffi::{c_char, CStr, CString};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

/// Paths are used by the closures of a table, which are simplest to write when they live for ever.
fn keep(path: PathBuf) -> &'static Path {
    Box::leak(path.into_boxed_path())
}

fn starter() -> &'static Path {
    keep(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter"))
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// Handles that are in order, for calls in which something else is not: those of all tests, a small picture and a folder of the test's own.
struct World {
    folder: tempfile::TempDir,
    context: *mut nada_context,
    model: *mut nada_model,
    generator: *mut nada_generator,
    clip: *mut nada_clip,
    latent: *mut nada_latent,
    image: *mut nada_image,
}

impl World {
    fn new() -> Self {
        let &capi::World { context, model, generator, clip, latent, .. } = world();
        let image = unsafe { made!(nada_image_from_pixels(&rgb(&[128; 3 * 16 * 16], 16, 16))) };
        Self { folder: tempfile::tempdir().unwrap(), context, model, generator, clip, latent, image }
    }

    fn path(&self, name: &str) -> &'static Path {
        keep(self.folder.path().join(name))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> &'static Path {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        path
    }

    /// The pack's recipe towards a word it knows.
    unsafe fn adaptation(&self) -> nada_adaptation_options {
        let mut options = std::mem::zeroed();
        ok(nada_model_adaptation_options(self.model, &mut options, size_of::<nada_adaptation_options>()));
        options.target_text = c"a pencil sketch".as_ptr();
        options
    }

    unsafe fn adapt(&self, change: impl FnOnce(&mut nada_adaptation_options)) -> nada_status {
        let mut options = self.adaptation();
        change(&mut options);
        let (status, adaptation) = opened!(nada_adaptation_new(self.generator, &options, null()));
        if status == NADA_OK {
            nada_adaptation_free(adaptation);
        }
        status
    }

    unsafe fn render(&self, latent: *const nada_latent, change: impl FnOnce(&mut nada_render_options)) -> nada_status {
        let mut options = initialised(nada_render_options_init);
        change(&mut options);
        let mut image = std::ptr::dangling_mut();
        let status = nada_generator_render(self.generator, latent, &options, null(), &mut image, 1);
        if status == NADA_OK {
            nada_image_free(image);
        } else {
            assert!(image.is_null());
        }
        status
    }

    unsafe fn invert(&self, image: *const nada_image, change: impl FnOnce(&mut nada_inversion_options)) -> nada_status {
        let mut options = initialised(nada_inversion_options_init);
        options.steps = 1;
        change(&mut options);
        let mut latent = std::ptr::dangling_mut();
        let status = nada_generator_invert(self.generator, image, &options, null(), &mut latent, null_mut());
        if status == NADA_OK {
            nada_latent_free(latent);
        } else {
            assert!(latent.is_null());
        }
        status
    }

    /// Draws the latent into a 16 x 16 picture of the format that `change` leaves.
    unsafe fn draw(&self, change: impl FnOnce(&mut nada_frame_options, &mut nada_pixels, &mut nada_pixels_mut)) -> nada_status {
        let bytes = vec![7u8; 16 * 16 * 16];
        let mut out = vec![7u8; bytes.len()];
        let mut source = rgb(&bytes, 16, 16);
        let nada_pixels { stride, width, height, format, transfer, .. } = source;
        let mut target = nada_pixels_mut { data: out.as_mut_ptr().cast(), stride, width, height, format, transfer };
        let mut options = initialised(nada_frame_options_init);
        change(&mut options, &mut source, &mut target);
        let status = nada_generator_render_frame(self.generator, &source, &options, self.latent, null(), null(), &target);
        if status != NADA_OK {
            assert!(out.iter().all(|b| *b == 7), "a failed call wrote pixels");
        }
        status
    }

    unsafe fn open_generator(&self, path: &Path) -> nada_status {
        let (status, handle) = opened!(nada_generator_open(self.context, c_path(path).as_ptr(), null()));
        nada_generator_free(handle);
        status
    }

    unsafe fn open_clip(&self, path: &Path) -> nada_status {
        let (status, handle) = opened!(nada_clip_open(self.context, c_path(path).as_ptr(), null()));
        nada_clip_free(handle);
        status
    }

    unsafe fn open_latent(&self, path: &Path, space: nada_space) -> nada_status {
        let (status, handle) = opened!(nada_latent_open(self.context, c_path(path).as_ptr(), space as i32, null()));
        nada_latent_free(handle);
        status
    }

    unsafe fn open_domain(&self, path: &Path) -> nada_status {
        let (status, handle) = opened!(nada_domain_open(self.context, c_path(path).as_ptr(), null()));
        nada_domain_free(handle);
        status
    }

    unsafe fn open_image(&self, path: &Path) -> nada_status {
        let (status, handle) = opened!(nada_image_open(c_path(path).as_ptr(), null()));
        nada_image_free(handle);
        status
    }

    /// Opens a pack and everything in it.
    unsafe fn open_model(&self, folder: &Path) -> nada_status {
        let (mut status, model) = opened!(nada_model_open(self.context, c_path(folder).as_ptr()));
        if status == NADA_OK {
            let generator;
            (status, generator) = opened!(nada_model_generator(model, null()));
            nada_generator_free(generator);
        }
        if status == NADA_OK {
            let mut count = 0;
            status = nada_model_clip_count(model, null(), &mut count);
        }
        nada_model_free(model);
        status
    }

    /// A pack with this manifest beside copies of the starter's generator and a CLIP folder that is empty.
    fn pack(&self, name: &str, manifest: &str) -> &'static Path {
        let folder = self.path(name);
        fs::create_dir_all(folder.join("empty")).unwrap();
        fs::copy(starter().join("generator.safetensors"), folder.join("generator.safetensors")).unwrap();
        fs::write(folder.join("model.toml"), manifest).unwrap();
        folder
    }
}

impl Drop for World {
    fn drop(&mut self) {
        unsafe { nada_image_free(self.image) }
    }
}

fn rgb(data: &[u8], width: u32, height: u32) -> nada_pixels {
    nada_pixels {
        data: data.as_ptr().cast(),
        stride: 3 * width as usize,
        width,
        height,
        format: nada_pixel_format::NADA_FORMAT_RGB8 as i32,
        transfer: nada_transfer::NADA_TRANSFER_SRGB as i32,
    }
}

/// The tensors of a safetensors file, changed, as a new file.
fn changed(from: &Path, to: &Path, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> &'static Path {
    let file = checkpoint::open(from).unwrap();
    let mut tensors: BTreeMap<String, Tensor> = file.keys().map(|k| (k.to_string(), file.tensor(k).unwrap())).collect();
    change(&mut tensors);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    checkpoint::save_safetensors(to, &tensors, &file.metadata).unwrap();
    keep(to.to_path_buf())
}

fn cut(from: &Path, to: &Path, length: impl Fn(usize) -> usize) -> &'static Path {
    let bytes = fs::read(from).unwrap();
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::write(to, &bytes[..length(bytes.len())]).unwrap();
    keep(to.to_path_buf())
}

fn nan(tensors: &mut BTreeMap<String, Tensor>) {
    for tensor in tensors.values_mut().filter(|t| t.dtype() == DType::F32) {
        *tensor = Tensor::full(f32::NAN, tensor.dims(), &Device::Cpu).unwrap();
    }
}

/// A copy of the starter's clip-a with another model file.
fn clip_folder(w: &World, name: &str, model: impl FnOnce(&Path, &Path)) -> &'static Path {
    let (from, to) = (starter().join("clip-a"), w.path(name));
    fs::create_dir_all(to).unwrap();
    for file in ["config.json", "vocab.json", "merges.txt", "preprocessor_config.json"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    model(&from.join("model.safetensors"), &to.join("model.safetensors"));
    to
}

type Call<'a> = Box<dyn Fn() -> nada_status + 'a>;

/// What goes wrong, the status for it, and words that the message must have.
struct Case<'a>(&'a str, nada_status, Vec<String>, Call<'a>);

fn check(cases: Vec<Case>) -> usize {
    let mut wrong = vec![];
    for Case(name, status, words, call) in &cases {
        let have = call();
        let message = last();
        let missing: Vec<&String> = words.iter().filter(|w| !message.contains(w.as_str())).collect();
        println!("{name}: {have:?}: {message}");
        if have != *status || !missing.is_empty() {
            wrong.push(format!("{name}: want {status:?}, have {have:?}; the message lacks {missing:?}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    cases.len()
}

macro_rules! case {
    ($cases:ident, $name:expr, $status:ident, [$($word:expr),*], $call:expr) => {
        $cases.push(Case($name, $status, vec![$($word.to_string()),*], Box::new(move || unsafe { $call })))
    };
}

#[test]
fn bad_files() {
    let world = World::new();
    let w = &world;
    let with = |domain: *mut nada_domain, strength: f32| unsafe {
        w.render(w.latent, |o| {
            o.domains = (&raw const domain).cast();
            o.strengths = &strength;
            o.domain_count = 1;
        })
    };
    let with = &with;
    let mut cases = vec![];
    let missing = w.path("nowhere/file");
    let text = w.file("text", b"this is no model, no picture and no latent either\n");
    let empty = w.file("empty", b"");
    let png = w.file("picture.png", include_bytes!("data/face.png"));
    let generator = keep(starter().join("generator.safetensors"));

    // Generators.
    let g = |name: &str| keep(w.path("generator").join(name));
    let key = "conv1.conv.weight";
    let truncated = cut(generator, g("truncated.safetensors"), |n| n / 2);
    let header = cut(generator, g("header.safetensors"), |_| 20);
    let nans = changed(generator, g("nan.safetensors"), nan);
    let incomplete = changed(generator, g("incomplete.safetensors"), |t| drop(t.remove(key)));
    let misshaped = changed(generator, g("misshaped.safetensors"), |t| {
        t.insert(key.into(), Tensor::zeros((1, 7, 64, 3, 3), DType::F32, &Device::Cpu).unwrap());
    });
    let (m, t, e, p) = (missing, text, empty, png);
    case!(cases, "generator: missing", NADA_NOT_FOUND, ["nowhere/file"], w.open_generator(m));
    case!(cases, "generator: empty", NADA_BAD_FORMAT, ["empty"], w.open_generator(e));
    case!(cases, "generator: a text", NADA_BAD_FORMAT, ["text"], w.open_generator(t));
    case!(cases, "generator: a picture", NADA_BAD_FORMAT, ["picture.png"], w.open_generator(p));
    case!(cases, "generator: a folder", NADA_BAD_FORMAT, ["clip-a"], w.open_generator(&starter().join("clip-a")));
    case!(cases, "generator: truncated", NADA_BAD_FORMAT, ["truncated.safetensors"], w.open_generator(truncated));
    case!(cases, "generator: truncated header", NADA_BAD_FORMAT, ["header.safetensors"], w.open_generator(header));
    case!(cases, "generator: not finite", NADA_BAD_FORMAT, ["nan.safetensors", "finite"], w.open_generator(nans));
    case!(cases, "generator: a key is missing", NADA_BAD_FORMAT, ["incomplete.safetensors", key], w.open_generator(incomplete));
    case!(cases, "generator: a wrong shape", NADA_BAD_FORMAT, ["misshaped.safetensors", key, "7"], w.open_generator(misshaped));
    let clip_file = keep(starter().join("clip-a/model.safetensors"));
    case!(cases, "generator: a CLIP", NADA_BAD_FORMAT, ["clip-a/model.safetensors"], w.open_generator(clip_file));

    // CLIPs.
    let hollow = clip_folder(w, "hollow-clip", |_, _| ());
    let short = clip_folder(w, "short-clip", |from, to| {
        cut(from, to, |n| n - 1000);
    });
    let nans = clip_folder(w, "nan-clip", |from, to| {
        changed(from, to, nan);
    });
    let key = "visual_projection.weight";
    let misshaped = clip_folder(w, "misshaped-clip", |from, to| {
        changed(from, to, |t| drop(t.insert(key.into(), Tensor::zeros((3, 5), DType::F32, &Device::Cpu).unwrap())));
    });
    let unreadable = clip_folder(w, "unreadable-clip", |from, to| {
        fs::copy(from, to).unwrap();
    });
    fs::write(unreadable.join("config.json"), "{").unwrap();
    case!(cases, "CLIP: missing", NADA_NOT_FOUND, ["nowhere/file"], w.open_clip(m));
    case!(cases, "CLIP: a text", NADA_BAD_FORMAT, ["text"], w.open_clip(t));
    case!(cases, "CLIP: a folder without a model", NADA_NOT_FOUND, ["hollow-clip", "model.safetensors"], w.open_clip(hollow));
    case!(cases, "CLIP: truncated", NADA_BAD_FORMAT, ["short-clip"], w.open_clip(short));
    case!(cases, "CLIP: not finite", NADA_BAD_FORMAT, ["nan-clip", "finite"], w.open_clip(nans));
    case!(cases, "CLIP: a wrong shape", NADA_BAD_FORMAT, ["misshaped-clip", key], w.open_clip(misshaped));
    case!(cases, "CLIP: a broken config.json", NADA_BAD_FORMAT, ["unreadable-clip", "config.json"], w.open_clip(unreadable));
    case!(cases, "CLIP: a generator", NADA_BAD_FORMAT, ["generator.safetensors"], w.open_clip(generator));

    // Latents.
    let l = |name: &str| keep(w.path("latent").join(name));
    let save = |name: &str, key: &str, tensor: Tensor| {
        let path = l(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        checkpoint::save_safetensors(path, &BTreeMap::from([(key.to_string(), tensor)]), &BTreeMap::new()).unwrap();
        path
    };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let good = save("w.safetensors", "w", zeros(&[2, 128]));
    let flat = save("flat.safetensors", "w", zeros(&[128]));
    let nans = save("nan.safetensors", "w", Tensor::full(f32::NAN, (1, 128), &Device::Cpu).unwrap());
    let npy = l("half.npy");
    checkpoint::write_npy(l("whole.npy"), &zeros(&[4, 128])).unwrap();
    cut(l("whole.npy"), npy, |n| n / 2);
    use nada_space::*;
    case!(cases, "latent: missing", NADA_NOT_FOUND, ["nowhere/file"], w.open_latent(m, NADA_SPACE_W));
    case!(cases, "latent: a text", NADA_BAD_FORMAT, ["text"], w.open_latent(t, NADA_SPACE_W));
    case!(cases, "latent: another space", NADA_BAD_FORMAT, ["w.safetensors", "w_plus"], w.open_latent(good, NADA_SPACE_W_PLUS));
    case!(cases, "latent: a wrong shape", NADA_BAD_FORMAT, ["flat.safetensors", "128"], w.open_latent(flat, NADA_SPACE_W));
    case!(cases, "latent: not finite", NADA_BAD_FORMAT, ["nan.safetensors", "finite"], w.open_latent(nans, NADA_SPACE_W));
    case!(cases, "latent: truncated .npy", NADA_BAD_FORMAT, ["half.npy"], w.open_latent(npy, NADA_SPACE_W));

    // Domains.
    let d = |name: &str| keep(w.path("domain").join(name));
    let domain = d("good.safetensors");
    fs::create_dir_all(domain.parent().unwrap()).unwrap();
    unsafe {
        let adaptation = made!(nada_adaptation_new(w.generator, &w.adaptation(), null()));
        let made = made!(nada_adaptation_domain(adaptation));
        ok(nada_domain_save(made, c_path(domain).as_ptr(), null()));
        nada_domain_free(made);
        nada_adaptation_free(adaptation);
    }
    let truncated = cut(domain, d("truncated.safetensors"), |n| n - 8);
    let nans = changed(domain, d("nan.safetensors"), nan);
    let described = |name: &str, change: &dyn Fn(&str) -> String| {
        let file = checkpoint::open(domain).unwrap();
        let tensors = file.keys().map(|k| (k.to_string(), file.tensor(k).unwrap())).collect();
        let mut metadata = (*file.metadata).clone();
        metadata.insert("description".into(), change(&metadata["description"]));
        checkpoint::save_safetensors(d(name), &tensors, &metadata).unwrap();
        d(name)
    };
    let scrambled = described("scrambled.safetensors", &|_| "{".into());
    let alien = described("alien.safetensors", &|text| {
        let mut json: serde_json::Value = serde_json::from_str(text).unwrap();
        json["fingerprint"] = "0123456789abcdef".into();
        json.to_string()
    });
    let alien = unsafe { made!(nada_domain_open(w.context, c_path(alien).as_ptr(), null())) };
    let misfit = changed(domain, d("misfit.safetensors"), |t| {
        for tensor in t.values_mut() {
            *tensor = Tensor::zeros((3, 3), DType::F32, &Device::Cpu).unwrap();
        }
    });
    let misfit = unsafe { made!(nada_domain_open(w.context, c_path(misfit).as_ptr(), null())) };
    let good = unsafe { made!(nada_domain_open(w.context, c_path(domain).as_ptr(), null())) };
    case!(cases, "domain: missing", NADA_NOT_FOUND, ["nowhere/file"], w.open_domain(m));
    case!(cases, "domain: a generator", NADA_BAD_FORMAT, ["generator.safetensors", "domain"], w.open_domain(generator));
    case!(cases, "domain: truncated", NADA_BAD_FORMAT, ["truncated.safetensors"], w.open_domain(truncated));
    case!(cases, "domain: not finite", NADA_BAD_FORMAT, ["nan.safetensors", "finite"], w.open_domain(nans));
    case!(cases, "domain: a broken description", NADA_BAD_FORMAT, ["scrambled.safetensors"], w.open_domain(scrambled));
    case!(cases, "domain: of another generator", NADA_MISMATCH, ["generator", "0123456789ab"], with(alien, 1.0));
    case!(cases, "domain: of another shape", NADA_MISMATCH, ["shape"], with(misfit, 1.0));
    case!(cases, "domain: too strong", NADA_INVALID_ARGUMENT, ["strength", "1.5"], with(good, 1.6));
    case!(cases, "domain: a negative strength", NADA_INVALID_ARGUMENT, ["strength"], with(good, -0.1));
    case!(cases, "domain: NaN as strength", NADA_INVALID_ARGUMENT, ["strength"], with(good, f32::NAN));
    case!(cases, "domain: into no folder", NADA_NOT_FOUND, ["nowhere"], nada_domain_save(good, c_path(m).as_ptr(), null()));

    // Images.
    let half = cut(png, w.path("half.png"), |n| n / 2);
    case!(cases, "image: missing", NADA_NOT_FOUND, ["nowhere/file"], w.open_image(m));
    case!(cases, "image: empty", NADA_BAD_FORMAT, ["empty"], w.open_image(e));
    case!(cases, "image: a text", NADA_BAD_FORMAT, ["text", "PNG"], w.open_image(t));
    case!(cases, "image: truncated", NADA_BAD_FORMAT, ["half.png"], w.open_image(half));
    case!(cases, "image: a generator", NADA_BAD_FORMAT, ["generator.safetensors"], w.open_image(generator));
    case!(cases, "image: into no folder", NADA_NOT_FOUND, ["nowhere"], nada_image_save_png(w.image, c_path(m).as_ptr(), null()));

    // Model packs.
    let good_manifest = "name = 'x'\nresolution = 128\ngenerator = 'generator.safetensors'\n";
    let pack = |name: &str, manifest: &str| w.pack(name, manifest);
    let bare = w.path("bare");
    fs::create_dir_all(bare).unwrap();
    let broken = pack("broken-pack", "name = [");
    let later = pack("later-pack", &format!("format = 99\n{good_manifest}"));
    let required = pack("required-pack", &format!("{good_manifest}[requires]\nsmell = '7.5'\n"));
    let lost = pack("lost-pack", "name = 'x'\nresolution = 128\ngenerator = 'other.safetensors'\n");
    let outside = pack("outside-pack", "name = 'x'\nresolution = 128\ngenerator = '../picture.png'\n");
    let other = pack("other-pack", &good_manifest.replace("128", "256"));
    let recipe = pack("recipe-pack", &format!("{good_manifest}[recipe]\nbatch = 0\n"));
    let clipless = pack("clipless-pack", good_manifest);
    let hollow = pack("hollow-pack", &format!("{good_manifest}[[clip]]\npath = 'empty'\n"));
    case!(cases, "model: missing", NADA_NOT_FOUND, ["nowhere/file"], w.open_model(m));
    case!(cases, "model: a folder without model.toml", NADA_NOT_FOUND, ["bare", "model.toml"], w.open_model(bare));
    case!(cases, "model: broken model.toml", NADA_BAD_FORMAT, ["broken-pack/model.toml"], w.open_model(broken));
    case!(cases, "model: a later format", NADA_UNSUPPORTED, ["later-pack/model.toml", "99"], w.open_model(later));
    case!(cases, "model: a feature of a later version", NADA_UNSUPPORTED, ["required-pack", "smell", "7.5"], w.open_model(required));
    case!(cases, "model: no generator", NADA_BAD_FORMAT, ["lost-pack", "other.safetensors"], w.open_model(lost));
    case!(cases, "model: a path that leads out", NADA_BAD_FORMAT, ["outside-pack", "../picture.png"], w.open_model(outside));
    case!(cases, "model: another resolution", NADA_MISMATCH, ["128", "256"], w.open_model(other));
    case!(cases, "model: a wrong recipe", NADA_BAD_FORMAT, ["recipe-pack", "batch"], w.open_model(recipe));
    case!(cases, "model: no CLIP", NADA_UNSUPPORTED, ["clipless-pack", "clip"], w.open_model(clipless));
    case!(cases, "model: an empty CLIP folder", NADA_NOT_FOUND, ["hollow-pack/empty"], w.open_model(hollow));

    let count = check(cases);
    assert!(count >= 40, "{count} cases");
    for domain in [alien, misfit, good] {
        unsafe { nada_domain_free(domain) };
    }
}

#[test]
fn bad_arguments() {
    let world = World::new();
    let w = &world;
    let context = |change: &dyn Fn(&mut nada_context_options)| unsafe {
        let mut options = initialised(nada_context_options_init);
        change(&mut options);
        opened!(nada_context_new(&options)).0
    };
    let context = &context;
    let bytes = [0u8; 64];
    let view = rgb(&bytes, 4, 4);
    let pixels = |change: &dyn Fn(&mut nada_pixels)| unsafe {
        let mut changed = view;
        change(&mut changed);
        opened!(nada_image_from_pixels(&changed)).0
    };
    let pixels = &pixels;
    let data = [0f32; 128];
    let data = data.as_ptr();
    let from =
        |space: i32, count, rows, dimension| unsafe { opened!(nada_latent_from_data(w.context, space, data, count, rows, dimension)) };
    let from = &from;
    let sample = |count, truncation| unsafe { opened!(nada_generator_sample(w.generator, count, 1, truncation, null())).0 };
    let sample = &sample;
    let mix = |crossover| unsafe { opened!(nada_generator_mix_styles(w.generator, w.latent, w.latent, crossover, null())).0 };
    let blend = |b, amount| unsafe { opened!(nada_generator_mix_linear(w.generator, w.latent, b, amount, null())).0 };
    let (mix, blend) = (&mix, &blend);
    let mut cases = vec![];
    let latin: CString = CString::new(vec![b'c', b'a', b'f', 0xe9]).unwrap();
    let latin = latin.as_ptr();
    let long = c(&"a pencil sketch ".repeat(40));
    let long = long.as_ptr();

    // Contexts.
    case!(cases, "context: an unknown device", NADA_UNSUPPORTED, ["device", "tpu"], context(&|o| o.device = c"tpu".as_ptr()));
    case!(cases, "context: a device that is not UTF-8", NADA_INVALID_ARGUMENT, ["device", "UTF-8"], context(&|o| o.device = latin));
    case!(cases, "context: too many threads", NADA_INVALID_ARGUMENT, ["threads", "1024"], context(&|o| o.threads = 1 << 20));
    case!(cases, "context: folders that are NULL", NADA_INVALID_ARGUMENT, ["model_folders"], context(&|o| o.model_folder_count = 2));
    case!(cases, "context: struct_size 0", NADA_INVALID_ARGUMENT, ["struct_size", "0"], context(&|o| o.struct_size = 0));
    case!(cases, "context: an absurd struct_size", NADA_INVALID_ARGUMENT, ["struct_size"], context(&|o| o.struct_size = usize::MAX));
    case!(
        cases,
        "context options: too small a struct",
        NADA_INVALID_ARGUMENT,
        ["struct_size", "4"],
        nada_context_options_init(&mut std::mem::zeroed(), 4)
    );

    // Strings and names.
    // Names of files may be any bytes.
    case!(cases, "a file name that is not UTF-8", NADA_NOT_FOUND, ["caf"], opened!(nada_image_open(latin, null())).0);
    case!(cases, "an empty file name", NADA_INVALID_ARGUMENT, ["file", "empty"], opened!(nada_image_open(c"".as_ptr(), null())).0);
    case!(cases, "an unknown model", NADA_NOT_FOUND, ["no-such-model"], opened!(nada_model_open(w.context, c"no-such-model".as_ptr())).0);
    case!(cases, "an empty model name", NADA_INVALID_ARGUMENT, ["name"], opened!(nada_model_open(w.context, c"".as_ptr())).0);

    // Pixels.
    case!(cases, "pixels: no data", NADA_INVALID_ARGUMENT, ["pixels.data"], pixels(&|p| p.data = null()));
    case!(cases, "pixels: width 0", NADA_INVALID_ARGUMENT, ["0 x 4"], pixels(&|p| p.width = 0));
    case!(cases, "pixels: height 0", NADA_INVALID_ARGUMENT, ["4 x 0"], pixels(&|p| p.height = 0));
    case!(cases, "pixels: a huge size", NADA_INVALID_ARGUMENT, ["4294967295"], pixels(&|p| p.width = u32::MAX));
    case!(cases, "pixels: a short stride", NADA_INVALID_ARGUMENT, ["stride", "11", "12"], pixels(&|p| p.stride = 11));
    case!(cases, "pixels: a stride that overflows", NADA_INVALID_ARGUMENT, ["stride"], pixels(&|p| p.stride = usize::MAX / 2));
    case!(cases, "pixels: an unknown format", NADA_INVALID_ARGUMENT, ["pixels.format", "77"], pixels(&|p| p.format = 77));
    case!(cases, "pixels: an unknown transfer", NADA_INVALID_ARGUMENT, ["pixels.transfer", "9"], pixels(&|p| p.transfer = 9));
    let floats = [0.5f32, f32::NAN, 0.5, 1.0];
    let floats = nada_pixels { data: floats.as_ptr().cast(), stride: 16, width: 1, height: 1, format: 6, transfer: 0 };
    case!(cases, "pixels: NaN", NADA_INVALID_ARGUMENT, ["finite", "(0, 0)"], opened!(nada_image_from_pixels(&floats)).0);
    let mut out = [0u8; 64];
    let out = out.as_mut_ptr();
    let wrong_size = nada_pixels_mut { data: out.cast(), stride: 6, width: 2, height: 2, format: 0, transfer: 0 };
    case!(cases, "pixels: of another size", NADA_INVALID_ARGUMENT, ["2 x 2", "16 x 16"], nada_image_to_pixels(w.image, &wrong_size));

    // Latents.
    case!(cases, "latent: no points", NADA_INVALID_ARGUMENT, ["count"], from(1, 0, 1, 128).0);
    case!(cases, "latent: rows in W", NADA_INVALID_ARGUMENT, ["rows", "2"], from(1, 1, 2, 64).0);
    case!(cases, "latent: an unknown space", NADA_INVALID_ARGUMENT, ["space", "3"], from(3, 1, 1, 128).0);
    case!(cases, "latent: more than memory", NADA_OUT_OF_MEMORY, ["latent"], from(1, usize::MAX / 8, 1, 128).0);
    let nans = [f32::INFINITY; 4];
    let nans = nans.as_ptr();
    case!(
        cases,
        "latent: not finite",
        NADA_INVALID_ARGUMENT,
        ["data", "inf"],
        opened!(nada_latent_from_data(w.context, 1, nans, 1, 1, 4)).0
    );
    let narrow = from(1, 1, 1, 64).1 as *const nada_latent;
    let pair = from(1, 2, 1, 64).1 as *const nada_latent;
    case!(cases, "latent: of another dimension", NADA_INVALID_ARGUMENT, ["64", "128"], w.render(narrow, |_| ()));
    case!(cases, "sample: none", NADA_INVALID_ARGUMENT, ["count"], sample(0, 1.0));
    case!(cases, "sample: more than memory", NADA_OUT_OF_MEMORY, ["sample"], sample(usize::MAX / 4096, 1.0));
    case!(cases, "sample: a truncation that is NaN", NADA_INVALID_ARGUMENT, ["truncation", "NaN"], sample(1, f32::NAN));
    case!(cases, "sample: a negative truncation", NADA_INVALID_ARGUMENT, ["truncation", "-1"], sample(1, -1.0));
    let two = unsafe { made!(nada_generator_sample(w.generator, 2, 1, 1.0, null())) } as *const nada_latent;
    case!(cases, "mix: a crossover beyond the rows", NADA_INVALID_ARGUMENT, ["crossover", "99"], mix(99));
    case!(cases, "mix: an amount above 1", NADA_INVALID_ARGUMENT, ["amount", "1.5"], blend(w.latent, 1.5));
    case!(cases, "mix: different counts", NADA_INVALID_ARGUMENT, ["b: ", "[2, 12, 128]"], blend(two, 0.5));
    case!(
        cases,
        "latent: too small a buffer",
        NADA_INVALID_ARGUMENT,
        ["length", "4", "128"],
        nada_latent_copy_data(w.latent, out.cast(), 4)
    );

    // Rendering.
    let mut images = [null_mut(); 3];
    let images = images.as_mut_ptr();
    case!(
        cases,
        "render: another number of images",
        NADA_INVALID_ARGUMENT,
        ["image_count", "3"],
        nada_generator_render(w.generator, w.latent, null(), null(), images, 3)
    );
    case!(cases, "render: unknown noise", NADA_INVALID_ARGUMENT, ["noise", "8"], w.render(w.latent, |o| o.noise = 8));
    case!(cases, "render: NaN as truncation", NADA_INVALID_ARGUMENT, ["truncation"], w.render(w.latent, |o| o.truncation = f32::NAN));
    case!(cases, "render: domains that are NULL", NADA_INVALID_ARGUMENT, ["domains"], w.render(w.latent, |o| o.domain_count = 1));
    case!(
        cases,
        "render: a domain that is NULL",
        NADA_INVALID_ARGUMENT,
        ["domains[0]"],
        w.render(w.latent, |o| {
            static NONE: usize = 0;
            o.domains = (&raw const NONE).cast();
            o.domain_count = 1;
        })
    );
    case!(cases, "render: struct_size 0", NADA_INVALID_ARGUMENT, ["nada_render_options"], w.render(w.latent, |o| o.struct_size = 0));
    case!(cases, "render: a CLIP as the generator", NADA_INVALID_ARGUMENT, ["generator", "nada_generator"], {
        let mut image = null_mut();
        nada_generator_render(w.clip.cast(), w.latent, null(), null(), &mut image, 1)
    });

    // Adapting.
    let dot = w.image as *const nada_image;
    case!(cases, "adapt: no options", NADA_INVALID_ARGUMENT, ["options"], opened!(nada_adaptation_new(w.generator, null(), null())).0);
    case!(cases, "adapt: no target", NADA_INVALID_ARGUMENT, ["target_text"], w.adapt(|o| o.target_text = null()));
    case!(cases, "adapt: an empty target", NADA_INVALID_ARGUMENT, ["target_text", "empty"], w.adapt(|o| o.target_text = c" ".as_ptr()));
    case!(cases, "adapt: no source", NADA_INVALID_ARGUMENT, ["source_text"], w.adapt(|o| o.source_text = null()));
    case!(
        cases,
        "adapt: text and pictures",
        NADA_INVALID_ARGUMENT,
        ["target_images", "target_text"],
        w.adapt(|o| {
            o.target_images = &dot;
            o.target_image_count = 1;
        })
    );
    case!(cases, "adapt: a text that is not UTF-8", NADA_INVALID_ARGUMENT, ["target_text", "UTF-8"], w.adapt(|o| o.target_text = latin));
    case!(cases, "adapt: a text that is too long", NADA_INVALID_ARGUMENT, ["a pencil sketch", "24"], w.adapt(|o| o.target_text = long));
    case!(cases, "adapt: no CLIP", NADA_INVALID_ARGUMENT, ["clips", "model"], w.adapt(|o| o.model = null()));
    case!(cases, "adapt: CLIPs that are NULL", NADA_INVALID_ARGUMENT, ["clips"], w.adapt(|o| o.clip_count = 1));
    let clip = w.clip as *const nada_clip;
    let weight = f32::NAN;
    case!(
        cases,
        "adapt: NaN as a CLIP's weight",
        NADA_INVALID_ARGUMENT,
        ["clip_weights[0]"],
        w.adapt(|o| {
            o.clips = &clip;
            o.clip_weights = &weight;
            o.clip_count = 1;
        })
    );
    let template = c"no place for words".as_ptr();
    case!(
        cases,
        "adapt: a template without {}",
        NADA_INVALID_ARGUMENT,
        ["templates[0]", "{}"],
        w.adapt(|o| {
            o.templates = &template;
            o.template_count = 1;
        })
    );
    case!(cases, "adapt: no steps", NADA_INVALID_ARGUMENT, ["steps"], w.adapt(|o| o.steps = 0));
    case!(cases, "adapt: batch 0", NADA_INVALID_ARGUMENT, ["batch"], w.adapt(|o| o.batch = 0));
    case!(cases, "adapt: a huge batch", NADA_INVALID_ARGUMENT, ["batch", "256"], w.adapt(|o| o.batch = u32::MAX));
    case!(cases, "adapt: NaN as learning rate", NADA_INVALID_ARGUMENT, ["learning_rate"], w.adapt(|o| o.learning_rate = f64::NAN));
    case!(cases, "adapt: NaN as truncation", NADA_INVALID_ARGUMENT, ["truncation"], w.adapt(|o| o.truncation = f32::NAN));
    case!(cases, "adapt: no loss", NADA_INVALID_ARGUMENT, ["losses"], w.adapt(|o| o.losses_direction = 0.0));
    case!(cases, "adapt: an infinite loss weight", NADA_INVALID_ARGUMENT, ["manifold"], w.adapt(|o| o.losses_manifold = f32::INFINITY));
    case!(cases, "adapt: an unknown phase", NADA_INVALID_ARGUMENT, ["phase", "66"], w.adapt(|o| o.phase = 66));
    case!(cases, "adapt: a flag of 2", NADA_INVALID_ARGUMENT, ["augment", "2"], w.adapt(|o| o.augment = 2));
    case!(cases, "adapt: a stop rule of one latent", NADA_INVALID_ARGUMENT, ["stop", "2"], w.adapt(|o| o.stop_latents = 1));
    case!(cases, "adapt: more layers than there are", NADA_INVALID_ARGUMENT, ["auto_layers", "99"], w.adapt(|o| o.auto_layers_k = 99));
    case!(cases, "adapt: struct_size 8", NADA_INVALID_ARGUMENT, ["nada_adaptation_options.struct_size"], w.adapt(|o| o.struct_size = 8));

    // Parts of pictures.
    let draw = |change: &dyn Fn(&mut nada_frame_options)| unsafe { w.draw(|o, _, _| change(o)) };
    let draw = &draw;
    let frame = |change: fn(&mut nada_frame)| {
        let mut frame = nada_frame { struct_size: size_of::<nada_frame>(), centre_x: 8.0, centre_y: 8.0, side: 8.0, angle: 0.0 };
        change(&mut frame);
        let frame: *const nada_frame = Box::leak(Box::new(frame));
        draw(&move |o| o.frame = frame)
    };
    let frame = &frame;
    case!(cases, "frame: turned", NADA_OK, [], frame(|f| f.angle = 30.0));
    case!(cases, "frame: beyond the edge", NADA_OK, [], frame(|f| f.centre_x = 1.0));
    case!(cases, "frame: outside", NADA_INVALID_ARGUMENT, ["frame", "(17, 8)", "16 x 16"], frame(|f| f.centre_x = 17.0));
    case!(cases, "frame: above", NADA_INVALID_ARGUMENT, ["frame", "(8, -1)"], frame(|f| f.centre_y = -1.0));
    case!(cases, "frame: NaN", NADA_INVALID_ARGUMENT, ["frame", "NaN", "finite"], frame(|f| f.angle = f64::NAN));
    case!(cases, "frame: beyond all numbers", NADA_INVALID_ARGUMENT, ["frame", "[1, 32]"], frame(|f| f.side = 1e300));
    case!(cases, "frame: empty", NADA_INVALID_ARGUMENT, ["frame", "side of 0"], frame(|f| f.side = 0.0));
    case!(cases, "frame: struct_size 8", NADA_INVALID_ARGUMENT, ["nada_frame.struct_size"], frame(|f| f.struct_size = 8));
    case!(cases, "frame: NaN as feather", NADA_INVALID_ARGUMENT, ["feather", "NaN"], draw(&|o| o.feather = f32::NAN));
    case!(cases, "frame: an opacity above 1", NADA_INVALID_ARGUMENT, ["opacity", "1.1"], draw(&|o| o.opacity = 1.1));
    case!(cases, "frame: edges that are none", NADA_INVALID_ARGUMENT, ["hard_edges", "16"], draw(&|o| o.hard_edges = 16));
    case!(cases, "frame: replacing without alpha", NADA_INVALID_ARGUMENT, ["target", "Rgb8", "alpha"], draw(&|o| o.replace = 1));
    case!(cases, "frame: a flag of 2", NADA_INVALID_ARGUMENT, ["replace", "2"], draw(&|o| o.replace = 2));
    case!(cases, "frame: struct_size 8", NADA_INVALID_ARGUMENT, ["nada_frame_options.struct_size"], draw(&|o| o.struct_size = 8));
    case!(
        cases,
        "frame: a target of another size",
        NADA_INVALID_ARGUMENT,
        ["target", "15 x 16", "16 x 16"],
        w.draw(|_, _, target| target.width = 15)
    );
    case!(cases, "frame: an unknown format", NADA_INVALID_ARGUMENT, ["source.format", "9"], w.draw(|_, source, _| source.format = 9));
    case!(cases, "frame: a short stride", NADA_INVALID_ARGUMENT, ["stride", "47"], w.draw(|_, source, _| source.stride = 47));
    let mut floats = vec![0.5f32; 16 * 16 * 4];
    floats[4 * (16 * 5 + 3)] = f32::NAN;
    let floats = nada_pixels { data: floats.leak().as_ptr().cast(), stride: 256, width: 16, height: 16, format: 6, transfer: 0 };
    case!(cases, "frame: NaN in it", NADA_INVALID_ARGUMENT, ["(3, 5)", "finite"], w.draw(|_, source, _| *source = floats));
    let right = nada_frame { struct_size: size_of::<nada_frame>(), centre_x: 10.0, centre_y: 8.0, side: 12.0, angle: 0.0 };
    case!(
        cases,
        "frame: NaN outside of it",
        NADA_OK,
        [],
        w.draw(|o, source, _| {
            *source = floats;
            o.frame = &right;
        })
    );

    // Galleries.
    let gallery = unsafe { made!(nada_gallery_open(w.context, c_path(w.path("gallery")).as_ptr(), null())) };
    let domain = unsafe {
        let adaptation = made!(nada_adaptation_new(w.generator, &w.adaptation(), null()));
        let domain = made!(nada_adaptation_domain(adaptation));
        nada_adaptation_free(adaptation);
        domain
    };
    let install = |name: *const c_char| unsafe { nada_gallery_install(gallery, domain, name, null(), null(), null_mut(), 0, null_mut()) };
    let install = &install;
    let plain = w.file("plain", b"");
    case!(cases, "gallery: a file", NADA_IO, ["plain"], opened!(nada_gallery_open(w.context, c_path(plain).as_ptr(), null())).0);
    case!(
        cases,
        "gallery: an empty name",
        NADA_INVALID_ARGUMENT,
        ["folder"],
        opened!(nada_gallery_open(w.context, c"".as_ptr(), null())).0
    );
    case!(cases, "gallery: no such domain", NADA_INVALID_ARGUMENT, ["index", "0"], opened!(nada_gallery_domain(gallery, 0, null())).0);
    case!(cases, "gallery: no such thumbnail", NADA_INVALID_ARGUMENT, ["index", "7"], opened!(nada_gallery_thumbnail(gallery, 7)).0);
    case!(cases, "gallery: a name that leads out", NADA_INVALID_ARGUMENT, ["name", "../x"], install(c"../x".as_ptr()));
    case!(cases, "gallery: a hidden name", NADA_INVALID_ARGUMENT, ["name", ".x"], install(c".x".as_ptr()));
    case!(cases, "gallery: a name that is not UTF-8", NADA_INVALID_ARGUMENT, ["name", "UTF-8"], install(latin));
    let mut byte = 0 as c_char;
    let byte = &raw mut byte;
    case!(
        cases,
        "gallery: no room for the file",
        NADA_OK,
        [],
        nada_gallery_install(gallery, domain, null(), null(), null(), byte, 1, null_mut())
    );

    // Versions.
    case!(cases, "version: a newer header", NADA_MISMATCH, ["0x30006", "newer"], nada_abi_check(NADA_ABI_VERSION + 6));
    case!(cases, "version: another interface", NADA_MISMATCH, ["0x10000", "compile"], nada_abi_check(1 << 16));

    // Inverting.
    let one = unsafe { made!(nada_image_from_pixels(&rgb(&[1, 2, 3], 1, 1))) } as *const nada_image;
    case!(cases, "invert: a 1 x 1 picture", NADA_INVALID_ARGUMENT, ["1 x 1"], w.invert(one, |_| ()));
    case!(cases, "invert: no steps", NADA_INVALID_ARGUMENT, ["steps"], w.invert(dot, |o| o.steps = 0));
    case!(cases, "invert: into Z", NADA_INVALID_ARGUMENT, ["space"], w.invert(dot, |o| o.space = NADA_SPACE_Z as i32));
    case!(cases, "invert: a CLIP loss without CLIP", NADA_INVALID_ARGUMENT, ["clip"], w.invert(dot, |o| o.clip_weight = 1.0));
    case!(cases, "invert: NaN as a weight", NADA_INVALID_ARGUMENT, ["pyramid"], w.invert(dot, |o| o.pyramid_weight = f32::NAN));
    case!(cases, "invert: a negative learning rate", NADA_INVALID_ARGUMENT, ["learning_rate"], w.invert(dot, |o| o.learning_rate = -1.0));
    use nada_space::NADA_SPACE_Z;

    let count = check(cases);
    assert!(count >= 40, "{count} cases");
    unsafe {
        assert_eq!(fs::read_dir(w.path("gallery")).unwrap().count(), 1, "what failed left no file");
        nada_gallery_free(gallery);
        nada_domain_free(domain);
        nada_image_free(one.cast_mut());
        for latent in [narrow, pair, two] {
            nada_latent_free(latent.cast_mut());
        }
        // None of it changed what was shared.
        let again = made!(nada_generator_sample(w.generator, 1, 3, 0.7, null()));
        let (mut a, mut b) = ([0f32; 128], [1f32; 128]);
        ok(nada_latent_copy_data(w.latent, a.as_mut_ptr(), 128));
        ok(nada_latent_copy_data(again, b.as_mut_ptr(), 128));
        assert_eq!(a, b);
        ok(w.render(w.latent, |_| ()));
        nada_latent_free(again);
    }
}

/// Every pointer of every function that returns a status, NULL where that is not allowed.
#[test]
fn null_pointers() {
    let world = World::new();
    let w = &world;
    let mut cases = vec![];
    let file = c"file".as_ptr();
    macro_rules! nulls {
        ($($function:ident ( $($argument:expr),* ) $name:expr;)*) => {
            $(case!(cases, stringify!($function), NADA_INVALID_ARGUMENT, [$name, "NULL"], $function($($argument),*));)*
        };
    }
    let mut pixel = [0u8; 4];
    let pixel = pixel.as_mut_ptr();
    let dot = rgb(&[0; 3], 1, 1);
    let dimension = unsafe { nada_clip_dimension(w.clip) } as usize;
    let (image, floats) = (w.image.cast_const(), vec![0f32; dimension].leak());
    let floats = std::cell::RefCell::new(floats);
    let floats = || floats.borrow_mut().as_mut_ptr();
    let floats = &floats;
    let out = nada_pixels_mut { data: pixel.cast(), stride: 3, width: 1, height: 1, format: 0, transfer: 0 };
    let gallery = unsafe { made!(nada_gallery_open(w.context, c_path(w.path("gallery")).as_ptr(), null())) };
    let part = &nada_frame { struct_size: size_of::<nada_frame>(), centre_x: 0.5, centre_y: 0.5, side: 1.0, angle: 0.0 };
    nulls! {
        nada_context_options_init(null_mut(), 48) "nada_context_options";
        nada_context_new(null(), null_mut()) "context";
        nada_cancel_new(null_mut()) "cancel";
        nada_cancel_trigger(null()) "cancel";
        nada_cancel_reset(null()) "cancel";
        nada_image_open(null(), null(), &mut null_mut()) "file";
        nada_image_open(file, null(), null_mut()) "image";
        nada_image_open_square(null(), 8, null(), &mut null_mut()) "file";
        nada_image_open_square(file, 8, null(), null_mut()) "image";
        nada_image_save_png(null(), file, null()) "image";
        nada_image_save_png(w.image, null(), null()) "file";
        nada_image_from_pixels(null(), &mut null_mut()) "pixels";
        nada_image_from_pixels(&rgb(&[0; 3], 1, 1), null_mut()) "image";
        nada_image_to_pixels(w.image, null()) "pixels";
        nada_image_to_pixels(null(), &nada_pixels_mut { data: pixel.cast(), stride: 3, width: 1, height: 1, format: 0, transfer: 0 }) "image";
        nada_clip_open(null(), file, null(), &mut null_mut()) "context";
        nada_clip_open(w.context, null(), null(), &mut null_mut()) "file";
        nada_clip_open(w.context, file, null(), null_mut()) "clip";
        nada_clip_open_as(null(), file, 0, null(), &mut null_mut()) "context";
        nada_clip_open_as(w.context, null(), 0, null(), &mut null_mut()) "file";
        nada_clip_open_as(w.context, file, 0, null(), null_mut()) "clip";
        nada_encoder_open(null(), file, null(), &mut null_mut()) "context";
        nada_encoder_open(w.context, null(), null(), &mut null_mut()) "file";
        nada_encoder_open(w.context, file, null(), null_mut()) "encoder";
        nada_model_encoder(null(), null(), &mut null_mut()) "model";
        nada_model_encoder(w.model, null(), null_mut()) "encoder";
        nada_model_open(null(), file, &mut null_mut()) "context";
        nada_model_open(w.context, file, null_mut()) "model";
        nada_model_generator(null(), null(), &mut null_mut()) "model";
        nada_model_generator(w.model, null(), null_mut()) "generator";
        nada_model_clip_count(null(), null(), &mut 0) "model";
        nada_model_clip_count(w.model, null(), null_mut()) "count";
        nada_model_clip(null(), 0, null(), &mut null_mut(), null_mut()) "model";
        nada_model_clip(w.model, 0, null(), null_mut(), null_mut()) "clip";
        nada_model_adaptation_options(null(), &mut std::mem::zeroed(), size_of::<nada_adaptation_options>()) "model";
        nada_model_adaptation_options(w.model, null_mut(), size_of::<nada_adaptation_options>()) "nada_adaptation_options";
        nada_model_inversion_options(null(), &mut std::mem::zeroed(), size_of::<nada_inversion_options>()) "model";
        nada_model_inversion_options(w.model, null_mut(), size_of::<nada_inversion_options>()) "nada_inversion_options";
        nada_model_check_length(null(), c"a".as_ptr(), null()) "model";
        nada_model_check_length(w.model, null(), null()) "text";
        nada_model_check_text(null(), file, null(), null_mut(), 0, null_mut()) "model";
        nada_model_check_text(w.model, null(), null(), null_mut(), 0, null_mut()) "text";
        nada_model_check_text(w.model, file, null(), null_mut(), 9, null_mut()) "warning";
        nada_generator_open(null(), file, null(), &mut null_mut()) "context";
        nada_generator_open(w.context, null(), null(), &mut null_mut()) "file";
        nada_generator_open(w.context, file, null(), null_mut()) "generator";
        nada_generator_layer(null(), 0, &mut std::mem::zeroed(), size_of::<nada_layer>()) "generator";
        nada_generator_layer(w.generator, 0, null_mut(), size_of::<nada_layer>()) "nada_layer";
        nada_generator_fingerprint(null(), null(), &mut null()) "generator";
        nada_generator_fingerprint(w.generator, null(), null_mut()) "fingerprint";
        nada_generator_with_class(null(), 0, &mut null_mut()) "generator";
        nada_generator_with_class(w.generator, 0, null_mut()) "of_class";
        nada_generator_with_domains(null(), null(), null(), 0, null(), &mut null_mut()) "generator";
        nada_generator_with_domains(w.generator, null(), null(), 1, null(), &mut null_mut()) "domains";
        nada_generator_with_domains(w.generator, null(), null(), 0, null(), null_mut()) "adapted";
        nada_generator_sample(null(), 1, 0, 1.0, null(), &mut null_mut()) "generator";
        nada_generator_sample(w.generator, 1, 0, 1.0, null(), null_mut()) "latent";
        nada_generator_mix_styles(null(), w.latent, w.latent, 1, null(), &mut null_mut()) "generator";
        nada_generator_mix_styles(w.generator, null(), w.latent, 1, null(), &mut null_mut()) "a";
        nada_generator_mix_styles(w.generator, w.latent, null(), 1, null(), &mut null_mut()) "b";
        nada_generator_mix_styles(w.generator, w.latent, w.latent, 1, null(), null_mut()) "latent";
        nada_generator_mix_linear(null(), w.latent, w.latent, 0.5, null(), &mut null_mut()) "generator";
        nada_generator_mix_linear(w.generator, null(), w.latent, 0.5, null(), &mut null_mut()) "a";
        nada_generator_mix_linear(w.generator, w.latent, null(), 0.5, null(), &mut null_mut()) "b";
        nada_generator_mix_linear(w.generator, w.latent, w.latent, 0.5, null(), null_mut()) "latent";
        nada_generator_render(null(), w.latent, null(), null(), &mut null_mut(), 1) "generator";
        nada_generator_render(w.generator, null(), null(), null(), &mut null_mut(), 1) "latent";
        nada_generator_render(w.generator, w.latent, null(), null(), null_mut(), 1) "images";
        nada_render_options_init(null_mut(), size_of::<nada_render_options>()) "nada_render_options";
        nada_inversion_options_init(null_mut(), size_of::<nada_inversion_options>()) "nada_inversion_options";
        nada_inversion_options_set(null_mut(), c("steps").as_ptr(), c("1").as_ptr()) "options";
        nada_inversion_options_set(null_mut(), null(), c("1").as_ptr()) "name";
        nada_inversion_options_set(null_mut(), c("steps").as_ptr(), null()) "value";
        nada_generator_invert(null(), w.image, null(), null(), &mut null_mut(), null_mut()) "generator";
        nada_generator_invert(w.generator, null(), null(), null(), &mut null_mut(), null_mut()) "image";
        nada_generator_invert(w.generator, w.image, null(), null(), null_mut(), null_mut()) "latent";
        nada_generator_restyle(null(), w.image, null(), null(), null(), &mut null_mut()) "generator";
        nada_generator_restyle(w.generator, null(), null(), null(), null(), &mut null_mut()) "image";
        nada_generator_restyle(w.generator, w.image, null(), null(), null(), null_mut()) "restyled";
        nada_adaptation_options_init(null_mut(), size_of::<nada_adaptation_options>()) "nada_adaptation_options";
        nada_adaptation_options_set(null_mut(), c("steps").as_ptr(), c("1").as_ptr()) "options";
        nada_adaptation_options_set(null_mut(), null(), c("1").as_ptr()) "name";
        nada_adaptation_options_set(null_mut(), c("steps").as_ptr(), null()) "value";
        nada_generator_adapt(null(), &w.adaptation(), null(), &mut null_mut()) "generator";
        nada_generator_adapt(w.generator, null(), null(), &mut null_mut()) "options";
        nada_generator_adapt(w.generator, &w.adaptation(), null(), null_mut()) "domain";
        nada_adaptation_new(null(), &w.adaptation(), null(), &mut null_mut()) "generator";
        nada_adaptation_new(w.generator, &w.adaptation(), null(), null_mut()) "adaptation";
        nada_adaptation_step(null_mut(), null(), null_mut()) "adaptation";
        nada_adaptation_run(null_mut(), null()) "adaptation";
        nada_adaptation_outcome(null(), &mut std::mem::zeroed(), size_of::<nada_outcome>()) "adaptation";
        nada_adaptation_snapshot_count(null(), &mut 0) "adaptation";
        nada_adaptation_snapshot_info(null(), 0, &mut std::mem::zeroed(), size_of::<nada_snapshot>()) "adaptation";
        nada_adaptation_snapshot_domain(null(), 0, &mut null_mut()) "adaptation";
        nada_adaptation_snapshot_preview(null(), 0, &mut null_mut()) "adaptation";
        nada_adaptation_preview(null(), 1, null(), &mut null_mut()) "adaptation";
        nada_adaptation_domain(null(), &mut null_mut()) "adaptation";
        nada_adaptation_result(null(), &mut null_mut()) "adaptation";
        nada_domain_open(null(), file, null(), &mut null_mut()) "context";
        nada_domain_open(w.context, null(), null(), &mut null_mut()) "file";
        nada_domain_open(w.context, file, null(), null_mut()) "domain";
        nada_domain_save(null(), file, null()) "domain";
        nada_domain_clip_name(null(), 0, &mut null()) "domain";
        nada_domain_parameters(null(), &mut 0) "domain";
        nada_domain_between(null(), w.generator, null(), null(), null(), &mut null_mut()) "base";
        nada_domain_between(w.generator, null(), null(), null(), null(), &mut null_mut()) "adapted";
        nada_domain_between(w.generator, w.generator, null(), null(), null(), null_mut()) "domain";
        nada_domain_fits(null(), w.generator, null(), &mut 0) "domain";
        nada_domain_for_generator(null(), w.generator, null(), &mut null_mut()) "domain";
        nada_domain_to_half(null(), null(), &mut null_mut()) "domain";
        nada_gallery_fits(null(), 0, w.generator, null(), &mut 0) "gallery";
        nada_gallery_fits(gallery, 0, null(), null(), &mut 0) "generator";
        nada_gallery_fits(gallery, 0, w.generator, null(), null_mut()) "fits";
        nada_latent_open(null(), file, 1, null(), &mut null_mut()) "context";
        nada_latent_open(w.context, null(), 1, null(), &mut null_mut()) "file";
        nada_latent_open(w.context, file, 1, null(), null_mut()) "latent";
        nada_latent_from_data(null(), 1, &0.0, 1, 1, 1, &mut null_mut()) "context";
        nada_latent_from_data(w.context, 1, null(), 1, 1, 1, &mut null_mut()) "data";
        nada_latent_from_data(w.context, 1, &0.0, 1, 1, 1, null_mut()) "latent";
        nada_latent_save(null(), file, null()) "latent";
        nada_latent_save(w.latent, null(), null()) "file";
        nada_latent_space(null(), &mut 0) "latent";
        nada_latent_space(w.latent, null_mut()) "space";
        nada_latent_copy_data(null(), &mut 0.0, 1) "latent";
        nada_latent_copy_data(w.latent, null_mut(), 128) "data";
        nada_call_init(null_mut(), size_of::<nada_call>()) "nada_call";
        nada_last_error(null_mut(), size_of::<nada_error>()) "nada_error";
        nada_image_open_memory(null(), 8, null(), null(), &mut null_mut()) "data";
        nada_image_open_memory(pixel.cast(), 4, null(), null(), null_mut()) "image";
        nada_generator_open_memory(null(), pixel.cast(), 4, null(), null(), &mut null_mut()) "context";
        nada_generator_open_memory(w.context, null(), 4, null(), null(), &mut null_mut()) "data";
        nada_generator_open_memory(w.context, pixel.cast(), 4, null(), null(), null_mut()) "generator";
        nada_clip_open_memory(null(), pixel.cast(), 4, null(), 0, null(), &mut null_mut()) "context";
        nada_clip_open_memory(w.context, null(), 4, null(), 0, null(), &mut null_mut()) "data";
        nada_clip_open_memory(w.context, pixel.cast(), 4, null(), 0, null(), null_mut()) "clip";
        nada_latent_open_memory(null(), pixel.cast(), 4, null(), 1, null(), &mut null_mut()) "context";
        nada_latent_open_memory(w.context, null(), 4, null(), 1, null(), &mut null_mut()) "data";
        nada_latent_open_memory(w.context, pixel.cast(), 4, null(), 1, null(), null_mut()) "latent";
        nada_domain_open_memory(null(), pixel.cast(), 4, null(), null(), &mut null_mut()) "context";
        nada_domain_open_memory(w.context, null(), 4, null(), null(), &mut null_mut()) "data";
        nada_domain_open_memory(w.context, pixel.cast(), 4, null(), null(), null_mut()) "domain";
        nada_generator_without_classes(null(), null(), &mut null_mut()) "generator";
        nada_generator_without_classes(w.generator, null(), null_mut()) "plain";
        nada_generator_save(null(), file, 0, 0, null()) "generator";
        nada_generator_save(w.generator, null(), 0, 0, null()) "file";
        nada_clip_embed_texts(null(), &file, 1, null(), 0, null(), &mut 0.0, 1) "clip";
        nada_clip_embed_texts(w.clip, &file, 1, null(), 0, null(), null_mut(), dimension) "embeddings";
        nada_clip_embed_texts(w.clip, null(), 1, null(), 0, null(), floats(), dimension) "words";
        nada_clip_embed_texts(w.clip, &file, 1, null(), 1, null(), floats(), dimension) "templates";
        nada_clip_embed_images(null(), &image, 1, 0, null(), &mut 0.0, 1) "clip";
        nada_clip_embed_images(w.clip, &image, 1, 0, null(), null_mut(), dimension) "embeddings";
        nada_clip_embed_images(w.clip, null(), 1, 0, null(), floats(), dimension) "images";
        nada_clip_score(null(), &image, 1, &file, 1, null(), 0, null(), &mut 0.0, 1) "clip";
        nada_clip_score(w.clip, &image, 1, &file, 1, null(), 0, null(), null_mut(), 1) "cosines";
        nada_clip_score(w.clip, null(), 1, &file, 1, null(), 0, null(), &mut 0.0, 1) "images";
        nada_clip_score(w.clip, &image, 1, null(), 1, null(), 0, null(), &mut 0.0, 1) "words";
        nada_model_evaluate(null(), null(), null(), 0, file, null(), null(), &mut null_mut()) "model";
        nada_model_evaluate(w.model, null(), null(), 0, null(), null(), null(), &mut null_mut()) "target";
        nada_model_evaluate(w.model, null(), null(), 0, file, null(), null(), null_mut()) "evaluation";
        nada_evaluation_measures(null(), &mut std::mem::zeroed(), size_of::<nada_measures>()) "evaluation";
        nada_evaluation_clip_measures(null(), 0, &mut std::mem::zeroed(), size_of::<nada_clip_measures>()) "evaluation";
        nada_evaluation_sheet(null(), &mut null_mut()) "evaluation";
        nada_model_list_new(null(), &mut null_mut()) "context";
        nada_model_list_new(w.context, null_mut()) "list";
        nada_model_phrases(null(), null_mut(), 0, null_mut()) "model";
        nada_model_phrases(w.model, null_mut(), 5, null_mut()) "phrases";
        nada_gallery_open(null(), file, null(), &mut null_mut()) "context";
        nada_gallery_open(w.context, file, null(), null_mut()) "gallery";
        nada_gallery_thumbnail(null(), 0, &mut null_mut()) "gallery";
        nada_gallery_thumbnail(gallery, 0, null_mut()) "image";
        nada_gallery_domain(null(), 0, null(), &mut null_mut()) "gallery";
        nada_gallery_domain(gallery, 0, null(), null_mut()) "domain";
        nada_gallery_install(null(), null(), null(), null(), null(), null_mut(), 0, null_mut()) "gallery";
        nada_gallery_install(gallery, null(), null(), null(), null(), null_mut(), 0, null_mut()) "domain";
        nada_frame_options_init(null_mut(), size_of::<nada_frame_options>()) "nada_frame_options";
        nada_generator_restyle_frame(null(), &dot, null(), null(), null(), null(), &out) "generator";
        nada_generator_restyle_frame(w.generator, null(), null(), null(), null(), null(), &out) "source";
        nada_generator_restyle_frame(w.generator, &dot, null(), null(), null(), null(), null()) "target";
        nada_generator_render_frame(null(), &dot, null(), w.latent, null(), null(), &out) "generator";
        nada_generator_render_frame(w.generator, null(), null(), w.latent, null(), null(), &out) "source";
        nada_generator_render_frame(w.generator, &dot, null(), null(), null(), null(), &out) "latent";
        nada_generator_render_frame(w.generator, &dot, null(), w.latent, null(), null(), null()) "target";
        nada_image_from_frame(null(), null(), 0, null(), &mut null_mut()) "pixels";
        nada_image_from_frame(&dot, null(), 0, null(), null_mut()) "image";
        nada_faces_find(null(), &dot, 0, null(), &mut null_mut()) "context";
        nada_faces_find(w.context, null(), 0, null(), &mut null_mut()) "pixels";
        nada_faces_find(w.context, &dot, 0, null(), null_mut()) "faces";
        nada_faces_get(null(), 0, null_mut(), size_of::<nada_face>()) "faces";
        nada_image_from_face(null(), &dot, null(), 8, 0, null(), &mut null_mut()) "context";
        nada_image_from_face(w.context, null(), null(), 8, 0, null(), &mut null_mut()) "pixels";
        nada_image_from_face(w.context, &dot, null(), 8, 0, null(), &mut null_mut()) "frame";
        nada_image_from_face(w.context, &dot, null(), 8, 0, null(), null_mut()) "image";
        nada_image_put_back(null(), &dot, null(), w.image, null(), -1.0, &out) "context";
        nada_image_put_back(w.context, null(), null(), w.image, null(), -1.0, &out) "source";
        nada_image_put_back(w.context, &dot, null(), w.image, null(), -1.0, &out) "frame";
        nada_image_put_back(w.context, &dot, part, null(), null(), -1.0, &out) "edit";
        nada_image_put_back(w.context, &dot, part, w.image, null(), -1.0, null()) "target";
    }
    check(cases);
    // Every function that returns a status was asked.
    let source = include_str!("capi.rs");
    unsafe { nada_gallery_free(gallery) };
    for name in functions("nada_status") {
        if ["nada_abi_check", "nada_log_set_callback"].contains(&name) {
            continue; // no pointers that must not be NULL
        }
        assert!(source.contains(&format!("        {name}(")), "{name} is not in the list above");
    }
    // The others have no way to fail.
    unsafe {
        for text in [
            nada_clip_name(null()),
            nada_clip_warning(null()),
            nada_model_name(null()),
            nada_model_folder(null()),
            nada_model_description(null()),
            nada_model_warning(null()),
            nada_model_list_name(null(), 0),
            nada_model_list_folder(null(), 0),
            nada_model_list_description(null(), 0),
            nada_model_list_warning(null()),
            nada_gallery_folder(null()),
            nada_gallery_name(null(), 0),
            nada_gallery_file(null(), 0),
            nada_gallery_source(null(), 0),
            nada_gallery_target(null(), 0),
            nada_gallery_fingerprint(null(), 0),
            nada_domain_source(null()),
            nada_domain_target(null()),
            nada_domain_fingerprint(null()),
            nada_domain_origin(null()),
            nada_adaptation_warning(null()),
            nada_evaluation_truth(null()),
            nada_evaluation_clip_name(null(), 0),
        ] {
            assert_eq!(CStr::from_ptr(text), c"");
        }
        let numbers = [
            nada_context_threads(null()),
            nada_cancel_is_triggered(null()),
            nada_image_width(null()),
            nada_image_height(null()),
            nada_clip_resolution(null()),
            nada_clip_dimension(null()),
            nada_generator_size(null()),
            nada_generator_width(null()),
            nada_generator_height(null()),
            nada_generator_channels(null()),
            nada_generator_classes(null()),
            nada_domain_step(null()),
        ];
        assert_eq!(numbers, [0; 12]);
        let sizes = [
            nada_generator_rows(null()),
            nada_generator_dimension(null()),
            nada_generator_z_dimension(null()),
            nada_domain_clip_count(null()),
            nada_latent_count(null()),
            nada_latent_rows(null()),
            nada_latent_dimension(null()),
            nada_model_list_count(null()),
            nada_gallery_count(null()),
            nada_gallery_skipped(null()),
            nada_evaluation_clip_count(null()),
            nada_faces_count(null()),
        ];
        assert_eq!(sizes, [0; 12]);
        nada_faces_free(null_mut());
        nada_evaluation_free(null_mut());
        nada_model_list_free(null_mut());
        nada_gallery_free(null_mut());
        nada_adaptation_free(null_mut());
        nada_cancel_free(null_mut());
        nada_clip_free(null_mut());
        nada_context_free(null_mut());
        nada_domain_free(null_mut());
        nada_generator_free(null_mut());
        nada_image_free(null_mut());
        nada_latent_free(null_mut());
        nada_model_free(null_mut());
    }
}

/// The names of the header's functions that return `result`.
fn functions(result: &str) -> Vec<&'static str> {
    let names: Vec<&str> = HEADER
        .lines()
        .filter_map(|line| line.strip_prefix(result)?.strip_prefix(' ')?.split_once('('))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("nada_"))
        .collect();
    assert!(!names.is_empty());
    names
}

/// Words that the pack never learned are no error: the user is told, with words that it knows.
#[test]
fn unknown_words_are_a_warning() {
    let w = World::new();
    unsafe {
        let check = |text: &CStr| {
            let (mut buffer, mut needed) = ([1 as c_char; 4096], 0);
            ok(nada_model_check_text(w.model, text.as_ptr(), null(), buffer.as_mut_ptr(), buffer.len(), &mut needed));
            let text = CStr::from_ptr(buffer.as_ptr()).to_str().unwrap().to_string();
            assert_eq!(needed, text.len() + 1);
            text
        };
        assert_eq!(check(c"a pencil sketch"), "");
        let warning = check(c"a pencil flibbertigibbet");
        for word in ["'flibbertigibbet'", "pencil sketch", "starter"] {
            assert!(warning.contains(word), "{warning}");
        }
        assert!(!warning.contains("'pencil'"), "{warning}");

        let mut small = [1 as c_char; 8];
        ok(nada_model_check_text(w.model, c"flibbertigibbet".as_ptr(), null(), small.as_mut_ptr(), 5, null_mut()));
        assert_eq!((small[4], small[5]), (0, 1), "cut at the size given");

        let mut options = w.adaptation();
        options.target_text = c"a pencil flibbertigibbet".as_ptr();
        let adaptation = made!(nada_adaptation_new(w.generator, &options, null()));
        assert_eq!(CStr::from_ptr(nada_adaptation_warning(adaptation)).to_str().unwrap(), warning);
        nada_adaptation_free(adaptation);
    }
}

/// A file that does not tell its activation: a warning, and a way to say it.
#[test]
fn the_activation_of_a_clip_is_said_or_warned_of() {
    let w = World::new();
    let file = c_path(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clip/gelu.pt"));
    unsafe {
        let warning = |clip| CStr::from_ptr(nada_clip_warning(clip)).to_str().unwrap().to_string();
        for (activation, words) in [
            (nada_activation::NADA_ACTIVATION_OF_FILE, "QuickGELU"),
            (nada_activation::NADA_ACTIVATION_QUICK_GELU, ""),
            (nada_activation::NADA_ACTIVATION_GELU, ""),
        ] {
            let clip = made!(nada_clip_open_as(w.context, file.as_ptr(), activation as i32, null()));
            assert!(warning(clip).contains(words) && warning(clip).is_empty() == words.is_empty(), "{}", warning(clip));
            nada_clip_free(clip);
        }
        assert_eq!((warning(w.clip), warning(null_mut())), (String::new(), String::new()));
        let (status, _) = opened!(nada_clip_open_as(w.context, file.as_ptr(), 9, null()));
        assert!(status == NADA_INVALID_ARGUMENT && last().contains("nada_activation"), "{}", last());
        let starters = c_path(&starter().join("clip-a"));
        let (status, _) = opened!(nada_clip_open_as(w.context, starters.as_ptr(), nada_activation::NADA_ACTIVATION_GELU as i32, null()));
        assert!(status == NADA_INVALID_ARGUMENT && last().contains("config.json says quick_gelu"), "{}", last());
    }
}

/// Before CLIPs are read: what nobody sees at the ends is no matter, inside it is told, as is what is too long.
#[test]
fn words_are_checked_before_the_clips_are_read() {
    let w = World::new();
    let check = |text: &str| unsafe {
        let (mut buffer, mut needed) = ([1 as c_char; 4096], 0);
        ok(nada_model_check_text(w.model, c(text).as_ptr(), null(), buffer.as_mut_ptr(), buffer.len(), &mut needed));
        CStr::from_ptr(buffer.as_ptr()).to_str().unwrap().to_string()
    };
    assert_eq!(check("\u{feff}a pencil sketch\u{200b}"), "");
    assert!(check("a pencil\u{2063} sketch").contains("U+2063 behind \"a pencil\" (character 9)"));
    let words = ["pencil sketch golden statue"; 5].join(" ");
    unsafe {
        ok(nada_model_check_length(w.model, c"\u{feff}a pencil sketch".as_ptr(), null()));
        assert_eq!(nada_model_check_length(w.model, c(&words).as_ptr(), null()), NADA_INVALID_ARGUMENT);
        assert!(last().contains("too long by 1 token"), "{}", last());
    }
    let long = check(&words);
    assert!(long.contains("too long by 1 token: it has 20 and 2") && long.contains("adds 3, where the CLIP clip-a takes 24"), "{long}");
    unsafe {
        let mut options = w.adaptation();
        let words = c(&words);
        options.target_text = words.as_ptr();
        let (status, _) = opened!(nada_adaptation_new(w.generator, &options, null()));
        assert!(status == NADA_INVALID_ARGUMENT && last().contains("too long by 1 token"), "{}", last());
        options.target_text = c"\u{feff}a zombie".as_ptr();
        let adaptation = made!(nada_adaptation_new(w.generator, &options, null()));
        assert_eq!(CStr::from_ptr(nada_adaptation_warning(adaptation)), c"");
        let domain = made!(nada_adaptation_domain(adaptation));
        assert_eq!(CStr::from_ptr(nada_domain_target(domain)), c"a zombie");
        nada_domain_free(domain);
        options.target_text = c"\u{200b} \u{feff}".as_ptr();
        let (status, _) = opened!(nada_adaptation_new(w.generator, &options, null()));
        assert!(status == NADA_INVALID_ARGUMENT && last().contains("options.target_text: is empty"), "{}", last());
        nada_adaptation_free(adaptation);
    }
}

const HEADER: &str = include_str!("../include/nada.h");

#[test]
fn the_header_is_that_of_the_source() {
    let generated = include_str!(concat!(env!("OUT_DIR"), "/nada.h"));
    if let Some((i, (have, want))) = HEADER.lines().zip(generated.lines()).enumerate().find(|(_, (a, b))| a != b) {
        panic!("include/nada.h:{} is\n{have}\nbut src/capi makes it\n{want}\nregenerate: NADA_WRITE_HEADER=1 cargo build", i + 1);
    }
    assert_eq!(HEADER.len(), generated.len(), "include/nada.h has another length; regenerate: NADA_WRITE_HEADER=1 cargo build");
}

#[test]
fn the_header_declares_each_function_once() {
    let mut names: Vec<&str> = HEADER
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("nada_"))
        .collect();
    assert!(names.len() > 120, "{}", names.len());
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

/// A program compiled when the struct ended before memory_limit, at 40 bytes, still makes contexts.
#[test]
fn context_options_of_the_first_header() {
    unsafe {
        let mut options: nada_context_options = std::mem::zeroed();
        options.memory_limit = 77;
        ok(nada_context_options_init(&mut options, 40));
        assert_eq!((options.struct_size, options.memory_limit), (40, 77), "nothing is written behind the caller's struct");
        nada_context_free(made!(nada_context_new(&options)));
    }
}

#[test]
fn packs_are_listed_as_they_are_opened() {
    let w = World::new();
    let manifest =
        |name: &str| format!("name = '{name}'\nresolution = 128\ngenerator = 'generator.safetensors'\ndescription = 'of {name}'\n");
    w.pack("packs/b", &manifest("second"));
    w.pack("packs/a", &manifest("first"));
    w.pack("packs/c", &manifest("first"));
    w.pack("packs/broken", "name = [");
    unsafe {
        let (folder, mut context) = (c_path(w.path("packs")), null_mut());
        let folders = [folder.as_ptr()];
        let options = nada_context_options {
            threads: 1,
            model_folders: folders.as_ptr(),
            model_folder_count: 1,
            ..initialised(nada_context_options_init)
        };
        ok(nada_context_new(&options, &mut context));
        let list = made!(nada_model_list_new(context));
        assert_eq!(CStr::from_ptr(nada_model_list_warning(list)), c"");
        let text = |t: *const c_char| CStr::from_ptr(t).to_str().unwrap().to_string();
        let count = nada_model_list_count(list);
        let names: Vec<String> = (0..count).map(|i| text(nada_model_list_name(list, i))).collect();
        assert_eq!(names[..2], ["first", "second"], "the context's folders come first, broken and hidden packs not at all");
        assert!(names[2..].contains(&"starter".to_string()), "{names:?}");
        assert_eq!(text(nada_model_list_description(list, 0)), "of first");
        for i in 0..count {
            let model = made!(nada_model_open(context, nada_model_list_name(list, i)));
            assert_eq!(text(nada_model_folder(model)), text(nada_model_list_folder(list, i)), "the name opens what the list shows");
            assert_eq!(text(nada_model_description(model)), text(nada_model_list_description(list, i)));
            nada_model_free(model);
        }
        assert_eq!(text(nada_model_list_name(list, count)), "");
        nada_model_list_free(list);
        nada_context_free(context);

        let (nowhere, mut context) = (c_path(w.path("nowhere")), null_mut());
        let folders = [nowhere.as_ptr()];
        let options = nada_context_options { model_folders: folders.as_ptr(), ..options };
        ok(nada_context_new(&options, &mut context));
        let list = made!(nada_model_list_new(context));
        let warning = text(nada_model_list_warning(list));
        assert!(
            warning.starts_with("nada_context_options.model_folders names /") && warning.ends_with("nowhere, which does not exist"),
            "{warning}"
        );
        nada_model_list_free(list);
        nada_context_free(context);
    }
}

/// What reads files, which must be NADA_CANCELLED or work altogether; the model's generator and CLIPs are not read yet.
unsafe fn loads(context: *mut nada_context, w: &World, call: &nada_call) -> Vec<nada_status> {
    let model = made!(nada_model_open(context, c_path(starter()).as_ptr()));
    let (generator, clip) = (c_path(&starter().join("generator.safetensors")), c_path(&starter().join("clip-a")));
    let (latent, domain) = (c_path(w.path("w.safetensors")), c_path(w.path("domains/a.nada.safetensors")));
    let gallery = made!(nada_gallery_open(context, c_path(w.path("domains")).as_ptr(), null()));
    let mut statuses = Vec::new();
    macro_rules! load {
        ($function:ident($($argument:expr),*), $free:ident) => {{
            let (status, handle) = opened!($function($($argument),*));
            $free(handle);
            statuses.push(status);
        }};
    }
    load!(nada_generator_open(context, generator.as_ptr(), call), nada_generator_free);
    load!(nada_clip_open(context, clip.as_ptr(), call), nada_clip_free);
    load!(nada_latent_open(context, latent.as_ptr(), nada_space::NADA_SPACE_W as i32, call), nada_latent_free);
    load!(nada_domain_open(context, domain.as_ptr(), call), nada_domain_free);
    load!(nada_gallery_domain(gallery, 0, call), nada_domain_free);
    load!(nada_model_generator(model, call), nada_generator_free);
    // The pack's CLIPs, by whoever needs them first.
    let mut options = std::mem::zeroed();
    ok(nada_model_adaptation_options(model, &mut options, size_of::<nada_adaptation_options>()));
    options.target_text = c"a pencil sketch".as_ptr();
    load!(nada_adaptation_new(w.generator, &options, call), nada_adaptation_free);
    let picture = c_path(keep(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/face.png")));
    load!(nada_image_open(picture.as_ptr(), call), nada_image_free);
    load!(nada_image_open_square(picture.as_ptr(), 16, call), nada_image_free);
    let mut count = 7;
    statuses.push(nada_model_clip_count(model, call, &mut count));
    assert_eq!(count > 0, statuses.last() == Some(&NADA_OK));
    nada_gallery_free(gallery);
    nada_model_free(model);
    statuses
}

#[test]
fn a_token_ends_loading_and_leaves_nothing() {
    let w = World::new();
    unsafe {
        ok(nada_latent_save(w.latent, c_path(w.path("w.safetensors")).as_ptr(), null()));
        let options = nada_adaptation_options { steps: 1, batch: 2, stop_latents: 0, ..w.adaptation() };
        let domain = made!(nada_generator_adapt(w.generator, &options, null()));
        fs::create_dir(w.path("domains")).unwrap();
        ok(nada_domain_save(domain, c_path(w.path("domains/a.nada.safetensors")).as_ptr(), null()));
        nada_domain_free(domain);

        let token = made!(nada_cancel_new());
        let heeding = &call(token);
        assert!(loads(w.context, &w, heeding).iter().all(|&status| status == NADA_OK), "{}", last());
        ok(nada_cancel_trigger(token));
        assert_eq!(loads(w.context, &w, heeding), [NADA_CANCELLED; 10]);
        assert_eq!(last(), "cancelled");
        // What was not read is read later: by the same handle, too.
        let model = made!(nada_model_open(w.context, c_path(starter()).as_ptr()));
        assert_eq!(opened!(nada_model_generator(model, heeding)), (NADA_CANCELLED, null_mut()));
        ok(nada_cancel_reset(token));
        nada_generator_free(made!(nada_model_generator(model, heeding)));
        // And then it is there, which no token takes back.
        ok(nada_cancel_trigger(token));
        nada_generator_free(made!(nada_model_generator(model, heeding)));
        nada_model_free(model);
        assert!(loads(w.context, &w, &call(null())).iter().all(|&status| status == NADA_OK), "{}", last());
        nada_cancel_free(token);
    }
}

/// From any moment of loading on a slow disk, which is this program started once more with tests/slow.c in it.
#[test]
fn loading_ends_within_a_moment() {
    const NAME: &str = "loading_ends_within_a_moment";
    if std::env::var_os("NADA_TEST_SLOW_US").is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args([NAME, "--exact"]).env("LD_PRELOAD", common::slow_disk(folder.path())).env("NADA_TEST_SLOW_US", "100000");
        let out = again.output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&out.stderr));
        return;
    }
    unsafe {
        let options = nada_context_options { threads: 1, ..initialised(nada_context_options_init) };
        let context = made!(nada_context_new(&options));
        let model = made!(nada_model_open(context, c_path(starter()).as_ptr()));
        let token = made!(nada_cancel_new());
        let call = call(token);
        // Each would go on for seconds.
        for millis in [100, 700] {
            for clips in [false, true] {
                let trigger = token as usize;
                let other = std::thread::spawn(move || {
                    std::thread::sleep(std::time::Duration::from_millis(millis));
                    let at = std::time::Instant::now();
                    ok(nada_cancel_trigger(trigger as *const nada_cancel));
                    at
                });
                let status = match clips {
                    true => nada_model_clip_count(model, &call, &mut 0),
                    false => opened!(nada_model_generator(model, &call)).0,
                };
                let took = other.join().unwrap().elapsed();
                assert_eq!(status, NADA_CANCELLED, "{}", last());
                assert!(took < std::time::Duration::from_secs(2), "it went on for {took:?}");
                ok(nada_cancel_reset(token));
            }
        }
        nada_cancel_free(token);
        nada_model_free(model);
        nada_context_free(context);
    }
}

/// The starter's generator with three classes: a label that adds to z what its class says.
fn with_classes(w: &World) -> &'static Path {
    changed(&starter().join("generator.safetensors"), w.path("classes/generator.safetensors"), |tensors| {
        let rows = tensors["style.1.weight"].clone();
        let d = rows.dim(1).unwrap();
        tensors.insert("style.1.weight".into(), Tensor::cat(&[&rows, &rows], 1).unwrap());
        let embedding: Vec<f32> = (0..3 * d).map(|i| ((i * 7 % 13) as f32 - 6.0) / 6.0).collect();
        tensors.insert("embed.weight".into(), Tensor::from_vec(embedding, (d, 3), &Device::Cpu).unwrap());
        tensors.insert("embed.bias".into(), Tensor::zeros(d, DType::F32, &Device::Cpu).unwrap());
    })
}

/// z and w of different lengths; pictures that are not square, with alpha.
#[test]
fn a_generator_of_unusual_shape_says_so_and_is_drawn() {
    use nada::nn::generator::stylegan2::Sizes;
    let world = World::new();
    let w = &world;
    let (start, channels) = ([4, 2], vec![8, 6, 5, 4]);
    let sizes = Sizes { z_dim: 7, style_dim: 12, n_mlp: 2, lr_mlp: 0.01, c_dim: 0, start, channels, colours: 4, conv_clamp: None };
    let mut rng = nada::rng::Rng::new(1);
    let tensors: BTreeMap<String, Tensor> =
        sizes.config().tensors().into_iter().map(|(key, shape)| (key, rng.normals(&shape, &Device::Cpu).unwrap())).collect();
    let path = w.path("tall.safetensors");
    checkpoint::save_safetensors(path, &tensors, &BTreeMap::new()).unwrap();
    unsafe {
        let g = made!(nada_generator_open(w.context, c_path(path).as_ptr(), null()));
        let numbers = [nada_generator_width(g), nada_generator_height(g), nada_generator_size(g), nada_generator_channels(g)];
        assert_eq!(numbers, [16, 32, 32, 4]);
        assert_eq!((nada_generator_rows(g), nada_generator_dimension(g), nada_generator_z_dimension(g)), (8, 12, 7));
        let latent = made!(nada_generator_sample(g, 1, 3, 0.7, null()));
        assert_eq!(nada_latent_dimension(latent), 12);
        let mut image = null_mut();
        ok(nada_generator_render(g, latent, null(), null(), &mut image, 1));
        assert_eq!((nada_image_width(image), nada_image_height(image)), (16, 32));
        nada_image_free(image);
        nada_latent_free(latent);
        nada_generator_free(g);
    }
}

#[test]
fn a_class_is_chosen() {
    let world = World::new();
    let w = &world;
    unsafe {
        assert_eq!(nada_generator_classes(w.generator), 0);
        let all = made!(nada_generator_open(w.context, c_path(with_classes(w)).as_ptr(), null()));
        assert_eq!(nada_generator_classes(all), 3);
        let mut cases = vec![];
        let sample = |g| opened!(nada_generator_sample(g, 1, 3, 0.7, null())).0;
        case!(cases, "no class", NADA_INVALID_ARGUMENT, ["class", "not chosen", "0 to 2"], sample(all));
        let of = |g, class| opened!(nada_generator_with_class(g, class)).0;
        case!(cases, "a class too many", NADA_INVALID_ARGUMENT, ["class", "3", "0 to 2"], of(all, 3));
        case!(cases, "a class of none", NADA_INVALID_ARGUMENT, ["class", "has no classes"], of(w.generator, 0));
        assert_eq!(check(cases), 3);
        let numbers = |g| {
            let latent = made!(nada_generator_sample(g, 1, 3, 1.0, null()));
            let mut numbers = vec![0f32; nada_generator_dimension(g)];
            ok(nada_latent_copy_data(latent, numbers.as_mut_ptr(), numbers.len()));
            nada_latent_free(latent);
            numbers
        };
        let (one, two) = (made!(nada_generator_with_class(all, 1)), made!(nada_generator_with_class(all, 2)));
        let again = made!(nada_generator_with_class(two, 1));
        assert_ne!(numbers(one), numbers(two));
        assert_eq!(numbers(one), numbers(again), "a class is chosen anew");
        assert_eq!(fingerprint(one), fingerprint(two));

        // A pack may name the class.
        let manifest = |class| format!("name = 'classes'\nresolution = 128\ngenerator = 'generator.safetensors'\nclass = {class}\n");
        w.file("classes/model.toml", manifest(1).as_bytes());
        let model = made!(nada_model_open(w.context, c_path(w.path("classes")).as_ptr()));
        let from_pack = made!(nada_model_generator(model, null()));
        assert_eq!(numbers(from_pack), numbers(one));
        nada_model_free(model);
        w.file("classes/model.toml", manifest(3).as_bytes());
        let model = made!(nada_model_open(w.context, c_path(w.path("classes")).as_ptr()));
        assert_eq!(opened!(nada_model_generator(model, null())).0, NADA_MISMATCH);
        assert!(last().contains("model.toml") && last().contains("0 to 2"), "{}", last());
        nada_model_free(model);
        for g in [all, one, two, again, from_pack] {
            nada_generator_free(g);
        }
    }
}

#[test]
fn a_pack_lists_its_target_phrases() {
    let w = World::new();
    unsafe {
        let mut needed = 0;
        ok(nada_model_phrases(w.model, null_mut(), 0, &mut needed));
        let mut buffer = vec![0u8; needed];
        ok(nada_model_phrases(w.model, buffer.as_mut_ptr().cast(), needed, null_mut()));
        let phrases = CStr::from_bytes_with_nul(&buffer).unwrap().to_str().unwrap();
        let phrases: Vec<&str> = phrases.lines().collect();
        assert!(phrases.contains(&"a pencil sketch") && phrases.contains(&"a zombie"), "{phrases:?}");
        assert!(!phrases.contains(&"a photo") && phrases.iter().all(|p| !p.is_empty()), "{phrases:?}");
    }
}

/// Domains of two generators, of other generators, of earlier versions and of 16-bit numbers.
#[test]
fn domains_of_and_for_other_generators() {
    let w = World::new();
    let numbers = |g: *const nada_generator, domain: *const nada_domain| unsafe {
        let mut bytes = [0u8; 3 * 128 * 128];
        let (domains, strength) = ([domain], 1.0);
        let options = nada_render_options {
            domains: domains.as_ptr(),
            strengths: &strength,
            domain_count: usize::from(!domain.is_null()),
            ..initialised(nada_render_options_init)
        };
        let mut image = null_mut();
        ok(nada_generator_render(g, w.latent, &options, null(), &mut image, 1));
        let out = nada_pixels_mut { data: bytes.as_mut_ptr().cast(), stride: 3 * 128, width: 128, height: 128, format: 0, transfer: 0 };
        ok(nada_image_to_pixels(image, &out));
        nada_image_free(image);
        bytes.to_vec()
    };
    let most = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    unsafe {
        let options = nada_adaptation_options { batch: 1, learning_rate: 0.01, ..w.adaptation() };
        let adaptation = made!(nada_adaptation_new(w.generator, &options, null()));
        ok(nada_adaptation_step(adaptation, null(), null_mut()));
        let domain = made!(nada_adaptation_domain(adaptation));
        nada_adaptation_free(adaptation);
        assert_eq!(text(nada_domain_origin(domain)), "adapted");
        let adapted = made!(nada_generator_with_domains(w.generator, [domain.cast_const()].as_ptr(), null(), 1, null()));
        let mut fits = 7;
        ok(nada_domain_fits(domain, w.generator, null(), &mut fits));
        assert_eq!(fits, 1);
        ok(nada_domain_fits(domain, adapted, null(), &mut fits));
        assert_eq!(fits, 0);

        // The difference is the domain.
        let between = made!(nada_domain_between(w.generator, adapted, null(), c"a test".as_ptr(), null()));
        let said = [nada_domain_origin(between), nada_domain_source(between), nada_domain_target(between)].map(text);
        assert_eq!(said, ["imported", "", "a test"]);
        let drawn = numbers(adapted, null());
        assert!(most(&drawn, &numbers(w.generator, null())) > 1);
        assert!(most(&numbers(w.generator, between), &drawn) <= 1);
        let (status, none) = opened!(nada_domain_between(w.generator, w.generator, null(), null(), null()));
        assert_eq!((status, none), (NADA_MISMATCH, null_mut()));

        // On a generator that it was not made from, when the caller says so.
        let (status, _) = opened!(nada_generator_with_domains(adapted, [domain.cast_const()].as_ptr(), null(), 1, null()));
        assert_eq!(status, NADA_MISMATCH);
        let moved = made!(nada_domain_for_generator(domain, adapted, null()));
        assert_eq!(text(nada_domain_fingerprint(moved)), fingerprint(adapted));
        assert!(most(&numbers(adapted, moved), &drawn) > 1);

        let half = made!(nada_domain_to_half(domain, null()));
        let (whole_file, half_file) = (c_path(w.path("whole.nada.safetensors")), c_path(w.path("half.nada.safetensors")));
        ok(nada_domain_save(domain, whole_file.as_ptr(), null()));
        ok(nada_domain_save(half, half_file.as_ptr(), null()));
        let bytes = |name: &str| w.path(name).metadata().unwrap().len();
        assert!(bytes("half.nada.safetensors") * 10 < bytes("whole.nada.safetensors") * 6);
        let again = made!(nada_domain_open(w.context, half_file.as_ptr(), null()));
        assert!(most(&numbers(w.generator, again), &drawn) <= 2);

        // A file of format 1, by the rule of its time, in a gallery too.
        let first = checkpoint::open(w.path("whole.nada.safetensors")).unwrap();
        let tensors = first.keys().map(|k| (k.trim_start_matches("weights.").to_string(), first.tensor(k).unwrap())).collect();
        let mut metadata = (*first.metadata).clone();
        let mut description: serde_json::Value = serde_json::from_str(&metadata["description"]).unwrap();
        ["origin", "fingerprint_version"].iter().for_each(|key| _ = description.as_object_mut().unwrap().remove(*key));
        metadata.insert("description".into(), description.to_string());
        metadata.insert("format".into(), "nada domain 1".into());
        fs::create_dir_all(w.path("g")).unwrap();
        checkpoint::save_safetensors(w.path("g/first.nada.safetensors"), &tensors, &metadata).unwrap();
        let gallery = made!(nada_gallery_open(w.context, c_path(w.path("g")).as_ptr(), null()));
        for (generator, wanted) in [(w.generator, 1), (adapted, 0)] {
            ok(nada_gallery_fits(gallery, 0, generator, null(), &mut fits));
            assert_eq!(fits, wanted);
        }
        assert_eq!(nada_gallery_fits(gallery, 1, adapted, null(), &mut fits), NADA_INVALID_ARGUMENT);
        let first = made!(nada_gallery_domain(gallery, 0, null()));
        assert_eq!(numbers(w.generator, first), numbers(w.generator, domain));
        for made in [domain, between, moved, half, again, first] {
            nada_domain_free(made);
        }
        nada_gallery_free(gallery);
        nada_generator_free(adapted);
    }
}

/// The way of a domain through the folder of installed ones, as a host goes it.
#[test]
fn domains_are_installed_and_found_again() {
    let w = World::new();
    let folder = c_path(w.path("new/domains"));
    unsafe {
        let gallery = made!(nada_gallery_open(w.context, folder.as_ptr(), null()));
        assert_eq!((nada_gallery_count(gallery), nada_gallery_skipped(gallery)), (0, 0), "a folder that is not there is empty");
        let adaptation = made!(nada_adaptation_new(w.generator, &w.adaptation(), null()));
        let domain = made!(nada_adaptation_domain(adaptation));
        nada_adaptation_free(adaptation);
        let mut file = [0 as c_char; 4096];
        let mut install = |name: *const c_char, thumbnail| {
            let mut needed = 0;
            ok(nada_gallery_install(gallery, domain, name, thumbnail, null(), file.as_mut_ptr(), file.len(), &mut needed));
            let path = text(file.as_ptr());
            assert_eq!(needed, path.len() + 1);
            path
        };
        let first = install(null(), w.image);
        let second = install(null(), null());
        let named = install(c"Skizze".as_ptr(), null());
        assert!(first.ends_with("new/domains/a-pencil-sketch.nada.safetensors"), "{first}");
        assert!(second.ends_with("a-pencil-sketch-2.nada.safetensors") && named.ends_with("Skizze.nada.safetensors"), "{second} {named}");
        fs::write(w.path("new/domains/broken.nada.safetensors"), b"no").unwrap();
        fs::write(w.path("new/domains/notes.txt"), b"no").unwrap();
        assert_eq!(nada_gallery_count(gallery), 0, "a gallery is a reading of one moment");
        nada_gallery_free(gallery);

        let gallery = made!(nada_gallery_open(w.context, folder.as_ptr(), null()));
        assert_eq!((nada_gallery_count(gallery), nada_gallery_skipped(gallery)), (3, 1));
        assert_eq!(text(nada_gallery_folder(gallery)), folder.to_str().unwrap());
        let names: Vec<String> = (0..4).map(|i| text(nada_gallery_name(gallery, i))).collect();
        assert_eq!(names, ["Skizze", "a-pencil-sketch", "a-pencil-sketch-2", ""]);
        assert_eq!(text(nada_gallery_file(gallery, 1)), first);
        assert_eq!(text(nada_gallery_target(gallery, 1)), "a pencil sketch");
        assert_eq!(text(nada_gallery_source(gallery, 1)), "a photo");
        assert_eq!(text(nada_gallery_fingerprint(gallery, 1)), fingerprint(w.generator));
        let thumbnail = made!(nada_gallery_thumbnail(gallery, 1));
        assert_eq!((nada_image_width(thumbnail), nada_image_height(thumbnail)), (16, 16));
        nada_image_free(thumbnail);
        assert!(made!(nada_gallery_thumbnail(gallery, 2)).is_null());
        for i in 0..2 {
            // With and without thumbnail it is the same domain.
            let again = made!(nada_gallery_domain(gallery, i, null()));
            assert_eq!(text(nada_domain_target(again)), "a pencil sketch");
            ok(w.render(w.latent, |o| {
                o.domains = (&raw const again).cast();
                o.domain_count = 1;
            }));
            nada_domain_free(again);
        }
        fs::remove_file(&first).unwrap();
        let (status, none) = opened!(nada_gallery_domain(gallery, 1, null()));
        assert!(status == NADA_NOT_FOUND && none.is_null() && last().contains("a-pencil-sketch"), "{}", last());
        nada_gallery_free(gallery);
        nada_domain_free(domain);
    }
}

/// Above the limit a call says both numbers and does nothing; at it the same call works.
#[test]
fn memory_has_a_limit() {
    let mut w = World::new();
    unsafe {
        let with_limit = |limit: u64| {
            let options = nada_context_options { threads: 2, memory_limit: limit, ..initialised(nada_context_options_init) };
            made!(nada_context_new(&options))
        };
        let open = |context: *mut nada_context| {
            let model = made!(nada_model_open(context, c_path(starter()).as_ptr()));
            let generator = made!(nada_model_generator(model, null()));
            nada_context_free(context);
            (model, generator)
        };
        (w.model, w.generator) = open(with_limit(1 << 20));
        let mut estimates = vec![];
        type Call<'a> = (&'a str, &'a dyn Fn(&World) -> nada_status);
        let calls: [Call; 5] = [
            ("rendering", &|w| w.render(w.latent, |_| ())),
            ("inverting", &|w| w.invert(w.image, |_| ())),
            ("rendering", &|w| w.draw(|_, _, _| ())),
            ("adapting", &|w| w.adapt(|_| ())),
            ("rendering", &|w| {
                let mut evaluation = null_mut();
                let status = nada_model_evaluate(w.model, null(), null(), 0, c"a pencil sketch".as_ptr(), null(), null(), &mut evaluation);
                nada_evaluation_free(evaluation);
                status
            }),
        ];
        for (what, call) in &calls {
            assert_eq!(call(&w), NADA_OUT_OF_MEMORY, "{what}");
            let message = last();
            let numbers: Vec<u64> =
                message.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).filter(|n| *n > 9999).collect();
            // What is needed, the limit, and (for an adaptation) what a smaller one would need.
            assert!(message.starts_with(what) && message.contains("memory_limit") && numbers.len() >= 2, "{message}");
            assert_eq!(numbers[1], 1 << 20);
            estimates.push(numbers[0]);
        }
        assert!(estimates[3] > estimates[1] && estimates[1] > estimates[0], "{estimates:?}");
        nada_model_free(w.model);
        nada_generator_free(w.generator);
        (w.model, w.generator) = open(with_limit(estimates[3]));
        for (what, call) in &calls {
            assert_eq!(call(&w), NADA_OK, "{what}: {}", last());
        }
        nada_model_free(w.model);
        nada_generator_free(w.generator);
    }
}

/// Names of files are bytes: what a call gives can be passed in again.
#[cfg(target_os = "linux")]
#[test]
fn names_of_files_may_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&odd).unwrap();
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/face.png"), odd.join("face.png")).unwrap();
    let c = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    unsafe {
        let image = made!(nada_image_open(c(&odd.join("face.png")).as_ptr(), null()));
        ok(nada_image_save_png(image, c(&odd.join("again.png")).as_ptr(), null()));
        nada_image_free(image);
        assert!(odd.join("again.png").is_file());
        let context = made!(nada_context_new(null()));
        let gallery = made!(nada_gallery_open(context, c(&odd).as_ptr(), null()));
        assert_eq!(CStr::from_ptr(nada_gallery_folder(gallery)).to_bytes(), odd.as_os_str().as_bytes());
        nada_gallery_free(gallery);
        nada_context_free(context);
    }
}

/// By name, as in model.toml; what fails leaves the struct as it was.
#[test]
fn settings_are_set_by_name() {
    unsafe {
        let mut options: nada_adaptation_options = std::mem::zeroed();
        ok(nada_adaptation_options_init(&mut options, size_of::<nada_adaptation_options>()));
        let target = c("a zombie");
        options.target_text = target.as_ptr();
        let mut set = |name: &str, value: &str| nada_adaptation_options_set(&mut options, c(name).as_ptr(), c(value).as_ptr());
        for (name, value) in
            [("steps", "7"), ("losses.structure", "400"), ("stop.pairing", "0.5"), ("phase", "texture"), ("noise", "false")]
        {
            ok(set(name, value));
        }
        for (name, value, words) in [
            ("losses.structur", "1", "did you mean losses.structure"),
            ("steps", "0", "a whole number of 1 or more"),
            ("steps", "5000000000", "the struct's field holds 4294967295 at the most"),
            ("noise", "maybe", "true or false"),
        ] {
            assert_eq!(set(name, value), NADA_INVALID_ARGUMENT, "{name}");
            let message = last();
            assert!(message.starts_with(name) && message.contains(words), "{message}");
        }
        assert_eq!((options.steps, options.losses_structure, options.noise), (7, 400.0, 0));
        assert_eq!((options.stop_pairing, options.stop_patience), (0.5, 2), "a rule that was not there has its own defaults");
        assert_eq!(options.phase, nada_phase::NADA_PHASE_TEXTURE as i32);
        assert_eq!(options.target_text, target.as_ptr(), "what is no setting stays");
        ok(nada_adaptation_options_set(&mut options, c("stop").as_ptr(), c("none").as_ptr()));
        assert_eq!(options.stop_latents, 0);
        // In any order, and what was said of a table that is off is there when it is on.
        for (name, value) in [("auto_layers.iterations", "3"), ("steps", "8"), ("auto_layers.k", "4"), ("stop.every", "9")] {
            ok(nada_adaptation_options_set(&mut options, c(name).as_ptr(), c(value).as_ptr()));
        }
        assert_eq!((options.auto_layers_k, options.auto_layers_iterations, options.auto_layers_batch), (4, 3, 8));
        assert_eq!((options.stop_latents, options.stop_every, options.stop_pairing), (64, 9, 0.5));

        let mut options: nada_inversion_options = std::mem::zeroed();
        ok(nada_inversion_options_init(&mut options, size_of::<nada_inversion_options>()));
        ok(nada_inversion_options_set(&mut options, c("clip_weight").as_ptr(), c("0.25").as_ptr()));
        assert_eq!(options.clip_weight, 0.25);
        assert_eq!(nada_inversion_options_set(null_mut(), c("steps").as_ptr(), c("1").as_ptr()), NADA_INVALID_ARGUMENT);
    }
}
