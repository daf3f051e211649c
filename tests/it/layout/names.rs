//! Names with more than one meaning, printed so that they become fewer.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{defined_type, fields, sources};

#[test]
fn names_with_more_than_one_meaning_are_printed() {
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources(&["rs"]) {
        for name in source.text.lines().filter_map(defined_type) {
            types
                .entry(name.to_owned())
                .or_default()
                .push(source.path.clone());
        }
        for (name, kind) in fields(&source.text) {
            kinds.entry(name).or_default().insert(kind);
        }
    }
    let mut types: Vec<_> = types.into_iter().filter(|(_, at)| at.len() > 1).collect();
    types.sort_by_key(|(_, at)| std::cmp::Reverse(at.len()));
    println!("type names defined in several places: {}", types.len());
    for (name, at) in types.iter().take(15) {
        println!("  {name}: {}", at.join(", "));
    }
    let mut kinds: Vec<_> = kinds
        .into_iter()
        .filter(|(_, kinds)| kinds.len() > 2)
        .collect();
    kinds.sort_by_key(|(_, kinds)| std::cmp::Reverse(kinds.len()));
    println!("field names with more than two types: {}", kinds.len());
    for (name, kinds) in kinds.iter().take(15) {
        let kinds: Vec<_> = kinds.iter().map(String::as_str).collect();
        println!("  {name}: {}", kinds.join(" | "));
    }
}
