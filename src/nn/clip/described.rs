//! What a configuration beside the tensors says of a CLIP: Hugging Face's config.json, open_clip's open_clip_config.json.

use super::fields::{self, Fields};
use super::pool::{End, VisionPool};
use super::preprocess::{Described as Preprocess, Interpolation, Shape};
use crate::error::{Error, Result};
use crate::kernels::Activation;
use serde_json::{json, Value};
use std::path::{Path, PathBuf};

/// What tensors do not tell, or tell as well: then both must agree.
pub(super) struct Described {
    pub path: PathBuf,
    pub vision: Tower,
    pub text: Tower,
    /// Side length of the picture in pixels.
    pub image_size: Option<usize>,
    pub pool: VisionPool,
    pub norm_after_pool: bool,
    pub pre_norm: bool,
    pub causal: bool,
    pub end: End,
    /// open_clip keeps the preprocessing in the same file.
    pub preprocess: Option<Preprocess>,
    /// Why texts cannot be read, where the file asks for a tokenizer of another kind; the second where no table is beside it.
    pub texts: [Option<String>; 2],
    pub warnings: Vec<String>,
}

/// A transformer, or for the number of heads a ResNet's pool.
pub(super) struct Tower {
    pub heads: Heads,
    pub activation: Activation,
    pub epsilon: f32,
    sizes: Vec<(Size, String, usize)>,
}

pub(super) enum Heads {
    Count(usize),
    /// Channels of one.
    Width(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Width,
    Layers,
    Hidden,
    Patch,
    Embedding,
    Context,
    Vocabulary,
}

pub(super) const EPSILON: f32 = 1e-5;

impl Described {
    /// `Format` where the file says another `size` than the tensors `have`.
    pub(super) fn check(&self, tower: &Tower, sizes: &[(Size, usize)]) -> Result<()> {
        for (size, name, said) in &tower.sizes {
            if let Some((_, have)) = sizes.iter().find(|(s, have)| s == size && have != said) {
                let message = format!("{name} is {said}, but the tensors have {have}: it is the configuration of another CLIP");
                return Err(Error::format(&self.path, message));
            }
        }
        Ok(())
    }

    /// A Hugging Face config.json; fields that older files leave out have that library's defaults.
    pub(super) fn hugging_face(path: &Path) -> Result<Self> {
        let mut file = Fields::open(path)?;
        match file.take::<String>("model_type")?.as_deref() {
            None | Some("clip") => {}
            Some(tower @ ("clip_vision_model" | "clip_text_model")) => {
                let message = format!("model_type is {tower:?}: one tower, where the configuration of the whole CLIP is needed");
                return Err(file.format(message));
            }
            Some(other) => {
                let message = format!("{}, which is not supported: it needs a CLIP (model_type \"clip\")", kind(other));
                return Err(Error::unsupported(path.display().to_string(), message));
            }
        }
        let mut vision = hugging_face_part(&mut file, "vision_config")?;
        let mut text = hugging_face_part(&mut file, "text_config")?;
        let image_size = vision.take_side("image_size")?;
        // Early files all say 2, which is not their tokenizer's end; their readers take the largest id.
        let end = match text.take::<u32>("eos_token_id")? {
            None | Some(2) => End::Largest,
            Some(id) => End::Token(id),
        };
        vision.only("num_channels", &[3.into()])?;
        let projection = file.name("projection_dim");
        let embedding = file.take("projection_dim")?.map(|n| (Size::Embedding, projection, n));
        let vision_tower = hugging_face_tower(&mut vision, 12, &[("patch_size", Size::Patch)], embedding)?;
        let text_sizes = [("max_position_embeddings", Size::Context), ("vocab_size", Size::Vocabulary)];
        let text_tower = hugging_face_tower(&mut text, 8, &text_sizes, None)?;
        file.harmless(&["logit_scale_init_value"]);
        for part in [&mut file, &mut vision, &mut text] {
            part.off(&["pruned_heads"])?;
            part.harmless(HUGGING_FACE_HARMLESS);
        }
        let unknown: Vec<String> = [file, vision, text].into_iter().flat_map(Fields::unknown).collect();
        Ok(Self {
            path: path.to_path_buf(),
            vision: vision_tower,
            text: text_tower,
            image_size,
            pool: VisionPool::Class,
            norm_after_pool: false,
            pre_norm: true,
            causal: true,
            end,
            preprocess: None,
            texts: [None, None],
            warnings: fields::warning(path, &unknown).into_iter().collect(),
        })
    }

