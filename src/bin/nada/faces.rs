//! `nada faces`: the faces of photos; and which of them other commands take.

use crate::outputs::{ForceArgs, Outputs};
use crate::picture::{to_invert, whole};
use crate::ui::{name, Ui};
use clap::{Args, ValueEnum};
use nada::face::{align_unless, Detector, Face, Framing, Paste, Photo, Quad, FEATHER};
use nada::pack::ModelPack;
use nada::picture::frame::{Canvas, Frame, Hard};
use nada::picture::pixels::{self, Format, Layout, Transfer};
use nada::picture::Picture;
use nada::progress::Cancel;
use nada::{Error, Result};
use serde_json::{json, Value};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How many times as many pixels a square is sampled at: what generators of faces were trained on was made so.
const SAMPLED: usize = 4;

/// A face that is surer than this, in a picture that no generator of the pack's size drew, is taken for a photo's: of 400 heads that the starter
/// draws 10 are as sure, of the nine faces in the reference's photos all.
const SURE: f32 = 0.99;

/// List the faces of photos, and cut them out
///
/// Each with its score, box (left, top, right, bottom), points (eyes, nose, corners of the mouth) and the square that generators trained as on
/// FFHQ see of it; in pixels, counted from the middle of the top left one. The surest comes first; its number is for the --face of restyle and
/// invert.
#[derive(Args)]
#[command(after_help = "Example:
  nada faces group.jpg --crop squares --size 512")]
pub struct Faces {
    /// Photos
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// Write the faces, turned upright and cut out, to PICTURE-face1.png and so on of a folder
    #[arg(long, value_name = "FOLDER")]
    crop: Option<PathBuf>,
    /// Side of these squares in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 1024, requires = "crop", value_parser = clap::value_parser!(u16).range(16..=4096))]
    size: u16,
    #[command(flatten)]
    least: LeastArgs,
    #[command(flatten)]
    force: ForceArgs,
}

#[derive(Args)]
pub struct LeastArgs {
    /// Least width of a face in pixels, from 12 on [default: 20, or 1/25 of the photo's shorter side where that is more]
    #[arg(long, value_name = "PIXELS", help_heading = "Faces")]
    pub min_face: Option<f64>,
}

/// What `--face` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Which {
    Largest,
    All,
    None,
    /// From 1.
    Number(usize),
}

impl FromStr for Which {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Self, String> {
        match (s, s.parse()) {
            ("largest", _) => Ok(Which::Largest),
            ("all", _) => Ok(Which::All),
            ("none", _) => Ok(Which::None),
            (_, Ok(number @ 1..)) => Ok(Which::Number(number)),
            _ => Err("want largest, all, none or a number from 1 on, as `nada faces` lists them".into()),
        }
    }
}

#[derive(Args)]
pub struct FaceArgs {
    /// Face of the photo: largest, all, a number as `nada faces` lists them, or none for the middle square [default: largest where the pack says
    /// how its pictures are framed, else the middle square alone]
    #[arg(long, value_name = "WHICH", help_heading = "Faces")]
    pub face: Option<Which>,
    #[command(flatten)]
    pub least: LeastArgs,
}

#[derive(Args)]
pub struct PasteArgs {
    /// Write the square alone, of the generator's size, instead of the photo with the square put back
    #[arg(long, help_heading = "Faces")]
    pub crop: bool,
    /// How the square is put back
    #[arg(long, value_enum, default_value_t, help_heading = "Faces")]
    pub paste: Way,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, ValueEnum)]
pub enum Way {
    /// It covers the face, and fades in from its edges
    #[default]
    Feather,
    /// What the domain changed is added to the photo, which keeps its own detail
    Difference,
}

/// A square of a photo.
pub struct Part {
    /// From 1, as `nada faces` lists them; None for the middle square.
    pub number: Option<usize>,
    pub quad: Quad,
    hard: Hard,
}

/// A photo, and the squares of it that are restyled.
pub struct Looked {
    photo: Picture,
    found: Vec<(Option<usize>, Quad)>,
}

fn detector() -> Result<Detector> {
    Detector::shipped()
}

