//! Compiles `proto/` into Rust with protox, so that no `protoc` has to be installed.
//! The features of the crate choose the services, and their sides.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files = vec!["belfry/v1/event.proto", "belfry/v1/notifier.proto"];
    if has_feature("ADMIN") {
        files.push("belfry/v1/admin.proto");
    }
    if has_feature("LINK") {
        files.push("belfry/v1/edge.proto");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Served by gRPC reflection.
    fs::write(out.join("belfry.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".belfry.v1")
        .build_client(has_feature("CLIENT"))
        .build_server(has_feature("SERVER"))
        .compile_fds(descriptors)?;
    Ok(())
}

fn has_feature(name: &str) -> bool {
    env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}
