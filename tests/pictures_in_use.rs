//! Pictures on their way through the program and the C ABI: formats, warnings, and what is empty or partly clear.

mod common;

use common::data;
use nada::capi::context::*;
use nada::capi::error::*;
use nada::capi::generator::*;
use nada::capi::image::*;
use nada::capi::image_file::*;
use nada::capi::inversion::*;
use nada::capi::model::*;
use nada::capi::status::nada_status::*;
use nada::picture::Picture;
use serde_json::Value;
use std::ffi::{c_char, CStr, CString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::ptr::{null, null_mut};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nada")).current_dir(folder).env_remove("NADA_MODELS").args(arguments).output().unwrap()
}

/// The JSON object of a call that must succeed.
fn json(folder: &Path, arguments: &[&str]) -> Value {
    let out = run(folder, &[&["--json"], arguments].concat());
    assert!(out.status.success(), "{arguments:?}: {}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn picture(name: &str) -> PathBuf {
    data("picture").join(name)
}

fn path(name: &str) -> String {
    picture(name).to_str().unwrap().to_string()
}

/// Rows of embeddings of both starter CLIPs put end to end, and the cosine of the first picture's to each.
fn cosines(folder: &Path, files: &[&str]) -> Vec<f64> {
    let files: Vec<String> = files.iter().map(|f| path(f)).collect();
    let arguments: Vec<&str> = std::iter::once("clip").chain(files.iter().flat_map(|f| ["--picture", f.as_str()])).collect();
    let out = json(folder, &arguments);
    let mut rows = vec![Vec::new(); files.len()];
    for clip in out["embeddings"].as_array().unwrap() {
        for (row, numbers) in rows.iter_mut().zip(clip["pictures"].as_array().unwrap()) {
            row.extend(numbers.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()));
        }
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    rows.iter().map(|row| dot(&rows[0], row) / (dot(&rows[0], &rows[0]) * dot(row, row)).sqrt()).collect()
}

#[test]
fn clip_sees_the_colours_that_viewers_show() {
    let folder = tempfile::tempdir().unwrap();
    let names =
        ["srgb.png", "p3.png", "adobe.png", "prophoto.png", "gamma1_16bit.png", "cicp_p3.png", "p3.jpg", "adobe.jpg", "prophoto.jpg"];
    let files: Vec<String> = names.iter().map(|n| format!("colour/{n}")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    for (name, cosine) in names.iter().zip(cosines(folder.path(), &files)) {
        assert!(cosine >= if name.ends_with("jpg") { 0.99 } else { 0.999 }, "{name}: {cosine}");
    }
}

#[test]
fn clip_sees_the_same_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let found = cosines(folder.path(), &["formats/same.png", "formats/a.webp", "formats/a.tif", "formats/a.bmp", "formats/a.gif"]);
    assert!(found[..4].iter().all(|c| (c - 1.0).abs() < 1e-9), "{found:?}");
    assert!(found[4] > 0.995, "{found:?}");
}

#[test]
fn info_names_the_format_and_speaks_of_no_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in [("a.webp", "WebP"), ("a.tif", "TIFF"), ("a.bmp", "BMP"), ("a.gif", "GIF"), ("webp_named.jpg", "WebP")] {
        let out = json(folder.path(), &["info", &path(&format!("formats/{name}"))]);
        let about = &out["files"][0];
        assert_eq!((about["kind"].as_str(), about["format"].as_str()), (Some("picture"), Some(format)), "{about}");
    }
    for name in ["a.heic", "a.avif", "a.jxl"] {
        let out = run(folder.path(), &["info", &path(&format!("formats/{name}"))]);
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(1) && text.contains("convert it first") && !text.contains("checkpoint"), "{text}");
    }
    for name in ["orientation_before_pixels.png", "orientation_after_pixels.png"] {
        let out = json(folder.path(), &["info", &path(&format!("exif/{name}"))]);
        assert_eq!((out["files"][0]["width"].as_u64(), out["files"][0]["height"].as_u64()), (Some(64), Some(96)), "{name}");
    }
    // As a generator it is none, whatever it is.
    let out = run(folder.path(), &["sample", "--generator", &path("formats/a.heic")]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("is an HEIC picture, not a checkpoint"));
}

#[test]
fn each_warning_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    for (name, words) in [("jpeg_end/no_end.jpg", "no end marker"), ("more/unusable.png", "'Without colours'")] {
        for command in [&["info"][..], &["clip", "--picture"]] {
            let file = path(name);
            let arguments = [command, &[file.as_str()]].concat();
            let out = json(folder.path(), &arguments);
            let warnings = out["warnings"].as_array().unwrap();
            assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains(words), "{warnings:?}");
            let out = run(folder.path(), &arguments);
            assert_eq!(String::from_utf8_lossy(&out.stderr).matches(words).count(), 1, "{arguments:?}");
        }
    }
}

