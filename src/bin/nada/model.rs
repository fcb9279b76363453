//! `nada model`: makes, shows, checks and removes model packs.

use crate::models::ClipArgs;
use crate::ui::{name, Ui};
use clap::{Args, Subcommand};
use nada::face::Framing;
use nada::nn::clip::Reader;
use nada::pack::{leads_nowhere, remove, user_folder, ModelPack, NewPack, STARTER};
use nada::{Error, Result};
use serde_json::{json, Value};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Make, list, check and remove model packs
#[derive(Args)]
#[command(after_help = "Examples:
  nada model add ffhq --generator stylegan2-ffhq.pt --clip ViT-B-32.pt --clip ViT-B-16.pt
  nada model check ffhq
  nada adapt \"a pencil sketch\" --model ffhq")]
pub struct ModelCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Add(Add),
    List(List),
    Info(Info),
    Check(Check),
    Remove(Remove),
}

impl ModelCommand {
    /// Whether it looks for a request to stop.
    pub fn can_be_cancelled(&self) -> bool {
        matches!(self.command, Command::Add(_) | Command::Check(_))
    }

    pub fn run(self, ui: &mut Ui) -> Result<()> {
        match self.command {
            Command::Add(c) => c.run(ui),
            Command::List(c) => c.run(ui),
            Command::Info(c) => c.run(ui),
            Command::Check(c) => c.run(ui),
            Command::Remove(c) => c.run(ui),
        }
    }
}

