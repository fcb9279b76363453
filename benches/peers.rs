//! Our side of `scripts/peers`: one row of its table in a process of its own, so that peak memory is that of the row alone.
//!
//! `peers WORK [NAME=VALUE ...]` does `warm` (default 1) repetitions that are not counted and `times` that are, and prints one line of JSON:
//! `seconds` of each, `peak` of the process in bytes. WORK is
//!
//! | WORK | what | needs |
//! |---|---|---|
//! | `forward` | a picture of W+ with the file's noise maps | `generator`, `inputs` |
//! | `embed` | CLIP's image embeddings of its input | `clip`, `inputs` |
//! | `adapt` | training steps; `set=NAME:VALUE` for each setting | `generator`, `clip` (repeatable) |
//! | `invert` | inversion steps, with the `losses`; `set=` as above | `generator`, `inputs` |
//! | `agree` | no times: what the others are compared by, written to `out` | `generator`, `clip` (repeatable), `inputs`, `out` |
//! | `settings` | no times: which settings there are, and some defaults | |
//!
//! `inputs` is a file of tensors: `latent` [1, rows, style_dim], `clip` [n, 3, side, side] as normalised for CLIP, `target` [1, 3, side, side]
//! in [-1, 1]. `texts` names a file with a text a line: `agree` writes the tokens of all and embeds some.

use candle_core::{DType, Device, Tensor};
use nada::adapt::{self, Adaptation, Concept, Templates, WeightedClip};
use nada::checkpoint::{self, Checkpoint};
use nada::invert;
use nada::nn::clip::Clip;
use nada::nn::generator::{Generator, Noise};
use nada::picture::Picture;
use nada::progress::{Cancel, Flow};
use nada::settings::{self, Listed};
use nada::{Error, Result};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Of so many texts one is compared; `peer.py` has the same number.
const TEXT_OF: usize = 40;

const USAGE: &str = "usage: peers WORK [NAME=VALUE ...]; scripts/peers runs it, in turn with PyTorch";

/// `NAME=VALUE` from the command line; names may stand there more than once.
struct Given(Vec<(String, String)>);

impl Given {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn one(&self, name: &'static str) -> Result<&str> {
        self.all(name).last().ok_or_else(|| Error::argument(name, "is missing"))
    }

    fn count(&self, name: &'static str, default: usize) -> Result<usize> {
        self.all(name).last().map_or(Ok(default), |text| text.parse().map_err(|_| Error::argument(name, "must be a whole number")))
    }

    /// Repetitions that are not counted, and that are.
    fn repetitions(&self) -> Result<(usize, usize)> {
        Ok((self.count("warm", 1)?, self.count("times", 1)?.max(1)))
    }

    fn generator(&self) -> Result<Generator> {
        Generator::open(Path::new(self.one("generator")?))
    }

    fn clips(&self) -> Result<Vec<Clip>> {
        self.all("clip").map(|path| Clip::open(Path::new(path))).collect()
    }

    fn inputs(&self) -> Result<Checkpoint> {
        checkpoint::open(Path::new(self.one("inputs")?))
    }

    /// `settings` with what `set=` says.
    fn over<T: Listed>(&self, mut settings: T) -> Result<T> {
        for text in self.all("set") {
            let (name, value) = text.split_once(':').ok_or_else(|| Error::argument("set", format!("'{text}' must be NAME:VALUE")))?;
            settings = settings::set(&settings, name, value)?;
        }
        settings::check(&settings)?;
        Ok(settings)
    }
}

