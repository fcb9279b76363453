//! What a CLIP makes of words before its network sees them.

use super::weights::Weights;
use super::{files, named, place, words, Described, Tokenizer};
use crate::cancel::Cancel;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::kernels::Activation;
use std::path::Path;
use std::sync::OnceLock;

/// Tokens in OpenAI's vocabulary.
const OPENAI_VOCABULARY: usize = 49_408;

/// Words that a message quotes whole; of longer ones the beginning.
const QUOTED: usize = 200;

/// A CLIP's tokenizer and limits. Without the network, so that words can be looked at before anything large is read. Threads may share it.
pub struct Reader {
    name: String,
    /// Most tokens in a text, start and end included.
    context: usize,
    vocabulary: usize,
    /// The folder's own; without one OpenAI's, read when first needed.
    tokenizer: OnceLock<Tokenizer>,
    /// Why texts cannot be read.
    refused: Option<String>,
    warnings: Vec<String>,
}

impl Reader {
    /// Of the CLIP `path`, a file or a folder, and of its activation as for [`super::Clip::open_as`]; reads no weights. Errors as there, for
    /// what it reads.
    pub fn open(path: &Path, activation: Option<Activation>, cancel: &Cancel) -> Result<Self> {
        let file = place(&checkpoint::open_unless(&files::tensors(path)?, cancel)?);
        let weights = Weights::new(&file)?;
        let folder = file.path.parent().unwrap_or(Path::new(""));
        let described = files::config(folder, weights.layout())?;
        let key = weights.either("positional_embedding", "text_model.embeddings.position_embedding.weight");
        let [context, _] = weights.dims(key)?;
        let [vocabulary, _] = weights.dims(weights.either("token_embedding.weight", "text_model.embeddings.token_embedding.weight"))?;
        let guesses = activation.is_none() && !weights.is_openais_own();
        Self::new(named(path, folder), folder, described.as_ref(), guesses, [context, vocabulary], cancel)
    }

    /// `guesses`: the activation is OpenAI's unless a configuration says it.
    pub(super) fn new(
        name: String,
        folder: &Path,
        described: Option<&Described>,
        guesses: bool,
        [context, vocabulary]: [usize; 2],
        cancel: &Cancel,
    ) -> Result<Self> {
        let tokenizer = OnceLock::new();
        let own = files::tokenizer(folder, described.is_some(), cancel)?;
        let [always, without_table] = described.map(|d| d.texts.clone()).unwrap_or_default();
        let refused = always.or(without_table.filter(|_| own.is_none()));
        if let Some(own) = own {
            let _ = tokenizer.set(own);
        }
        let warnings = match described {
            Some(described) => described.warnings.clone(),
            None => guesses.then(|| guessed(&name)).into_iter().collect(),
        };
        Ok(Self { name, context, vocabulary, tokenizer, refused, warnings })
    }

    /// What to tell a user who takes this CLIP, one sentence each: what was taken for granted, and what its configuration says that is not
    /// known.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Most tokens in a text, start and end included.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The folder's tokenizer, or OpenAI's. `Unsupported` where the checkpoint brings no table and its vocabulary is not OpenAI's, or its
    /// configuration asks for a tokenizer of another kind.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(why) = &self.refused {
            return Err(Error::unsupported(format!("CLIP {}", self.name), why));
        }
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        if self.vocabulary != OPENAI_VOCABULARY {
            let message = format!(
                "it has {} tokens, not OpenAI's {OPENAI_VOCABULARY}, so texts need the vocab.json and merges.txt that it was trained with beside it",
                self.vocabulary
            );
            return Err(Error::unsupported(format!("CLIP {}", self.name), message));
        }
        let tokenizer = Tokenizer::openai()?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }

    /// Whether `words` fit inside each of `templates`, which have one `{}` each. An `InvalidArgument` that quotes the words says how many
    /// tokens they are, what the longest template adds, and by how many that is too long; `argument` is what the caller calls the words.
    pub fn check(&self, argument: &str, words: &str, templates: &[String]) -> Result<()> {
        let tokenizer = self.tokenizer()?;
        let own = tokenizer.encode(words)?.len();
        let mut longest = (own, None);
        for template in templates {
            let tokens = tokenizer.encode(&template.replace("{}", words))?.len();
            if tokens > longest.0 {
                longest = (tokens, Some(template));
            }
        }
        let (most, template) = longest;
        if most + 2 <= self.context {
            return Ok(());
        }
        let mut quoted: String = words.chars().take(QUOTED).collect();
        if quoted.len() < words.len() {
            quoted += "...";
        }
        let over = most + 2 - self.context;
        let (adds, leave) = match template {
            Some(template) => {
                (format!(", and the longest template, \"{template}\", adds {}", most - own), "leave out words, or take shorter templates")
            }
            None => (String::new(), "leave out words"),
        };
        let message = format!(
            "\"{quoted}\" is too long by {over} token{}: it has {own} and 2 for start and end{adds}, where the CLIP {} takes {}; {leave}",
            if over == 1 { "" } else { "s" },
            self.name,
            self.context
        );
        Err(Error::argument(argument, message))
    }

    /// The words of `text` that a CLIP of English plainly does not know, in order, each once; none where the vocabulary is not OpenAI's.
    /// Errors as [`Reader::tokenizer`].
    pub fn foreign(&self, text: &str) -> Result<Vec<String>> {
        if self.vocabulary != OPENAI_VOCABULARY {
            return Ok(Vec::new());
        }
        let tokenizer = self.tokenizer()?;
        words::foreign(text, |word| Ok(tokenizer.encode(word)?.len()))
    }
}

/// What to tell a user of `text` before work begins with the CLIPs of `readers`: characters that cannot be seen, and words of other
/// languages. Each is one sentence; none where all is well, and of CLIPs that cannot read texts, which [`Reader::check`] says.
pub fn warnings<'a>(text: &str, readers: impl IntoIterator<Item = &'a Reader>) -> Vec<String> {
    let foreign = readers.into_iter().find_map(|reader| Some((reader, reader.foreign(text).ok().filter(|words| !words.is_empty())?)));
    let foreign = foreign.map(|(reader, words)| {
        let these = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
        let (are, they) = if words.len() == 1 { ("the word", "is") } else { ("the words", "are") };
        format!(
            "the CLIP {} reads English; {are} {these} {they} unknown to it, so what becomes of \"{text}\" is left to chance",
            reader.name
        )
    });
    words::unseen_warning(text).into_iter().chain(foreign).collect()
}

/// Of a file in OpenAI's layout that is not OpenAI's own, with nothing that says its activation.
fn guessed(name: &str) -> String {
    format!(
        "{name}: nothing says whether it was trained with QuickGELU or with GELU; QuickGELU, OpenAI's, is taken. Files of open_clip need \
         their open_clip_config.json beside them, or the activation said: --clip FILE:gelu (or FILE:quick_gelu), activation = \"gelu\" at a \
         pack's [[clip]]"
    )
}