#[derive(Args)]
struct Folder {
    /// Folder of packs [default: $XDG_DATA_HOME/nada/models, by default ~/.local/share/nada/models]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Folder {
    fn path(&self) -> Result<PathBuf> {
        let none = || Error::argument("--folder", "neither XDG_DATA_HOME nor HOME is set; name the folder of packs");
        self.folder.clone().or_else(user_folder).ok_or_else(none)
    }
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum Align {
    /// In no way that is known, or they show no faces
    #[default]
    None,
    /// As in FFHQ
    Ffhq,
}

/// Make a model pack from checkpoints: a folder with everything converted to safetensors
///
/// The files are copied, so they may be deleted afterwards. Domains that were made on the generator's file fit the pack as well, unless --half
/// rounds its numbers.
#[derive(Args)]
#[command(after_help = "Example:
  nada model add ffhq --generator stylegan2-ffhq.pt --clip ViT-B-32.pt --clip ViT-B-16.pt:0.5 --licence CC-BY-NC-4.0")]
struct Add {
    /// Name of the pack, for --model
    name: String,
    /// Generator: StyleGAN2 of rosinality's, NVIDIA's or BasicSR's code
    #[arg(long, value_name = "FILE")]
    generator: PathBuf,
    /// Class to draw, from 0, where the generator has classes; the pack keeps all
    #[arg(long, value_name = "N")]
    class: Option<usize>,
    /// How the generator's pictures of faces are framed
    #[arg(long, value_enum, default_value_t)]
    align: Align,
    #[command(flatten)]
    clip: ClipArgs,
    /// Encoder of pictures into latents, to be kept with the pack
    #[arg(long, value_name = "FILE")]
    encoder: Option<PathBuf>,
    /// Edit direction, to be kept with the pack; repeatable
    #[arg(long = "boundary", value_name = "FILE")]
    boundaries: Vec<PathBuf>,
    /// One line about it
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Licence of the weights, as an SPDX expression
    #[arg(long, value_name = "SPDX")]
    licence: Option<String>,
    /// f16 numbers: half the size. The generator is another one then: domains of the f32 one do not fit
    #[arg(long)]
    half: bool,
    #[command(flatten)]
    folder: Folder,
}

impl Add {
    fn run(self, ui: &mut Ui) -> Result<()> {
        let new = NewPack {
            name: self.name,
            description: self.description,
            generator: self.generator,
            class: self.class,
            align: match self.align {
                Align::None => Framing::None,
                Align::Ffhq => Framing::Ffhq,
            },
            clips: self.clip.files()?,
            encoder: self.encoder,
            boundaries: self.boundaries,
            licence: self.licence,
            half: self.half,
        };
        if new.clips.is_empty() {
            ui.warn("without --clip the pack can draw and restyle, but not adapt".into());
        }
        if new.licence.is_none() {
            ui.warn("no --licence given: the licences of the files hold, whatever they are".into());
        }
        for clip in &new.clips {
            let reader = Reader::open(&clip.path, clip.activation, &ui.cancel)?;
            reader.warnings().iter().for_each(|warning| ui.warn(warning.clone()));
        }
        let pack = new.make(&self.folder.path()?, &ui.cancel)?;
        if pack.load_generator_unless(&ui.cancel)?.has_all_classes() {
            ui.warn(
                "the generator has classes and no --class was given: the commands will need one, and plug-ins cannot draw with the pack"
                    .into(),
            );
        }
        let text = format!(
            "model pack '{}'{}: {}",
            pack.name,
            pack.resolution.map(|px| format!(" of {px} px")).unwrap_or_default(),
            pack.folder.display()
        );
        ui.finish(&text, about(&pack))
    }
}

/// List the model packs that are found
#[derive(Args)]
#[command(after_help = "Example:
  nada model list")]
struct List {
    #[command(flatten)]
    folder: Folder,
}

impl List {
    fn run(self, ui: &mut Ui) -> Result<()> {
        let packs = match &self.folder.folder {
            Some(folder) => {
                if let Some(what) = leads_nowhere(folder) {
                    ui.warn(format!("--folder names {}, which {what}", folder.display()));
                }
                ModelPack::list_in(std::slice::from_ref(folder))
            }
            None => ModelPack::list(),
        };
        let (mut text, mut values) = (String::new(), Vec::new());
        for pack in packs {
            match pack {
                Ok(pack) => {
                    let size = pack.resolution.map(|px| format!("{px} px, ")).unwrap_or_default();
                    text += &format!("{} ({size}{})", pack.name, pack.folder.display());
                    text += &if pack.description.is_empty() { "\n".into() } else { format!(": {}\n", pack.description) };
                    values.push(about(&pack));
                }
                Err(e) => {
                    text += &format!("broken: {e}\n");
                    values.push(json!({"error": e.to_string()}));
                }
            }
        }
        ui.answer(&text, json!({"packs": values}))
    }
}

#[derive(Args)]
struct Which {
    /// Name of a pack, or its folder
    name: String,
    #[command(flatten)]
    folder: Folder,
}

impl Which {
    fn open(&self) -> Result<ModelPack> {
        match &self.folder.folder {
            Some(folder) => ModelPack::find_in(&self.name, std::slice::from_ref(folder)),
            None => ModelPack::find(&self.name),
        }
    }
}

/// Say what a model pack is made of
#[derive(Args)]
#[command(after_help = "Example:
  nada model info starter")]
struct Info {
    #[command(flatten)]
    which: Which,
}

impl Info {
    fn run(self, ui: &mut Ui) -> Result<()> {
        let pack = self.which.open()?;
        pack.warnings.iter().for_each(|warning| ui.warn(warning.clone()));
        let mut text = format!("{}: {}\n", pack.name, if pack.description.is_empty() { "model pack" } else { &pack.description });
        let mut line = |name: &str, value: String| text += &format!("  {name}: {value}\n");
        line("folder", pack.folder.display().to_string());
        pack.resolution.iter().for_each(|px| line("resolution", format!("{px} px")));
        line("generator", in_pack(&pack, &pack.generator));
        pack.class.iter().for_each(|class| line("class", class.to_string()));
        match &pack.align {
            Framing::None => {}
            Framing::Ffhq => line("align", "ffhq".into()),
            Framing::Template(points) => line("align", format!("{points:?}")),
        }
        for clip in &pack.clips {
            let activation = clip.activation.map(|activation| format!(", activation {activation}")).unwrap_or_default();
            line("clip", format!("{}, weight {}{activation}", in_pack(&pack, &clip.path), clip.weight));
        }
        for (name, path) in [("encoder", &pack.encoder), ("held out", &pack.held_out), ("attribution", &pack.attribution)] {
            path.iter().for_each(|path| line(name, in_pack(&pack, path)));
        }
        pack.boundaries.iter().for_each(|path| line("boundary", in_pack(&pack, path)));
        for (name, value) in [("fingerprint", &pack.fingerprint), ("licence", &pack.licence), ("licence note", &pack.licence_note)] {
            value.iter().for_each(|value| line(name, value.clone()));
        }
        for s in &pack.sources {
            line("made from", format!("{} ({} bytes, sha256 {}): {}", s.file, s.bytes, s.sha256, s.path));
        }
        let known = pack.known_phrases();
        if !known.is_empty() {
            line("knows", known.join(", "));
        }
        ui.answer(&text, about(&pack))
    }
}

fn in_pack(pack: &ModelPack, path: &Path) -> String {
    path.strip_prefix(&pack.folder).unwrap_or(path).display().to_string()
}

fn align(pack: &ModelPack) -> Value {
    match &pack.align {
        Framing::None => json!("none"),
        Framing::Ffhq => json!("ffhq"),
        Framing::Template(points) => json!(points),
    }
}

fn about(pack: &ModelPack) -> Value {
    let relative = |path: &PathBuf| in_pack(pack, path);
    let clips: Vec<Value> =
        pack.clips.iter().map(|c| json!({"path": relative(&c.path), "weight": c.weight, "activation": c.activation})).collect();
    json!({
        "name": pack.name, "description": pack.description, "folder": name(&pack.folder), "resolution": pack.resolution,
        "generator": relative(&pack.generator), "class": pack.class, "align": align(pack), "clips": clips, "encoder": pack.encoder.as_ref().map(relative),
        "boundaries": pack.boundaries.iter().map(relative).collect::<Vec<_>>(), "fingerprint": pack.fingerprint,
        "licence": pack.licence, "licence_note": pack.licence_note, "sources": pack.sources,
    })
}

/// Load everything of a model pack, draw a picture and embed it
///
/// Exit status 1 where something is missing, has another shape or fingerprint, or is not finite.
#[derive(Args)]
#[command(after_help = "Example:
  nada model check starter")]
struct Check {
    #[command(flatten)]
    which: Which,
}

impl Check {
    fn run(self, ui: &mut Ui) -> Result<()> {
        let pack = self.which.open()?;
        pack.warnings.iter().for_each(|warning| ui.warn(warning.clone()));
        let findings = pack.check_unless(&ui.cancel)?;
        let (mut text, mut values, mut failed) = (String::new(), Vec::new(), Vec::new());
        for f in &findings {
            let (state, message) = match &f.outcome {
                Ok(message) => ("ok", message.clone()),
                Err(e) => {
                    failed.push(f.what.as_str());
                    ("FAILED", e.to_string())
                }
            };
            text += &format!("{state:6} {}: {message}\n", f.what);
            values.push(json!({"what": f.what, "ok": f.outcome.is_ok(), "message": message}));
        }
        if failed.is_empty() {
            return ui.answer(&text, json!({"name": pack.name, "findings": values}));
        }
        let wrong: Vec<String> = text.lines().filter(|line| line.starts_with("FAILED")).map(|line| line[7..].to_string()).collect();
        Err(Error::format(&pack.folder, wrong.join("; ")))
    }
}

/// Remove a model pack of yours
#[derive(Args)]
#[command(after_help = "Example:
  nada model remove ffhq --yes")]
struct Remove {
    /// Name of the pack's folder in the folder of packs
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    folder: Folder,
}

impl Remove {
    fn run(self, ui: &mut Ui) -> Result<()> {
        let folder = self.folder.path()?;
        if !self.yes && !self.name.is_empty() && self.name != STARTER {
            confirm(&folder.join(&self.name))?;
        }
        let removed = remove(&folder, &self.name)?;
        ui.finish(&format!("removed {}", removed.display()), json!({"removed": name(&removed)}))
    }
}

fn confirm(pack: &Path) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::argument("--yes", format!("nobody can be asked whether to remove {}; give --yes to do it", pack.display())));
    }
    eprint!("Remove {} and all files in it? [y/N] ", pack.display());
    let io = |e| Error::io("standard input", e);
    std::io::stderr().flush().map_err(io)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(io)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::Cancelled),
    }
}
