//! Which generator a file holds: where it stands, in whose layout; and what to say where there is none.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// Whose names a generator's tensors have in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// rosinality's stylegan2-pytorch, and what builds on it.
    Rosinality,
    /// stylegan2-ada-pytorch, and the StyleGAN2 of stylegan3's repository.
    Nvidia,
    /// BasicSR, and GFPGAN's decoder.
    BasicSr,
}

impl Naming {
    /// For the user.
    pub fn name(self) -> &'static str {
        match self {
            Naming::Rosinality => "rosinality",
            Naming::Nvidia => "NVIDIA",
            Naming::BasicSr => "BasicSR",
        }
    }

    /// The tensor by which the layout is known.
    fn key(self) -> &'static str {
        match self {
            Naming::Rosinality => "conv1.conv.modulation.weight",
            Naming::Nvidia => "synthesis.b4.const",
            Naming::BasicSr => "style_conv1.modulated_conv.modulation.weight",
        }
    }
}

/// Where a generator stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What stands before its keys: "" or "g_ema.", say.
    pub prefix: String,
    pub naming: Naming,
    /// Other generators of the file that were passed over, by their prefix; and averages that cannot be read. Of many the first.
    pub passed_over: Vec<String>,
}

/// What programs call a generator, best first; the encoders' name for theirs, and GFPGAN's, last.
const NAMES: [&str; 6] = ["generator", "gen", "netg", "g", "decoder", "stylegandecoder"];

/// Other networks by a part of one of their keys, what they are, and the way round.
const OTHERS: [(&str, &str, &str); 22] = [
    (".synthesis.input.freqs.", "a StyleGAN3 generator", STYLEGAN2),
    (".synthesis.input.transform.", "a StyleGAN3 generator", STYLEGAN2),
    (".affine_fourier.weight.", "an alias-free generator (StyleGAN3, in rosinality's code)", STYLEGAN2),
    (".generator.progression.0.", "a StyleGAN1 generator (in rosinality's code)", STYLEGAN2),
    (".progression.0.", "a StyleGAN1 or ProGAN network (in rosinality's code)", STYLEGAN2),
    (".g_synthesis.blocks.4x4.", "a StyleGAN1 generator", STYLEGAN2),
    (".synthesis.blocks.4x4.", "a StyleGAN1 generator", STYLEGAN2),
    (".synthesis.early_layer.", "a generator in GenForce's layout", CONVERT),
    (".style_mapping.1.", "a generator in MMGeneration's layout", CONVERT),
    (".to_style1.weight.", "a generator of lucidrains' stylegan2-pytorch, whose arithmetic differs", STYLEGAN2),
    (".scaleLayers.0.", "a ProGAN generator", STYLEGAN2),
    (".progression_4.", "a ProGAN generator", STYLEGAN2),
    (".gen_z.", "a BigGAN generator", STYLEGAN2),
    (".bn1.gain.weight.", "a BigGAN generator", STYLEGAN2),
    (".input_blocks.0.0.weight.", "a diffusion model", STYLEGAN2),
    (".down_blocks.0.resnets.0.conv1.weight.", "a diffusion model or a part of one", STYLEGAN2),
    (".x_embedder.proj.weight.", "a diffusion transformer", STYLEGAN2),
    (".quantize.embedding.weight.", "a VQGAN", STYLEGAN2),
    (".shadow_params.0.", "a list of averaged weights without their names (shadow_params)", "save the state_dict of the averaged model"),
    (".final_linear.0.weight.", "a discriminator (in rosinality's code)", "give the file that holds its generator"),
    (".b4.out.weight.", "a discriminator (in NVIDIA's code)", "give the file that holds its generator"),
    (".styles.0.linear.weight.", "an encoder without its generator", "give the generator that it was trained with"),
];

/// A hostile file may hold as many as it has keys.
const MAX_PASSED_OVER: usize = 20;

const STYLEGAN2: &str = "this library draws StyleGAN2, in the layouts of rosinality, NVIDIA and BasicSR";
const CONVERT: &str = "convert it to rosinality's or NVIDIA's layout, or give the file that it was converted from";
const CLEAN: &str = "give the StyleGAN2 that it was made from, or GFPGANv1.pth, whose decoder is read";

fn unsupported(file: &Checkpoint, what: &str, way: &str) -> Error {
    Error::unsupported(file.path.display().to_string(), format!("is {what}, which is not supported: {way}"))
}

/// The generator of a file, wherever trainers keep it: of several the mean over the training, as everybody wants, then by the names of
/// `NAMES`; behind a name that is not known where it is the only one.
///
/// Errors: `Unsupported` for networks that are known and not drawn; `Format` where there is none, or it is not clear which.
pub fn find(file: &Checkpoint) -> Result<Place> {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for naming in [Naming::Nvidia, Naming::Rosinality, Naming::BasicSr] {
        let places = file.places(&NAMES, &[naming.key()]);
        known.extend(places.known.into_iter().map(|prefix| (naming, prefix)));
        unknown.extend(places.unknown.into_iter().map(|prefix| (naming, prefix)));
    }
    let found = match (&known[..], &unknown[..]) {
        ([first, ..], _) => first.clone(),
        ([], [only]) => only.clone(),
        ([], []) => return Err(none(file)),
        ([], several) => {
            let places: Vec<&str> = several.iter().take(5).map(|(_, prefix)| prefix.trim_end_matches('.')).collect();
            let message = format!(
                "holds {} generators, and their names do not say which is wanted: {}; save the one that is wanted alone, or under g_ema",
                several.len(),
                places.join(", ")
            );
            return Err(Error::format(&file.path, message));
        }
    };
    let (naming, prefix) = found;
    let network = file.with_prefix(&prefix);
    if network.keys().any(|key| key.ends_with("iwt.ll")) {
        return Err(unsupported(file, "a SWAGAN generator (wavelets)", "train one without them (--arch stylegan2)"));
    }
    if naming == Naming::BasicSr && network.contains("style_conv1.bias") {
        return Err(unsupported(file, "a generator in GFPGAN's layout called clean, whose arithmetic differs", CLEAN));
    }
    if naming == Naming::Nvidia && prefix.ends_with("backbone.") {
        return Err(unsupported(file, "an EG3D generator", STYLEGAN2));
    }
    let lists = file.keys().filter_map(|key| key.strip_suffix("shadow_params.0")).map(|before| format!("{before}shadow_params."));
    let others = known.into_iter().chain(unknown).map(|(_, prefix)| prefix).filter(|other| *other != prefix);
    Ok(Place { passed_over: others.chain(lists).take(MAX_PASSED_OVER).collect(), prefix, naming })
}

/// What the file holds instead.
fn none(file: &Checkpoint) -> Error {
    let keys: Vec<String> = file.keys().map(|key| format!(".{key}.")).collect();
    if let Some((_, what, way)) = OTHERS.iter().find(|(part, ..)| keys.iter().any(|key| key.contains(part))) {
        return unsupported(file, what, way);
    }
    let some: Vec<_> = file.keys().take(3).collect();
    let message = format!(
        "no StyleGAN2 generator: there is neither rosinality's tensor {}, nor NVIDIA's {}, nor BasicSR's {}, alone or under names such as \
         g_ema, state_dict or module; the first tensors are {}",
        Naming::Rosinality.key(),
        Naming::Nvidia.key(),
        Naming::BasicSr.key(),
        if some.is_empty() { "none at all".to_string() } else { some.join(", ") }
    );
    Error::format(&file.path, message)
}
