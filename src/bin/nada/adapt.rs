//! `nada adapt`: words (or pictures) into a domain.

use crate::models::{adapted, before_after, pictures, recipe, ClipArgs, ModelArgs, Reads, TemplateArgs, COLUMNS};
use crate::outputs::{split, ForceArgs, Kind, Output, Outputs};
use crate::picture::for_clip;
use crate::settings::AdaptSettings;
use crate::snapshots::{self, Snapshots};
use crate::ui::{name, on_bar, plain, Ui};
use clap::Args;
use nada::adapt::{Adaptation, Concept, Domain, Ended, SavedState, Settings, Templates, WeightedClip};
use nada::gallery::file_name;
use nada::memory::Need;
use nada::nn::clip::tidy;
use nada::nn::generator::{Generator, Latent, Noise, Space};
use nada::pack::ModelPack;
use nada::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// How the name of a sheet goes on after its domain's.
const SHEET: &str = "-before-after";

/// Seed and truncation of the pictures on a contact sheet.
const SHEET_SEED: u64 = 1;
const SHEET_TRUNCATION: f32 = 0.8;
/// In pixels; of larger pictures a contact sheet has half as many.
const LARGE: usize = 128;

/// Adapt a generator to words (or to pictures): writes a domain
///
/// The domain goes to TARGET-WITH-DASHES.nada.safetensors in the current folder, or to TARGET-WITH-DASHES-2 where that is taken, and a sheet
/// of pictures before and after it beside it. Ctrl-C stops after the current step and keeps what was reached, as
/// TARGET-WITH-DASHES-stopped where no name was given. With --snapshots the run can go on from each of them, with --resume.
#[derive(Args)]
#[command(after_help = "Examples:
  nada adapt \"a pencil sketch\"
  nada adapt \"a golden statue\" --steps 60 --snapshots gold --seed 3
  nada adapt --resume gold/step-0050.nada.safetensors
  nada adapt \"sketch\" --generator ffhq.pt --clip ViT-B-32.pt --clip ViT-B-16.pt --source photo
  nada adapt --target-picture a.png --target-picture b.png -o ours.nada.safetensors")]
pub struct Adapt {
    /// What the pictures shall become, in words
    #[arg(required_unless_present_any = ["target_pictures", "resume"])]
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
    /// Folder for the snapshots, written when they are taken: a domain, a preview, and the state that --resume goes on from
    #[arg(long, value_name = "FOLDER")]
    snapshots: Option<PathBuf>,
    /// Go on from a snapshot of --snapshots, with the arguments of that run and the same bits as if it had never ended. A model or files that
    /// lie elsewhere now can be named anew
    #[arg(long, value_name = "SNAPSHOT", conflicts_with_all = ["target", "target_pictures", "source", "source_pictures", "snapshots", "template"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    clip: ClipArgs,
    #[command(flatten)]
    templates: TemplateArgs,
    #[command(flatten)]
    settings: AdaptSettings,
}

/// What a run was asked for, as its snapshots remember it: with absolute paths, of any bytes.
#[derive(Clone, Serialize, Deserialize)]
struct Request {
    pack: Option<OsString>,
    generator: Option<OsString>,
    class: Option<usize>,
    clips: Vec<AskedClip>,
    source: Said,
    target: Said,
    output: Option<OsString>,
    sheet: Option<OsString>,
}

#[derive(Clone, Serialize, Deserialize)]
struct AskedClip {
    file: OsString,
    weight: f32,
    activation: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
enum Said {
    Words(String),
    Pictures(Vec<OsString>),
}

impl Said {
    fn new(words: Option<String>, files: &[PathBuf]) -> Result<Self> {
        match words.map(|words| tidy(&words)) {
            Some(words) if words.is_empty() => Err(Error::argument("TARGET or --source", "is empty; want words such as \"a sketch\"")),
            Some(words) => Ok(Said::Words(words)),
            None => Ok(Said::Pictures(files.iter().map(|file| absolute(file)).collect::<Result<_>>()?)),
        }
    }

    fn files(&self) -> &[OsString] {
        match self {
            Said::Words(_) => &[],
            Said::Pictures(files) => files,
        }
    }

    /// What a domain of it is called.
    fn name(&self) -> String {
        match self {
            Said::Words(words) => words.clone(),
            Said::Pictures(files) => {
                let stem = files.first().and_then(|f| Path::new(f).file_stem());
                stem.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
            }
        }
    }

