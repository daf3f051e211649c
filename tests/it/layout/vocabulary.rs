//! The words of the field: what the project's own dialect used to say is refused, in
//! identifiers and in prose. `docs/glossary.md` has the words to use.

use super::source::{Source, defined_type, sources};

/// What is read: every text that people write. Not SQL: a migration that was released
/// keeps its checksum.
const KINDS: &[&str] = &[
    "rs", "js", "mjs", "md", "proto", "html", "css", "toml", "py", "json", "patch", "run",
];

/// Files that may use the old words: this list of them, what earlier versions were
/// announced with, and the names of others' packages.
const QUOTES_THEM: &[&str] = &["tests/it/layout/vocabulary.rs", "CHANGELOG.md"];
const OF_OTHERS: &str = "package-lock.json";

/// Words that mean something else in a domain, and where.
const OF_A_DOMAIN: &[(&str, &[&str])] = &[
    // Recognisers give words.
    ("processors/src/transcription", &["word", "words"]),
    ("processors/tests/it/transcriptions.rs", &["word", "words"]),
    ("tests/speech", &["word", "words"]),
    // A layout breaks lines between words.
    ("processors/src/report", &["word", "words"]),
    // S3 uploads a large file in parts.
    ("processors/src/storage", &["parts"]),
    ("processors/tests/it/s3.rs", &["parts"]),
];

/// Old words, in identifiers as in prose.
const WORDS: &[&str] = &[
    "told",
    "tell",
    "tells",
    "telling",
    "heard",
    "hear",
    "hears",
    "hearing",
    "asked",
    "word",
    "words",
    "news",
    "twin",
    "twins",
    "station",
    "patience",
    "wish",
    "wishes",
    "pretend",
    "pretends",
    "pretended",
    "pretending",
    "judge",
    "judges",
    "judged",
    "judging",
    "judgement",
    "dice",
    "hands",
    "pace",
    "linger",
    "lingers",
    "lingering",
    "ending",
    "parts",
    "anew",
    "hitherto",
    "thereof",
];

/// Old phrases.
const PHRASES: &[&str] = &[
    "in the house",
    "called off",
    "calls off",
    "call off",
    "dealt with",
    "stands in for",
    "stand in for",
    "stands twice",
    "stand twice",
    "there once",
    "not twice",
    "spoken here",
    "is spoken",
    "see the module",
];

/// Types that are no nouns, or nouns of the old dialect.
const TYPES: &[&str] = &[
    "Told", "Heard", "Asked", "Station", "Places", "Slot", "Patience", "Terms", "Line", "NotNow",
    "Called", "Wishes", "Stood", "Whose", "What", "Way", "Here", "Alone", "Both", "Made", "Found",
    "Kept", "Known", "Seen", "Shown", "Spoken", "Wanted", "Tell", "EdgeId",
];

/// Where an old word is the field's own: the text around it, with the reason.
const ALLOWED: &[&str] = &[
    // The names of a socket option.
    "set_socket_linger",
    "set_zero_linger",
    // The standard library, http and uuid call the halves of a value so.
    "into_parts",
    "from_request_parts",
    "fromrequestparts",
    "&mut parts",
    "from_parts",
    "to_parts",
    "raw_parts",
    "request::parts",
    "response::parts",
    // A stream of `multipart/form-data` has parts (RFC 7578).
    "multipart",
    // A field of Typeform's events.
    "\"ending\":",
    // The name of a crate.
    "img-parts",
    "img_parts",
    // Typeform's name of a form's last page.
    "\"ending\":",
    // `line ending` is the term for what ends a line of text.
    "line ending",
];

/// Old words of one file: line number and word; line 0 is its name.
fn old_words(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let name = std::iter::once(source.path.as_str());
    for (number, line) in name.chain(source.text.lines()).enumerate() {
        let mut lower = line.to_lowercase();
        let mut line = line.to_owned();
        for allowed in ALLOWED {
            while let Some(at) = lower.find(allowed) {
                lower.replace_range(at..at + allowed.len(), "");
                if line.get(at..at + allowed.len()).is_some() {
                    line.replace_range(at..at + allowed.len(), "");
                }
            }
        }
        let phrases = PHRASES.iter().filter(|phrase| lower.contains(**phrase));
        found.extend(phrases.map(|phrase| (number, (*phrase).to_owned())));
        let words = words_of(&line).into_iter();
        let old = words.filter(|word| WORDS.contains(&word.as_str()));
        let old = old.filter(|word| !is_of_a_domain(&source.path, word));
        found.extend(old.map(|word| (number, word)));
        if source.is_rust()
            && let Some(name) = defined_type(&line)
            && TYPES.contains(&name)
        {
            found.push((number, format!("type {name}")));
        }
    }
    found
}

fn is_of_a_domain(path: &str, word: &str) -> bool {
    let mut domains = OF_A_DOMAIN.iter();
    domains.any(|(place, words)| path.starts_with(place) && words.contains(&word))
}

/// The words of a line, those inside of identifiers too, in lower case.
fn words_of(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in line.chars() {
        let begins = !c.is_alphabetic() || (c.is_uppercase() && was_lower);
        if begins {
            words.push(String::new());
        }
        if c.is_alphabetic()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn the_words_are_those_of_the_field() {
    let mut refused = Vec::new();
    for source in sources(KINDS) {
        let path = source.path.as_str();
        if QUOTES_THEM.contains(&path) || path.ends_with(OF_OTHERS) {
            continue;
        }
        let found = old_words(&source).into_iter();
        refused.extend(found.map(|(line, word)| format!("{path}:{line}: {word}")));
    }
    assert!(refused.is_empty(), "old words: {refused:#?}");
}

#[test]
fn a_word_is_found_in_identifiers_and_prose() {
    let found = |text: &str| {
        let source = Source {
            path: "a.rs".into(),
            text: text.into(),
        };
        let words = old_words(&source).into_iter().map(|(_, word)| word);
        words.collect::<Vec<_>>()
    };
    assert_eq!(found("fn hear_client(toldBy: u8)"), ["hear", "told"]);
    assert_eq!(
        found("// Nobody is Told; it is called off."),
        ["called off", "told"]
    );
    assert_eq!(found("pub(crate) struct Whose;"), ["type Whose"]);
    assert!(found("let (a, b) = request.into_parts(); // swordfish, Xpart").is_empty());
}
