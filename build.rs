//! Compiles `proto/` into Rust with protox, so that no `protoc` has to be installed.

use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 4] = [
    "belfry/v1/event.proto",
    "belfry/v1/notifier.proto",
    "belfry/v1/edge.proto",
    "belfry/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Served by gRPC reflection.
    fs::write(out.join("belfry.binpb"), prost_encode(&descriptors))?;
    tonic_prost_build::configure()
        .bytes(".belfry.v1")
        .compile_fds(descriptors)?;
    Ok(())
}

fn prost_encode<M: prost::Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}