#[test]
fn nothing_is_made_of_nothing_and_clear_rows_stay_clear() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    json(here, &["adapt", "a pencil sketch", "--steps", "1", "--batch", "2", "--no-stop", "-o", "d.nada.safetensors"]);
    for name in ["transparent/all_clear.png", "transparent/clear_middle.png"] {
        let file = path(name);
        for arguments in [
            &["restyle", &file, "--domain", "d.nada.safetensors", "-o", "out.png"][..],
            &["restyle", &file, "--to", "a statue", "-o", "out.png"],
            &["invert", &file, "-o", "out.npy"],
            &["adapt", "--target-picture", &file, "-o", "out.nada.safetensors"],
        ] {
            let out = run(here, arguments);
            let text = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.code() == Some(1) && text.contains("the picture is empty there"), "{arguments:?}: {text}");
        }
    }
    assert_eq!(
        std::fs::read_dir(here).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("out")).count(),
        0
    );

    let file = path("transparent/partly_clear.png");
    json(here, &["restyle", &file, "--domain", "d.nada.safetensors", "--invert-steps", "3", "-o", "out.png", "--save-latent", "l.npy"]);
    json(here, &["restyle", &file, "--domain", "d.nada.safetensors", "--latent", "l.npy", "-o", "again.png"]);
    let want = Picture::open(&picture("transparent/partly_clear.png")).unwrap().square(128).unwrap();
    for name in ["out.png", "again.png"] {
        let have = Picture::open(&here.join(name)).unwrap();
        for (have, want) in have.data.chunks_exact(4).zip(want.data.chunks_exact(4)) {
            assert!((have[3] - want[3]).abs() <= 0.5 / 255.0, "{name}: {have:?} {want:?}");
        }
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

unsafe fn text(text: *const c_char) -> String {
    CStr::from_ptr(text).to_str().unwrap().to_string()
}

#[test]
fn the_abi_tells_warnings_and_reads_squares() {
    unsafe {
        let open = |name: &str| {
            let mut image = null_mut();
            assert_eq!(nada_image_open(c_path(&picture(name)).as_ptr(), null(), &mut image), NADA_OK);
            image
        };
        let (quiet, warned) = (open("colour/p3.png"), open("more/unusable.png"));
        assert_eq!(text(nada_image_warning(quiet)), "");
        assert_eq!(text(nada_image_warning(null())), "");
        let warning = text(nada_image_warning(warned));
        assert!(warning.contains("'Without colours'") && !warning.contains('\n'), "{warning}");
        nada_image_free(quiet);
        nada_image_free(warned);

        let file = c_path(&picture("photo.png"));
        for (most, side) in [(0, 37), (16, 16), (500, 37)] {
            let mut image = null_mut();
            assert_eq!(nada_image_open_square(file.as_ptr(), most, null(), &mut image), NADA_OK);
            assert_eq!((nada_image_width(image), nada_image_height(image)), (side, side));
            nada_image_free(image);
        }
        let mut image = null_mut();
        assert_eq!(nada_image_open_square(null(), 16, std::ptr::null(), &mut image), NADA_INVALID_ARGUMENT);
        assert_eq!(nada_image_open_square(file.as_ptr(), 16, null(), null_mut()), NADA_INVALID_ARGUMENT);
        let heic = c_path(&picture("formats/a.heic"));
        assert_eq!(nada_image_open_square(heic.as_ptr(), 16, null(), &mut image), NADA_BAD_FORMAT);
        assert!(text(nada_last_error_message()).contains("is an HEIC picture") && image.is_null());
    }
}

#[test]
fn the_abi_says_that_a_picture_is_empty_and_keeps_what_is_clear() {
    unsafe {
        let (mut context, mut model, mut generator) = (null_mut(), null_mut(), null_mut());
        assert_eq!(nada_context_new(null(), &mut context), NADA_OK);
        let starter = c_path(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter"));
        assert_eq!(nada_model_open(context, starter.as_ptr(), &mut model), NADA_OK);
        assert_eq!(nada_model_generator(model, null(), &mut generator), NADA_OK);
        let mut options = std::mem::zeroed::<nada_inversion_options>();
        assert_eq!(nada_inversion_options_init(&mut options, size_of::<nada_inversion_options>()), NADA_OK);
        options.steps = 2;
        for (name, empty) in [("all_clear.png", true), ("clear_middle.png", true), ("partly_clear.png", false)] {
            let (mut image, mut restyled, mut latent) = (null_mut(), null_mut(), null_mut());
            assert_eq!(nada_image_open(c_path(&picture("transparent").join(name)).as_ptr(), null(), &mut image), NADA_OK);
            let restyle = nada_generator_restyle(generator, image, &options, null(), std::ptr::null(), &mut restyled);
            let invert = nada_generator_invert(generator, image, &options, null(), &mut latent, null_mut());
            if empty {
                assert_eq!((restyle, invert), (NADA_INVALID_ARGUMENT, NADA_INVALID_ARGUMENT), "{name}");
                assert!(text(nada_last_error_message()).contains("the picture is empty there"));
            } else {
                assert_eq!((restyle, invert), (NADA_OK, NADA_OK), "{name}");
                let side = nada_image_width(restyled) as usize;
                let mut rgba = vec![0u8; side * side * 4];
                let pixels = nada_pixels_mut {
                    data: rgba.as_mut_ptr().cast(),
                    stride: side * 4,
                    width: side as u32,
                    height: side as u32,
                    format: nada_pixel_format::NADA_FORMAT_RGBA8 as i32,
                    transfer: 0,
                };
                assert_eq!(nada_image_to_pixels(restyled, &pixels), NADA_OK);
                assert_eq!((rgba[3], rgba[rgba.len() - 1]), (0, 255));
                nada_image_free(restyled);
                nada::capi::latent::nada_latent_free(latent);
            }
            nada_image_free(image);
        }
        nada_generator_free(generator);
        nada_model_free(model);
        nada_context_free(context);
    }
}
