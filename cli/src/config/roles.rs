//! What a command runs, and so which settings it reads.

/// What a command runs.
pub(crate) trait Role {
    /// The letter of this role in the table of settings.
    const LETTER: char;
    /// Whether it runs an edge that may give development tokens.
    const GIVES_DEV_TOKENS: bool = false;
}

/// All three services in one process.
pub(crate) struct Up;
/// The notifier alone.
pub(crate) struct Notifier;
/// An edge alone.
pub(crate) struct Edge;
/// The processors alone.
pub(crate) struct Processors;
/// Everything that can be set: `config check`.
pub(crate) struct Everything;

impl Role for Up {
    const LETTER: char = 'u';
    const GIVES_DEV_TOKENS: bool = true;
}
impl Role for Notifier {
    const LETTER: char = 'n';
}
impl Role for Edge {
    const LETTER: char = 'e';
}
impl Role for Processors {
    const LETTER: char = 'p';
}
impl Role for Everything {
    const LETTER: char = '*';
}
