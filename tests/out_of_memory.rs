//! Work that the machine has no memory for is refused before it begins: the process that asked for it lives.
#![cfg(target_os = "linux")] // elsewhere nothing is known of a limit

mod common;

use common::random_generator::Random;
use nada::capi::{adaptation::*, adaptation_options::*, context::*, error::*, generator::*, image::*, image_file::*, model::*, status::*};
use std::ffi::{c_char, CStr, CString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FILE: &str = "NADA_TEST_GENERATOR";
const BATCH: &str = "NADA_TEST_BATCH";
const LOW: &str = "NADA_TEST_LOW";
const PICTURE: &str = "NADA_TEST_PICTURE";

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter")
}

/// Writes a random generator of 1024 px with few channels, 3 MB in rosinality's layout.
fn big(file: &Path) {
    let channels = |side: usize| if side < 512 { 64 } else { 32 };
    Random { side: 1024, style_dim: 128, mapping_layers: 2, channels, spread: 1.0 }.write(file);
}

/// Not a test: the host that the ones below start. It adapts inside its process, without a limit of its own, as the plug-ins do.
#[test]
fn host() {
    let Ok(file) = std::env::var(FILE) else { return };
    let batch = std::env::var(BATCH).unwrap().parse().unwrap();
    let c = |text: &str| CString::new(text).unwrap();
    unsafe {
        let mut options: nada_context_options = std::mem::zeroed();
        assert_eq!(nada_context_options_init(&mut options, size_of_val(&options)), nada_status::NADA_OK);
        options.threads = 2;
        let (mut context, mut generator, mut model) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        assert_eq!(nada_context_new(&options, &mut context), nada_status::NADA_OK);
        assert_eq!(nada_generator_open(context, c(&file).as_ptr(), std::ptr::null(), &mut generator), nada_status::NADA_OK);
        assert_eq!(nada_model_open(context, c(starter().to_str().unwrap()).as_ptr(), &mut model), nada_status::NADA_OK);
        let mut options: nada_adaptation_options = std::mem::zeroed();
        assert_eq!(nada_model_adaptation_options(model, &mut options, size_of_val(&options)), nada_status::NADA_OK);
        let target = c("a zombie");
        options.target_text = target.as_ptr();
        (options.batch, options.steps, options.stop_latents) = (batch, 1, 0);
        options.memory = if std::env::var_os(LOW).is_some() { nada_memory::NADA_MEMORY_LOW } else { nada_memory::NADA_MEMORY_FAST } as i32;
        println!("an unsaved painting is open");
        let mut adaptation = std::ptr::null_mut();
        let mut status = nada_adaptation_new(generator, &options, std::ptr::null(), &mut adaptation);
        if status == nada_status::NADA_OK {
            status = nada_adaptation_run(adaptation, std::ptr::null());
        }
        say(status);
        nada_adaptation_free(adaptation);
        nada_model_free(model);
        nada_generator_free(generator);
        nada_context_free(context);
    }
    println!("the host lives");
}

/// A line with a status and the message that came with it.
fn say(status: nada_status) {
    // SAFETY: neither is NULL.
    let text = |p: *const c_char| unsafe { CStr::from_ptr(p) }.to_str().unwrap().to_string();
    println!("{}: {}", text(nada_status_name(status as i32)), text(nada_last_error_message()));
}

/// Not a test: a host that opens a picture.
#[test]
fn viewer() {
    let Ok(file) = std::env::var(PICTURE) else { return };
    let (file, mut image) = (CString::new(file).unwrap(), std::ptr::null_mut());
    unsafe {
        say(nada_image_open(file.as_ptr(), std::ptr::null(), &mut image));
        nada_image_free(image);
    }
    println!("the host lives");
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// Runs `command` with a limit of the kernel's; gives what it printed.
fn limited(command: &mut Command, resource: Resource, bytes: u64) -> Output {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: setrlimit may be called between fork and exec.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command.env_remove("NADA_MODELS").env_remove("NADA_MEMORY_LIMIT").output().unwrap()
}

/// The program of this test as a host.
fn hosting(file: &Path, batch: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["host", "--exact", "--nocapture"]).env(FILE, file).env(BATCH, batch.to_string());
    command
}

fn printed(out: &Output) -> String {
    String::from_utf8_lossy(&[&out.stdout[..], &out.stderr].concat()).into_owned()
}

const LIMIT: u64 = 3_000_000 << 10;

