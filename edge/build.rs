//! Embeds the dashboard and the client's scripts, each compressed once, here.
//!
//! What always holds: a file's tag depends on its bytes alone; the dashboard names its
//! files with their tags, so that browsers may keep them for good.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hasher},
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

/// Folders below `web/` whose files are served, the path they are served at, and the
/// extensions.
const FOLDERS: [(&str, &str, &[&str]); 3] = [
    ("dashboard", "/web/", &["jpg", "wav"]),
    ("dashboard/dist", "/web/", &["css", "js"]),
    ("client/dist", "/js/", &["css", "js", "mjs"]),
];

/// The page; it names files of `/web/` as `web/<name>`.
const PAGE: &str = "dashboard/dashboard.html";

/// Endings of the names that are worth compressing.
const TEXTS: [&str; 3] = [".css", ".js", ".mjs"];

/// Quality of brotli, 0 to 11: beyond 9 the smaller files are not worth the seconds of
/// an encoder that is itself not optimised in most builds.
const BROTLI_QUALITY: u32 = 9;
/// Base-two logarithm of brotli's window: 4 MiB.
const BROTLI_WINDOW: u32 = 22;

fn main() -> Result<(), Box<dyn Error>> {
    // Not all of `web/`: examples have thousands of files of others.
    for folder in ["web/client/dist", "web/dashboard"] {
        println!("cargo:rerun-if-changed={folder}");
    }
    let web = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("web");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut page = fs::read_to_string(web.join(PAGE))?;
    let mut table = String::from("&[\n");
    for (folder, served_at, extensions) in FOLDERS {
        for (name, path) in files(&web.join(folder), extensions)? {
            let bytes = fs::read(&path)?;
            let file = path.display().to_string();
            let tag = tag(&bytes);
            if let Some((stem, extension)) = name.rsplit_once('.')
                && served_at == "/web/"
            {
                let tagged = format!("web/{stem}.{tag}.{extension}");
                page = page.replace(&format!("web/{name}"), &tagged);
            }
            let [gzip, brotli] = compressed(&out, &name, &bytes)?;
            writeln!(
                table,
                "Asset {{ path: {:?}, tag: {tag:?}, identity: include_bytes!({file:?}), gzip: {gzip}, brotli: {brotli} }},",
                format!("{served_at}{name}"),
            )?;
        }
    }
    table.push_str("]\n");
    fs::write(out.join("assets.rs"), table)?;
    fs::write(out.join("dashboard.html"), page)?;
    Ok(())
}

/// Names and paths of a folder's files with one of these extensions, in order.
fn files(folder: &Path, extensions: &[&str]) -> Result<BTreeMap<String, PathBuf>, Box<dyn Error>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry?.path();
        let known = path
            .extension()
            .is_some_and(|extension| extensions.iter().any(|known| extension == *known));
        if known && let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            files.insert(name.to_owned(), path.clone());
        }
    }
    Ok(files)
}

/// 64 bits of hash, in hexadecimal: names and validators, no protection.
fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

/// Writes the gzip and brotli encodings of a text to `out` and returns the expressions
/// that embed them; pictures and recordings have none.
fn compressed(out: &Path, name: &str, bytes: &[u8]) -> Result<[String; 2], Box<dyn Error>> {
    if !TEXTS.iter().any(|extension| name.ends_with(extension)) {
        return Ok(["None".to_owned(), "None".to_owned()]);
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, BROTLI_QUALITY, BROTLI_WINDOW);
    brotli.write_all(bytes)?;
    let embed = |extension: &str, encoded: Vec<u8>| -> Result<String, Box<dyn Error>> {
        let path = out.join(format!("{name}.{extension}"));
        fs::write(&path, encoded)?;
        let file = path.display().to_string();
        Ok(format!("Some(include_bytes!({file:?}))"))
    };
    Ok([
        embed("gz", gzip.finish()?)?,
        embed("br", brotli.into_inner())?,
    ])
}
