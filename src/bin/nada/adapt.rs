//! `nada adapt`: words (or pictures) into a domain.

use crate::models::{adapted, before_after, pictures, recipe, ClipArgs, ModelArgs, COLUMNS};
use crate::picture::for_clip;
use crate::settings::AdaptSettings;
use crate::ui::{on_bar, plain, Ui};
use clap::Args;
use nada::adapt::{Adaptation, Concept, Domain, Ended, Settings, Snapshot, Templates, WeightedClip};
use nada::gallery::file_name;
use nada::nn::stylegan2::{Generator, Latent, Noise, Space};
use nada::{Error, Result};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// How the names of domain files end.
pub const EXTENSION: &str = ".nada.safetensors";

/// Seed and truncation of the pictures on a contact sheet.
const SHEET_SEED: u64 = 1;
const SHEET_TRUNCATION: f32 = 0.8;

/// Adapt a generator to words (or to pictures): writes a domain
///
/// The domain goes to TARGET-WITH-DASHES.nada.safetensors in the current folder, a sheet of pictures before and after it beside it. Ctrl-C
/// stops after the current step and keeps what was reached.
#[derive(Args)]
#[command(after_help = "Examples:
  nada adapt \"a pencil sketch\"
  nada adapt \"a golden statue\" --steps 60 --snapshots gold --seed 3
  nada adapt \"sketch\" --generator ffhq.pt --clip ViT-B-32.pt --clip ViT-B-16.pt --source photo --auto-layers 18
  nada adapt --target-picture a.png --target-picture b.png -o ours.nada.safetensors")]
pub struct Adapt {
    /// What the pictures shall become, in words
    #[arg(required_unless_present = "target_pictures")]
    target: Option<String>,
    /// Pictures of what they shall become, instead of words; repeatable
    #[arg(long = "target-picture", value_name = "PICTURE", conflicts_with = "target")]
    target_pictures: Vec<PathBuf>,
    /// What the generator draws, in words [default: the pack's first source word, else photo]
    #[arg(long, value_name = "WORDS")]
    source: Option<String>,
    /// Pictures of what it draws, instead of words; repeatable
    #[arg(long = "source-picture", value_name = "PICTURE", conflicts_with = "source")]
    source_pictures: Vec<PathBuf>,
    /// File of the domain [default: ./TARGET-WITH-DASHES.nada.safetensors]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Contact sheet of pictures before and after [default: beside the domain]
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    /// Folder for a domain and a preview of each snapshot, to pick the step from
    #[arg(long, value_name = "FOLDER")]
    snapshots: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    clip: ClipArgs,
    #[command(flatten)]
    settings: AdaptSettings,
}

impl Adapt {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        let begin = Instant::now();
        let pack = self.model.pack()?;
        let settings = self.settings.over(recipe(pack.as_ref())?)?;
        let (target, name) = concept(self.target, &self.target_pictures, ui)?;
        let source = self.source.or_else(|| pack.as_ref()?.words.as_ref()?.source.first().cloned()).unwrap_or_else(|| "photo".into());
        let (source, _) = concept(Some(source).filter(|_| self.source_pictures.is_empty()), &self.source_pictures, ui)?;
        for text in [&source, &target] {
            if let Concept::Text(text) = text {
                self.clip.check_words(pack.as_ref(), text, ui);
            }
        }
        let output = self.output.unwrap_or_else(|| PathBuf::from(format!("{}{EXTENSION}", file_name(&name))));
        let sheet = self.sheet.unwrap_or_else(|| beside(&output));
        let generator = self.model.generator(pack.as_ref())?;
        let clips = self.clip.load(pack.as_ref())?;
        let templates = self.clip.templates(pack.as_ref());
        let started = begin.elapsed();
        let (made, ended) = train(Job { generator: &generator, clips: &clips, source, target, templates: &templates, settings }, ui);
        let made = made?;

        // The domain first: whatever fails later, it is there.
        made.domain.save(&output)?;
        let mut snapshots = Vec::new();
        if let Some(folder) = &self.snapshots {
            for snapshot in &made.snapshots {
                snapshots.push(save_snapshot(folder, snapshot)?);
            }
        }
        save_sheet(&generator, &made.domain, &sheet)?;
        if let Err(Error::Cancelled) = ended {
            ui.warn(format!("stopped after step {}; what was reached is kept in {}", made.steps, output.display()));
        }
        let ended = ended?;
        let seconds = begin.elapsed().as_secs_f64();
        let text = format!(
            "{} steps in {seconds:.1} s{}\ndomain: {}\nbefore and after: {}\nnow restyle a picture: nada restyle PICTURE --domain {}",
            made.steps,
            match ended {
                Ended::Rule => format!("; the stop rule chose step {}", made.chosen),
                Ended::Steps if made.chosen != made.steps => format!("; step {} was chosen", made.chosen),
                Ended::Steps => String::new(),
            },
            output.display(),
            sheet.display(),
            output.display()
        );
        let value = json!({
            "domain": output, "sheet": sheet, "steps": made.steps, "chosen": made.chosen, "ended": format!("{ended:?}").to_lowercase(),
            "startup_seconds": started.as_secs_f64(), "seconds": seconds, "description": plain(&made.domain.description)?, "snapshots": snapshots,
        });
        ui.finish(&text, value)
    }
}

