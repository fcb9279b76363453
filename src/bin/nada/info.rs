//! `nada info`: what a file is, or what is installed.

use crate::ui::{name, names, plain, Ui};
use clap::Args;
use nada::adapt::{Domain, SavedState};
use nada::checkpoint::{self, Checkpoint};
use nada::device;
use nada::nn::clip::Clip;
use nada::nn::encoders::EncoderFile;
use nada::nn::generator::{self, Generator, Latent, Layer, Space};
use nada::pack::{pack_folder, search_folders, ModelPack};
use nada::picture::{is_picture, FileInfo, Picture};
use nada::Result;
use serde_json::{json, Map, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Say what a file is: model pack, generator, CLIP, encoder, domain, latents or picture
///
/// Without files: the version, and the model packs that are found, with the words they know.
#[derive(Args)]
#[command(after_help = "Examples:
  nada info
  nada info stylegan2-ffhq.pt a-pencil-sketch.nada.safetensors face.png")]
pub struct Info {
    /// Files or folders
    files: Vec<PathBuf>,
}

impl Info {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        if self.files.is_empty() {
            return installed(ui);
        }
        let (mut text, mut values) = (String::new(), Vec::new());
        for file in &self.files {
            let mut about = describe(file, ui)?;
            text += &lines(&file.display().to_string(), &about);
            about.insert("file".into(), json!(name(file)));
            values.push(Value::Object(about));
        }
        ui.answer(&text, json!({"files": values}))
    }
}

type About = Map<String, Value>;

fn installed(ui: &Ui) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let folders: Vec<PathBuf> = search_folders().into_iter().filter(|f| f.is_dir()).collect();
    let choice = device::preferred()?;
    let device = if choice.device.is_cpu() { "cpu" } else { "cuda" };
    let mut text = format!(
        "nada {version}\ncomputes on: {device} ({})\nfolders of model packs: {}\n",
        choice.why,
        folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
    );
    let mut packs = Vec::new();
    for pack in ModelPack::list() {
        match pack {
            Ok(pack) => {
                let about = describe_pack(&pack)?;
                text += &lines(&format!("\n{}", pack.name), &about);
                packs.push(Value::Object(about));
            }
            Err(e) => {
                text += &format!("\nbroken model pack: {e}\n");
                packs.push(json!({"error": e.to_string()}));
            }
        }
    }
    ui.answer(&text, json!({"version": version, "device": device, "device_reason": choice.why, "folders": names(&folders), "packs": packs}))
}

/// A heading, and below it the properties, one a line.
fn lines(heading: &str, about: &About) -> String {
    let mut text = match about.get("kind") {
        Some(Value::String(kind)) => format!("{heading}: {kind}\n"),
        _ => format!("{heading}\n"),
    };
    let simple = |value: &Value| match value {
        Value::String(s) => s.clone(),
        Value::Null => "none".into(),
        other => other.to_string(),
    };
    for (key, value) in about.iter().filter(|(key, _)| *key != "kind") {
        let name = key.replace('_', " ");
        let value = match value {
            Value::Array(items) if items.iter().all(Value::is_string) => {
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            }
            // A table: a line for each.
            Value::Array(items) if items.iter().any(Value::is_object) => {
                let row = |item: &Value| {
                    let fields = item.as_object().into_iter().flatten();
                    fields.map(|(k, v)| format!("{} {}", k.replace('_', " "), simple(v))).collect::<Vec<_>>()
                };
                text += &format!("  {name}:\n");
                items.iter().for_each(|item| text += &format!("    {}\n", row(item).join(", ")));
                continue;
            }
            Value::Object(map) => {
                text += &lines(&format!("  {name}"), map).replace('\n', "\n  ");
                text.truncate(text.trim_end_matches(' ').len());
                continue;
            }
            other => simple(other),
        };
        text += &format!("  {name}: {value}\n");
    }
    text
}

fn object(value: Value) -> About {
    match value {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_string(), other)]),
    }
}

