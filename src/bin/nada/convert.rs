//! `nada convert`: a generator for other people's programs, and theirs for this one.

use crate::models::{adapted, by_name, generator_or_pack, DomainArgs};
use crate::ui::Ui;
use clap::Args;
use nada::nn::stylegan2::Layout;
use nada::{Error, Result};
use serde_json::json;
use std::path::PathBuf;

/// Write a generator in another program's format, with domains built in
///
/// rosinality: a .pt for rosinality's stylegan2-pytorch and what builds on it (StyleGAN-NADA, pSp, e4e); ada-pytorch: a .pkl for NVIDIA's
/// stylegan2-ada-pytorch; nada: safetensors. Numbers stay as they are, bit by bit; domains are added to the weights. With --class, a generator
/// that has classes becomes one of that class alone, which has none, for programs that know no classes.
#[derive(Args)]
#[command(after_help = "Examples:
  nada convert ffhq.pt ffhq-sketch.pkl --to ada-pytorch --domain a-pencil-sketch.nada.safetensors
  nada convert ffhq.pkl ffhq.pt --to rosinality")]
pub struct Convert {
    /// Generator file, or the folder or name of a model pack
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Format: rosinality, ada-pytorch or nada
    #[arg(long, value_name = "FORMAT", value_parser = by_name::<Layout>)]
    to: Layout,
    /// f16 numbers, for nada: half the size. It is another generator then: domains of the f32 one do not fit
    #[arg(long)]
    half: bool,
    /// Class to keep, from 0, of a generator that has classes [default: all, which rosinality's format has no place for]
    #[arg(long, value_name = "N")]
    class: Option<usize>,
    #[command(flatten)]
    domains: DomainArgs,
}

impl Convert {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        let same = self.input.canonicalize().is_ok_and(|input| self.output.canonicalize().is_ok_and(|output| input == output));
        if same {
            return Err(Error::argument("OUT", format!("{} is the input; name another file", self.output.display())));
        }
        let before = generator_or_pack(&self.input, &ui.cancel)?;
        let mut after = adapted(&before, &self.domains.load(&ui.cancel)?)?;
        if let Some(class) = self.class {
            after = after.with_class(class)?.without_classes()?;
        }
        if self.to == Layout::Rosinality && after.config().conv_clamp.is_some() {
            ui.warn("the generator clamps its activations, which rosinality's code does not: pictures may differ where it would".into());
        }
        after.save(&self.output, self.to, self.half)?;
        let size = after.config().size;
        let text = format!("{}: {size} px, {} domains built in", self.output.display(), self.domains.domains.len());
        ui.finish(
            &text,
            json!({"output": self.output, "size": size, "fingerprint_before": before.fingerprint(), "domains": self.domains.domains}),
        )
    }
}
