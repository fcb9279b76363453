//! `nada clip`: embeddings.

use crate::models::{by_name, reads_pack, ClipArgs, PackArgs, TemplateArgs};
use crate::outputs::{ForceArgs, Kind, Outputs};
use crate::picture::for_clip;
use crate::sample::stopped_after;
use crate::ui::{name, names, Ui};
use candle_core::Tensor;
use clap::Args;
use nada::adapt::Templates;
use nada::checkpoint::{save_safetensors, write_npy};
use nada::eval::{embed_pictures, embed_text};
use nada::nn::clip::ClipResize;
use nada::output::Destination;
use nada::{Error, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

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
        let pack = self.model.pack(!self.clip.clips.is_empty())?;
        let mut outputs = Outputs::new(&self.force);
        outputs.reads_all(self.pictures.iter().cloned().chain(self.clip.files()?.into_iter().map(|clip| clip.path)));
        reads_pack(pack.as_ref(), &mut outputs);
        let output = self.output.as_ref().map(|path| outputs.named("--output", path, Kind::Embeddings)).transpose()?;
        // Told now, not after the pictures before it.
        for file in &self.pictures {
            std::fs::metadata(file).map_err(|e| Error::io(file, e))?;
        }
        let templates = match self.templates || !self.template.template.is_empty() {
            true => self.template.of(&self.clip, pack.as_ref())?,
            false => Templates(vec!["{}".to_string()]),
        };
        let texts: Vec<(&str, &str)> = self.texts.iter().map(|text| ("--text", text.as_str())).collect();
        self.clip.check_words(pack.as_ref(), &texts, &templates, ui)?;
        let clips = self.clip.load(pack.as_ref(), ui)?;
        let join = |rows: Vec<Tensor>| if rows.is_empty() { Ok(None) } else { Tensor::cat(&rows, 0).map(Some) };
        let mut all = Vec::new();
        for clip in &clips {
            ui.cancel.check()?;
            let texts = self.texts.iter().map(|t| embed_text(&clip.clip, t, &templates)).collect::<Result<Vec<_>>>()?;
            all.push(Embedded { name: clip.clip.name.clone(), texts: join(texts)?, pictures: None });
        }
        let mut rows: Vec<Vec<Tensor>> = vec![vec![]; clips.len()];
        let mut done = 0;
        for file in &self.pictures {
            if ui.cancel.is_cancelled() {
                break;
            }
            let picture = for_clip(file, ui)?.to_tensor()?;
            for (clip, rows) in clips.iter().zip(&mut rows) {
                rows.push(embed_pictures(&clip.clip, &picture, self.clip_resize)?);
            }
            done += 1;
        }
        for (embedded, rows) in all.iter_mut().zip(rows) {
            embedded.pictures = join(rows)?;
        }
        let ended = if done < self.pictures.len() { Err(Error::Cancelled) } else { Ok(()) };
        stopped_after(&ended, done, self.pictures.len(), ui);
        match output {
            Some(mut output) => {
                output.save(ui, |to| write(to, &all))?;
                ended?;
                ui.finish(&name(&output.path), json!({"output": name(&output.path)}))
            }
            None => {
                self.print(&all, done, ui)?;
                ended
            }
        }
    }

    /// With the first `done` pictures.
    fn print(&self, all: &[Embedded], done: usize, ui: &Ui) -> Result<()> {
        let (mut text, mut values) = (String::new(), Vec::new());
        for e in all {
            let rows = |t: &Option<Tensor>| Ok::<_, Error>(t.as_ref().map(|t| t.to_vec2::<f32>()).transpose()?.unwrap_or_default());
            let (texts, pictures) = (rows(&e.texts)?, rows(&e.pictures)?);
            let names = self.texts.iter().map(|t| format!("\"{t}\"")).chain(self.pictures.iter().map(|p| p.display().to_string()));
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
        ui.answer(&text, json!({"texts": self.texts, "pictures": names(&self.pictures[..done]), "embeddings": values}))
    }
}

fn write(to: Destination, all: &[Embedded]) -> Result<()> {
    match to.path().extension() {
        Some(ending) if ending.eq_ignore_ascii_case("npy") => {
            let [one] = all else {
                return Err(Error::argument(
                    "--output",
                    format!("a .npy holds one CLIP's rows, but there are {}; use .safetensors", all.len()),
                ));
            };
            let rows: Vec<&Tensor> = [&one.texts, &one.pictures].into_iter().flatten().collect();
            write_npy(to, &Tensor::cat(&rows, 0)?)
        }
        _ => {
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
    }
}
