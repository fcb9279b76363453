//! `nada invert`: the latent of a picture.

use crate::adapt::{stopped, stopped_after_step};
use crate::faces::{middle, with_face, FaceArgs, Which};
use crate::models::{invert_recipe, pictures, ClipArgs, EncoderArgs, ModelArgs, Reads};
use crate::outputs::{ForceArgs, Kind, Outputs};
use crate::picture::whole;
use crate::settings::InvertSettings;
use crate::ui::{name, on_bar, plain, Ui};
use clap::Args;
use nada::invert::{self, Inversion, Tools};
use nada::memory::Need;
use nada::nn::clip::Clip;
use nada::nn::encoders::{Encoder, Input};
use nada::nn::generator::{Generator, Noise};
use nada::pack::ModelPack;
use nada::picture::Picture;
use nada::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How the names of latents end.
pub const LATENT: &str = ".latent.safetensors";

/// Find the latent that draws a picture
///
/// The latent goes to PICTURE.latent.safetensors beside the picture, or to PICTURE-2.latent.safetensors where that is taken; render and restyle
/// take it from there. Of a photo (with --face, or a model pack that says how its pictures are framed) it is the latent of a face, found and cut
/// out upright; with --face all of each, in PICTURE-face1.latent.safetensors and so on. Ctrl-C keeps the best latent so
/// far, as PICTURE-stopped.latent.safetensors where no name was given. With an encoder (the pack's, or --encoder) one pass gives it, or ReStyle's
/// rounds; --method both searches on from there.
#[derive(Args)]
#[command(after_help = "Examples:
  nada invert face.png --sheet face-and-inversion.png
  nada invert face.png --encoder restyle_e4e_ffhq_encode.pt --method both
  nada invert --labels parts.png --encoder psp_celebs_seg_to_face.pt")]
pub struct Invert {
    /// Pictures of any size
    #[arg(required_unless_present_any = ["labels", "sketch"], conflicts_with_all = ["labels", "sketch"], value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// File of the latent (.safetensors or .npy), for one picture
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Contact sheet: each picture, and what its latent draws
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    /// Instead of a picture: the parts of a face as grey values 0, 1, 2, ... (a pSp encoder of labels)
    #[arg(long, value_name = "PICTURE", conflicts_with = "sketch")]
    labels: Option<PathBuf>,
    /// Instead of a picture: a drawing (a pSp encoder of sketches)
    #[arg(long, value_name = "PICTURE")]
    sketch: Option<PathBuf>,
    #[command(flatten)]
    face: FaceArgs,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    clip: ClipArgs,
    #[command(flatten)]
    encoder: EncoderArgs,
    #[command(flatten)]
    settings: InvertSettings,
}

impl Invert {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        if self.output.is_some() && self.pictures.len() > 1 {
            return Err(Error::argument("--output", format!("names one file for {} pictures; leave it out", self.pictures.len())));
        }
        let pack = self.model.pack(ui)?;
        let settings = self.settings.over(invert_recipe(pack.as_ref())?)?;
        let mut outputs = Outputs::new(&self.force);
        outputs.reads_all(self.pictures.iter().chain(&self.labels).chain(&self.sketch).chain(&self.encoder.encoder));
        let generator = self.model.generator.as_deref();
        Reads { pack: pack.as_ref(), generator, clips: Some(&self.clip), domains: None }.tell(&mut outputs)?;
        if let Some(path) = &self.output {
            holds_noise("--output", path, &settings)?;
        }
        if let Some(drawing) = self.labels.as_ref().or(self.sketch.as_ref()) {
            return self.drawn(drawing, pack.as_ref(), &mut outputs, ui);
        }
        // What is no picture, or has no face, is told now, not after the search of those before it.
        let which = self.face.which(pack.as_ref());
        let mut targets: Vec<(&PathBuf, Option<Which>)> = Vec::new();
        for file in &self.pictures {
            Picture::size_of_file(file)?;
            match which {
                Some(which) => {
                    let looked = self.face.look(which, file, pack.as_ref(), ui)?;
                    targets.extend(looked.numbers().map(|number| (file, Some(number.map_or(Which::None, Which::Number)))));
                }
                None => targets.push((file, None)),
            }
        }
        if self.output.is_some() && targets.len() > 1 {
            return Err(Error::argument("--output", format!("names one file for {} faces; leave it out", targets.len())));
        }
        // Each with where it goes when it is stopped: the name alone is for what was searched to the end.
        let latent = |(file, part): &(&PathBuf, Option<Which>)| match &self.output {
            Some(path) => Ok((outputs.named("--output", path, Kind::Latent)?, None)),
            None => {
                let base = match part {
                    Some(Which::Number(number)) if which == Some(Which::All) => with_face(file, *number),
                    _ => file.with_extension(""),
                };
                Ok((outputs.made_up(&base, LATENT)?, Some(outputs.made_up(&stopped(&base), LATENT)?)))
            }
        };
        let latents = targets.iter().map(latent).collect::<Result<Vec<_>>>()?;
        let mut sheet = self.sheet.as_ref().map(|path| outputs.named("--sheet", path, Kind::Picture)).transpose()?;
        let generator = self.model.generator(pack.as_ref(), &ui.cancel)?;
        let side = generator.config().side("inverting")?;
        let encoder = self.encoder.load(&self.model, pack.as_ref(), &settings, &ui.cancel)?;
        let clips = if settings.clip_weight > 0.0 { self.clip.load(pack.as_ref(), ui)? } else { Vec::new() };
        let clip = clips.first().map(|c| c.clip.as_ref());
        let (mut text, mut values, mut rows) = (String::new(), Vec::new(), Vec::new());
        let mut ended = Ok(());
        for ((file, part), (mut output, halves)) in targets.into_iter().zip(latents) {
            let begin = Instant::now();
            let target = match self.target(file, part, side, encoder.is_some(), pack.as_ref(), ui) {
                Ok(target) => target,
                Err(e) => {
                    ended = Err(e);
                    break;
                }
            };
            let mut reached = None;
            let tools = Tools { encoder: encoder.as_ref(), clip };
            let found = match run(&generator, &target, tools, &settings, &mut reached, ui) {
                Ok(found) => found,
                Err(e) => {
                    ended = Err(e);
                    let Some(found) = reached else { break };
                    output = halves.unwrap_or(output);
                    found
                }
            };
            output.save(ui, |to| found.latent.save(to))?;
            if ended.is_err() {
                stopped_after_step(found.steps, &format!("the best latent so far ({:.1} dB)", found.psnr), &output.path, ui);
            }
            rows.push(target.square(side)?);
            rows.extend(pictures(&generator.render(&found.latent, 1.0, Noise::Const)?)?);
            let seconds = begin.elapsed().as_secs_f64();
            let (from, to) = (name(file), name(&output.path));
            text += &format!("{from} -> {to}: {:.1} dB in {} steps, {seconds:.1} s\n", found.psnr, found.steps);
            values.push(json!({
                "picture": from, "latent": to, "psnr": plain(&found.psnr)?, "loss": plain(&found.loss)?, "steps": found.steps, "seconds": seconds
            }));
            if ended.is_err() {
                break;
            }
        }
        if let Some(sheet) = sheet.as_mut().filter(|_| !rows.is_empty()) {
            let picture = Picture::contact_sheet(&rows, 2)?;
            sheet.save(ui, |to| picture.save(to))?;
        }
        ended?;
        ui.finish(&text, json!({"inversions": values, "settings": plain(&settings)?, "sheet": sheet.map(|s| name(s.path))}))
    }
}

