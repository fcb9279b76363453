//! A seed gives the same bits for any number of threads: no sum's order and no product's shape may follow it.

mod common;

use std::path::Path;
use std::process::Command;

/// Runs `nada` with so many threads of its kernels and of candle's element-wise operations; gives the bytes of the file it wrote.
fn written(folder: &Path, arguments: &[&str], file: &str, threads: &str, candle: &str) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nada"));
    command.current_dir(folder).env_remove("NADA_MODELS").env("CANDLE_NUM_THREADS", candle);
    let out = command.args(arguments).args(["--quiet", "--threads", threads]).output().unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    let path = folder.join(file);
    let bytes = std::fs::read(&path).unwrap();
    // So that a run that writes nothing is not compared with the one before.
    std::fs::remove_file(path).unwrap();
    bytes
}

/// `arguments` write `file`, and the same bytes for 1, 2, 3 and 8 threads.
fn same_for_all(folder: &Path, arguments: &[&str], file: &str) {
    let one = written(folder, arguments, file, "1", "1");
    for (threads, candle) in [("2", "1"), ("3", "2"), ("8", "1")] {
        let other = written(folder, arguments, file, threads, candle);
        assert!(one == other, "{arguments:?}: {file} with {threads} threads is not that of one thread");
    }
}

const DOMAIN: &str = "d.nada.safetensors";

fn adapting(more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let adapt = ["adapt", "a zombie", "--seed", "3", "--no-stop", "-o", DOMAIN];
    same_for_all(folder.path(), &[&adapt[..], more].concat(), DOMAIN);
}

#[test]
fn a_domain() {
    adapting(&["--steps", "4"]);
}

/// Two parts of two and three pictures, with every loss; and a batch that is not divided.
#[test]
fn a_domain_of_an_odd_batch_and_of_a_small_one() {
    let small = ["--steps", "3", "--model", common::program::PACK];
    adapting(
        &[&small[..], &["--batch", "5", "--losses-global", "1", "--losses-manifold", "1", "--losses-in-domain", "1", "--mixing", "0.9"]]
            .concat(),
    );
    adapting(&[&small[..], &["--batch", "3", "--parameters", "stylespace"]].concat());
    // The latents of a pool, which threads fill in any order.
    adapting(&[&small[..], &["--batch", "5", "--pool", "8", "--mixing", "0.5", "--noise", "true", "--losses-structure", "50"]].concat());
}

#[test]
fn a_domain_of_the_published_rules_and_of_selected_layers() {
    adapting(&["--steps", "2", "--batch", "4", "--mode", "reference", "--noise", "true", "--auto-layers-k", "4"]);
}

/// What the stop rule sees decides which step is the result.
#[test]
fn what_the_stop_rule_saw() {
    let folder = tempfile::tempdir().unwrap();
    let adapt =
        ["adapt", "a zombie", "--steps", "2", "--stop-every", "1", "--snapshots", "s", "--snapshot-every", "1", "--json", "--force"];
    let seen = |threads: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nada"));
        command.current_dir(folder.path()).env_remove("NADA_MODELS").args(adapt);
        command.args(["--threads", threads, "--model", common::program::PACK, "-o", DOMAIN]);
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let value: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(value["snapshots"].as_array().unwrap().len(), 2);
        assert!(value["snapshots"][1]["gain"].is_number());
        value["snapshots"].to_string()
    };
    let one = seen("1");
    for threads in ["2", "3", "8"] {
        assert_eq!(seen(threads), one, "with {threads} threads");
    }
}

#[test]
fn a_latent_and_pictures() {
    let folder = tempfile::tempdir().unwrap();
    same_for_all(folder.path(), &["sample", "-n", "9", "-o", "s.png"], "s.png");
    let face = common::data("face.png").to_str().unwrap().to_string();
    let invert = ["invert", &face, "--invert-steps", "6", "-o", "l.safetensors"];
    same_for_all(
        folder.path(),
        &[&invert[..], &["--invert-clip-weight", "1", "--invert-optimise-noise", "true"]].concat(),
        "l.safetensors",
    );
}

fn embedding(more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let face = common::data("face.png").to_str().unwrap().to_string();
    let pictures = ["clip", "--picture", &face, "--picture", &face, "--output", "e.safetensors"];
    same_for_all(folder.path(), &[&pictures[..], more].concat(), "e.safetensors");
}

/// With the templates a text is a batch of 32 prompts, and one of 15. Both kinds of vision networks.
#[test]
fn embeddings() {
    embedding(&["--text", "a zombie", "--templates"]);
    for name in ["golden/clip", "golden/resnet.safetensors"] {
        embedding(&["--clip", common::data(name).to_str().unwrap()]);
    }
}

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn embeddings_by_wider_networks() {
    for name in ["clip/tiny_vit_jit_fp16.pt", "clip/tiny_rn_openai_state_dict.pt"] {
        embedding(&["--clip", common::reference().join(name).to_str().unwrap()]);
    }
}
