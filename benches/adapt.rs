//! `nada adapt` alternating with its PyTorch peer, the starter's recipe/adapt_pack.py, on the same words and settings.
//!
//! `cargo bench --bench adapt -- [PYTHON] [PAIRS]`: PYTHON (else NADA_PYTHON) is the Python of an environment outside the tree, made by
//! `python3 -m venv DIR && DIR/bin/pip install torch transformers safetensors pillow numpy`; without one only ours is measured. PAIRS is
//! at least 3.
//!
//! Each round runs both programs with 60 steps and with 1, as whole processes: a step is the difference over 59, the start-up what one
//! step leaves of the short run (loading, embedding the words; for ours also writing the domain and its contact sheet). Peak memory is the
//! kernel's figure for the long run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const STEPS: usize = 60;
const LEAST_PAIRS: usize = 3;

/// The peer's settings, spelled out where the pack's recipe has others. Its `--ind 0.1` stands for a weight of 10 * 0.1.
const SETTINGS: &str =
    "--batch 4 --learning-rate 0.001 --decay false --beta2 0.99 --parameters full --phase convolutions --train-to-rgb true \
    --losses-direction 1 --losses-global 0 --losses-manifold 0 --losses-in-domain 1 --losses-structure 0 --enough 1 --floor 0.3 --mixing 0 --truncation 1 --augment true \
    --clip-resize area --noise false --snapshot-every 0 --no-stop --seed 2";

#[derive(Clone, Copy)]
struct Cost {
    seconds: f64,
    mib: f64,
}

/// Runs a program to its end. Panics with its standard error where it fails.
#[allow(clippy::zombie_processes)] // wait4 reaps it: the library has no wait that gives the memory
fn run(mut command: Command, log: &Path) -> Cost {
    let errors = std::fs::File::create(log).expect("a temporary file");
    let begin = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which zeros are values.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables; the child is waited for nowhere else.
    let pid = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) };
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(pid, child.id() as libc::pid_t, "wait4: {}", std::io::Error::last_os_error());
    let told = || std::fs::read_to_string(log).unwrap_or_default();
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{command:?} failed:\n{}", told());
    Cost { seconds, mib: usage.ru_maxrss as f64 / 1024.0 }
}

fn median(x: impl IntoIterator<Item = f64>) -> f64 {
    let mut x: Vec<f64> = x.into_iter().collect();
    x.sort_by(f64::total_cmp);
    (x[(x.len() - 1) / 2] + x[x.len() / 2]) / 2.0
}

/// What one round says of a program.
struct Round {
    step: f64,
    startup: f64,
    mib: f64,
}

fn round(run: impl Fn(usize) -> Cost) -> Round {
    let (long, short) = (run(STEPS), run(1));
    let step = (long.seconds - short.seconds) / (STEPS - 1) as f64;
    Round { step, startup: short.seconds - step, mib: long.mib }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let python = arguments.first().map(PathBuf::from).or_else(|| std::env::var_os("NADA_PYTHON").map(PathBuf::from));
    let pairs = arguments.get(1).map_or(LEAST_PAIRS, |n| n.parse().expect("PAIRS is a number")).max(LEAST_PAIRS);
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");

    let ours = |steps: usize| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nada"));
        command.args(["--quiet", "--threads", "2", "adapt", "a golden statue", "--source", "a photo"]);
        command.arg("--model").arg(&pack).args(["--steps", &steps.to_string()]).args(SETTINGS.split_whitespace());
        command.arg("--output").arg(folder.path().join("gold.nada.safetensors")).arg("--force");
        run(command, &log)
    };
    let peer = |python: &Path, steps: usize| {
        let mut command = Command::new(python);
        command.arg(pack.join("recipe/adapt_pack.py")).arg(&pack).args(["a photo", "a golden statue", "gold", &steps.to_string()]);
        command.args([
            "--batch",
            "4",
            "--lr",
            "0.001",
            "--ind",
            "0.1",
            "--floor",
            "0.3",
            "--seed",
            "2",
            "--threads",
            "2",
            "--every",
            "1000",
        ]);
        run(command, &log)
    };
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for i in 1..=pairs {
        let m = round(ours);
        print!("round {i}: nada {:.1} ms a step, start-up {:.2} s, {:.0} MiB", m.step * 1e3, m.startup, m.mib);
        if let Some(python) = &python {
            let t = round(|steps| peer(python, steps));
            print!("; PyTorch {:.1} ms, {:.2} s, {:.0} MiB; ratio of steps {:.2}", t.step * 1e3, t.startup, t.mib, m.step / t.step);
            theirs.push(t);
        }
        println!();
        mine.push(m);
    }
    if python.is_none() {
        println!("PyTorch was not measured: name a Python that has it as the first argument or in NADA_PYTHON");
    }
    println!("medians of {pairs} rounds ({STEPS} steps, batch 4, 2 threads)");
    type Figure = fn(&Round) -> f64;
    let figures: [(&str, &str, Figure); 3] =
        [("time a step", "ms", |r| r.step * 1e3), ("start-up", "s", |r| r.startup), ("peak memory", "MiB", |r| r.mib)];
    for (name, unit, figure) in figures {
        let m = median(mine.iter().map(figure));
        print!("{name:12} nada {m:7.2} {unit}");
        if !theirs.is_empty() {
            let t = median(theirs.iter().map(figure));
            let ratio = median(mine.iter().zip(&theirs).map(|(m, t)| figure(m) / figure(t)));
            print!(", PyTorch {t:7.2} {unit}, median ratio of the pairs {ratio:.2}");
        }
        println!();
    }
}