fn describe(path: &Path, ui: &mut Ui) -> Result<About> {
    let cancel = ui.cancel.clone();
    if let Some(folder) = pack_folder(path) {
        let pack = ModelPack::open(folder)?;
        pack.warnings.iter().for_each(|warning| ui.warn(warning.clone()));
        return describe_pack(&pack);
    }
    if path.is_dir() {
        return Clip::open_unless(path, &cancel).map(|clip| describe_clip(&clip, None, ui));
    }
    // What no picture can be is told by the readers below.
    if is_picture(path).unwrap_or(false) {
        let FileInfo { format, width, height, transparent, warnings } = Picture::look_at(path)?;
        warnings.into_iter().for_each(|w| ui.warn(w));
        return Ok(object(json!({"kind": "picture", "format": format, "width": width, "height": height, "transparent": transparent})));
    }
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy")) {
        let array = checkpoint::read_npy_unless(path, &cancel)?;
        return Ok(object(json!({"kind": "array", "shape": array.dims()})));
    }
    let file = checkpoint::open_unless(path, &cancel)?;
    let about = describe_tensors(&file, ui);
    // What was not read to its end is not described.
    cancel.check().and(about)
}

fn describe_tensors(file: &Checkpoint, ui: &mut Ui) -> Result<About> {
    if let Ok(state) = SavedState::from_checkpoint(file) {
        let d = state.description();
        let about = json!({"kind": "state of a run", "source": d.source, "target": d.target, "step": d.step, "steps": state.settings().steps, "clips": d.clips});
        return Ok(object(about));
    }
    let keys: Vec<&str> = file.keys().collect();
    let spaces = [Space::Z, Space::W, Space::WPlus];
    let latents: Vec<(Space, &str)> =
        spaces.into_iter().filter_map(|space| Some((space, *space.keys().iter().find(|key| file.contains(key))?))).collect();
    let only_latents = keys.iter().all(|k| latents.iter().any(|(_, key)| key == k) || k.starts_with("noise."));
    if latents.len() > 1 && only_latents {
        let shapes: Vec<Value> = latents.iter().map(|(space, k)| json!({"space": space.name(), "shape": file.shape(k)})).collect();
        return Ok(object(json!({"kind": "latents", "latents": shapes, "own_noise": keys.iter().any(|k| k.starts_with("noise."))})));
    }
    if let Some(found) = Latent::describe(file) {
        let shapes = [json!({"space": found.space.name(), "shape": found.shape})];
        return Ok(object(json!({"kind": "latents", "latents": shapes, "own_noise": found.own_noise})));
    }
    if let Ok(domain) = Domain::from_checkpoint(file) {
        let mut about = object(json!({"kind": "domain"}));
        about.extend(object(plain(&domain.description)?));
        about.insert("format".into(), json!(file.metadata.get("format")));
        about.extend(file.metadata.get("written_by").map(|by| ("written_by".to_string(), json!(by))));
        about.insert("numbers".into(), json!(domain.deltas.values().map(|t| t.elem_count()).sum::<usize>()));
        let types: BTreeSet<&str> = domain.deltas.values().map(|t| t.dtype().as_str()).collect();
        about.insert("number_types".into(), json!(types));
        return Ok(about);
    }
    // A domain that is broken, or of a later version, says why.
    if file.metadata.get("format").is_some_and(|format| format.starts_with("nada domain")) {
        return Domain::from_checkpoint(file).map(|_| About::new());
    }
    // An encoder's file has a generator in it, and is more than that.
    let encoder = EncoderFile::from_checkpoint(file);
    if let Ok(e) = &encoder {
        return describe_encoder(file, e);
    }
    let generator = Generator::from_checkpoint(file);
    if let Ok(g) = &generator {
        return describe_generator(file, g);
    }
    let clip = Clip::from_checkpoint(file);
    if let Ok(clip) = &clip {
        return Ok(describe_clip(clip, Some(file), ui));
    }
    let mut about = object(json!({"kind": "tensors", "format": format!("{:?}", file.format), "tensors": keys.len()}));
    let shown = keys.iter().take(20).map(|k| format!("{k} {:?}", file.shape(k).unwrap_or_default()));
    about.insert("first".into(), json!(shown.collect::<Vec<_>>()));
    for (name, error) in [("no_generator_because", generator.err()), ("no_clip_because", clip.err()), ("no_encoder_because", encoder.err())]
    {
        about.extend(error.map(|e| (name.to_string(), json!(e.to_string()))));
    }
    Ok(about)
}