/// The kernel's figure for this process, in bytes; 0 where it tells none.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// Seconds of each repetition that counts.
fn clock((warm, times): (usize, usize), mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let mut seconds = vec![];
    for i in 0..warm + times {
        let begin = Instant::now();
        work()?;
        if i >= warm {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    Ok(seconds)
}

fn forward(given: &Given) -> Result<Value> {
    let generator = given.generator()?;
    let latent = given.inputs()?.f32("latent", None)?;
    let seconds = clock(given.repetitions()?, || generator.synthesize(&latent, Noise::Const).map(drop))?;
    Ok(json!({"seconds": seconds}))
}

fn embed(given: &Given) -> Result<Value> {
    let clip = Clip::open(Path::new(given.one("clip")?))?;
    let pictures = given.inputs()?.f32("clip", None)?;
    let seconds = clock(given.repetitions()?, || clip.encode_image(&pictures).map(drop))?;
    Ok(json!({"seconds": seconds}))
}

fn adapting(given: &Given) -> Result<Value> {
    let generator = Arc::new(given.generator()?);
    let clips: Vec<WeightedClip> = given.clips()?.into_iter().map(|c| WeightedClip { clip: Arc::new(c), weight: 1.0 }).collect();
    let settings = given.over(adapt::Settings::default())?;
    let (source, target) = (Concept::Text("photo".into()), Concept::Text("sketch".into()));
    // A step does not know of how many texts its direction is the mean.
    let templates = Templates(vec!["{}".into()]);
    let mut run = Adaptation::new(generator, &clips, source, target, &templates, settings)?;
    let mut losses = vec![];
    let seconds = clock(given.repetitions()?, || {
        losses.push(run.step()?.loss);
        Ok(())
    })?;
    Ok(json!({"seconds": seconds, "losses": losses}))
}

/// A step is what passes between two calls of the progress callback, which comes before a step's way back and after the next one's loss.
fn inverting(given: &Given) -> Result<Value> {
    let generator = given.generator()?;
    let target = Picture::from_tensor(&given.inputs()?.f32("target", None)?, 0)?;
    let settings = given.over(invert::Settings::default())?;
    let (warm, times) = given.repetitions()?;
    let (mut seen, mut losses) = (vec![], vec![]);
    let ended = invert::invert(&generator, &target, None, &settings, &Cancel::new(), &mut |progress| {
        seen.push(Instant::now());
        losses.push(progress.loss);
        if seen.len() > warm + times {
            Flow::Stop
        } else {
            Flow::Continue
        }
    });
    match ended {
        Err(Error::Cancelled) => {}
        Err(e) => return Err(e),
        Ok(_) => return Err(Error::argument("times", "are more than the settings' steps")),
    }
    let seconds: Vec<f64> = seen.windows(2).skip(warm).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    Ok(json!({"seconds": seconds, "losses": losses}))
}

/// Tensors by which our numbers are compared with the peer's, and the tokens of the texts, so that both read the same.
fn agree(given: &Given) -> Result<Value> {
    let inputs = given.inputs()?;
    let mut found: BTreeMap<String, Tensor> = BTreeMap::new();
    found.insert("picture".into(), given.generator()?.synthesize(&inputs.f32("latent", None)?, Noise::Const)?);
    let texts = std::fs::read_to_string(given.one("texts")?).map_err(|e| Error::io(given.one("texts").unwrap_or_default(), e))?;
    let texts: Vec<String> = texts.lines().map(str::to_string).collect();
    for (i, clip) in given.clips()?.iter().enumerate() {
        found.insert(format!("embedding.{i}"), clip.encode_image(&inputs.f32("clip", None)?)?);
        // All of them take minutes on some machines.
        let some: Vec<String> = texts.iter().step_by(TEXT_OF).cloned().collect();
        found.insert(format!("texts.{i}"), clip.embed_texts(&some)?);
        let context = clip.config().text.context;
        let ids = texts.iter().map(|text| clip.tokenizer()?.tokenize(text, context, false)).collect::<Result<Vec<_>>>()?;
        let ids: Vec<i64> = ids.into_iter().flatten().map(i64::from).collect();
        found.insert(format!("tokens.{i}"), Tensor::from_vec(ids, (texts.len(), context), &Device::Cpu)?.to_dtype(DType::I64)?);
    }
    let out = PathBuf::from(given.one("out")?);
    checkpoint::save_safetensors(&out, &found, &BTreeMap::new())?;
    Ok(json!({}))
}

fn names() -> Value {
    let of = |all: &[settings::Setting]| all.iter().map(|s| s.name).collect::<Vec<_>>();
    let defaults = adapt::Settings::default();
    let defaults = json!({"pool": defaults.pool, "steps": defaults.steps});
    json!({"adapt": of(adapt::Settings::SETTINGS), "invert": of(invert::Settings::SETTINGS), "defaults": defaults})
}

fn run(work: &str, given: &Given) -> Result<Value> {
    let mut value = match work {
        "forward" => forward(given)?,
        "embed" => embed(given)?,
        "adapt" => adapting(given)?,
        "invert" => inverting(given)?,
        "agree" => agree(given)?,
        "settings" => names(),
        other => return Err(Error::argument("WORK", format!("is '{other}'; {USAGE}"))),
    };
    value["peak"] = peak().into();
    Ok(value)
}

fn main() {
    nada::threads::prepare();
    // Cargo adds --bench.
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let Some(work) = arguments.next() else {
        println!("{USAGE}");
        return;
    };
    let given = arguments.map(|a| a.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()))).collect::<Option<Vec<_>>>();
    let done = given.ok_or_else(|| Error::argument("NAME=VALUE", USAGE)).and_then(|given| run(&work, &Given(given)));
    match done {
        Ok(value) => println!("{value}"),
        Err(e) => {
            eprintln!("error: {e}");
            std::process::exit(1);
        }
    }
}
