//! CLIP's byte-pair tokenizer (Radford et al. 2021; byte-level BPE after Radford et al. 2019), in the two forms in use:
//! OpenAI's own `simple_tokenizer` with its 49408 tokens, and Hugging Face's `CLIPTokenizer` with the tables of a model folder.
//! They differ in what happens to a text before it is cut into words: OpenAI's repairs it (ftfy, HTML entities), Hugging Face's
//! normalises it to NFC; and in the padding, 0 or the end token.

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::files::read_text;
use regex::Regex;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use unicode_normalization::UnicodeNormalization;

/// See assets/make_clip_bpe.py for the layout.
static OPENAI_MERGES: &[u8] = include_bytes!("../../../assets/clip_bpe.zlib");
const OPENAI_MERGE_COUNT: usize = 49152 - 256 - 2;
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Longer texts are refused: a prompt has some hundred bytes, and repair and merging take time that grows faster than the length.
const MAX_TEXT: usize = 16 << 10;
/// Tables of a model folder; OpenAI's vocab.json has 0.9 MB.
const MAX_TABLE: u64 = 8 << 20;

/// How a text becomes words.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    OpenAi,
    HuggingFace,
}

#[derive(Debug)]
struct Tables {
    /// For each byte its token inside a word, and at a word's end.
    inside: [u32; 256],
    ending: [u32; 256],
    /// Adjacent tokens -> (rank, their merged token).
    merges: HashMap<(u32, u32), (u32, u32)>,
    style: Style,
    start: u32,
    end: u32,
    pad: u32,
    /// Literal texts that stand for a token, longest first.
    special: Vec<(String, u32)>,
}

/// Cheap to clone; may be used from several threads at once.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    tables: Arc<Tables>,
}

impl Tokenizer {
    /// OpenAI's 49408 tokens, carried compressed in the library and unpacked at first use.
    pub fn openai() -> Result<Self> {
        static TABLES: LazyLock<std::result::Result<Arc<Tables>, String>> = LazyLock::new(|| openai_tables().map(Arc::new));
        match &*TABLES {
            Ok(tables) => Ok(Tokenizer { tables: tables.clone() }),
            Err(e) => Err(Error::Internal(e.clone())),
        }
    }

    /// vocab.json and merges.txt of a Hugging Face folder; the start, end, unknown and padding tokens are those that
    /// tokenizer_config.json beside vocab.json names, else CLIPTokenizer's (`<|startoftext|>`, and `<|endoftext|>` for the other three).
    pub fn open(vocab: &Path, merges: &Path) -> Result<Self> {
        Self::open_unless(vocab, merges, &Cancel::new())
    }

    /// As [`Tokenizer::open`]; `Cancelled` once the flag is raised.
    pub fn open_unless(vocab: &Path, merges: &Path, cancel: &Cancel) -> Result<Self> {
        let read = |path: &Path| read_text(path, "a tokenizer's table", MAX_TABLE, cancel);
        let tokens: HashMap<String, u32> = serde_json::from_str(&read(vocab)?)
            .map_err(|e| Error::format(vocab, format!("is not a table of tokens and their numbers: {e}")))?;
        let names = vocab.with_file_name("tokenizer_config.json");
        let config: serde_json::Value = match names.exists() {
            true => serde_json::from_str(&read(&names)?).map_err(|e| Error::format(&names, e.to_string()))?,
            false => serde_json::Value::Null,
        };
        let special = |role: &str, default: &str| -> Result<(String, u32)> {
            let named = &config[role];
            let text = named.as_str().or_else(|| named["content"].as_str()).unwrap_or(default).to_string();
            let id =
                tokens.get(&text).copied().ok_or_else(|| Error::format(vocab, format!("has no token '{text}', which is the {role}")))?;
            Ok((text, id))
        };
        let (start, end) = (special("bos_token", START)?, special("eos_token", END)?);
        let (unknown, pad) = (special("unk_token", END)?, special("pad_token", END)?);
        let unknown_id = unknown.1;
        let mut tables = Tables {
            inside: [unknown_id; 256],
            ending: [unknown_id; 256],
            merges: HashMap::new(),
            style: Style::HuggingFace,
            start: start.1,
            end: end.1,
            pad: pad.1,
            special: vec![start, end, unknown, pad],
        };
        tables.special.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        tables.special.dedup();
        for (byte, shown) in alphabet() {
            let id = |text: String| tokens.get(&text).copied().unwrap_or(unknown_id);
            tables.inside[usize::from(byte)] = id(shown.to_string());
            tables.ending[usize::from(byte)] = id(format!("{shown}</w>"));
        }
        let lines = read(merges)?;
        let lines = lines.lines().enumerate().filter(|(_, line)| !line.starts_with("#version") && !line.trim().is_empty());
        for (rank, (number, line)) in lines.enumerate() {
            let wrong = |what: &str| Error::format(merges, format!("line {}: '{line}' {what}", number + 1));
            let (left, right) = line.trim_end().split_once(' ').ok_or_else(|| wrong("is not two tokens"))?;
            let id = |text: &str| {
                tokens.get(text).copied().ok_or_else(|| wrong(&format!("needs the token '{text}', which {} lacks", vocab.display())))
            };
            tables.merges.insert((id(left)?, id(right)?), (rank as u32, id(&format!("{left}{right}"))?));
        }
        Ok(Tokenizer { tables: Arc::new(tables) })
    }

