//! `nada domain`: a domain of two generators, or of another domain.

use crate::models::generator_or_pack;
use crate::outputs::{ForceArgs, Kind, Outputs};
use crate::ui::{name, plain, Ui};
use clap::Args;
use nada::adapt::Domain;
use nada::gallery::{file_name, Gallery};
use nada::nn::clip::tidy;
use nada::nn::generator::{Generator, Latent, Noise, Space};
use nada::picture::Picture;
use nada::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Make a domain of two generators: what somebody else's training has changed
///
/// ADAPTED is BASE after more training, by any program: files or model packs, each in any layout that is read. The domain is the difference of
/// the tensors that are not the same, and belongs to BASE: with strength 1 BASE draws as ADAPTED does, with less it goes less far. With
/// one domain instead of two generators, that one is written anew: with f16 numbers (--half), for a relative of its generator (--for), in the
/// present format. The result is TARGET-WITH-DASHES.nada.safetensors in the current folder, or TARGET-WITH-DASHES-2 where that is taken.
#[derive(Args)]
#[command(after_help = "Examples:
  nada domain ffhq.pt ffhq-sketch.pt --target \"a pencil sketch\"
  nada domain ffhq.pkl cartoon.pkl --half --install
  nada domain a-zombie.nada.safetensors --for ffhq-finetuned.pt")]
pub struct MakeDomain {
    /// BASE, a generator or model pack; or the one domain
    #[arg(value_name = "BASE|DOMAIN")]
    base: PathBuf,
    /// BASE after more training
    #[arg(value_name = "ADAPTED", conflicts_with = "target_generator")]
    adapted: Option<PathBuf>,
    /// What BASE draws, in words [default: not known]
    #[arg(long, value_name = "WORDS", requires = "adapted")]
    source: Option<String>,
    /// What ADAPTED draws, in words [default: the name of its file]
    #[arg(long, value_name = "WORDS", requires = "adapted")]
    target: Option<String>,
    /// f16 numbers: half the size, and pictures that differ by less than a step of 8 bits, mostly
    #[arg(long)]
    half: bool,
    /// Make DOMAIN fit for this generator or model pack, which has the tensors that it changes, in their shapes
    #[arg(long = "for", id = "target_generator", value_name = "GENERATOR")]
    target_generator: Option<PathBuf>,
    /// File of the domain [default: ./TARGET-WITH-DASHES.nada.safetensors]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Put it into the folder of installed domains instead, where the plug-ins find it
    #[arg(long, conflicts_with = "output")]
    install: bool,
    #[command(flatten)]
    force: ForceArgs,
}

impl MakeDomain {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        let mut outputs = Outputs::new(&self.force);
        outputs.reads(&self.base);
        outputs.reads_all(self.adapted.iter().chain(&self.target_generator));
        // A name that cannot be written is told before anything large is read.
        let named = self.output.as_ref().map(|path| outputs.named("--output", path, Kind::Domain)).transpose()?;
        let (domain, generator) = match &self.adapted {
            Some(adapted) => self.of_two(adapted, ui)?,
            None => self.of_one(ui)?,
        };
        let domain = if self.half { domain.to_half()? } else { domain };
        ui.cancel.check()?;
        let path = if self.install {
            let thumbnail = generator.map(|generator| thumbnail(&generator, &domain)).transpose()?.flatten();
            Gallery::open(&Gallery::default_folder()?)?.install(&domain, None, thumbnail.as_ref())?
        } else {
            let made_up = || outputs.made_up(Path::new(&file_name(&domain.description.target)), Domain::ENDING);
            let mut output = named.map_or_else(made_up, Ok)?;
            output.save(ui, |to| domain.save(to))?;
            output.path
        };
        let numbers: usize = domain.deltas.values().map(|delta| delta.elem_count()).sum();
        let text = format!("domain: {} ({} tensors, {numbers} numbers)", name(&path), domain.deltas.len());
        ui.finish(
            &text,
            json!({"domain": name(&path), "tensors": domain.deltas.len(), "numbers": numbers, "description": plain(&domain.description)?}),
        )
    }

    /// The difference, and the generator that it belongs to.
    fn of_two(&self, adapted: &Path, ui: &mut Ui) -> Result<(Domain, Option<Generator>)> {
        let base = generator_or_pack(&self.base, &ui.cancel)?;
        let after = generator_or_pack(adapted, &ui.cancel)?;
        let source = tidy(self.source.as_deref().unwrap_or_default());
        let stem = || adapted.canonicalize().ok()?.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let target = self.target.clone().or_else(stem).unwrap_or_default();
        let domain = Domain::between(&base, &after, &source, &tidy(&target)).map_err(|e| match e {
            Error::Mismatch(message) => Error::Mismatch(format!("{} and {}: {message}", name(&self.base), name(adapted))),
            e => e,
        })?;
        Ok((domain, Some(base)))
    }

    fn of_one(&self, ui: &mut Ui) -> Result<(Domain, Option<Generator>)> {
        let domain = Domain::open_unless(&self.base, &ui.cancel).map_err(|e| match Generator::open_unless(&self.base, &ui.cancel) {
            Ok(_) => Error::argument("ADAPTED", format!("is missing: {} is a generator, and a domain is made of two", name(&self.base))),
            Err(_) => e,
        })?;
        let Some(path) = &self.target_generator else { return Ok((domain, None)) };
        let generator = generator_or_pack(path, &ui.cancel)?;
        Ok((domain.for_generator(&generator)?, Some(generator)))
    }
}

/// What the domain makes of one point; None for a generator of which no class is chosen.
fn thumbnail(generator: &Generator, domain: &Domain) -> Result<Option<Picture>> {
    if generator.has_all_classes() {
        return Ok(None);
    }
    let latent = Latent { space: Space::W, tensor: generator.sample_w(1, 1, 0.7)?, noise: None };
    let picture = generator.with_domains(&[(domain, 1.0)])?.render(&latent, 1.0, Noise::Const)?;
    Picture::from_tensor(&picture, 0).map(Some)
}
