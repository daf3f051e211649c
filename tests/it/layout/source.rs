//! The files of the repository, and a reading of Rust that relies on rustfmt: no
//! parser, so that the measurements cost the build nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One file, with its path from the repository's root.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|extension| extension == "rs")
    }
}

/// A function: where it is, its lines, its parameters as written.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lines: usize,
    pub(crate) parameters: Vec<String>,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file with one of these extensions, or with such a name if it has none; not
/// what is built (`target`, `dist`).
pub(crate) fn sources(extensions: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root(), extensions, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, extensions: &[&str], found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = !name.starts_with('.')
            && !matches!(&*name, "target" | "node_modules" | "data" | "dist" | "out");
        if path.is_dir() && is_ours {
            collect(&path, extensions, found);
        } else if path
            .extension()
            .or(path.file_name())
            .is_some_and(|kind| extensions.iter().any(|known| kind == *known))
        {
            let shown = path.strip_prefix(root()).unwrap_or(&path);
            found.push(Source {
                path: shown.display().to_string(),
                text: fs::read_to_string(&path).expect("readable"),
            });
        }
    }
}

/// The functions of a file: each ends at the closing brace in the column of its first
/// line.
pub(crate) fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(rest) = after_fn(code) else {
            continue;
        };
        let name: String = rest.chars().take_while(|c| is_of_name(*c)).collect();
        let indent = &line[..line.len() - code.len()];
        let close = format!("{indent}}}");
        let length = if code.ends_with(';') || code.ends_with('}') {
            1
        } else {
            let end = lines[start..].iter().position(|line| *line == close);
            end.map_or(1, |end| end + 1)
        };
        found.push(Function {
            name,
            lines: length,
            parameters: parameters(&lines[start..]),
        });
    }
    found
}

/// What follows `fn ` in the first line of a function.
fn after_fn(code: &str) -> Option<&str> {
    let (before, rest) = code.split_once("fn ")?;
    let is_qualifier = |token: &str| {
        token.starts_with("pub") || matches!(token, "async" | "const" | "unsafe" | "extern" | "in")
    };
    before.split_whitespace().all(is_qualifier).then_some(rest)
}

/// The parameters of the function that begins at the first line.
fn parameters(lines: &[&str]) -> Vec<String> {
    let lines: Vec<&str> = lines.iter().take(40).map(|line| line.trim()).collect();
    let signature = lines.join(" ");
    let Some((_, rest)) = signature.split_once("fn ") else {
        return Vec::new();
    };
    let name_end = rest.find(|c| !is_of_name(c)).unwrap_or(0);
    let rest = &rest[name_end..];
    let open = match rest.strip_prefix('<') {
        Some(generics) => top_level_end(generics, '>').map_or(0, |end| end + 2),
        None => 0,
    };
    let Some(list) = rest.get(open..).and_then(|rest| rest.strip_prefix('(')) else {
        return Vec::new();
    };
    let end = top_level_end(list, ')').unwrap_or(list.len());
    split_at_commas(&list[..end])
}

/// Where a bracket that was opened before `text` is closed.
fn top_level_end(text: &str, close: char) -> Option<usize> {
    let mut depth = 0_usize;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            '>' if previous == '-' => {}
            c if c == close && depth == 0 => return Some(at),
            ')' | ']' | '}' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        previous = c;
    }
    None
}

/// The items of a list; commas inside of brackets do not separate.
pub(crate) fn split_at_commas(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0_usize;
    let mut previous = ' ';
    for c in text.chars() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            '>' if previous == '-' => {}
            ')' | ']' | '}' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        previous = c;
        if c == ',' && depth == 0 {
            items.push(String::new());
        } else if let Some(item) = items.last_mut() {
            item.push(c);
        }
    }
    let items = items.iter().map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}

/// How many values a parameter takes as a tuple; 1 for what is none.
pub(crate) fn tuple_width(parameter: &str) -> usize {
    let of = |text: &str| {
        let text = text
            .trim_start_matches(['&', ' '])
            .trim_start_matches("mut ");
        text.strip_prefix('(')
            .and_then(|inner| Some(split_at_commas(&inner[..top_level_end(inner, ')')?]).len()))
            .unwrap_or(1)
    };
    let declared = parameter.rsplit_once("): ").map(|(_, kind)| kind);
    let kind = declared.or_else(|| parameter.split_once(": ").map(|(_, kind)| kind));
    of(parameter).max(kind.map_or(1, of))
}

/// Whether it is written `name: type`; not `self`, nor a strategy of proptest.
pub(crate) fn is_named(parameter: &str) -> bool {
    let is_self = parameter.trim_start_matches("mut ").starts_with("self:");
    parameter.contains(": ") && !is_self
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The name that a line defines as a type.
pub(crate) fn defined_type(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if let Some(public) = rest.strip_prefix("pub") {
        rest = match public.strip_prefix('(') {
            Some(scope) => scope.split_once(')')?.1,
            None => public,
        }
        .trim_start();
    }
    let (keyword, rest) = rest.split_once(' ')?;
    let is_type = matches!(keyword, "struct" | "enum" | "trait" | "union");
    let end = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
    (is_type && end > 0).then_some(&rest[..end])
}

/// The fields of a file's structs: name and type, for those that fit on a line.
pub(crate) fn fields(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut close: Option<String> = None;
    for line in text.lines() {
        let code = line.trim_start();
        match &close {
            Some(end) if line == end => close = None,
            Some(_) => found.extend(field(code)),
            None if code.contains("struct ")
                && defined_type(line).is_some()
                && line.ends_with('{') =>
            {
                close = Some(format!("{}}}", &line[..line.len() - code.len()]));
            }
            None => {}
        }
    }
    found
}

fn field(code: &str) -> Option<(String, String)> {
    let code = code.strip_suffix(',')?;
    let code = match code.strip_prefix("pub") {
        Some(public) if public.starts_with(' ') => public.trim_start(),
        Some(public) if public.starts_with('(') => public.split_once(") ")?.1,
        _ => code,
    };
    let (name, kind) = code.split_once(": ")?;
    name.chars()
        .all(is_of_name)
        .then(|| (name.to_owned(), kind.to_owned()))
}

#[test]
fn a_signature_is_read_as_rustfmt_writes_it() {
    let text = "impl X {\n    pub(crate) async fn f<T: Fn(u8) -> u8>(\n        &self,\n        \
                (a, b, c): (u8, Vec<(u8, u8)>, T),\n        d: &[(u8, u8)],\n    ) -> u8 {\n        \
                1\n    }\n}\n";
    let found = functions(text);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].name.as_str(), found[0].lines), ("f", 7));
    let widths: Vec<_> = found[0].parameters.iter().map(|p| tuple_width(p)).collect();
    assert_eq!(widths, [1, 3, 1]);
    let named: Vec<_> = found[0].parameters.iter().map(|p| is_named(p)).collect();
    assert_eq!(named, [false, true, true]);
    assert_eq!(defined_type("pub(crate) struct Name<T> {"), Some("Name"));
    let text = "struct A {\n    pub(crate) one: u8,\n    two: Vec<u8>,\n}\n";
    assert_eq!(fields(text).len(), 2);
}