    /// Token ids without start and end. `InvalidArgument` for a text of more than 16 KiB.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if text.len() > MAX_TEXT {
            return Err(Error::argument("text", format!("has {} bytes, where at most {MAX_TEXT} are allowed", text.len())));
        }
        let mut ids = Vec::new();
        match self.tables.style {
            Style::OpenAi => {
                let text = clean(text).to_lowercase();
                for word in words_openai().find_iter(&text) {
                    match self.special(word.as_str()) {
                        Some(id) => ids.push(id),
                        None => self.merge(word.as_str(), &mut ids),
                    }
                }
            }
            Style::HuggingFace => {
                // Special tokens are cut out of the raw text; what lies between them is normalised piece by piece.
                let mut rest = text;
                while !rest.is_empty() {
                    let found = self.tables.special.iter().filter_map(|(text, id)| Some((rest.find(text.as_str())?, text.len(), *id)));
                    let next = found.min_by_key(|&(at, length, _)| (at, std::cmp::Reverse(length)));
                    let (at, length) = next.map_or((rest.len(), 0), |(at, length, _)| (at, length));
                    self.encode_plain(&rest[..at], &mut ids);
                    ids.extend(next.map(|(_, _, id)| id));
                    rest = &rest[at + length..];
                }
            }
        }
        Ok(ids)
    }

    /// Start, ids, end, and padding up to `context`. A text that is too long is cut, with the end token kept, if `truncate`; else it is an
    /// `InvalidArgument` that quotes it with its number of tokens and the limit.
    pub fn tokenize(&self, text: &str, context: usize, truncate: bool) -> Result<Vec<u32>> {
        if context < 2 {
            return Err(Error::argument("context", format!("is {context}, and start and end take 2")));
        }
        let mut ids = vec![self.tables.start];
        ids.extend(self.encode(text)?);
        ids.push(self.tables.end);
        if ids.len() > context {
            if !truncate {
                let quoted: String = text.chars().take(80).collect();
                let dots = if quoted.len() < text.len() { "..." } else { "" };
                return Err(Error::argument(
                    "text",
                    format!("\"{quoted}{dots}\" is too long: {} tokens with start and end, where this CLIP takes {context}", ids.len()),
                ));
            }
            ids.truncate(context);
            ids[context - 1] = self.tables.end;
        }
        ids.resize(context, self.tables.pad);
        Ok(ids)
    }

    pub fn start(&self) -> u32 {
        self.tables.start
    }

    pub fn end(&self) -> u32 {
        self.tables.end
    }

    /// What fills a row up to the context: 0 for OpenAI's tokenizer, for a folder's its padding token.
    pub fn pad(&self) -> u32 {
        self.tables.pad
    }

    fn special(&self, text: &str) -> Option<u32> {
        self.tables.special.iter().find(|(special, _)| special == text).map(|(_, id)| *id)
    }

    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) {
        let text: String = text.nfc().collect();
        let text: String = text.chars().flat_map(char::to_lowercase).collect();
        for word in words_hugging_face().find_iter(&text) {
            match word.as_str() {
                // Special tokens in capitals get here in lower case. They are one match, and the byte-level step cuts it in three.
                START | END => {
                    let name = &word.as_str()[2..word.len() - 2];
                    for part in ["<|", name, "|>"] {
                        self.merge(part, ids);
                    }
                }
                word => self.merge(word, ids),
            }
        }
    }

    /// Appends the tokens of one word: its bytes, of which the pair of lowest rank is merged until none is left.
    fn merge(&self, word: &str, ids: &mut Vec<u32>) {
        let tables = &*self.tables;
        let bytes = word.as_bytes();
        let Some((&last, first)) = bytes.split_last() else { return };
        // Byte-level BPE works on GPT-2's stand-in characters, one for each byte, so the last byte carries the end of the word.
        let mut tokens: Vec<u32> = first.iter().map(|&b| tables.inside[usize::from(b)]).collect();
        tokens.push(tables.ending[usize::from(last)]);
        loop {
            let ranked = tokens.windows(2).filter_map(|pair| Some((*tables.merges.get(&(pair[0], pair[1]))?, (pair[0], pair[1]))));
            let Some(((_, merged), pair)) = ranked.min() else { break };
            let mut joined = Vec::with_capacity(tokens.len());
            let mut i = 0;
            while i < tokens.len() {
                if i + 1 < tokens.len() && (tokens[i], tokens[i + 1]) == pair {
                    joined.push(merged);
                    i += 2;
                } else {
                    joined.push(tokens[i]);
                    i += 1;
                }
            }
            tokens = joined;
        }
        ids.extend(tokens);
    }
}

