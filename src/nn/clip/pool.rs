//! Which states of a tower are the embedding.

/// Which states of a vision transformer's last block are the picture's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisionPool {
    /// That of the class token.
    Class,
    /// The mean of all others.
    Mean,
}

/// Which token's state is the text's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The one with the largest id (OpenAI: 49407 is the end and the largest).
    Largest,
    /// The first with this id.
    Token(u32),
    /// The first of the row.
    First,
    /// The last of the row, padding included.
    Last,
}
