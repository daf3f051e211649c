//! Lists the files of `web/` for embedding, so that adding one needs no edit here.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

const EXTENSIONS: [&str; 8] = ["css", "html", "jpg", "js", "mjs", "png", "svg", "wav"];

/// Folders whose files are served; the rest of `web/` builds or shows them.
const FOLDERS: [&str; 3] = ["client/dist", "client/src", "dashboard"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=web");
    let web = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("web");
    let mut table = String::from("&[\n");
    for folder in FOLDERS {
        list(&web.join(folder), folder, &mut table)?;
    }
    table.push_str("]\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("assets.rs"), table)?;
    Ok(())
}

/// Adds the files of one folder, each with its path below `web/`.
fn list(path: &Path, folder: &str, table: &mut String) -> Result<(), Box<dyn Error>> {
    let mut files: Vec<PathBuf> = fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| {
        path.extension()
            .is_some_and(|ext| EXTENSIONS.iter().any(|known| ext == *known))
    });
    files.sort();
    for path in files {
        let name = path
            .file_name()
            .ok_or("a file without a name")?
            .to_string_lossy();
        writeln!(
            table,
            "    ({:?}, include_bytes!({:?})),",
            format!("{folder}/{name}"),
            path.display().to_string()
        )?;
    }
    Ok(())
}
