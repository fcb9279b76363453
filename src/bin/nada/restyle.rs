//! `nada restyle`: a picture in, the same picture in another domain out.

use crate::adapt::{source_words, stopped, stopped_after_step, train, Job};
use crate::faces::{middle, FaceArgs, Part, PasteArgs, Way, Which};
use crate::invert::{holds_noise, LATENT};
use crate::models::{invert_recipe, recipe, ClipArgs, DomainArgs, EncoderArgs, ModelArgs, NoiseArgs, Reads, TemplateArgs};
use crate::outputs::{ForceArgs, Kind, Output, Outputs};
use crate::render::open_latent;
use crate::settings::{InvertSettings, SetArgs};
use crate::ui::{name, on_bar, plain, Ui};
use clap::Args;
use nada::adapt::{Concept, Domain};
use nada::gallery::file_name;
use nada::memory::Need;
use nada::nn::clip::{tidy, Clip};
use nada::nn::generator::Generator;
use nada::pack::ModelPack;
use nada::picture::{Encoding, Picture};
use nada::pipeline::{self, NoiseKind, Restyled};
use nada::progress::Cancel;
use nada::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Restyle a picture: find its latent, draw it in other domains
///
/// Of a photo (with --face, or a model pack that says how its pictures are framed) a face is found, cut out upright, restyled and put back: the
/// result is the photo, of the same size, unchanged around the face. Else it is the middle square alone, of the generator's size.
///
/// The result is PICTURE-DOMAIN.png in the current folder, or PICTURE-DOMAIN-2.png where that is taken. With --to the domain is adapted first
/// and kept as TARGET-WITH-DASHES.nada.safetensors, from where the next call takes it. Ctrl-C keeps what was reached: the domain of the last
/// step as TARGET-WITH-DASHES-stopped, the best latent so far as PICTURE-stopped beside the result.
#[derive(Args)]
#[command(after_help = "Examples:
  nada restyle face.png --to \"a pencil sketch\"
  nada restyle face.png --domain a-pencil-sketch.nada.safetensors:0.8 --domain night.nada.safetensors:0.5 -o out.png
  nada restyle photo.jpg --face all --domain a-pencil-sketch.nada.safetensors --model ffhq --paste difference
  nada restyle face.png --latent face.latent.safetensors --domain a-pencil-sketch.nada.safetensors")]
pub struct Restyle {
    /// Picture of any size
    picture: PathBuf,
    /// Words to adapt to first, with the pack's recipe and what --set changes in it
    #[arg(long, value_name = "WORDS", required_unless_present = "domains")]
    to: Option<String>,
    /// The picture's latent from `nada invert`, which saves finding it again
    #[arg(long, value_name = "FILE")]
    latent: Option<PathBuf>,
    /// Keep the latent that was found
    #[arg(long, value_name = "FILE", conflicts_with = "latent")]
    save_latent: Option<PathBuf>,
    /// The restyled picture, .png or .jpg [default: ./PICTURE-DOMAIN.png]
    #[arg(long, short, value_name = "PICTURE")]
    output: Option<PathBuf>,
    /// Contact sheet: the picture, its inversion, the result
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    #[command(flatten)]
    face: FaceArgs,
    #[command(flatten)]
    put_back: PasteArgs,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    domains: DomainArgs,
    #[command(flatten)]
    noise: NoiseArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    clip: ClipArgs,
    #[command(flatten)]
    encoder: EncoderArgs,
    #[command(flatten)]
    templates: TemplateArgs,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    settings: InvertSettings,
}

/// Where a domain goes that is learned on the way: to its name, or elsewhere where learning did not come to its end.
struct Learned {
    domain: Output,
    halves: Output,
}