/// A face's number, what was found, and its square, for the JSON output.
pub fn described(number: usize, face: &Face) -> Result<Value> {
    let quad = face.quad()?;
    Ok(json!({
        "number": number, "score": face.score, "box": face.bounds, "points": face.points,
        "quad": quad.corners, "size": quad.size, "roll": quad.roll(),
    }))
}

impl Faces {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        let mut outputs = Outputs::new(&self.force);
        outputs.reads_all(&self.pictures);
        if let Some(folder) = &self.crop {
            outputs.folder("--crop", folder)?;
        }
        for file in &self.pictures {
            Picture::size_of_file(file)?;
        }
        let detector = detector()?;
        let (mut text, mut values, mut total) = (String::new(), Vec::new(), 0);
        for file in &self.pictures {
            let photo = Photo::of(&whole(file, ui)?)?;
            let faces = detector.faces(&photo, self.least.min_face, &ui.cancel)?;
            total += faces.len();
            text += &format!("{}: {}\n", name(file), counted(faces.len()));
            let mut listed = Vec::new();
            for (i, face) in faces.iter().enumerate() {
                let quad = face.quad()?;
                let [x1, y1, x2, y2] = face.bounds;
                let mut line = format!(
                    "  {}: score {:.4}, box {x1:.1} {y1:.1} {x2:.1} {y2:.1}, square of {:.1} pixels, leans by {:.1} degrees",
                    i + 1,
                    face.score,
                    quad.size,
                    quad.roll()
                );
                let mut value = described(i + 1, face)?;
                if let Some(folder) = &self.crop {
                    let base = folder.join(with_face(file, i + 1).file_name().unwrap_or_default());
                    let mut output = outputs.made_up(&base, ".png")?;
                    let size = usize::from(self.size);
                    let square = align_unless(&photo, &quad, size, SAMPLED * size, &ui.cancel)?.to_picture()?;
                    output.save(ui, |to| square.save(to))?;
                    line += &format!(": {}", name(&output.path));
                    value["square"] = json!(name(&output.path));
                }
                text += &format!("{line}\n");
                listed.push(value);
            }
            values.push(json!({"picture": name(file), "width": photo.width, "height": photo.height, "faces": listed}));
        }
        ui.answer(text.trim_end(), json!({"pictures": values, "faces": total}))
    }
}

fn counted(faces: usize) -> String {
    match faces {
        0 => "no face".into(),
        1 => "1 face".into(),
        n => format!("{n} faces"),
    }
}

/// FILE-face1, without the ending.
pub fn with_face(file: &Path, number: usize) -> PathBuf {
    let mut base = file.with_extension("").into_os_string();
    base.push(format!("-face{number}"));
    base.into()
}

impl FaceArgs {
    /// What is taken; None where no photo is meant: the middle square, as a picture of its own.
    pub fn which(&self, pack: Option<&ModelPack>) -> Option<Which> {
        let framed = pack.is_some_and(|pack| pack.align != Framing::None);
        self.face.or(framed.then_some(Which::Largest))
    }

    /// The squares of a photo: at least one.
    ///
    /// Errors: `NotFound` without a face, or without the one that was named.
    pub fn look(&self, which: Which, file: &Path, pack: Option<&ModelPack>, ui: &mut Ui) -> Result<Looked> {
        let photo = whole(file, ui)?;
        if which == Which::None {
            let quad = Quad::of_frame(&Frame::of_picture(photo.width, photo.height));
            return Ok(Looked { photo, found: vec![(None, quad)] });
        }
        let framing = match pack.map(|pack| (&pack.align, &pack.name)) {
            Some((Framing::None, name)) => {
                ui.warn(format!(
                    "the model pack '{name}' does not say how its pictures of faces are framed (align in its model.toml): faces are cut out as \
                     FFHQ's are, which is right for generators of photos only"
                ));
                &Framing::Ffhq
            }
            Some((framing, _)) => framing,
            None => &Framing::Ffhq,
        };
        let faces = detector()?.faces(&Photo::of(&photo)?, self.least.min_face, &ui.cancel)?;
        if faces.is_empty() {
            return Err(Error::NotFound {
                what: format!("a face in {}", name(file)),
                message:
                    "looked for upright and turned; --min-face N finds smaller ones (see --help), and --face none takes the middle square"
                        .into(),
            });
        }
        let mut numbered: Vec<(usize, &Face)> = faces.iter().enumerate().map(|(i, face)| (i + 1, face)).collect();
        match which {
            Which::Largest => {
                let largest = numbered.iter().copied().max_by(|(_, a), (_, b)| a.area().total_cmp(&b.area()));
                numbered = largest.into_iter().collect();
            }
            Which::Number(number) => {
                numbered.retain(|(i, _)| *i == number);
                if numbered.is_empty() {
                    let message = format!("{} found there; `nada faces {}` lists them", counted(faces.len()), name(file));
                    return Err(Error::NotFound { what: format!("face {number} of {}", name(file)), message });
                }
            }
            Which::All | Which::None => {}
        }
        let quad = |(number, face)| Ok((Some(number), framing.quad(face)?.map_or_else(|| face.quad(), Ok)?));
        Ok(Looked { found: numbered.into_iter().map(quad).collect::<Result<_>>()?, photo })
    }
}