    fn concept(&self, ui: &mut Ui) -> Result<Concept> {
        Ok(match self {
            Said::Words(words) => Concept::Text(words.clone()),
            Said::Pictures(files) => Concept::Pictures(files.iter().map(|f| for_clip(Path::new(f), ui)).collect::<Result<_>>()?),
        })
    }
}

fn absolute(path: &Path) -> Result<OsString> {
    std::path::absolute(path).map(PathBuf::into_os_string).map_err(|e| Error::io(path, e))
}

impl Adapt {
    pub fn run(mut self, ui: &mut Ui) -> Result<()> {
        let begin = Instant::now();
        let resumed = self.resume.as_deref().map(snapshots::open).transpose()?;
        if let Some(resumed) = &resumed {
            self.take_over(&resumed.state)?;
        }
        let pack = self.model.pack(ui)?;
        let templates = match &resumed {
            Some(resumed) => resumed.state.templates(),
            None => self.templates.of(&self.clip, pack.as_ref())?,
        };
        let request = match &resumed {
            Some(resumed) => notes(&resumed.state)?,
            None => self.request(pack.as_ref())?,
        };
        let settings = self.settings.over(match &resumed {
            Some(resumed) => resumed.state.settings().clone(),
            None => recipe(pack.as_ref())?,
        })?;
        if let Some(resumed) = resumed.as_ref().filter(|r| *r.state.settings() != settings) {
            let message = format!("{} is of a run with other settings; leave out the flags that change them", name(&resumed.domain));
            return Err(Error::argument("--resume", message));
        }
        if let (Said::Words(source), Said::Words(target)) = (&request.source, &request.target) {
            self.clip.check_words(pack.as_ref(), &[("--source", source), ("TARGET", target)], &templates, ui)?;
        }

        let mut outputs = Outputs::new(&self.force);
        let generator = self.model.generator.as_deref();
        Reads { pack: pack.as_ref(), generator, clips: Some(&self.clip), domains: None }.tell(&mut outputs)?;
        outputs.reads_all(request.source.files().iter().chain(request.target.files()).map(Path::new));
        outputs.reads_all(resumed.iter().flat_map(|r| r.files()));
        let asked = serde_json::to_string(&request).map_err(|e| Error::Internal(e.to_string()))?;
        // First, as other results may go into the folder that they make.
        let mut snapshots = match (&resumed, &self.snapshots) {
            (Some(resumed), _) => Some(Snapshots::going_on(resumed, templates.clone(), asked, &self.force, &mut outputs)?),
            (None, Some(folder)) => Some(Snapshots::new(folder, templates.clone(), asked, &self.force, &mut outputs)?),
            (None, None) => None,
        };
        let base = PathBuf::from(file_name(&request.target.name()));
        // What the run had reached when it was stopped is where it was asked to go, and makes room for what comes of it now.
        let again = resumed.as_ref().filter(|_| !self.force.force).is_some_and(|r| r.is_earlier(request.output.as_deref()));
        let mut named =
            |option: &str, path: &Path, kind: Kind, asked: &Option<OsString>| match again && asked.as_deref() == Some(path.as_os_str()) {
                true => outputs.named_again(option, path, kind),
                false => outputs.named(option, path, kind),
            };
        let output = self.output.as_ref().map(|path| named("--output", path, Kind::Domain, &request.output)).transpose()?;
        let sheet = self.sheet.as_ref().map(|path| named("--sheet", path, Kind::Picture, &request.sheet)).transpose()?;
        let mut output = output.map_or_else(|| outputs.made_up(&base, Domain::ENDING), Ok)?;
        let mut sheet = sheet.map_or_else(|| outputs.made_up(&sheet_base(&output.path), ".png"), Ok)?;
        // The name alone is for what was learned to the end: `restyle --to` would take it for that.
        let mut halves = match &self.output {
            Some(_) => None,
            None => {
                let domain = outputs.made_up(&stopped(&base), Domain::ENDING)?;
                let sheet = outputs.made_up(&sheet_base(&domain.path), ".png")?;
                Some((domain, sheet))
            }
        };
        if let Some(snapshots) = &snapshots {
            snapshots.keep_names(resumed.as_ref(), &outputs)?;
        }

        let (source, target) = (request.source.concept(ui)?, request.target.concept(ui)?);
        let generator = self.model.generator(pack.as_ref(), &ui.cancel)?;
        let clips = self.clip.load(pack.as_ref(), ui)?;
        let started = begin.elapsed();
        let job = Job { generator: &generator, clips: &clips, source, target, templates: &templates, settings };
        let made = train(job, resumed.as_ref().map(|r| &r.state), snapshots.as_mut(), ui)?;

        if let (Err(_), Some((domain, picture))) = (&made.ended, halves.take()) {
            output = domain;
            if self.sheet.is_none() {
                sheet = picture;
            }
        }
        // The domain first: whatever fails later, it is there.
        output.save(ui, |to| made.domain.save(to))?;
        let ended = match made.ended {
            Ok(ended) => ended,
            Err(e) => {
                stopped_after_step(made.steps, "what was reached", &output.path, ui);
                if let (Error::Cancelled, Some(snapshots)) = (&e, &mut snapshots) {
                    let last = snapshots.keep_last(&made.run)?;
                    ui.warn(format!("to go on: nada adapt --resume {}", quoted(&last)));
                }
                // What ended the run is told, not what a picture of it comes to.
                if let Err(sheets) = save_sheet(&generator, &made.domain, &mut sheet, ui) {
                    ui.warn(format!("there is no sheet: {sheets}"));
                }
                return Err(e);
            }
        };
        save_sheet(&generator, &made.domain, &mut sheet, ui)?;
        let written = snapshots.as_mut().map(|s| std::mem::take(&mut s.written)).unwrap_or_default();
        let seconds = begin.elapsed().as_secs_f64();
        let text = format!(
            "{} steps in {seconds:.1} s{}\ndomain: {}\nbefore and after: {}\nnow restyle a picture: nada restyle PICTURE --domain {}",
            made.steps,
            match ended {
                Ended::Rule => format!("; the stop rule chose step {}", made.chosen),
                Ended::Steps if made.chosen != made.steps => format!("; step {} was chosen", made.chosen),
                Ended::Steps => String::new(),
            },
            name(&output.path),
            name(&sheet.path),
            name(&output.path)
        );
        let value = json!({
            "domain": name(&output.path), "sheet": name(&sheet.path), "steps": made.steps, "chosen": made.chosen,
            "ended": format!("{ended:?}").to_lowercase(), "startup_seconds": started.as_secs_f64(), "seconds": seconds,
            "description": plain(&made.domain.description)?, "snapshots": written,
        });
        ui.finish(&text, value)
    }