fn describe_layer(layer: &Layer) -> Value {
    json!({
        "name": layer.name, "kind": layer.kind.name(), "index": layer.index, "row": layer.row, "width": layer.to.width,
        "height": layer.to.height, "inputs": layer.from.channels, "channels": layer.to.channels,
    })
}

fn describe_generator(file: &Checkpoint, g: &Generator) -> Result<About> {
    let c = g.config();
    let mut about = object(json!({
        "kind": "generator", "format": format!("{:?}", file.format), "family": c.family.name(), "size": c.size(), "width": c.width(),
        "height": c.height(), "colours": c.colours(), "z_dim": c.z_dim, "style_dim": c.style_dim, "mapping_layers": c.n_mlp,
        "w_plus_rows": c.n_latent(), "layers": g.layers().iter().map(describe_layer).collect::<Vec<_>>(),
        "parameters": g.weights().values().map(|t| t.elem_count()).sum::<usize>(), "fingerprint": g.fingerprint()?,
    }));
    let unusual = g.unusual();
    if !unusual.is_empty() {
        about.insert("unusual".into(), json!(unusual.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>()));
    }
    if c.c_dim > 0 {
        about.insert("classes".into(), json!(c.c_dim));
    }
    // It was found a moment ago.
    if let Ok(place) = generator::find(file) {
        about.insert("layout".into(), json!(place.naming.name()));
        about.insert("taken_from".into(), json!(shown(&place.prefix)));
        if !place.passed_over.is_empty() {
            about.insert("passed_over".into(), json!(place.passed_over.iter().map(|prefix| shown(prefix)).collect::<Vec<_>>()));
        }
    }
    Ok(about)
}

/// What stands before a network's keys, for people.
fn shown(prefix: &str) -> &str {
    match prefix.trim_end_matches('.') {
        "" => "the file itself",
        prefix => prefix,
    }
}

fn describe_encoder(file: &Checkpoint, e: &EncoderFile) -> Result<About> {
    let c = &e.config;
    let mut about = object(json!({
        "kind": "encoder", "format": format!("{:?}", file.format), "backbone": format!("{:?}", c.backbone), "blocks": c.blocks,
        "input_channels": c.input_channels, "styles": c.styles, "style_dim": c.style_dim, "feature_pyramid": c.pyramid,
        "taken_from": shown(&e.encoder.full("")), "encoder_tensors": e.tensors.len(), "latent_avg": e.latent_avg, "opts": e.opts, "other": e.other,
    }));
    let decoder = e.decoder.as_ref().map(|g| describe_generator(file, g)).transpose()?;
    about.insert("decoder".into(), decoder.map_or(Value::Null, Value::Object));
    Ok(about)
}

/// `file`: the one that it was found in, where it may stand under other keys.
fn describe_clip(clip: &Clip, file: Option<&Checkpoint>, ui: &mut Ui) -> About {
    clip.warnings().iter().for_each(|warning| ui.warn(warning.clone()));
    let activation = clip.activation().map_or("another for each tower".into(), |activation| activation.to_string());
    let mut about = object(json!({
        "kind": "clip", "name": clip.name, "resolution": clip.resolution(), "dimension": clip.dimension(), "activation": activation,
    }));
    about.extend(file.map(|file| ("taken_from".to_string(), json!(shown(&Clip::place(file).full(""))))));
    about
}

fn describe_pack(pack: &ModelPack) -> Result<About> {
    let clips: Vec<Value> =
        pack.clips.iter().map(|c| json!({"path": name(&c.path), "weight": c.weight, "activation": c.activation})).collect();
    Ok(object(json!({
        "kind": "model pack", "name": pack.name, "description": pack.description, "folder": name(&pack.folder), "resolution": pack.resolution,
        "generator": name(&pack.generator), "clips": clips, "licence": pack.licence, "attribution": pack.attribution.as_ref().map(name),
        "knows": pack.known_phrases(), "recipe": plain(&pack.settings()?)?, "invert": plain(&pack.invert_settings()?)?,
    })))
}
