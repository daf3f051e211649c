//! Lists the files of `web/` for embedding, so that adding one needs no edit here.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

const EXTENSIONS: [&str; 7] = ["css", "html", "jpg", "js", "png", "svg", "wav"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=web");
    let web = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("web");
    let mut files: Vec<PathBuf> = fs::read_dir(&web)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| {
        path.extension()
            .is_some_and(|ext| EXTENSIONS.iter().any(|known| ext == *known))
    });
    files.sort();
    let mut table = String::from("&[\n");
    for path in files {
        let name = path
            .file_name()
            .ok_or("a file without a name")?
            .to_string_lossy()
            .into_owned();
        writeln!(
            table,
            "    ({name:?}, include_bytes!({:?})),",
            path.display().to_string()
        )?;
    }
    table.push_str("]\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("assets.rs"), table)?;
    Ok(())
}
