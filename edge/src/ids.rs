//! Names of users and queues: 1 to 128 bytes of printable UTF-8, nothing that an
//! eye cannot see.

/// Bytes of an id at most.
pub(crate) const MAX_ID_BYTES: usize = 128;

/// Whether this may name a user or a queue.
pub(crate) fn is_valid(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.chars().all(is_printable)
}

/// No control, no line or paragraph separator, and none of Unicode's format
/// characters (category Cf): bidi and zero-width characters make two different
/// names look alike.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_seen_is_a_name() {
        for id in ["u1", "Ä b", "日本", "../x", "a*", &"x".repeat(128)] {
            assert!(is_valid(id), "{id:?}");
        }
        for id in [
            "",
            "a\0",
            "a\n",
            "a\u{200b}b",
            "\u{202e}a",
            "\u{feff}a",
            "a\u{2028}",
            &"x".repeat(129),
        ] {
            assert!(!is_valid(id), "{id:?}");
        }
    }
}
