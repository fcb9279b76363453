//! `nada convert`: a generator for other people's programs, and theirs for this one.

use crate::models::{adapted, by_name, generator_or_pack, named_pack, DomainArgs, Reads};
use crate::outputs::{ForceArgs, Kind, Outputs};
use crate::ui::{name, names, Ui};
use clap::Args;
use nada::nn::generator::Layout;
use nada::Result;
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
    force: ForceArgs,
    #[command(flatten)]
    domains: DomainArgs,
}

impl Convert {
    pub fn run(self, ui: &mut Ui) -> Result<()> {
        let mut outputs = Outputs::new(&self.force);
        outputs.reads(&self.input);
        let pack = named_pack(&self.input).and_then(Result::ok);
        Reads { pack: pack.as_ref(), domains: Some(&self.domains), ..Reads::default() }.tell(&mut outputs)?;
        let kind = match self.to {
            Layout::Rosinality => Kind::Torch,
            Layout::AdaPytorch => Kind::NvidiaPickle,
            Layout::Nada => Kind::Safetensors,
        };
        let mut output = outputs.named("OUT", &self.output, kind)?;
        let before = generator_or_pack(&self.input, &ui.cancel)?;
        let mut after = adapted(&before, &self.domains.of(&before, self.domains.load(&ui.cancel)?)?)?;
        if let Some(class) = self.class {
            after = after.with_class(class)?.without_classes()?;
        }
        after.check_layout(self.to, self.half)?;
        if self.to == Layout::Rosinality && after.config().conv_clamp.is_some() {
            ui.warn("the generator clamps its activations, which rosinality's code does not: pictures may differ where it would".into());
        }
        ui.cancel.check()?;
        output.save(ui, |to| after.save(to, self.to, self.half))?;
        let size = after.config().describe_size();
        let text = format!("{}: {size} px, {} domains built in", name(&output.path), self.domains.domains.len());
        ui.finish(
            &text,
            json!({"output": name(&output.path), "size": after.config().size(), "fingerprint_before": before.fingerprint()?, "domains": names(&self.domains.domains)}),
        )
    }
}