impl Invert {
    /// The middle square, or that of a face.
    fn target(
        &self,
        file: &Path,
        part: Option<Which>,
        side: usize,
        encoder: bool,
        pack: Option<&ModelPack>,
        ui: &mut Ui,
    ) -> Result<Picture> {
        let Some(which) = part else { return middle(file, side, encoder, pack, ui) };
        let (_, squares) = self.face.look(which, file, pack, ui)?.squares(side, &ui.cancel)?;
        squares.into_iter().next().map(|(square, _)| square).ok_or_else(|| Error::Internal("a photo without a square".into()))
    }

    /// The latent of labels or of a sketch, which no picture is compared with.
    fn drawn(&self, drawing: &Path, pack: Option<&ModelPack>, outputs: &mut Outputs, ui: &mut Ui) -> Result<()> {
        let begin = Instant::now();
        let mut output = match &self.output {
            Some(path) => outputs.named("--output", path, Kind::Latent)?,
            None => outputs.made_up(&drawing.with_extension(""), LATENT)?,
        };
        let mut sheet = self.sheet.as_ref().map(|path| outputs.named("--sheet", path, Kind::Picture)).transpose()?;
        let (option, labels) = if self.labels.is_some() { ("--labels", true) } else { ("--sketch", false) };
        let path = self.encoder.path(&self.model, pack).ok_or_else(|| {
            Error::argument(
                option,
                "needs an encoder that was trained on such drawings: --encoder FILE, or a pack that has one".to_string(),
            )
        })?;
        let picture = whole(drawing, ui)?;
        let encoder = Encoder::open_on(path, &nada::device::preferred()?.device, &ui.cancel)?;
        if labels != matches!(encoder.input(), Input::Labels(_)) || (!labels && encoder.input() != Input::Sketch) {
            return Err(Error::argument(option, format!("the encoder {} takes {}", name(path), encoder.input().describe())));
        }
        let generator = self.model.generator(pack, &ui.cancel)?;
        let latent = invert::encode_drawing(&generator, &encoder, &picture, &ui.cancel)?;
        output.save(ui, |to| latent.save(to))?;
        if let Some(sheet) = &mut sheet {
            let side = generator.config().side("a sheet")?;
            let drawn = pictures(&generator.render(&latent, 1.0, Noise::Const)?)?;
            let row: Vec<Picture> = std::iter::once(picture.resized(side, side)?).chain(drawn).collect();
            let picture = Picture::contact_sheet(&row, 2)?;
            sheet.save(ui, |to| picture.save(to))?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        let (from, to) = (name(drawing), name(&output.path));
        let inversion = json!({"picture": from, "latent": to, "seconds": seconds});
        let text = format!("{from} -> {to}: {seconds:.1} s\n");
        ui.finish(&text, json!({"inversions": [inversion], "sheet": sheet.map(|s| name(s.path))}))
    }
}

/// Refuses a name whose format has no place for the noise maps that are searched.
pub fn holds_noise(option: &str, path: &Path, settings: &invert::Settings) -> Result<()> {
    match settings.optimise_noise && path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy")) {
        true => Err(Error::argument(option, format!("{}: noise maps are searched, which .npy cannot hold; want .safetensors", name(path)))),
        false => Ok(()),
    }
}

/// Inverts with a progress bar. Where it does not come to its end, `reached` gets the best so far.
fn run(
    generator: &Generator,
    target: &Picture,
    tools: Tools,
    settings: &invert::Settings,
    reached: &mut Option<Inversion>,
    ui: &Ui,
) -> Result<Inversion> {
    if settings.optimises(tools.encoder.is_some()) {
        Need::inverting(generator.config(), settings, tools.clip.map(Clip::config)).check()?;
    }
    let bar = ui.bar("inverting", settings.steps);
    let found = invert::find(generator, target, tools, settings, &ui.cancel, &mut on_bar(&bar), reached);
    bar.abandon();
    found
}
