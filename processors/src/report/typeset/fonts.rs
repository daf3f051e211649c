//! The fonts of reports: those that the binary carries, then those of the system.
//!
//! Invariants: a carried font comes before any of the system, so that Latin, Greek,
//! Cyrillic, Hebrew, Arabic and the common emoji look the same on every machine; the
//! order of the system's fonts depends on their names only.

use std::sync::Arc;

use parley::{
    FontContext, GenericFamily,
    fontique::{
        Attributes, Blob, Collection, CollectionOptions, FamilyId, FontInfoOverride, QueryFamily,
        QueryStatus, SourceCache,
    },
};

/// Family name and file. Two files of one family differ in weight.
const CARRIED: [(&str, &[u8]); 6] = [
    (
        "carried text",
        include_bytes!("../../../fonts/NotoSans-Regular.ttf"),
    ),
    (
        "carried text",
        include_bytes!("../../../fonts/NotoSans-Bold.ttf"),
    ),
    (
        "carried Hebrew",
        include_bytes!("../../../fonts/NotoSansHebrew-Regular.ttf"),
    ),
    (
        "carried Arabic",
        include_bytes!("../../../fonts/NotoSansArabic-Regular.ttf"),
    ),
    (
        "carried emoji",
        include_bytes!("../../../fonts/NotoEmoji-Regular.ttf"),
    ),
    (
        "carried symbols",
        include_bytes!("../../../fonts/DejaVuSans.ttf"),
    ),
];

/// Where systems keep fonts. A folder that does not exist is skipped.
const SYSTEM_FOLDERS: [&str; 4] = [
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
];

/// The family that stands for all fonts in their order.
pub(super) const ALL_FONTS: GenericFamily = GenericFamily::SansSerif;

/// Which fonts a report is set with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sources {
    /// Carried fonts, then those of the system.
    All,
    Carried,
}

/// The fonts for texts in `language`, an ISO 639 code.
pub(super) fn load(sources: Sources, language: &str) -> FontContext {
    let mut collection = Collection::new(CollectionOptions {
        shared: false,
        system_fonts: false,
    });
    let mut families: Vec<FamilyId> = Vec::new();
    for (name, bytes) in CARRIED {
        let name = FontInfoOverride {
            family_name: Some(name),
            ..FontInfoOverride::default()
        };
        for (family, _) in collection.register_fonts(Blob::new(Arc::new(bytes)), Some(name)) {
            if !families.contains(&family) {
                families.push(family);
            }
        }
    }
    if sources == Sources::All {
        collection.load_fonts_from_paths(SYSTEM_FOLDERS);
        let mut names: Vec<String> = collection.family_names().map(str::to_owned).collect();
        names.sort_by_cached_key(|name| rank(name, language));
        let system = names.iter().filter_map(|name| collection.family_id(name));
        let system: Vec<FamilyId> = system.filter(|id| !families.contains(id)).collect();
        families.extend(system);
    }
    collection.set_generic_families(ALL_FONTS, families.into_iter());
    FontContext {
        collection,
        source_cache: SourceCache::default(),
    }
}

/// Sorts families: the language's own variant of Han characters first, then sans
/// serif, then by name; monospaced fonts last of each.
fn rank(name: &str, language: &str) -> (bool, bool, bool, String) {
    let variant = match language {
        "ja" => "JP",
        "ko" => "KR",
        _ => "SC",
    };
    let own = name.contains("CJK") && name.ends_with(variant);
    (
        !own,
        !name.contains("Sans"),
        name.contains("Mono"),
        name.to_owned(),
    )
}

/// Whether any of the fonts has a glyph for `c`.
pub(super) fn has_glyph(fonts: &mut FontContext, c: char) -> bool {
    let mut found = false;
    let mut query = fonts.collection.query(&mut fonts.source_cache);
    query.set_families([QueryFamily::Generic(ALL_FONTS)]);
    query.set_attributes(Attributes::default());
    query.matches_with(|font| {
        let glyph = font.charmap().and_then(|charmap| charmap.map(c));
        found = glyph.is_some_and(|glyph| glyph != 0);
        if found {
            QueryStatus::Stop
        } else {
            QueryStatus::Continue
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carried_fonts_cover_common_scripts_symbols_and_emoji() {
        let mut fonts = load(Sources::Carried, "en");
        for c in "aéßжΩאب→≤✨✅🔥\u{20E3}".chars() {
            assert!(has_glyph(&mut fonts, c), "{c}");
        }
        assert!(!has_glyph(&mut fonts, '\u{10FFFD}'));
    }

    #[test]
    fn han_characters_come_from_the_font_of_the_language() {
        let mut names = ["Zed Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Mono"];
        names.sort_by_key(|name| rank(name, "ja"));
        assert_eq!(
            names,
            ["Noto Sans CJK JP", "Noto Sans CJK SC", "Zed Sans", "Mono"]
        );
        names.sort_by_key(|name| rank(name, "en"));
        assert_eq!(names[0], "Noto Sans CJK SC");
    }
}