impl Restyle {
    pub fn run(mut self, ui: &mut Ui) -> Result<()> {
        let begin = Instant::now();
        self.to = self.to.map(|words| tidy(&words));
        if !self.templates.template.is_empty() && self.to.is_none() {
            return Err(Error::argument("--template", "goes with --to; a domain was made with templates of its own"));
        }
        if self.face.face == Some(Which::All) {
            let one = [("--crop", self.put_back.crop), ("--latent", self.latent.is_some()), ("--save-latent", self.save_latent.is_some())];
            if let Some((option, _)) = one.iter().find(|(_, given)| *given) {
                return Err(Error::argument(*option, "is for one face, and --face all asks for each; want --face largest, or a number"));
            }
        }
        let pack = self.model.pack(ui)?;
        let domains = self.domains.load(&ui.cancel)?;
        let mut outputs = Outputs::new(&self.force);
        outputs.reads(&self.picture);
        outputs.reads_all(&self.latent);
        outputs.reads_all(&self.encoder.encoder);
        let generator = self.model.generator.as_deref();
        Reads { pack: pack.as_ref(), generator, clips: Some(&self.clip), domains: Some(&self.domains) }.tell(&mut outputs)?;
        let inversion = self.settings.over(invert_recipe(pack.as_ref())?)?;
        self.set.over(recipe(pack.as_ref())?)?;
        let kept = self.to.as_deref().map(domain_file).filter(|file| file.exists());
        outputs.reads_all(&kept);
        let mut learned = match &self.to {
            Some(words) if kept.is_none() => {
                let base = PathBuf::from(file_name(words));
                Some(Learned { domain: outputs.made_up(&base, Domain::ENDING)?, halves: outputs.made_up(&stopped(&base), Domain::ENDING)? })
            }
            _ => None,
        };
        let stem = self.picture.with_extension("").file_name().map(PathBuf::from).unwrap_or_default();
        let mut output = match &self.output {
            Some(path) => outputs.named("--output", path, Kind::Picture)?,
            None => {
                let words = self.to.as_deref().or_else(|| Some(&domains.last()?.0.description.target)).unwrap_or_default();
                let mut base = stem.clone().into_os_string();
                base.push(format!("-{}", file_name(words)));
                outputs.made_up(Path::new(&base), ".png")?
            }
        };
        let mut sheet = self.sheet.as_ref().map(|path| outputs.named("--sheet", path, Kind::Picture)).transpose()?;
        let mut save_latent = self.save_latent.as_ref().map(|path| outputs.named("--save-latent", path, Kind::Latent)).transpose()?;
        if let Some(path) = &self.save_latent {
            holds_noise("--save-latent", path, &inversion)?;
        }
        // Where the result goes there is room for what its search has reached.
        let mut reached_latent = match (&save_latent, &self.latent) {
            (None, None) => Some(outputs.made_up(&output.path.with_file_name(stopped(&stem)), LATENT)?),
            _ => None,
        };

        if let (Some(words), Some(_)) = (&self.to, &learned) {
            let templates = self.templates.of(&self.clip, pack.as_ref())?;
            self.clip.check_words(pack.as_ref(), &[("source", &source_words(pack.as_ref())), ("--to", words)], &templates, ui)?;
        }
        // What is no picture is told before the generator is read.
        Picture::size_of_file(&self.picture)?;
        let looked = match self.face.which(pack.as_ref()) {
            Some(which) => Some(self.face.look(which, &self.picture, pack.as_ref(), ui)?),
            None => None,
        };
        let generator = self.model.generator(pack.as_ref(), &ui.cancel)?;
        let side = generator.config().side("restyling")?;
        // Before words are adapted to, too.
        let encoder = match self.latent {
            Some(_) => None,
            None => self.encoder.load(&self.model, pack.as_ref(), &inversion, &ui.cancel)?,
        };
        let (squares, mut photo): (Vec<Picture>, _) = match looked {
            Some(looked) => {
                let (photo, parts) = looked.squares(side, &ui.cancel)?;
                let (squares, parts): (_, Vec<Part>) = parts.into_iter().unzip();
                (squares, Some((photo, parts)))
            }
            None => (vec![middle(&self.picture, side, encoder.is_some(), pack.as_ref(), ui)?], None),
        };
        squares.iter().try_for_each(Picture::check_visible)?;
        let mut domains = self.domains.of(&generator, domains)?;
        if let Some(words) = &self.to {
            let domain = match (&kept, &mut learned) {
                (None, Some(learned)) => self.learn(words, &generator, pack.as_ref(), learned, ui)?,
                _ => self.kept(words, &generator, ui)?,
            };
            domains.push((domain, 1.0));
        }
        let with_strengths: Vec<(&Domain, f32)> = domains.iter().map(|(d, s)| (d, *s)).collect();
        let mut drawing = self.noise.drawing(1.0);
        if self.noise.noise.is_none() {
            // A latent is searched without noise (or brings its own maps), so that is how it shows its picture.
            drawing.noise = NoiseKind::None;
        }
        Need::drawing(generator.config(), 1, &with_strengths).check()?;
        let clips = if inversion.clip_weight > 0.0 && self.latent.is_none() { self.clip.load(pack.as_ref(), ui)? } else { Vec::new() };
        let clip = clips.first().map(|c| c.clip.as_ref());
        let (mut rows, mut alone, mut psnrs) = (Vec::new(), None, Vec::new());
        for (i, square) in squares.iter().enumerate() {
            let (restyled, latent, psnr) = match &self.latent {
                Some(file) => {
                    let latent = open_latent(file, None, &ui.cancel)?;
                    (drawing.picture(&generator.with_domains(&with_strengths)?, &latent, &ui.cancel)?.with_alpha_of(square)?, latent, None)
                }
                None => {
                    if inversion.optimises(encoder.is_some()) {
                        Need::inverting(generator.config(), &inversion, clip.map(Clip::config)).check()?;
                    }
                    let bar = ui.bar("inverting", inversion.steps);
                    let (inversion, encoder) = (&inversion, encoder.as_ref());
                    let restyle = pipeline::Restyle { generator: &generator, domains: &with_strengths, inversion, clip, encoder, drawing };
                    let mut reached = None;
                    let done = restyle.run_keeping(square, &ui.cancel, &mut on_bar(&bar), &mut reached);
                    bar.abandon();
                    if let (Some(found), Some(kept)) = (reached, save_latent.as_mut().or(reached_latent.as_mut())) {
                        kept.save(ui, |to| found.latent.save(to))?;
                        stopped_after_step(found.steps, &format!("the best latent so far ({:.1} dB)", found.psnr), &kept.path, ui);
                    }
                    let Restyled { picture, inversion } = done?;
                    (picture, inversion.latent, Some(inversion.psnr))
                }
            };
            psnrs.extend(psnr);
            if let Some(file) = &mut save_latent {
                file.save(ui, |to| latent.save(to))?;
            }
            let put_back = photo.as_mut().filter(|_| !self.put_back.crop);
            let difference = put_back.is_some() && self.put_back.paste == Way::Difference;
            let inverted = match sheet.is_some() || difference {
                true => Some(drawing.picture(&generator, &latent, &Cancel::new())?),
                false => None,
            };
            if let (Some(inverted), true) = (&inverted, sheet.is_some()) {
                rows.extend([square.square(side)?, inverted.clone(), restyled.clone()]);
            }
            match put_back {
                Some((photo, parts)) => *photo = parts[i].put_back(photo, &restyled, inverted.as_ref().filter(|_| difference))?,
                None => alone = Some(restyled),
            }
        }
        let parts = photo.as_ref().map(|(_, parts)| parts.iter().map(Part::described).collect::<Vec<_>>()).unwrap_or_default();
        let result = match (alone, photo) {
            (Some(square), _) => square,
            (None, Some((photo, _))) => photo,
            (None, None) => return Err(Error::Internal("nothing was restyled".into())),
        };
        if !result.is_opaque() && matches!(Encoding::of(&output.path), Ok(Encoding::Jpeg)) {
            ui.warn(format!(
                "{} is a JPEG, which has no transparency: white stands for it; a name that ends in .png keeps it",
                name(&output.path)
            ));
        }
        output.save(ui, |to| result.save(to))?;
        if let Some(sheet) = &mut sheet {
            let picture = Picture::contact_sheet(&rows, 3)?;
            sheet.save(ui, |to| picture.save(to))?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        let psnr = psnrs.iter().copied().reduce(f32::min);
        let quality = psnr.map(|p| format!("; inverted at {p:.1} dB")).unwrap_or_default();
        let mut text = format!("restyled picture: {} ({seconds:.1} s{quality})", name(&output.path));
        if let Some(sheet) = &sheet {
            text += &format!("\nthe picture, its inversion, the result: {}", name(&sheet.path));
        }
        let domain = learned.map(|l| l.domain.path).or(kept);
        if let Some(domain) = &domain {
            text += &format!("\ndomain, from which the next picture takes it: {}", name(domain));
        }
        let latent = save_latent.map(|l| l.path).or(self.latent);
        ui.finish(
            &text,
            json!({"picture": name(&self.picture), "output": name(&output.path), "sheet": sheet.map(|s| name(s.path)),
                   "latent": latent.map(name), "domain": domain.map(name), "psnr": plain(&psnr)?, "faces": parts,
                   "width": result.width, "height": result.height, "seconds": seconds}),
        )
    }

    /// The domain of words that is kept in the current folder, where it fits.
    fn kept(&self, words: &str, generator: &Generator, ui: &Ui) -> Result<Domain> {
        let path = domain_file(words);
        if !self.templates.template.is_empty() {
            let message = "is there already, and does not say which templates it was made with; move it away, or name it with --domain";
            return Err(Error::Mismatch(format!("{} {message}", name(&path))));
        }
        if !self.set.set.is_empty() {
            let message = "is there already, made with settings of its own; move it away, or name it with --domain";
            return Err(Error::Mismatch(format!("{} {message}", name(&path))));
        }
        let domain = Domain::open_unless(&path, &ui.cancel)?;
        if domain.description.target == words && domain.description.fits(generator)? {
            return Ok(domain);
        }
        let message = format!("{} is of other words or of another generator; move it away, or name it with --domain", name(&path));
        Err(Error::Mismatch(message))
    }

    /// A new domain of words, written to `learned`, or under another name where it was stopped.
    fn learn(
        &self,
        words: &str,
        generator: &Arc<Generator>,
        pack: Option<&ModelPack>,
        learned: &mut Learned,
        ui: &mut Ui,
    ) -> Result<Domain> {
        let source = source_words(pack);
        let templates = self.templates.of(&self.clip, pack)?;
        let clips = self.clip.load(pack, ui)?;
        let (source, target) = (Concept::Text(source), Concept::Text(words.to_string()));
        let settings = self.set.over(recipe(pack)?)?;
        let made = train(Job { generator, clips: &clips, source, target, templates: &templates, settings }, None, None, ui)?;
        if let Err(e) = made.ended {
            learned.halves.save(ui, |to| made.domain.save(to))?;
            stopped_after_step(made.steps, "what was reached", &learned.halves.path, ui);
            return Err(e);
        }
        learned.domain.save(ui, |to| made.domain.save(to))?;
        Ok(made.domain)
    }
}

fn domain_file(words: &str) -> PathBuf {
    PathBuf::from(file_name(words) + Domain::ENDING)
}