    /// An open_clip_config.json; what it leaves out has that library's defaults.
    pub(super) fn open_clip(path: &Path) -> Result<Self> {
        let mut file = Fields::open(path)?;
        if file.peek("model_cfg").is_none() {
            return Err(file.format("model_cfg is missing"));
        }
        let mut model = file.part("model_cfg")?;
        let (mut vision, mut text, mut preprocess) = (model.part("vision_cfg")?, model.part("text_cfg")?, file.part("preprocess_cfg")?);
        for key in ["multimodal_cfg", "audio_cfg", "genlip_cfg", "genlap_cfg"] {
            model.off(&[key])?;
        }
        let quick = model.take("quick_gelu")?.unwrap_or(false);
        let name = model.name("embed_dim");
        let embedding = model.take("embed_dim")?.map(|n| (Size::Embedding, name, n));
        // Beginnings of values that training has changed, and how the numbers are kept.
        model.harmless(&["custom_text", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale", "cast_dtype", "output_dict"]);

        let image_size = vision.take_side("image_size")?;
        // A ResNet has a number of layers for each stage; what is said of transformers is not looked at then.
        let resnet = vision.peek("layers").is_some_and(Value::is_array);
        if resnet {
            vision.harmless(&["layers", "patch_size", "pool_type", "final_ln_after_pool", "no_ln_pre", "norm_kwargs", "act_kwargs"]);
            vision.harmless(&["attentional_pool", "mlp_ratio"]);
            vision.harmless(OPEN_CLIP_ATTENTION);
        }
        vision.off(&["timm_model_name", "attentional_pool", "ls_init_value"])?;
        let pool = match vision.take::<String>("pool_type")?.as_deref() {
            None | Some("tok") => VisionPool::Class,
            Some("avg") => VisionPool::Mean,
            Some(other) => return Err(vision.refuse("pool_type", other, "\"tok\" or \"avg\"")),
        };
        let norm_after_pool = vision.take("final_ln_after_pool")?.unwrap_or(false);
        let pre_norm = !vision.take("no_ln_pre")?.unwrap_or(false);
        let head_width = vision.take("head_width")?.unwrap_or(64);
        let vision_tower = open_clip_tower(&mut vision, Heads::Width(head_width), quick, &[("patch_size", Size::Patch)], embedding)?;
        // What only training, or a tower of another kind, looks at; positions lie in the tensors whichever kind they are of.
        vision.harmless(&["patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "pos_embed_type", "image_seq_len", "in_chans"]);
        vision.harmless(&["timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"]);
        vision.harmless(&["timm_model_kwargs"]);

        text.only("text_arch", &["clip".into()])?;
        if let Some(name) = text.take::<String>("hf_model_name")? {
            let message =
                format!("{} {name:?}: a CLIP whose texts go through another kind of network is not supported", text.name("hf_model_name"));
            return Err(Error::unsupported(path.display().to_string(), message));
        }
        text.off(&["embed_cls", "proj_bias", "ls_init_value", "reg_tokens"])?;
        text.only("norm_type", &["layernorm".into()])?;
        text.only("proj_type", &["linear".into()])?;
        let causal = !text.take("no_causal_mask")?.unwrap_or(false);
        let eos: Option<u32> = text.take("eos_id")?;
        let end = match text.take::<String>("pool_type")?.as_deref() {
            None | Some("argmax") => End::Largest,
            Some("first") => End::First,
            Some("last") => End::Last,
            Some("eos") => {
                End::Token(eos.ok_or_else(|| text.format(format!("{} is missing; pool_type \"eos\" needs it", text.name("eos_id"))))?)
            }
            Some(other) => return Err(text.refuse("pool_type", other, "\"argmax\", \"eos\", \"first\" or \"last\"")),
        };
        let texts = other_tokenizer(&mut text)?;
        let heads = Heads::Count(text.take("heads")?.unwrap_or(8));
        let text_sizes = [("context_length", Size::Context), ("vocab_size", Size::Vocabulary)];
        let text_tower = open_clip_tower(&mut text, heads, quick, &text_sizes, None)?;
        // One token's state is taken, so the order of norm and pool is nothing; the rest is of other kinds of text towers.
        text.harmless(&["final_ln_after_pool", "pad_id", "bos_id", "variable_text"]);
        text.harmless(&["hf_model_pretrained", "hf_proj_type", "hf_pooler_type", "hf_model_config"]);

        let described = Preprocess {
            shape: match preprocess.take::<String>("resize_mode")?.as_deref() {
                None | Some("shortest") => Shape::Shortest,
                Some("squash") => Shape::Squash,
                Some("longest") => Shape::Longest { fill: fill(&mut preprocess)? },
                Some(other) => return Err(preprocess.refuse("resize_mode", other, "\"shortest\", \"longest\" or \"squash\"")),
            },
            interpolation: match preprocess.take::<String>("interpolation")?.as_deref() {
                // "random" is for training; it is bicubic otherwise.
                None | Some("bicubic" | "random") => Interpolation::Bicubic,
                Some("bilinear") => Interpolation::Bilinear,
                Some(other) => return Err(preprocess.refuse("interpolation", other, "\"bicubic\" or \"bilinear\"")),
            },
            mean: preprocess.take("mean")?,
            std: preprocess.take("std")?,
            size: None,
            crop: None,
        };
        preprocess.only("mode", &["RGB".into()])?;
        // open_clip itself takes the model's image_size instead.
        preprocess.harmless(&["size", "fill_color"]);
        let unknown: Vec<String> = [file, model, vision, text, preprocess].into_iter().flat_map(Fields::unknown).collect();
        Ok(Self {
            path: path.to_path_buf(),
            vision: vision_tower,
            text: text_tower,
            image_size,
            pool,
            norm_after_pool,
            pre_norm,
            causal,
            end,
            preprocess: Some(described),
            texts,
            warnings: fields::warning(path, &unknown).into_iter().collect(),
        })
    }
}

/// What a `model_type` of Hugging Face's is, in words.
fn kind(model_type: &str) -> String {
    match model_type {
        "siglip" | "siglip2" => "a SigLIP model".into(),
        "chinese_clip" => "a Chinese CLIP, whose texts go through BERT".into(),
        "altclip" => "an AltCLIP, whose texts go through XLM-RoBERTa".into(),
        "metaclip_2" => "a MetaCLIP 2, whose texts are cut as XLM-V's".into(),
        other => format!("a model of the type {other:?}"),
    }
}

/// `vision_config` or `text_config`. Older files have `<key>_dict` too, which wins as a whole where it is not null.
fn hugging_face_part(file: &mut Fields, key: &str) -> Result<Fields> {
    let (plain, dict) = (file.part(key)?, file.part(&format!("{key}_dict"))?);
    match dict.is_empty() {
        true if plain.is_empty() => Err(file.format(format!("{key} is missing"))),
        true => Ok(plain),
        false => Ok(dict),
    }
}

fn hugging_face_tower(part: &mut Fields, heads: usize, sizes: &[(&str, Size)], embedding: Option<(Size, String, usize)>) -> Result<Tower> {
    let activation = match part.take::<String>("hidden_act")?.as_deref() {
        None | Some("quick_gelu") => Activation::QuickGelu,
        Some("gelu") => Activation::Gelu,
        Some("gelu_pytorch_tanh" | "gelu_new") => Activation::GeluTanh,
        Some(other) => return Err(part.refuse("hidden_act", other, "\"quick_gelu\", \"gelu\" or \"gelu_pytorch_tanh\"")),
    };
    let common = [("hidden_size", Size::Width), ("num_hidden_layers", Size::Layers), ("intermediate_size", Size::Hidden)];
    Ok(Tower {
        heads: Heads::Count(part.take("num_attention_heads")?.unwrap_or(heads)),
        activation,
        epsilon: part.take("layer_norm_eps")?.unwrap_or(EPSILON),
        sizes: taken(part, common.iter().chain(sizes), embedding)?,
    })
}

/// Switches of open_clip's own attention block.
const OPEN_CLIP_ATTENTION: &[&str] =
    &["qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc", "attn_gated"];

fn open_clip_tower(
    part: &mut Fields,
    heads: Heads,
    quick_gelu: bool,
    sizes: &[(&str, Size)],
    embedding: Option<(Size, String, usize)>,
) -> Result<Tower> {
    part.off(OPEN_CLIP_ATTENTION)?;
    // Without these switches both blocks compute the same.
    part.only("block_type", &["default".into(), "custom".into()])?;
    let mut norm = part.part("norm_kwargs")?;
    let epsilon = norm.take("eps")?.unwrap_or(EPSILON);
    norm.only("elementwise_affine", &[true.into()])?;
    norm.only("bias", &[true.into()])?;
    let mut act = part.part("act_kwargs")?;
    let activation = match (quick_gelu, act.take::<String>("approximate")?.as_deref()) {
        (true, None) => Activation::QuickGelu,
        (false, None | Some("none")) => Activation::Gelu,
        (false, Some("tanh")) => Activation::GeluTanh,
        (_, Some(other)) => return Err(act.refuse("approximate", other, "\"none\" or, of GELU, \"tanh\"")),
    };
    for (name, kwargs) in [("norm_kwargs", norm), ("act_kwargs", act)] {
        if let Some(field) = kwargs.unknown().first() {
            return Err(Error::unsupported(part.path().display().to_string(), format!("{field} in {name} is not supported")));
        }
    }
    // The hidden width is the tensors'.
    part.harmless(&["mlp_ratio", "output_tokens"]);
    Ok(Tower {
        heads,
        activation,
        epsilon,
        sizes: taken(part, [("width", Size::Width), ("layers", Size::Layers)].iter().chain(sizes), embedding)?,
    })
}

fn taken<'a>(
    part: &mut Fields,
    keys: impl Iterator<Item = &'a (&'a str, Size)>,
    more: Option<(Size, String, usize)>,
) -> Result<Vec<(Size, String, usize)>> {
    let mut sizes: Vec<_> = more.into_iter().collect();
    for (key, size) in keys {
        sizes.extend(part.take(key)?.map(|n| (*size, part.name(key), n)));
    }
    Ok(sizes)
}

/// Why texts cannot be read, where open_clip reads them with a tokenizer that is not a CLIP's; the second where the folder has no table of
/// one.
fn other_tokenizer(text: &mut Fields) -> Result<[Option<String>; 2]> {
    let why = |name: String, value: &Value| format!("{name} {value} asks for a tokenizer that is not supported, so texts cannot be read");
    let mut other = None;
    for key in ["tokenizer_type", "tokenizer_mode", "tokenizer_kwargs"] {
        let plain = [Value::from(""), json!({}), json!({"clean": "lower"})];
        if let Some(value) = text.take::<Value>(key)?.filter(|value| !plain.contains(value)) {
            other.get_or_insert(why(text.name(key), &value));
        }
    }
    text.harmless(&["tiktoken_name"]);
    let clips = |name: &String| name.is_empty() || name.starts_with("openai/clip-") || name.starts_with("laion/CLIP-");
    let key = "hf_tokenizer_name";
    let named = text.take::<String>(key)?.filter(|name| !clips(name));
    Ok([other, named.map(|value| why(text.name(key), &value.into()))])
}

/// What open_clip fills the rest of the square with: one number in 0 to 255, or one for each colour.
fn fill(preprocess: &mut Fields) -> Result<[f32; 3]> {
    let name = preprocess.name("fill_color");
    let fill = match preprocess.take::<Value>("fill_color")? {
        None => Some([0.0; 3]),
        Some(value @ Value::Number(_)) => value.as_f64().map(|v| [v as f32; 3]),
        Some(value) => serde_json::from_value(value).ok(),
    };
    fill.filter(|fill| fill.iter().all(|v| (0.0..=255.0).contains(v)))
        .ok_or_else(|| preprocess.format(format!("{name} must be a number in 0 to 255, or three")))
}

/// What Hugging Face's files say that changes no embedding: dropout and beginnings of training, what generation of text would need, and
/// how results are handed over.
const HUGGING_FACE_HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "projection_dim",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
];