/// GPT-2's printable stand-in for each byte, in the order of their ids in OpenAI's table: printable ones stand for themselves.
fn alphabet() -> impl Iterator<Item = (u8, char)> {
    let printable = |b: &u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let shown = (0..=255u8).filter(printable).map(|b| (b, char::from(b)));
    let hidden = (0..=255u8).filter(move |b| !printable(b)).zip('\u{100}'..);
    shown.chain(hidden)
}

fn openai_tables() -> std::result::Result<Tables, String> {
    let mut bytes = Vec::with_capacity(4 * OPENAI_MERGE_COUNT);
    flate2::read::ZlibDecoder::new(OPENAI_MERGES).read_to_end(&mut bytes).map_err(|e| format!("the carried token table: {e}"))?;
    if bytes.len() != 4 * OPENAI_MERGE_COUNT {
        return Err(format!("the carried token table has {} bytes", bytes.len()));
    }
    let mut inside = [0; 256];
    let mut ending = [0; 256];
    for (id, (byte, _)) in (0u32..).zip(alphabet()) {
        inside[usize::from(byte)] = id;
        ending[usize::from(byte)] = id + 256;
    }
    let token = |side: usize, i: usize| {
        let high = bytes[(2 * side) * OPENAI_MERGE_COUNT + i];
        let low = bytes[(2 * side + 1) * OPENAI_MERGE_COUNT + i];
        u32::from(u16::from_be_bytes([high, low]))
    };
    let merges = (0..OPENAI_MERGE_COUNT).map(|i| ((token(0, i), token(1, i)), (i as u32, 512 + i as u32))).collect();
    let (start, end) = (49406, 49407);
    Ok(Tables { inside, ending, merges, style: Style::OpenAi, start, end, pad: 0, special: vec![(START.into(), start), (END.into(), end)] })
}

/// Compiles a pattern that is part of the program.
macro_rules! pattern {
    ($text:expr) => {{
        static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new($text).expect("a constant pattern"));
        &PATTERN
    }};
}

fn words_openai() -> &'static Regex {
    pattern!(r"(?i)<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
}

fn words_hugging_face() -> &'static Regex {
    pattern!(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
}

/// What OpenAI's tokenizer does to a text before it is lowered: repair, entities twice, white space to single spaces.
fn clean(text: &str) -> String {
    let text = repair(text);
    let text = unescape(&unescape(&text)).into_owned();
    pattern!(r"\s+").replace_all(text.trim(), " ").into_owned()
}

/// ftfy's `fix_text` (Speer 2019) through the port plsfix, line by line, with three steps of its own. plsfix's pattern for terminal
/// escapes does not match, so they go before it drops the escape character. Its HTML entities are decoded here, since it also decodes
/// them where ftfy leaves them alone, in a text with a '<' (from that line on): '&' stands as a form feed for it, which is white space
/// in the end and nothing else to any of its rules.
fn repair(text: &str) -> String {
    let mut markup = false;
    text.replace('\x0c', " ")
        .split_inclusive('\n')
        .map(|line| {
            markup |= line.contains('<');
            let mut line = line.to_string();
            loop {
                let decoded = if markup { Cow::Borrowed(line.as_str()) } else { decode_entities(&line) };
                let plain = pattern!("\x1b\\[[0-9;]*[a-zA-Z]").replace_all(&decoded, "").replace('&', "\x0c");
                let fixed = plsfix::fix_and_explain(&plain, false, None).text.replace('\x0c', "&");
                // Each round decodes an entity or leaves the line as it was, so this ends.
                if markup || fixed == line {
                    return fixed;
                }
                line = fixed;
            }
        })
        .collect()
}

/// ftfy's `unescape_html`: entities that are complete, and names in capitals where only small letters have a meaning.
fn decode_entities(text: &str) -> Cow<'_, str> {
    let exact = |entity: &str| Some(unescape(entity)).filter(|plain| plain == ";" || !plain.ends_with(';')).map(Cow::into_owned);
    pattern!("&#?[0-9A-Za-z]{1,24};").replace_all(text, |found: &regex::Captures| {
        let entity = &found[0];
        let capitals =
            || Some(entity).filter(|e| *e == e.to_uppercase()).and_then(|e| exact(&e.to_lowercase())).map(|plain| plain.to_uppercase());
        exact(entity).or_else(capitals).unwrap_or_else(|| entity.to_string())
    })
}

/// Python's `html.unescape`: HTML 5's rules, with its handling of numbers that are no characters.
fn unescape(text: &str) -> Cow<'_, str> {
    pattern!(r"&(?:#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)").replace_all(text, |found: &regex::Captures| {
        let entity = &found[0];
        let Some(number) = entity.strip_prefix("&#") else { return htmlize::unescape(entity).into_owned() };
        let number = number.trim_end_matches(';');
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        match code {
            Ok(0x80..=0x9f | 0) => htmlize::unescape(entity).into_owned(),
            Ok(0x0d) => "\r".into(),
            Ok(0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef) => String::new(),
            Ok(code) if code & 0xfffe == 0xfffe && code <= 0x10ffff => String::new(),
            // Surrogates, numbers beyond Unicode, and beyond u32.
            other => other.ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string(),
        }
    })
}
