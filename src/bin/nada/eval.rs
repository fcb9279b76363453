//! `nada eval`: figures of a domain.

use crate::models::{ClipArgs, DomainArgs, ModelArgs, Reads, TemplateArgs};
use crate::outputs::{ForceArgs, Kind, Outputs};
use crate::ui::{name, plain, Ui};
use clap::Args;
use nada::adapt::Domain;
use nada::eval::{self, HeldOut, Report};
use nada::pack::ModelPack;
use nada::{Error, Result};
use serde_json::{json, Value};
use std::path::PathBuf;

/// Measure a domain on the pack's held-out latents
///
/// distance: mean |adapted - truth| over mean |unadapted - truth|, 0 is perfect; pairing: share of adapted pictures that are still most like
/// their own unadapted one; quality: mean cosine of the pictures to the target text; diversity: mean pairwise 1 - cosine. Ctrl-C ends it
/// without figures, which are of all pictures.
#[derive(Args)]
#[command(after_help = "Example:
  nada eval --domain a-pencil-sketch.nada.safetensors --sheet sketch.png")]
pub struct Eval {
    /// Words to measure quality to [default: the last domain's target]
    #[arg(long, value_name = "WORDS")]
    target: Option<String>,
    /// Ground truth [default: the one that the pack's words tie to the target, where there is one]
    #[arg(long, value_name = "NAME")]
    truth: Option<String>,
    /// Contact sheet: unadapted, adapted, truth
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    domains: DomainArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    clip: ClipArgs,
    #[command(flatten)]
    templates: TemplateArgs,
}

impl Eval {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        let Some(pack) = self.model.pack(ui)? else {
            return Err(Error::argument("--model", "name the pack whose held-out latents shall be drawn"));
        };
        let mut outputs = Outputs::new(&self.force);
        let generator = self.model.generator.as_deref();
        Reads { pack: Some(&pack), generator, clips: Some(&self.clip), domains: Some(&self.domains) }.tell(&mut outputs)?;
        let mut sheet = self.sheet.as_ref().map(|path| outputs.named("--sheet", path, Kind::Picture)).transpose()?;
        let domains = self.domains.load(&ui.cancel)?;
        let Some(target) = self.target.or_else(|| Some(domains.last()?.0.description.target.clone())) else {
            return Err(Error::argument("--domain or --target", "none given; name what to measure"));
        };
        let truth = match self.truth {
            Some(name) => Some(name),
            None => known_truth(&pack, &target)?,
        };
        let templates = match self.templates.template.is_empty() {
            true => pack.templates(),
            false => self.templates.of(&self.clip, Some(&pack))?,
        };
        self.clip.check_words(Some(&pack), &[("--target", &target)], &templates, ui)?;
        let generator = self.model.generator(Some(&pack), &ui.cancel)?;
        let domains = self.domains.of(&generator, domains)?;
        let clips = self.clip.load(Some(&pack), ui)?;
        let domains: Vec<(&Domain, f32)> = domains.iter().map(|(d, s)| (d, *s)).collect();
        let done = eval::domains(&pack, &generator, &clips, &domains, &target, &templates, truth.as_deref(), &ui.cancel)?;
        if let Some(sheet) = &mut sheet {
            sheet.save(ui, |to| done.sheet.save(to))?;
        }
        let mut value = plain(&done.report)?;
        if let Value::Object(map) = &mut value {
            map.insert("sheet".into(), json!(sheet.map(|s| name(s.path))));
        }
        ui.answer(&table(&done.report), value)
    }
}

/// The ground truth whose phrases hold the target.
fn known_truth(pack: &ModelPack, target: &str) -> Result<Option<String>> {
    let Some(words) = &pack.words else { return Ok(None) };
    let truths = HeldOut::open(pack)?;
    let mut filters = words.filters.iter().filter(|(_, phrases)| phrases.iter().any(|p| p == target));
    Ok(filters.find(|(name, _)| truths.truths().contains(&name.as_str())).map(|(name, _)| name.clone()))
}

fn table(r: &Report) -> String {
    let mut text = format!("\"{}\" on {} pictures\n", r.target, r.pictures);
    if let (Some(distance), Some(truth)) = (r.distance, &r.truth) {
        text += &format!("distance to '{truth}'  {distance:.3}\n");
    }
    text += &format!("pairing   {}/{}\n", (r.pairing * r.pictures as f32).round(), r.pictures);
    for c in &r.clips {
        text += &format!(
            "{}: quality {:.3} (before {:.3}), diversity {:.3} (before {:.3})\n",
            c.clip, c.quality, c.quality_before, c.diversity, c.diversity_before
        );
    }
    text
}
