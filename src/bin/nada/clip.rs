//! `nada clip`: embeddings.

use crate::models::{by_name, ClipArgs, PackArgs, Reads, TemplateArgs};
use crate::outputs::{ForceArgs, Kind, Outputs};
use crate::picture::for_clip;
use crate::ui::{name, names, Ui};
use candle_core::Tensor;
use clap::Args;
use nada::adapt::{Templates, WeightedClip};
use nada::checkpoint::{save_safetensors, write_npy};
use nada::eval::embed_text;
use nada::files::Destination;
use nada::nn::clip::ClipResize;
use nada::picture::Picture;
use nada::{Error, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Embed texts and pictures with CLIP: normalised, one row each
///
/// Without --output the rows are printed, texts first, and the cosines of pictures to texts. A .safetensors file gets the tensors
/// NAME.texts and NAME.pictures of every CLIP; a .npy file the rows of one CLIP, texts first.
#[derive(Args)]
#[command(after_help = "Examples:
  nada clip --text \"a photo\" --text \"a pencil sketch\" --picture face.png
  nada clip --clip ViT-B-32.pt --text photo --output photo.npy")]
pub struct ClipCommand {
    /// A text, as it is but for characters that nobody sees at its ends; repeatable
    #[arg(long = "text", value_name = "WORDS", required_unless_present = "pictures")]
    texts: Vec<String>,
    /// A picture; repeatable
    #[arg(long = "picture", value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// Put each text into the prompt templates (those of --template, where some are given), and take the mean
    #[arg(long)]
    templates: bool,
    /// How pictures shrink to CLIP's size: antialias, aliased or area
    #[arg(long, value_name = "HOW", default_value = "antialias", value_parser = by_name::<ClipResize>)]
    clip_resize: ClipResize,
    /// Write the embeddings to a .safetensors or .npy file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    clip: ClipArgs,
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    model: PackArgs,
}

/// Embeddings of one CLIP.
struct Embedded {
    name: String,
    texts: Option<Tensor>,
    pictures: Option<Tensor>,
}

impl ClipCommand {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        let pack = self.model.pack(!self.clip.clips.is_empty(), ui)?;
        let mut outputs = Outputs::new(&self.force);
        outputs.reads_all(&self.pictures);
        Reads { pack: pack.as_ref(), clips: Some(&self.clip), ..Reads::default() }.tell(&mut outputs)?;
        let output = self.output.as_ref().map(|path| outputs.named("--output", path, Kind::Embeddings)).transpose()?;
        if let Some(output) = &output {
            let count = if self.clip.clips.is_empty() { pack.as_ref().map_or(0, |pack| pack.clips.len()) } else { self.clip.clips.len() };
            if count > 1 && is_npy(&output.path) {
                let message = format!("a .npy holds one CLIP's rows, but there are {count}; use .safetensors");
                return Err(Error::argument("--output", message));
            }
        }
        // Told now, not after the pictures before it.
        for file in &self.pictures {
            Picture::size_of_file(file)?;
        }
        let templates = match self.templates || !self.template.template.is_empty() {
            true => self.template.of(&self.clip, pack.as_ref())?,
            false => Templates(vec!["{}".to_string()]),
        };
        let texts: Vec<(&str, &str)> = self.texts.iter().map(|text| ("--text", text.as_str())).collect();
        self.clip.check_words(pack.as_ref(), &texts, &templates, ui)?;
        let clips = self.clip.load(pack.as_ref(), ui)?;
        // One text, one picture at a time by every CLIP, so that those before a stop are whole.
        let mut rows: Vec<[Vec<Tensor>; 2]> = vec![Default::default(); clips.len()];
        let (mut texts, mut pictures) = (0, 0);
        let mut embed = || -> Result<()> {
            for text in &self.texts {
                for (clip, rows) in clips.iter().zip(&mut rows) {
                    ui.cancel.check()?;
                    rows[0].push(embed_text(&clip.clip, text, &templates)?);
                }
                texts += 1;
            }
            for file in &self.pictures {
                ui.cancel.check()?;
                let picture = for_clip(file, ui)?.to_tensor()?;
                for (clip, rows) in clips.iter().zip(&mut rows) {
                    rows[1].push(clip.clip.embed_pictures(&picture, self.clip_resize, &ui.cancel)?);
                }
                pictures += 1;
            }
            Ok(())
        };
        let ended = embed();
        let join = |rows: &[Tensor]| if rows.is_empty() { Ok(None) } else { Tensor::cat(rows, 0).map(Some) };
        let embedded = |(clip, [of_texts, of_pictures]): (&WeightedClip, [Vec<Tensor>; 2])| {
            let (texts, pictures) = (join(&of_texts[..texts])?, join(&of_pictures[..pictures])?);
            Ok(Embedded { name: clip.clip.name.clone(), texts, pictures })
        };
        let all = clips.iter().zip(rows).map(embedded).collect::<Result<Vec<_>>>()?;
        if ended.is_err() {
            let count = self.texts.len() + self.pictures.len();
            ui.warn(format!("stopped after {} of {count} texts and pictures; what was asked for is written of those", texts + pictures));
        }
        if texts + pictures == 0 {
            ended?;
            return Ok(());
        }
        match output {
            Some(mut output) => {
                output.save(ui, |to| write(to, &all))?;
                ended?;
                ui.finish(&name(&output.path), json!({"output": name(&output.path)}))
            }
            None => {
                self.print(&all, texts, pictures, ui)?;
                ended
            }
        }
    }

    /// With the first so many texts and pictures.
    fn print(&self, all: &[Embedded], first_texts: usize, first_pictures: usize, ui: &Ui) -> Result<()> {
        let (mut text, mut values) = (String::new(), Vec::new());
        for e in all {
            let rows = |t: &Option<Tensor>| Ok::<_, Error>(t.as_ref().map(|t| t.to_vec2::<f32>()).transpose()?.unwrap_or_default());
            let (texts, pictures) = (rows(&e.texts)?, rows(&e.pictures)?);
            let names =
                self.texts[..first_texts].iter().map(|t| format!("\"{t}\"")).chain(self.pictures.iter().map(|p| p.display().to_string()));
            text += &format!("{}:\n", e.name);
            for (name, row) in names.zip(texts.iter().chain(&pictures)) {
                text += &format!("{name}: {}\n", row.iter().map(|v| format!("{v:.6}")).collect::<Vec<_>>().join(" "));
            }
            let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let cosines: Vec<Vec<f32>> = pictures.iter().map(|p| texts.iter().map(|t| cosine(p, t)).collect()).collect();
            for (picture, row) in self.pictures.iter().zip(&cosines) {
                for (words, c) in self.texts.iter().zip(row) {
                    text += &format!("cosine of {} to \"{words}\": {c:.4}\n", picture.display());
                }
            }
            values.push(json!({"clip": e.name, "texts": texts, "pictures": pictures, "cosines": cosines}));
        }
        ui.answer(
            &text,
            json!({"texts": self.texts[..first_texts], "pictures": names(&self.pictures[..first_pictures]), "embeddings": values}),
        )
    }
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy"))
}

fn write(to: Destination, all: &[Embedded]) -> Result<()> {
    if is_npy(to.path()) {
        // One CLIP alone: it was asked before the work.
        let rows: Vec<&Tensor> = all.iter().flat_map(|e| [&e.texts, &e.pictures]).flatten().collect();
        return write_npy(to, &Tensor::cat(&rows, 0)?);
    }
    let mut tensors = BTreeMap::new();
    for e in all {
        for (what, rows) in [("texts", &e.texts), ("pictures", &e.pictures)] {
            if let Some(rows) = rows {
                tensors.insert(format!("{}.{what}", e.name), rows.clone());
            }
        }
    }
    save_safetensors(to, &tensors, &BTreeMap::new())
}