impl Looked {
    /// The numbers of the faces; None is the middle square.
    pub fn numbers(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        self.found.iter().map(|(number, _)| *number)
    }

    /// The photo, and its squares with what a generator of `side` pixels is to draw there.
    pub fn squares(self, side: usize, cancel: &Cancel) -> Result<(Picture, Vec<(Picture, Part)>)> {
        let Self { photo, found } = self;
        let mut parts = Vec::new();
        let mut bytes = None;
        for (number, quad) in found {
            let (square, hard) = match number {
                Some(_) => {
                    let rgb = match bytes.take() {
                        Some(rgb) => rgb,
                        None => Photo::of(&photo)?,
                    };
                    let square = align_unless(&rgb, &quad, side, SAMPLED * side, cancel)?.to_picture()?;
                    bytes = Some(rgb);
                    (square, Hard::default())
                }
                None => {
                    let (w, h) = (photo.width, photo.height);
                    let hard = Hard { left: w <= h, right: w <= h, top: h <= w, bottom: h <= w };
                    (photo.square(side.min(w).min(h))?, hard)
                }
            };
            parts.push((square, Part { number, quad, hard }));
        }
        Ok((photo, parts))
    }
}

impl Part {
    /// Puts a drawn square back into its photo, which gets 8 bits a channel. With the `reconstruction` only the difference to it.
    pub fn put_back(&self, photo: &Picture, edit: &Picture, reconstruction: Option<&Picture>) -> Result<Picture> {
        let layout = Layout::packed(photo.width, photo.height, Format::Rgba8, Transfer::Srgb);
        let mut bytes = vec![0; layout.bytes()?];
        pixels::write(photo, &mut bytes, &layout)?;
        let canvas = Canvas::new(Cell::from_mut(&mut bytes[..]).as_slice_of_cells(), layout)?;
        Paste { edit, reconstruction, feather: FEATHER, hard: self.hard }.draw(canvas, &self.quad, canvas)?;
        pixels::read(&bytes, &layout)
    }

    pub fn described(&self) -> Value {
        json!({"number": self.number, "quad": self.quad.corners, "size": self.quad.size, "roll": self.quad.roll()})
    }
}

/// The middle square of a picture that is none of a photo, as ever; where it is one after all, a warning says what would have been right.
pub fn middle(file: &Path, side: usize, encoder: bool, pack: Option<&ModelPack>, ui: &mut Ui) -> Result<Picture> {
    let picture = to_invert(file, side, encoder, ui)?;
    let drawn = Picture::size_of_file(file)? == (side, side);
    if let Some(pack) = pack.filter(|pack| pack.align == Framing::None && !drawn) {
        let faces = detector()?.upright(&Photo::of(&picture.square(side)?)?, 20.0, &ui.cancel)?;
        if faces.iter().any(|face| face.score > SURE) {
            ui.warn(format!(
                "{} shows a face as photos do, and the model pack '{}' does not say how its pictures are framed (align in its model.toml): the \
                 middle square is taken as it is. --face largest cuts the face out and puts it back, for generators of photos",
                name(file),
                pack.name
            ));
        }
    }
    Ok(picture)
}