#[test]
fn a_host_lives_where_an_adaptation_would_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("big.safetensors");
    big(&file);
    for (resource, name) in [(libc::RLIMIT_AS, "ulimit -v"), (libc::RLIMIT_DATA, "ulimit -d")] {
        let out = limited(&mut hosting(&file, 4), resource, LIMIT);
        let text = printed(&out);
        assert!(out.status.success() && text.contains("the host lives"), "{name}: {:?} {text}", out.status);
        let refusal = text.lines().find_map(|l| l.strip_prefix("NADA_OUT_OF_MEMORY: ")).unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(refusal.starts_with("adapting would need about "), "{refusal}");
        assert!(
            refusal.contains(name) && refusal.contains(&LIMIT.to_string()) && refusal.contains("; with memory = low it would"),
            "{refusal}"
        );
    }
}

/// What the refusal says would fit does.
#[test]
fn what_is_said_to_fit_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("big.safetensors");
    big(&file);
    let out = limited(hosting(&file, 4).env(LOW, ""), libc::RLIMIT_AS, LIMIT);
    let text = printed(&out);
    assert!(out.status.success() && text.contains("NADA_OK") && text.contains("the host lives"), "{:?} {text}", out.status);
}

#[test]
fn the_program_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("big.safetensors");
    big(&file);
    let (file, clip) = (file.to_str().unwrap(), starter().join("clip-a"));
    let nada = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nada"));
        command.current_dir(folder.path()).args(arguments).args(["--generator", file]);
        command
    };
    let adapt = ["adapt", "a zombie", "--clip", clip.to_str().unwrap(), "--batch", "4", "--snapshot-every", "0"];
    let face = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/face.png");
    for (arguments, what, would_fit) in [
        (&adapt[..], "adapting", "with memory = low it would need about "),
        (&["invert", face.to_str().unwrap(), "--invert-optimise-noise", "true"], "inverting", "without optimised noise"),
        (&["sample", "-n", "500"], "rendering", " at a time would need about "),
    ] {
        let limit = match what {
            "adapting" => LIMIT,
            "inverting" => LIMIT / 3,
            _ => LIMIT / 2,
        };
        let out = limited(&mut nada(arguments), libc::RLIMIT_AS, limit);
        let text = printed(&out);
        assert_eq!(out.status.code(), Some(1), "{text}");
        assert!(text.starts_with(&format!("error: {what} would need about ")), "{text}");
        assert!(text.contains("ulimit -v") && text.contains(would_fit), "{text}");
    }
    // What the user says wins over what the machine has left, either way.
    let out = nada(&["sample", "-n", "2"]).env("NADA_MEMORY_LIMIT", "100M").output().unwrap();
    assert!(!out.status.success() && printed(&out).contains("NADA_MEMORY_LIMIT is 104857600 bytes (100 MiB)"), "{}", printed(&out));
    let out = nada(&["sample", "-n", "2"]).env("NADA_MEMORY_LIMIT", "a lot").output().unwrap();
    assert!(!out.status.success() && printed(&out).contains("NADA_MEMORY_LIMIT: is 'a lot'"), "{}", printed(&out));
}

/// What is only read can be too much too: a picture whose numbers take 1 GiB, and latents of 800 MB.
#[test]
fn files_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let side = 8192;
    let picture = folder.path().join("large.png");
    let file = std::fs::File::create(&picture).unwrap();
    let encoder = image::codecs::png::PngEncoder::new(std::io::BufWriter::new(file));
    let grey = vec![100; side * side];
    image::ImageEncoder::write_image(encoder, &grey, side as u32, side as u32, image::ExtendedColorType::L8).unwrap();
    let mut viewer = Command::new(std::env::current_exe().unwrap());
    viewer.args(["viewer", "--exact", "--nocapture"]).env(PICTURE, &picture);
    let text = printed(&limited(&mut viewer, libc::RLIMIT_AS, 700 << 20));
    let refusal = text.lines().find(|l| l.starts_with("NADA_OUT_OF_MEMORY")).unwrap_or_else(|| panic!("{text}"));
    assert!(refusal.contains("large.png: needs ") && refusal.contains("ulimit -v") && text.contains("the host lives"), "{text}");

    let latents = folder.path().join("latents.npy");
    let header = format!("{:<117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (1562500, 128), }");
    let begin = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()].concat();
    std::fs::write(&latents, &begin).unwrap();
    let file = std::fs::File::options().write(true).open(&latents).unwrap();
    // Zeros that take no room on the disk.
    file.set_len(begin.len() as u64 + 1_562_500 * 128 * 4).unwrap();
    let mut render = Command::new(env!("CARGO_BIN_EXE_nada"));
    render.current_dir(folder.path()).args(["render", "--latents", "latents.npy", "--space", "w", "--out-npy", "x.npy"]);
    render.arg("--model").arg(starter());
    let out = limited(&mut render, libc::RLIMIT_AS, 700 << 20);
    let text = printed(&out);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("latents.npy: needs 800000000 bytes") && text.contains("ulimit -v"), "{text}");
}