    fn request(&self, pack: Option<&ModelPack>) -> Result<Request> {
        let target = Said::new(self.target.clone(), &self.target_pictures)?;
        let words = self.source.clone().unwrap_or_else(|| source_words(pack));
        let source = Said::new(Some(words).filter(|_| self.source_pictures.is_empty()), &self.source_pictures)?;
        let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        let clips = self.clip.files()?.into_iter().map(|clip| {
            let activation = clip.activation.map(|activation| activation.to_string());
            Ok(AskedClip { file: absolute(&clip.path)?, weight: clip.weight, activation })
        });
        Ok(Request {
            pack: pack.map(|pack| pack.folder.clone().into_os_string()),
            generator: path(&self.model.generator)?,
            class: self.model.class,
            clips: clips.collect::<Result<_>>()?,
            source,
            target,
            output: path(&self.output)?,
            sheet: path(&self.sheet)?,
        })
    }

    /// Fills what was not said with what the run was asked for.
    fn take_over(&mut self, state: &SavedState) -> Result<()> {
        let request = notes(state)?;
        if self.model.pack.model.is_none() && self.model.generator.is_none() {
            self.model.pack.model = request.pack;
            self.model.generator = request.generator.map(PathBuf::from);
        }
        self.model.class = self.model.class.or(request.class);
        if self.clip.clips.is_empty() {
            self.clip.clips = request.clips.into_iter().map(AskedClip::argument).collect();
        }
        self.output = self.output.take().or(request.output.map(PathBuf::from));
        self.sheet = self.sheet.take().or(request.sheet.map(PathBuf::from));
        Ok(())
    }
}

impl AskedClip {
    /// As it is given to --clip.
    fn argument(self) -> OsString {
        let mut argument = self.file;
        argument.push(format!(":{}", self.weight));
        if let Some(activation) = self.activation {
            argument.push(format!(":{activation}"));
        }
        argument
    }
}

fn notes(state: &SavedState) -> Result<Request> {
    serde_json::from_str(&state.notes)
        .map_err(|e| Error::argument("--resume", format!("the snapshot does not say what was asked for: {e}")))
}

/// What the generator draws, in the pack's words.
pub fn source_words(pack: Option<&ModelPack>) -> String {
    pack.and_then(|pack| pack.words.as_ref()?.source.first().cloned()).unwrap_or_else(|| "photo".into())
}

/// The name, without ending, of what a run had reached when it was stopped.
pub fn stopped(base: &Path) -> PathBuf {
    let mut name = base.as_os_str().to_os_string();
    name.push("-stopped");
    name.into()
}

/// Says where a call that was stopped has left what it reached.
pub fn stopped_after_step(step: usize, what: &str, path: &Path, ui: &mut Ui) {
    ui.warn(format!("stopped after step {step}; {what} is kept in {}", name(path)));
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let name = name(path);
    match name.chars().all(|c| c.is_ascii_alphanumeric() || "-_./+,:@%".contains(c)) {
        true => name,
        false => format!("'{}'", name.replace('\'', "'\\''")),
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

/// What an adaptation made, complete or not.
pub struct Made {
    pub domain: Domain,
    pub steps: usize,
    /// The step that `domain` is of.
    pub chosen: usize,
    /// An error where the run did not come to its end; `domain` is of the last complete step then.
    pub ended: Result<Ended>,
    pub run: Adaptation,
}

/// Trains with a progress bar, from a state where one is given. Errors: where not even a step was done.
pub fn train(job: Job, from: Option<&SavedState>, mut snapshots: Option<&mut Snapshots>, ui: &Ui) -> Result<Made> {
    ui.cancel.check()?;
    job.settings.check()?;
    let sizes = job.clips.iter().map(|c| c.clip.config()).collect();
    let threads = rayon::current_num_threads();
    // Snapshots are written when they are taken: one is there at a time, where any is wanted.
    let counted = Settings { snapshot_every: if snapshots.is_some() { job.settings.steps } else { 0 }, ..job.settings.clone() };
    Need::adapting(job.generator.config(), &counted, sizes, job.templates.0.len(), threads).check()?;
    let generator = job.generator.clone();
    let mut run = Adaptation::new_unless(generator, job.clips, job.source, job.target, job.templates, job.settings, &ui.cancel)?;
    if let Some(state) = from {
        run.restore(state)?;
    }
    let before = run.steps_done();
    let bar = ui.bar("adapting", run.settings().steps);
    let outcome = match &mut snapshots {
        Some(snapshots) => {
            let mut keep = |run: &Adaptation, snapshot: &nada::adapt::Snapshot| snapshots.keep(run, snapshot);
            run.run_keeping(&ui.cancel, &mut on_bar(&bar), &mut keep)
        }
        None => run.run_without_snapshots(&ui.cancel, &mut on_bar(&bar)),
    };
    bar.abandon();
    let steps = run.steps_done();
    let (domain, chosen, ended) = match outcome {
        Ok(outcome) => (run.result()?, outcome.chosen, Ok(outcome.ended)),
        Err(e) if steps == before => return Err(e),
        Err(e) => (run.domain()?, steps, Err(e)),
    };
    Ok(Made { domain, steps, chosen, ended, run })
}

/// The name of the sheet beside a domain, without ending.
fn sheet_base(domain: &Path) -> PathBuf {
    let mut base = split(domain).0.into_os_string();
    base.push(SHEET);
    base.into()
}

fn save_sheet(generator: &Generator, domain: &Domain, sheet: &mut Output, ui: &mut Ui) -> Result<()> {
    // Large pictures take seconds each, and half as many make a sheet as wide as a screen has room for.
    let columns = if generator.config().size() > LARGE { COLUMNS / 2 } else { COLUMNS };
    let latent = Latent { space: Space::W, tensor: generator.sample_w(columns, SHEET_SEED, SHEET_TRUNCATION)?, noise: None };
    let draw = |g: &Generator| pictures(&g.render(&latent, 1.0, Noise::Const)?);
    let after = adapted(generator, &[(domain.clone(), 1.0)])?;
    let picture = before_after(&draw(generator)?, &draw(&after)?)?;
    sheet.save(ui, |to| picture.save(to))
}
