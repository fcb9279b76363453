//! Byte-pair tokenizer. Owner: checkpoint/tokenizer helper. Interface fixed here:
use crate::error::Result;
use std::path::Path;

pub struct Tokenizer {}

impl Tokenizer {
    /// OpenAI's 49408 tokens, carried compressed in the library.
    pub fn openai() -> Result<Self> {
        todo!()
    }
    /// vocab.json and merges.txt of a Hugging Face folder.
    pub fn open(_vocab: &Path, _merges: &Path) -> Result<Self> {
        todo!()
    }
    /// ids without start and end.
    pub fn encode(&self, _text: &str) -> Result<Vec<u32>> {
        todo!()
    }
    /// start, ids, end, padding to `context`; `truncate` cuts to context with the end kept, else too long is `InvalidArgument`.
    pub fn tokenize(&self, _text: &str, _context: usize, _truncate: bool) -> Result<Vec<u32>> {
        todo!()
    }
    pub fn start(&self) -> u32 {
        todo!()
    }
    pub fn end(&self) -> u32 {
        todo!()
    }
}