/// Everything an adaptation needs.
pub struct Job<'a> {
    pub generator: &'a Arc<Generator>,
    pub clips: &'a [WeightedClip],
    pub source: Concept,
    pub target: Concept,
    pub templates: &'a Templates,
    pub settings: Settings,
}

/// What an adaptation made, complete or cancelled.
pub struct Made {
    pub domain: Domain,
    pub snapshots: Vec<Snapshot>,
    pub steps: usize,
    /// The step that `domain` is of.
    pub chosen: usize,
}

/// Trains with a progress bar. Where the run was cancelled after at least one step the domain is of the last one, and the second result
/// is `Cancelled`.
pub fn train(job: Job, ui: &Ui) -> (Result<Made>, Result<Ended>) {
    let made = || {
        let mut run = Adaptation::new(job.generator.clone(), job.clips, job.source, job.target, job.templates, job.settings)?;
        let bar = ui.bar("adapting", run.settings().steps);
        let outcome = run.run(&ui.cancel, &mut on_bar(&bar));
        bar.abandon();
        let steps = run.steps_done();
        let (domain, chosen, ended) = match outcome {
            Ok(outcome) => (run.result()?, outcome.chosen, Ok(outcome.ended)),
            Err(e) if steps == 0 => return Err(e),
            Err(e) => (run.domain()?, steps, Err(e)),
        };
        Ok((Made { domain, snapshots: run.snapshots().to_vec(), steps, chosen }, ended))
    };
    match made() {
        Ok((made, ended)) => (Ok(made), ended),
        Err(e) => (Err(e), Err(Error::Cancelled)),
    }
}

/// Words, or pictures where some are named, and a name for them.
fn concept(words: Option<String>, files: &[PathBuf], ui: &mut Ui) -> Result<(Concept, String)> {
    match words {
        Some(words) if words.trim().is_empty() => Err(Error::argument("TARGET or --source", "is empty; want words such as \"a sketch\"")),
        Some(words) => Ok((Concept::Text(words.clone()), words)),
        None => {
            let pictures = files.iter().map(|f| for_clip(f, ui)).collect::<Result<_>>()?;
            let stem = files.first().and_then(|f| f.file_stem()).map(|s| s.to_string_lossy().into_owned());
            Ok((Concept::Pictures(pictures), stem.unwrap_or_default()))
        }
    }
}

/// The PNG beside a domain.
fn beside(domain: &Path) -> PathBuf {
    let name = domain.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(EXTENSION).or_else(|| name.strip_suffix(".safetensors")).unwrap_or(&name);
    domain.with_file_name(format!("{stem}.png"))
}

fn save_snapshot(folder: &Path, snapshot: &Snapshot) -> Result<Value> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let domain = folder.join(format!("step-{:04}{EXTENSION}", snapshot.step));
    let preview = folder.join(format!("step-{:04}.png", snapshot.step));
    snapshot.domain.save(&domain)?;
    snapshot.preview.save_png(&preview)?;
    let judged = snapshot.judgement;
    let (gain, pairing, structure) = (judged.map(|j| j.gain), judged.map(|j| j.pairing), judged.map(|j| j.structure));
    Ok(
        json!({"step": snapshot.step, "loss": plain(&snapshot.loss)?, "gain": plain(&gain)?, "pairing": plain(&pairing)?, "structure": plain(&structure)?, "domain": domain, "preview": preview}),
    )
}

fn save_sheet(generator: &Generator, domain: &Domain, path: &Path) -> Result<()> {
    let latent = Latent { space: Space::W, tensor: generator.sample_w(COLUMNS, SHEET_SEED, SHEET_TRUNCATION)?, noise: None };
    let draw = |g: &Generator| pictures(&g.render(&latent, 1.0, Noise::Const)?);
    let after = adapted(generator, &[(domain.clone(), 1.0)])?;
    before_after(&draw(generator)?, &draw(&after)?)?.save_png(path)
}
